"""A ``Streams`` at work in a thread of its own, so that tests can be the process and the clients with blocking calls."""

import os
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

from minid.shim.clients import AttachedClient
from minid.shim.detach import Detacher, parse_keys
from minid.shim.loop import READ, Loop
from minid.shim.streams import Streams

TIMEOUT_S = 10.0


class Log:
    """What was logged, by stream."""

    def __init__(self) -> None:
        self.data = {"stdout": bytearray(), "stderr": bytearray()}
        self.closed = False

    def write(self, stream: str, data: bytes) -> None:
        assert not self.closed
        self.data[stream] += data

    def close(self) -> None:
        self.closed = True


class Pump:
    """``with Pump() as pump``: the process's ends are ``stdin``, ``stdout``, ``stderr`` after ``open_pipes``."""

    def __init__(self, *, stdin_once: bool = False) -> None:
        self.loop = Loop()
        self.log = Log()
        self.detached = threading.Event()
        self.idle = threading.Event()
        self.streams = Streams(self.loop, self.log, stdin_once=stdin_once)
        self.streams.on_detach = self.detached.set
        self.streams.on_idle = self.idle.set
        self.stdin = self.stdout = self.stderr = -1
        self._sockets: list[socket.socket] = []
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        self.loop.watch(self._wake_read, READ, self._on_work)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:
            self.error = error

    def _on_work(self, events: int) -> None:
        os.read(self._wake_read, 1)
        self._work.get()()

    def do(self, function: Callable[[], Any]) -> Any:
        """Call it in the loop's thread; its result or its exception."""
        answer: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def call() -> None:
            try:
                answer.put((function(), None))
            except Exception as error:
                answer.put((None, error))

        self._work.put(call)
        os.write(self._wake_write, b"x")
        result, error = answer.get(timeout=TIMEOUT_S)
        if error is not None:
            raise error
        return result

    def __enter__(self) -> "Pump":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.do(self._end)
            self._thread.join(TIMEOUT_S)
        for sock in self._sockets:
            sock.close()
        for fd in (self.stdin, self.stdout, self.stderr, self._wake_read, self._wake_write):
            if fd >= 0:
                os.close(fd)
        assert not self._thread.is_alive(), "the loop hangs"
        if self.error is not None:
            raise self.error

    def _end(self) -> None:
        self.streams.drain_and_end()
        self.streams.finish()
        for client in tuple(self.streams._clients):  # that have not taken everything
            self.streams._drop(client)
        self.loop.stop()

    def open_pipes(self, *, stdin: bool = True) -> None:
        given = None
        if stdin:
            self.stdin, given = os.pipe()
        out, self.stdout = os.pipe()
        err, self.stderr = os.pipe()
        self.do(lambda: self.streams.open_pipes(given, out, err))

    def attach(
        self, *wanted: str, framed: bool = True, keys: str = "", initial: bytes = b"", buffer_bytes: int = 0
    ) -> socket.socket:
        """The client's end of a new connection."""
        ours, theirs = socket.socketpair()
        if buffer_bytes:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        ours.settimeout(TIMEOUT_S)
        self._sockets.append(ours)
        detacher = Detacher(parse_keys(keys)) if keys else None
        client = AttachedClient(theirs, frozenset(wanted), framed=framed, detacher=detacher)
        self.do(lambda: self.streams.attach(client, initial))
        return ours

    def end(self) -> None:
        """As the shim does when the process has been reaped."""
        self.do(self.streams.drain_and_end)
        self.do(self.streams.finish)


def read_exactly(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = os.read(fd, count - len(data))
        assert piece, f"the end after {len(data)} bytes of {count}"
        data += piece
    return data


def receive_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(1 << 16):
        data += piece
    return bytes(data)


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, f"the end after {bytes(data)!r}"
        data += piece
    return bytes(data)


def unframe(data: bytes) -> dict[int, bytes]:
    """Stream number → its bytes; what is no frame fails."""
    result: dict[int, bytes] = {}
    while data:
        number, zeros, size = data[0], data[1:4], int.from_bytes(data[4:8], "big")
        assert zeros == b"\0\0\0" and len(data) >= 8 + size, data[:20]
        result[number] = result.get(number, b"") + data[8 : 8 + size]
        data = data[8 + size :]
    return result
