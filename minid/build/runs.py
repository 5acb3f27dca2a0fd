"""RUN: the command in a container of its own, made as every other; what it changed becomes a layer."""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from minid.build.errors import StepFailed
from minid.containers.model import (
    AttachOptions,
    Client,
    ContainerConfig,
    CreateRequest,
    HostConfig,
    LogConfig,
    Mount,
    NetworkingConfig,
)
from minid.containers.service import Containers
from minid.errors import MinidError
from minid.images.making import Making
from minid.images.model import Image
from minid.images.threads import settle

READ_BYTES = 64 << 10
_HEAD = struct.Struct(">BxxxL")

Output = Callable[[int, bytes], None]  # descriptor (1 or 2) and what was written to it


@dataclass(frozen=True, slots=True)
class Command:
    """One RUN, ready to be done. ``mountpoints`` are the targets of ``mounts`` that leave no trace in the layer."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    diff_ids: tuple[str, ...]
    user: str = ""
    workdir: str = "/"
    mounts: tuple[Mount, ...] = ()
    host_config: HostConfig = field(default_factory=HostConfig)
    latest_s: int | None = None

    @property
    def shown(self) -> str:
        """The command as docker's messages have it."""
        return " ".join(self.argv)


class Runs:
    """Does them. One a daemon."""

    def __init__(self, containers: Containers, making: Making) -> None:
        self._containers = containers
        self._making = making

    async def run(self, command: Command, output: Output) -> str | None:
        """The diff ID of the layer that the command made, None if it changed nothing.

        Raises StepFailed; whatever happens, and when it is cancelled, its processes and files are gone afterwards.
        """
        with self._making.hold(command.diff_ids):
            container_id = await self._create(command)
            try:
                exit_code = await self._wait(container_id, command, output)
                if exit_code:
                    raise StepFailed(
                        f"The command '{command.shown}' returned a non-zero code: {exit_code}", exit_code
                    )
                return await self._making.adopt(
                    container_id,
                    command.diff_ids,
                    latest_s=command.latest_s,
                    mountpoints=[mount.target for mount in command.mounts],
                )
            finally:
                removing = self._containers.remove(container_id, force=True, volumes=True)
                await settle(asyncio.ensure_future(removing))

    async def _create(self, command: Command) -> str:
        config = ContainerConfig(
            attach_stdout=True,
            attach_stderr=True,
            user=command.user,
            env=command.env,
            cmd=command.argv,
            entrypoint=(),
            working_dir=command.workdir,
        )
        host_config = replace(
            command.host_config, log_config=LogConfig("none"), mounts=command.mounts or None
        )
        request = CreateRequest("", config, host_config, NetworkingConfig())
        created = await self._containers.create(request, _base(command.diff_ids))
        return created.id

    async def _wait(self, container_id: str, command: Command, output: Output) -> int:
        """Run it and hand on its output, to the end of both; the exit code."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            ended = self._containers.wait(container_id, "next-exit")
            try:
                await self._containers.attach(
                    container_id, AttachOptions(stdout=True, stderr=True), Client(theirs.detach())
                )
                try:
                    await self._containers.start(container_id)
                except MinidError as error:
                    code = self._containers.get(container_id).state.exit_code
                    raise StepFailed(f"The command '{command.shown}' can't be run: {error}", code) from error
                await _copy(ours, output)
                return (await ended).exit_code
            finally:
                ended.cancel()


async def _copy(sock: socket.socket, output: Output) -> None:
    """Take the frames apart, until the container has ended (or said its last word)."""
    loop = asyncio.get_running_loop()
    buffer = bytearray()
    while data := await loop.sock_recv(sock, READ_BYTES):
        buffer += data
        position = 0
        while len(buffer) - position >= _HEAD.size:
            fd, length = _HEAD.unpack_from(buffer, position)
            if len(buffer) - position - _HEAD.size < length:
                break
            position += _HEAD.size
            output(fd, bytes(buffer[position : position + length]))
            position += length
        del buffer[:position]


def _base(diff_ids: Sequence[str]) -> Image:
    """What the container is made from: layers, and nothing preset."""
    return Image(
        id="",
        manifest_digest="",
        config={"config": {}, "rootfs": {}},
        size_bytes=0,
        diff_ids=tuple(diff_ids),
        tags=(),
        digests=(),
        created="",
        last_tagged_ns=0,
        media_type="",
    )
