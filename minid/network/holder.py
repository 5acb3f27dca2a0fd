"""The daemon's side of the port holder (``proxy.py``): started when the first port is published, found again
by the next daemon.
"""

import asyncio
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minid.errors import Failed
from minid.network.ports import Reservation
from minid.network.ruleset import PublishedPort
from minid.shim import messages
from minid.shim.client import Forkserver, JobError, ShimConnection

PROCESS = "minid.network.proxy:serve"


class PortHolder:
    """Sockets of published ports in a process of their own. ``serve``: false keeps ports without proxying."""

    def __init__(self, forkserver: Forkserver, socket_path: Path, *, serve: bool = True) -> None:
        self._forkserver = forkserver
        self._path = socket_path
        self._serve = serve
        self._connection: ShimConnection | None = None
        self._lock = asyncio.Lock()  # of starting it

    async def hold(
        self, reservation: Reservation, published: PublishedPort, record: Mapping[str, Any]
    ) -> None:
        """Give the sockets away; ours are closed. ``record`` is what ``ports`` will say to the next daemon.

        Raises Failed.
        """
        fds = [one.fileno() for one in reservation.sockets]
        fields = {
            "id": key_of(reservation),
            "protocol": reservation.protocol,
            "targets": self._targets(published),
            "record": dict(record),
        }
        await self._request("hold", fds, **fields)
        reservation.close()

    async def aim(self, reservation: Reservation, published: PublishedPort) -> None:
        """The container has other addresses now. Raises Failed."""
        await self._request("aim", id=key_of(reservation), targets=self._targets(published))

    def _targets(self, published: PublishedPort) -> list[list[str | int]]:
        addresses = (published.container_ip4, published.container_ip6) if self._serve else ()
        return [[ip, published.container_port] for ip in addresses if ip]

    async def release(self, reservation: Reservation) -> None:
        """Close the sockets there; idempotent, also when there is no port holder."""
        reservation.close()
        if await self._connect() is not None:
            try:
                await self._request("release", id=key_of(reservation))
            except Failed:
                return  # it has ended, and its sockets with it

    async def ports(self) -> dict[str, dict[str, Any]]:
        """What a port holder of an earlier daemon keeps: the records given to ``hold``, by ``key_of``."""
        if await self._connect() is None:
            return {}
        ports: dict[str, dict[str, Any]] = {}
        while True:
            page = (await self._request("list", after=max(ports, default="")))["ports"]
            if not page:
                return ports
            ports |= page

    def close(self) -> None:
        """Let go of it; it lives on while it holds ports."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connect(self) -> ShimConnection | None:
        """The connection to a port holder that runs; ``None`` if there is none."""
        if self._connection is None or self._connection.closed:
            try:
                self._connection = ShimConnection.connect(self._path)
            except OSError:
                return None
        return self._connection

    async def _start(self) -> ShimConnection:
        async with self._lock:
            connection = await self._connect()
            if connection is not None:
                return connection
            await self._fork()
            connection = await self._connect()
            if connection is None:
                raise Failed("the holder of published ports ended at once; see the kernel's log")
            return connection

    async def _fork(self) -> None:
        """Returns when it listens. Raises Failed with what went wrong there."""
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        with ours:
            with theirs:
                answers = self._forkserver.fork_job(PROCESS, {"socket": str(self._path)}, [theirs.fileno()])
            with answers:
                ours.setblocking(False)
                if await loop.sock_recv(ours, 16):
                    return
                answers.setblocking(False)
                data = await loop.sock_recv(answers, messages.LIMIT_BYTES)
        reason = json.loads(data).get("error", "") if data else "it ended without a word"
        raise Failed(f"the holder of published ports could not be started: {reason}")

    async def _request(self, op: str, fds: Sequence[int] = (), **fields: Any) -> messages.Message:
        for attempt in range(2):
            connection = await self._start()
            try:
                return await connection.request(op, fds, **fields)
            except ConnectionError as error:
                if attempt:
                    raise Failed("the holder of published ports has ended") from error
            except JobError as error:
                raise Failed(f"published ports: {error}") from error
        raise AssertionError


def key_of(reservation: Reservation) -> str:
    return f"{reservation.protocol} {reservation.host_ip} {reservation.host_port}"
