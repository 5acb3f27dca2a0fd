"""An attached connection joined to this process's stdin, stdout and stderr.

Without a terminal the daemon sends frames: one byte for the stream (0 stdin, 1 stdout, 2 stderr, 3 an error
of the daemon's own), three of nothing, four of length (big-endian), then so many bytes. With one it sends the
bytes alone. Engine API, "Stream format" of POST /containers/{id}/attach.
"""

from __future__ import annotations

import _socket
import os
import select

from minictl.errors import Failure
from minictl.terminal import DetachKeys, RawMode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minictl.http import Connection
    from minictl.signals import SignalPipe

_READ_BYTES = 64 * 1024
_STDOUT, _STDERR = 1, 2


class Frames:
    """Takes framed bytes as they come and writes each stream's part on; frames may be cut anywhere."""

    __slots__ = ("_head", "_left", "_stream", "_write")

    def __init__(self, write: Callable[[int, bytes | memoryview], None]) -> None:
        self._write = write
        self._head = b""
        self._left = 0
        self._stream = 0

    def feed(self, data: bytes) -> None:
        view = memoryview(data)
        position = 0
        end = len(data)
        while position < end:
            if self._left == 0:
                take = 8 - len(self._head)
                self._head += data[position : position + take]
                position += take
                if len(self._head) < 8:
                    return
                self._stream = self._head[0]
                if self._stream > 3 or self._head[1:4] != b"\0\0\0":
                    raise Failure(f"Unrecognized input header: {self._head[0]}")
                self._left = int.from_bytes(self._head[4:8], "big")
                self._head = b""
                continue
            part = view[position : position + self._left]
            position += len(part)
            self._left -= len(part)
            if self._stream == 3:
                raise Failure(f"error from daemon in stream: {bytes(part).decode('utf-8', 'replace')}")
            self._write(_STDERR if self._stream == 2 else _STDOUT, part)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Writes everything, waiting where `fd` doesn't block. Raises BrokenPipeError and other OSErrors."""
    while len(data):
        try:
            done = os.write(fd, data)
        except BlockingIOError:
            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()
            continue
        data = data[done:]


class Session:
    """Carries bytes both ways until the daemon closes the stream or the user detaches."""

    __slots__ = (
        "_connection", "_detach", "_feed", "_on_signal", "_pending", "_raw", "_signals", "_stdin", "_stdin_closed",
        "detached",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        *,
        tty: bool,
        stdin: bool,
        detach_keys: bytes,
        signals: SignalPipe | None = None,
        on_signal: Callable[[int], None] | None = None,
    ) -> None:
        self._connection = connection
        self._stdin = stdin
        self._stdin_closed = False
        self._signals = signals
        self._on_signal = on_signal
        self._pending = b""
        self._raw = RawMode(0)
        self._detach = DetachKeys(detach_keys if tty else b"")
        self._feed: Callable[[bytes], None] = _write_out if tty else Frames(write_all).feed
        self.detached = False
        if tty and stdin:
            self._raw.enter()

    def restore(self) -> None:
        """The terminal as it was; harmless when it is already."""
        self._raw.leave()

    def run(self) -> None:
        """Returns when the stream has ended, or `detached` is set. The terminal is restored in any case."""
        try:
            self._run()
        finally:
            self._raw.leave()

    def _run(self) -> None:
        sock = self._connection.sock
        early, self._connection.buffer = self._connection.buffer, b""
        if early:
            self._feed(early)
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLIN)
        if self._signals:
            poller.register(self._signals.fd, select.POLLIN)
        if self._stdin:
            poller.register(0, select.POLLIN)
        while True:
            for fd, events in poller.poll():
                if fd == sock.fileno():
                    if events & select.POLLOUT:
                        self._send(poller, b"")
                    if events & ~select.POLLOUT:
                        data = self._connection.read_some()
                        if not data:
                            return
                        self._feed(data)
                elif fd == 0:
                    self._take_input(poller)
                    if self.detached:
                        return
                elif self._signals and self._on_signal:
                    for number in self._signals.taken():
                        self._on_signal(number)

    def _take_input(self, poller: select.poll) -> None:
        try:
            data = os.read(0, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # no stdin at all, or a terminal that has gone
            data = b""
        if not data:
            poller.unregister(0)
            self._stdin_closed = True
            self._send(poller, b"")
            return
        data, self.detached = self._detach.filter(data)
        if data:
            self._send(poller, data)

    def _send(self, poller: select.poll, data: bytes) -> None:
        """Sends as much as goes without waiting; while something is left, stdin is not read (poll sees to both)."""
        sock = self._connection.sock
        had = bool(self._pending)
        data = self._pending + data
        self._pending = b""
        try:
            while data:
                done = sock.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
                data = data[done:]
        except BlockingIOError:
            self._pending = data
        except OSError:  # the container takes no more input; its output may still come
            if not self._stdin_closed:
                if not had:
                    poller.unregister(0)
                self._stdin_closed = True
            data = b""
        if self._pending and not had:
            poller.modify(sock.fileno(), select.POLLIN | select.POLLOUT)
            if not self._stdin_closed:
                poller.unregister(0)
        elif had and not self._pending:
            poller.modify(sock.fileno(), select.POLLIN)
            if not self._stdin_closed:
                poller.register(0, select.POLLIN)
        if self._stdin_closed and not self._pending:
            try:
                sock.shutdown(_socket.SHUT_WR)
            except OSError:
                pass


def _write_out(data: bytes) -> None:
    write_all(_STDOUT, data)


def wait_readable(
    connection: Connection, signals: SignalPipe | None, on_signal: Callable[[int], None] | None
) -> None:
    """Waits until the daemon has said something on `connection`, handling signals meanwhile."""
    if connection.buffer:
        return
    poller = select.poll()
    poller.register(connection.sock.fileno(), select.POLLIN)
    if signals:
        poller.register(signals.fd, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd == connection.sock.fileno():
                return
            if signals and on_signal:
                for number in signals.taken():
                    on_signal(number)
