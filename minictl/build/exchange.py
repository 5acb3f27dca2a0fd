"""A request whose body goes out while its answer comes in, and what else is to be looked after meanwhile.

The daemon may answer before it has read everything (a refusal, or steps that need no files), so the socket is read and
written by turns, whichever can be done; nothing here waits for one alone.
"""

from __future__ import annotations

import _socket
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from minictl.engine import Engine
    from minictl.http import Connection, Response

    class Attendant(Protocol):
        """Waits for sockets of its own: `fds()` are watched, `ready(fd)` is called when one is readable."""

        def fds(self) -> list[int]: ...

        def ready(self, fd: int) -> None: ...


_SEND = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL


class Exchange:
    """One request on `connection`. `run` returns when the answer has been read to its end."""

    def __init__(
        self,
        engine: Engine,
        connection: Connection,
        head: bytes,
        body: Iterator[bytes],
        *,
        attendant: Attendant | None = None,
        on_sent: Callable[[int, bool], None] | None = None,
        on_tick: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`on_sent(bytes of the body so far, all of it)`; `on_tick` is called at every turn, and gives the seconds
        after which it wants to be called again.
        """
        self._engine = engine
        self._connection = connection
        self._body = body
        self._pending = memoryview(head)
        self._sending = True
        self._last = False
        self._total = 0
        self._attendant = attendant
        self._on_sent = on_sent
        self._on_tick = on_tick

    def run(self, on_data: Callable[[bytes], None]) -> None:
        """Passes on the answer's body as it comes. Raises ApiError, ConnectError, what body and callbacks raise."""
        sock = self._connection.sock.fileno()
        response: Response | None = None
        try:
            while True:
                wait_s = self._on_tick()
                readable, writable = self._wait(sock, wait_s)
                if readable:
                    if response is None:
                        response = self._engine.receive(self._connection)
                        ended = response.immediate and not self._read(response, on_data)
                    else:
                        data = self._connection.read_some()
                        self._connection.buffer += data
                        ended = (not data or response.immediate) and not self._read(response, on_data)
                    if ended:
                        break
                elif writable and self._sending:
                    self._send()
        except BaseException:
            self._connection.close()
            raise
        if self._sending:
            self._connection.reusable = False
        self._engine.release(response)

    def _read(self, response: Response, on_data: Callable[[bytes], None]) -> bool:
        """Passes on what is there, without waiting for more; False at the end."""
        while True:
            data = response.read_part()
            if not data:
                return False
            on_data(data)
            if not response.immediate:
                return True

    def _wait(self, sock: int, wait_s: float | None) -> tuple[bool, bool]:
        poller = select.poll()
        poller.register(sock, select.POLLIN | (select.POLLOUT if self._sending else 0))
        for fd in self._attendant.fds() if self._attendant else ():
            poller.register(fd, select.POLLIN)
        readable = writable = False
        for fd, events in poller.poll(None if wait_s is None else int(wait_s * 1000)):
            if fd != sock:
                assert self._attendant
                self._attendant.ready(fd)
                continue
            writable = bool(events & select.POLLOUT)
            readable = bool(events & ~select.POLLOUT)
        return readable, writable

    def _send(self) -> None:
        if not self._pending and not self._next_chunk():
            return
        try:
            sent = self._connection.sock.send(self._pending, _SEND)
        except BlockingIOError:
            return
        except (
            BrokenPipeError,
            ConnectionResetError,
        ):  # the daemon wants no more; its answer can still be read
            self._sending = False
            self._connection.reusable = False
            return
        self._pending = self._pending[sent:]
        if self._last and not self._pending:
            self._sending = False
            self._tell(finished=True)

    def _next_chunk(self) -> bool:
        if self._last:
            return False
        for part in self._body:
            if part:
                self._total += len(part)
                self._pending = memoryview(b"%x\r\n%b\r\n" % (len(part), part))
                self._tell(finished=False)
                return True
        self._last = True
        self._pending = memoryview(b"0\r\n\r\n")
        return True

    def _tell(self, *, finished: bool) -> None:
        if self._on_sent:
            self._on_sent(self._total, finished)
