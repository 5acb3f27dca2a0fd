"""A stand-in for the container service at one seam only: it owns the handed-over socket and answers on it."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from minid.api.server import Server
from minid.api.services import Services
from minid.containers.model import (
    Client,
    Container,
    ContainerConfig,
    Exec,
    ExecConfig,
    HostConfig,
    LogEntry,
    LogOptions,
    NetworkingConfig,
    State,
)
from minid.errors import Conflict, NotFound
from minid.events import EventBus
from minid.hostinfo import HostInfo, gather

ID = "7b" * 32


def container(**changes: Any) -> Container:
    fields: dict[str, Any] = {
        "id": ID,
        "name": "c1",
        "created_ns": 1_700_000_000_123_456_789,
        "image_id": "sha256:" + "aa" * 32,
        "platform": "linux",
        "config": ContainerConfig(image="busybox", cmd=("sh",)),
        "host_config": HostConfig(network_mode="none"),
        "networking": NetworkingConfig(),
        "state": State("running", pid=42, started_at_ns=1_700_000_001_000_000_000),
        "path": "sh",
        "args": (),
        "mounts": (),
        "storage_driver": "overlay2",
        "log_path": f"/var/lib/minid/containers/{ID}/{ID}-json.log",
    }
    return Container(**{**fields, **changes})


class Shim:
    """Reads a handed-over connection to its end in a thread, sends back what it read, closes it."""

    def __init__(self, client: Client) -> None:
        self.received = bytearray(client.initial)
        self.initial_bytes = len(client.initial)
        self._socket = socket.socket(fileno=client.fd)
        self._socket.setblocking(True)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._socket, contextlib.suppress(OSError):
            while data := self._socket.recv(65536):
                self.received += data
            self._socket.sendall(bytes(self.received))

    async def finished(self) -> None:
        await asyncio.to_thread(self._thread.join, 20)
        assert not self._thread.is_alive()


class Execs:
    """One exec of the one container; ``started`` has the console size of each start."""

    def __init__(self, containers: "Containers") -> None:
        self._containers = containers
        self.started: list[tuple[int, int] | None] = []
        self.exec = Exec("e1", ID, ExecConfig(cmd=("sh",)))

    def get(self, exec_id: str) -> Exec:
        if exec_id != self.exec.id:
            raise NotFound(f"No such exec instance: {exec_id}")
        return self.exec

    def check_start(self, exec_id: str) -> Exec:
        record = self.get(exec_id)
        if not self._containers.container.state.running:
            raise Conflict(f"container {ID} is not running")
        return record

    async def start(
        self, exec_id: str, client: Client | None, console_size: tuple[int, int] | None = None
    ) -> None:
        self.started.append(console_size)
        failure = self._containers.failure
        if failure:
            if client:
                os.close(client.fd)
            raise failure
        if client:
            self._containers.shims.append(Shim(client))


class Containers:
    """Only what the API's stream code asks of the service."""

    def __init__(self) -> None:
        self.container = container()
        self.shims: list[Shim] = []
        self.execs = Execs(self)
        self.failure: Exception | None = None
        self.entries: list[LogEntry] = []
        self.log_failure: Exception | None = None
        self.waiting: asyncio.Future[Any] | None = None

    def get(self, ref: str) -> Container:
        if ref not in (self.container.id, self.container.name):
            raise NotFound(f"No such container: {ref}")
        return self.container

    def check_attach(self, ref: str, options: Any) -> Container:
        return self.get(ref)

    async def attach(self, ref: str, options: Any, client: Client) -> None:
        if self.failure:
            os.close(client.fd)
            raise self.failure
        self.shims.append(Shim(client))

    async def logs(self, ref: str, options: LogOptions) -> AsyncIterator[LogEntry]:
        for entry in self.entries:
            yield entry
        if self.log_failure:
            raise self.log_failure

    def wait(self, ref: str, condition: str) -> "asyncio.Future[Any]":
        self.get(ref)
        self.waiting = asyncio.get_running_loop().create_future()
        return self.waiting

    async def start(self, ref: str) -> None:
        self.get(ref)
        raise Conflict("said the service")


def host() -> HostInfo:
    return gather(engine_id="engine", data_root=Path("/var/lib/minid"), driver_name="overlay2")


class Daemon:
    """A server on a socket in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "api.sock")
        self.containers = Containers()
        self.events = EventBus()
        self.images: Any = None
        self.volumes: Any = None
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Daemon":
        services = Services(
            self.images, self.containers, self.volumes, None, None, None, self.events, None, host
        )
        self.server = Server(services)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        await self.server.serve(listener)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self.server.close(timeout_s=1)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        self._writers.append(writer)
        return reader, writer

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> "Answer":
        """One request on a connection of its own."""
        reader, writer = await self.connect()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {"Host": "d", "Content-Length": str(len(body)), **given}
        if body:
            fields.setdefault("Content-Type", "application/json")
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        answer = await Answer.read(reader, method)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return answer


class Answer:
    """A status, headers in lower case, and the whole body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @classmethod
    async def read(cls, reader: asyncio.StreamReader, method: str = "GET") -> "Answer":
        status, headers = await read_head(reader)
        body = b""
        if method == "HEAD" or status in (101, 204, 304):
            return cls(status, headers, body)
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        elif "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        return cls(status, headers, body)


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = head.split("\r\n")
    pairs = (line.split(":", 1) for line in lines if line)
    return int(status.split()[1]), {name.lower(): value.strip() for name, value in pairs}
