"""SSH agents of clients, for ``RUN --mount=type=ssh``: a socket here that leads to the client's agent.

The client keeps a connection waiting; when somebody connects to the socket the two are joined, and the client opens
the next one. Nothing of what is said is looked at.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Coroutine
from pathlib import Path

READ_BYTES = 64 << 10
PATIENCE_S = 20.0  # for a client to bring a connection; a program that asks an agent waits no longer


class Agent:
    """One forwarded agent: listens at ``path`` until ``close``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connections: asyncio.Queue[socket.socket] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        self._listener.bind(os.fspath(path))
        os.chmod(path, 0o600)
        self._listener.listen(16)
        self._begin(self._accept())

    def offer(self, fd: int) -> None:
        """A waiting connection of the client; it belongs here now."""
        connection = socket.socket(fileno=fd)
        connection.setblocking(False)
        self._connections.put_nowait(connection)

    def close(self) -> None:
        """Idempotent."""
        for task in tuple(self._tasks):
            task.cancel()
        self._listener.close()
        self.path.unlink(missing_ok=True)
        while not self._connections.empty():
            self._connections.get_nowait().close()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            program, _ = await loop.sock_accept(self._listener)
            self._begin(self._join(program))

    async def _join(self, program: socket.socket) -> None:
        with program:
            try:
                client = await asyncio.wait_for(self._connections.get(), PATIENCE_S)
            except TimeoutError:
                return  # the program sees the end of the stream: no agent
            with client, contextlib.suppress(OSError):
                there = asyncio.create_task(_copy(program, client))
                back = asyncio.create_task(_copy(client, program))
                try:
                    await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    there.cancel()
                    back.cancel()
                    await asyncio.wait((there, back))


async def _copy(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(source, READ_BYTES):
            await loop.sock_sendall(target, data)
