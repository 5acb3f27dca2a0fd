"""Clients that look at a container: handed to its shim, or kept until there is one.

``Engine API v1.44 POST /containers/{id}/attach``.
"""

import asyncio
import os
import select
import socket
import struct
from collections import defaultdict
from pathlib import Path

from minid.containers import logs
from minid.containers.model import AttachOptions, Client, Container, LogOptions
from minid.containers.tasks import Task, Tasks
from minid.errors import InvalidParameter
from minid.shim.detach import DEFAULT_KEYS, parse_keys

STREAM_NUMBER = {"stdout": 1, "stderr": 2}


class Attachments:
    """Connections by container. Each given ``Client`` is closed here or belongs to the shim afterwards."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._pending: defaultdict[str, list[tuple[Client, AttachOptions]]] = defaultdict(list)

    async def attach(self, container: Container, options: AttachOptions, client: Client) -> None:
        """Serve ``client`` what was logged (``options.logs``) and what comes (``options.stream``)."""
        if options.logs and container.log_path:
            try:
                await _replay(container, options, client)
            except BaseException:
                client.close()
                raise
        if not options.stream:
            client.close()
            return
        task = self._tasks.find(container.id)
        if task is None:
            self._drop_gone(container.id)
            self._pending[container.id].append((client, options))
        else:
            await self._hand_over(task, container, options, client)

    async def hand_over_pending(self, task: Task, container: Container) -> None:
        """Give the clients that waited for a start to the new shim."""
        pending = self._pending.pop(container.id, [])
        try:
            while pending:
                client, options = pending.pop(0)
                await self._hand_over(task, container, options, client)
        finally:
            for client, _ in pending:
                client.close()

    def _drop_gone(self, container_id: str) -> None:
        """Clients that went away again before any start came must not pile up."""
        pending = self._pending[container_id]
        hangups = select.poll()
        for client, _ in pending:
            hangups.register(client.fd, 0)
        gone = {fd for fd, _ in hangups.poll(0)}
        self._pending[container_id] = [entry for entry in pending if entry[0].fd not in gone]
        for fd in gone:
            os.close(fd)

    def drop_pending(self, container_id: str) -> None:
        """There will be no start: the waiting clients see the end of their stream."""
        for client, _ in self._pending.pop(container_id, []):
            client.close()

    def close(self) -> None:
        for container_id in tuple(self._pending):
            self.drop_pending(container_id)

    async def _hand_over(
        self, task: Task, container: Container, options: AttachOptions, client: Client
    ) -> None:
        await self._tasks.attach(
            task,
            client,
            wanted=wanted(options.stdin and container.config.open_stdin, options.stdout, options.stderr),
            framed=options.framed and not container.config.tty,
            detach_keys=detach_keys(options.detach_keys, tty=container.config.tty),
        )


def wanted(stdin: bool, stdout: bool, stderr: bool) -> list[str]:
    """The names of the streams that are wanted."""
    return [name for name, on in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)) if on]


def detach_keys(text: str, *, tty: bool) -> str:
    """The keys to look for; none without a terminal, where input is anybody's bytes."""
    return (text or DEFAULT_KEYS) if tty else ""


def check_keys(text: str) -> None:
    """Raises InvalidParameter for detach keys that do not exist."""
    try:
        parse_keys(text)
    except ValueError as error:
        raise InvalidParameter(f"Invalid detach keys ({text}) provided: {error}") from None


async def _replay(container: Container, options: AttachOptions, client: Client) -> None:
    """Send what is in the log so far, framed as the live stream will be."""
    with socket.socket(fileno=client.dup()) as sock:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        selection = LogOptions(stdout=options.stdout, stderr=options.stderr)
        async for entry in logs.read(Path(container.log_path), selection):
            data = entry.data
            if options.framed and not container.config.tty:
                data = struct.pack(">BxxxL", STREAM_NUMBER[entry.stream], len(data)) + data
            await loop.sock_sendall(sock, data)
