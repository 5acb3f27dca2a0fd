"""The daemon's side of forkserver and shims: asyncio over the packets of ``messages``.

This is the one module of the package that runs in the daemon, and therefore the one that may use asyncio.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minid.errors import Failed
from minid.kernel import sealed
from minid.shim import messages

BOOT = (
    "import sys; sys.path[:0] = eval(sys.argv[2]); "
    "from minid.shim.forkserver import main; main(*eval(sys.argv[1]), sys.argv[3:])"
)

IDLE_S = 10.0

log = logging.getLogger(__name__)


class JobError(Failed):
    """What a job raised: ``kind`` is the exception's class name, ``errno`` and ``path`` are set if it was
    an OSError.
    """

    def __init__(self, message: str, kind: str, errno: int | None = None, path: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.errno = errno
        self.path = path


class Forkserver:
    """A running forkserver, started again when it has been killed; ``on_restart`` is called with the pid then.
    ``close()`` ends it, and nothing that it has forked.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._preload = tuple(preload)
        self._closed = False
        self.on_restart: Callable[[int], None] = lambda pid: None
        self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _start(self) -> None:
        orders, self._orders = os.pipe2(os.O_CLOEXEC)
        self._shims, shims = messages.pair()
        self._jobs, jobs = messages.pair()
        python = os.path.realpath(sys.executable)
        executable = sealed.open_executable(python)
        given = (orders, shims.fileno(), jobs.fileno())
        try:
            self._process = subprocess.Popen(
                [python, "-I", "-S", "-c", BOOT, repr(given), repr(_search_path()), *self._preload],
                executable=f"/proc/self/fd/{executable}",
                pass_fds=[*given, executable],
                stdin=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            self._hang_up()
            raise
        finally:
            os.close(executable)
            os.close(orders)
            shims.close()
            jobs.close()

    def _hang_up(self) -> None:
        if self._orders >= 0:
            os.close(self._orders)
        self._orders = -1
        self._shims.close()
        self._jobs.close()

    def close(self) -> None:
        """Idempotent."""
        self._closed = True
        self._hang_up()
        self._process.wait(timeout=10)

    def fork_shim(self, *, ahead: bool) -> "ShimConnection":
        """A shim that is nobody's yet; ``ahead``: with the common namespaces and mounts made already.

        Raises Failed when there is no forkserver.
        """
        return ShimConnection(self._order(b"s", {"ahead": ahead}))

    def fork_job(self, target: str, request: Mapping[str, Any], fds: Sequence[int] = ()) -> socket.socket:
        """A process that calls ``package.module:function(request, fds)``; our end of the socket that it answers on.

        Raises Failed when there is no forkserver, MessageError for a request that is too large.
        """
        return self._order(b"j", {"target": target, "request": request}, fds)

    def _order(self, kind: bytes, order: Mapping[str, Any], fds: Sequence[int] = ()) -> socket.socket:
        ours, theirs = messages.pair()
        try:
            with theirs:
                try:
                    self._send(kind, order, [theirs.fileno(), *fds])
                except OSError as error:
                    self._start_again(error)
                    self._send(kind, order, [theirs.fileno(), *fds])
        except BaseException:
            ours.close()
            raise
        return ours

    def _send(self, kind: bytes, order: Mapping[str, Any], fds: Sequence[int]) -> None:
        messages.send(self._shims if kind == b"s" else self._jobs, order, fds)
        os.write(self._orders, kind)  # now that it is there to be fetched

    def _start_again(self, error: OSError) -> None:
        if self._closed:
            raise Failed("minid is stopping") from error
        log.error("the forkserver has ended and is started again", extra={"error": error})
        self._hang_up()
        self._process.kill()
        self._process.wait()
        self._start()
        self.on_restart(self._process.pid)


class Jobs:
    """Work in processes of its own, forked by a second forkserver that has what jobs need imported.

    Shims are forked from a process that has as little as possible mapped, because every fork pays for it;
    so jobs have their
    own, which is started by the first of them and ended when there has been none for ``IDLE_S``.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self._preload = preload
        self._server: Forkserver | None = None
        self._running = 0
        self._timer: asyncio.TimerHandle | None = None

    async def call(self, target: str, request: Mapping[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """Run ``package.module:function(request, fds)`` in a forked process; its result. Raises JobError."""
        if self._server is None:
            self._server = Forkserver(self._preload)
        self._running += 1
        try:
            return await self._call(self._server, target, request, fds)
        finally:
            self._running -= 1
            self._end_when_idle()

    async def _call(
        self, server: Forkserver, target: str, request: Mapping[str, Any], fds: Sequence[int]
    ) -> dict[str, Any]:
        with server.fork_job(target, request, fds) as sock:
            sock.setblocking(False)
            await _readable(sock)
            message, _ = messages.receive(sock)
        if message is None:
            raise JobError(f"{target} ended without an answer", "Killed")
        if "error" in message:
            raise JobError(message["error"], message["kind"], message["errno"], message["path"])
        result: dict[str, Any] = message["result"]
        return result

    def _end_when_idle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE_S, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if self._running == 0:
            self.close()

    def close(self) -> None:
        """End the forkserver, if it runs. Jobs that still run are the callers' business."""
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
            self._server = None


class ShimConnection:
    """A connection to one shim: requests with answers in order, and events in between.

    ``on_event`` is called with each message that has an ``"event"``; ``{"event": "closed"}`` is the last.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, asyncio.Future[messages.Message]] = {}
        self._number = 0
        self.on_event: Callable[[messages.Message], None] = lambda message: None
        self._loop.add_reader(sock.fileno(), self._on_readable)

    @classmethod
    def connect(cls, socket_path: Path) -> "ShimConnection":
        """Connect to the shim that listens at ``socket_path``; raises OSError when there is none."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(str(socket_path))
        except OSError:
            sock.close()
            raise
        return cls(sock)

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def adopt(self, directory: Path, socket_path: Path) -> None:
        """Make it the shim of the container at ``directory``; it listens on ``socket_path`` for later
        daemons.
        """
        self._number += 1
        message = {"op": "adopt", "n": self._number, "directory": str(directory), "socket": str(socket_path)}
        messages.send(self._socket, message)

    async def request(self, op: str, fds: Sequence[int] = (), **fields: Any) -> messages.Message:
        """Send ``op`` and await its answer. Raises JobError for an error answer, ConnectionError if the
        shim is gone.
        """
        if self.closed:
            raise ConnectionError("the shim is gone")
        self._number += 1
        number = self._number
        answer: asyncio.Future[messages.Message] = self._loop.create_future()
        self._answers[number] = answer
        try:
            try:
                messages.send(self._socket, {"op": op, "n": number, **fields}, fds)
            except BlockingIOError:
                await _writable(self._socket)
                messages.send(self._socket, {"op": op, "n": number, **fields}, fds)
            message = await answer
        finally:
            self._answers.pop(number, None)
        if "error" in message:
            raise JobError(message["error"], message["kind"], message.get("errno"), message.get("path"))
        return message

    def catch_up(self) -> None:
        """Take in what the shim has sent already, before the loop gets to it.

        A client that saw its stream end may ask what became of it before this connection's turn comes.
        """
        while not self.closed and self._on_readable():
            pass

    def _on_readable(self) -> bool:
        """Deal with one message; False when there was none."""
        try:
            message, fds = messages.receive(self._socket)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True  # it ended without reading all of ours; what it had told before can still be read
        except (OSError, messages.MessageError):
            message, fds = None, []
        for fd in fds:
            os.close(fd)
        if message is None:
            self.close()
        elif "event" in message:
            self.on_event(message)
        else:
            future = self._answers.get(message.get("n", 0))
            if future is not None and not future.done():
                future.set_result(message)
        return True

    def close(self) -> None:
        """Idempotent; pending requests fail with ConnectionError."""
        if self.closed:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for future in self._answers.values():
            if not future.done():
                future.set_exception(ConnectionError("the shim is gone"))
        self.on_event({"event": "closed"})


def _search_path() -> list[str]:
    """Where the forkserver finds minid and the compiled libraries: this process's own path, without the
    script's folder.
    """
    root = str(Path(__file__).resolve().parents[2])
    return [root, *(entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages")))]


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock.fileno())


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(sock.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(sock.fileno())
