"""Standard streams of one process: from its pipes or terminal to the log and to every attached client, and
back.

Every buffer is bounded: when a client is ``CLIENT_LIMIT_BYTES`` behind, reading from the process pauses
(the process feels the pipe, as in any shell pipeline); a client that then takes nothing for ``STALL_S``
while others wait is cut off.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from typing import Any, Protocol

from minid.kernel import terminal
from minid.shim.clients import CHUNK_BYTES, AttachedClient
from minid.shim.loop import EDGE, GONE, READ, WRITE, Loop

CLIENT_LIMIT_BYTES = 1024 * 1024
STDIN_LIMIT_BYTES = 64 * 1024
PIPE_BYTES = 256 * 1024
DRAIN_BYTES = 1024 * 1024  # more than any pipe of ours or terminal holds
STALL_S = 10.0


class Log(Protocol):
    """Where output is kept; see ``minid.shim.logfile``."""

    def write(self, stream: str, data: bytes) -> None: ...

    def close(self) -> None: ...


class Streams:
    """The pump of one process. Give it descriptors with ``open_pipes`` or ``open_terminal``, clients with
    ``attach``.

    ``on_idle`` is called once, after ``finish``, when the last client has taken everything.
    """

    def __init__(self, loop: Loop, log: Log | None, *, stdin_once: bool) -> None:
        self._loop = loop
        self._log = log
        self._stdin_once = stdin_once
        self._sources: dict[int, str] = {}
        self._paused = False
        self._stdin = -1
        self._stdin_pending = bytearray()
        self._stdin_closing = False
        self._terminal = -1
        self._asleep = False  # nobody has the terminal open
        self._clients: list[AttachedClient] = []
        self._started = False
        self._finished = False
        self._size = (0, 0)
        self.ended = False
        self.on_idle: Callable[[], None] = lambda: None
        self.on_detach: Callable[[], None] = lambda: None

    # -- the process's side

    def open_pipes(self, stdin: int | None, stdout: int, stderr: int) -> None:
        """Take over our ends of the pipes; ``stdin`` None when the process reads /dev/null."""
        self._started = True
        if stdin is None:
            self._stdin_pending.clear()
        if stdin is not None:
            os.set_blocking(stdin, False)
            self._stdin = stdin
            self._flush_stdin()
        for fd, name in ((stdout, "stdout"), (stderr, "stderr")):
            os.set_blocking(fd, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            self._add_source(fd, name)

    def open_terminal(self, master: int) -> None:
        """Take over a terminal's master side."""
        self._started = True
        os.set_blocking(master, False)
        if any(self._size):
            terminal.set_size(master, *self._size)
        self._terminal = master
        self._stdin = master
        self._add_source(master, "stdout")
        self._flush_stdin()

    def resize(self, height: int, width: int) -> None:
        """Of the terminal, or of the one that is about to be opened. Raises OSError(ENOTTY) when the
        process has none.
        """
        if not self._started:
            self._size = (height, width)
            return
        if self._terminal < 0:
            raise OSError(errno.ENOTTY, "the process has no terminal, or it has ended")
        terminal.set_size(self._terminal, height, width)

    @property
    def quiet(self) -> bool:
        """The process runs, nobody else is there, and all that has come is where it belongs."""
        return self._started and not (self._clients or self._stdin_pending or self._finished)

    def notes(self) -> dict[str, Any]:
        """Of quiet streams, for ``resume``."""
        return {
            "sources": list(self._sources.items()),
            "stdin": self._stdin,
            "terminal": self._terminal,
            "ended": self.ended,
        }

    def resume(self, notes: dict[str, Any]) -> None:
        """Be what was quiet elsewhere; the descriptors are ours now."""
        self._started = True
        self._stdin, self._terminal, self.ended = notes["stdin"], notes["terminal"], notes["ended"]
        for fd, name in notes["sources"]:
            self._add_source(fd, name)

    def _add_source(self, fd: int, name: str) -> None:
        self._sources[fd] = name
        self._watch_source(fd)

    def _watch_source(self, fd: int) -> None:
        writing = fd == self._terminal and self._stdin_pending
        reading = not self._paused
        changes_only = fd == self._terminal and self._asleep
        self._loop.watch(
            fd,
            (READ if reading else 0) | (WRITE if writing else 0) | (EDGE if changes_only else 0),
            lambda events: self._on_source(fd, events),
        )

    def _on_source(self, fd: int, events: int) -> None:
        if events & WRITE:
            self._flush_stdin()
        if fd not in self._sources or not events & (READ | GONE):
            return
        if self._paused:
            # a hang-up is reported however long we do not read: look away until clients have caught up
            self._loop.forget(fd)
            return
        self._read_source(fd)

    def _read_source(self, fd: int) -> int:
        """Read and spread one chunk; its bytes, 0 when there was none."""
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # The last slave of the terminal was closed. The process may open it again (/dev/tty), and our
            # closing the master would send it SIGHUP: look again when something changes.
            if not self._asleep:
                self._asleep = True
                self._watch_source(fd)
            return 0
        if not data:
            self._close_source(fd)
            return 0
        if self._asleep:
            self._asleep = False
            self._watch_source(fd)
        name = self._sources[fd]
        if self._log is not None:
            self._log.write(name, data)
        for client in tuple(self._clients):
            if name in client.wanted:
                client.queue(name, data)
                self._flush(client)
        return len(data)

    def _close_source(self, fd: int) -> None:
        del self._sources[fd]
        self._loop.forget(fd)
        if fd == self._terminal:
            self._terminal = self._stdin = -1
            self._stdin_pending.clear()
        os.close(fd)
        if not self._sources:
            self._end()
        self._watch_clients()

    def drain_and_end(self) -> None:
        """The process is gone: what it wrote is in the pipes; do not wait for others who may hold them
        open, nor read what they go on writing.
        """
        self._started = True
        for fd in tuple(self._sources):
            left_bytes = DRAIN_BYTES
            while left_bytes > 0 and fd in self._sources and (count := self._read_source(fd)):
                left_bytes -= count
            if fd in self._sources:
                self._close_source(fd)
        self._close_stdin()
        self._end()

    def _end(self) -> None:
        """There will be no more output; the process may still read its input."""
        if self.ended:
            return
        self.ended = True
        if self._log is not None:
            self._log.close()

    # -- the clients' side

    @property
    def idle(self) -> bool:
        """Finished, and no client still has output to take."""
        return self._finished and not self._clients

    def finish(self) -> None:
        """The exit is known to whom it concerns: hang up on every client once it has taken all output."""
        self._finished = True
        for client in tuple(self._clients):
            self._flush(client)

    def tell_clients(self, text: bytes) -> None:
        """Words of our own on every client's stdout (why an exec could not start)."""
        for client in self._clients:
            if "stdout" in client.wanted or "stderr" in client.wanted:
                client.queue("stdout", text)

    def attach(self, client: AttachedClient, initial: bytes = b"") -> None:
        """Serve ``client`` from now on; ``initial`` is input that came with its request."""
        self._clients.append(client)
        self._watch_client(client)
        if initial:
            self._input(client, initial)
        if self._finished:
            self._flush(client)

    def _watch_client(self, client: AttachedClient) -> None:
        fd = client.socket.fileno()
        if fd < 0:
            return
        reading = client.input_open and len(self._stdin_pending) < STDIN_LIMIT_BYTES
        events = (READ if reading else 0) | (WRITE if client.pending else 0)
        self._loop.watch(fd, events, lambda happened: self._on_client(client, happened))

    def _on_client(self, client: AttachedClient, events: int) -> None:
        room = len(self._stdin_pending) < STDIN_LIMIT_BYTES
        if events & READ or (events & GONE and client.input_open and room):
            try:
                data = client.socket.recv(CHUNK_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self._drop(client)
                return
            if data:
                self._input(client, data)
            else:
                self._input_ended(client)
        elif events & GONE:
            if client.input_open:
                # It may have left input behind, for which there is no room yet: look away until there is.
                self._loop.forget(client.socket.fileno())
            else:
                self._drop(client)
        if client in self._clients and events & WRITE:
            self._flush(client)

    def _input_ended(self, client: AttachedClient) -> None:
        client.input_open = False
        if client.detacher is not None:
            self._stdin_pending += client.detacher.flush()
        if "stdin" in client.wanted and self._stdin_once:
            self._stdin_closing = True
            self._flush_stdin()
        self._watch_client(client)

    def _input(self, client: AttachedClient, data: bytes) -> None:
        if "stdin" not in client.wanted:
            return
        detached = False
        if client.detacher is not None:
            data, detached = client.detacher.feed(data)
        if self._stdin >= 0 or not self._started:
            self._stdin_pending += data
        self._flush_stdin()
        if len(self._stdin_pending) >= STDIN_LIMIT_BYTES:
            self._watch_clients()
        if detached:
            self._drop(client)
            self.on_detach()

    def _flush(self, client: AttachedClient) -> None:
        if not client.flush():
            self._drop(client)
            return
        if self._finished and not client.pending:
            self._drop(client)
            return
        self._watch_client(client)
        self._balance()

    def _drop(self, client: AttachedClient) -> None:
        if client not in self._clients:
            return
        self._clients.remove(client)
        self._loop.forget(client.socket.fileno())
        client.hang_up()
        self._balance()
        if self.idle:
            self.on_idle()

    def _balance(self) -> None:
        """Pause reading from the process while a client is too far behind."""
        behind = [client for client in self._clients if client.pending_bytes > CLIENT_LIMIT_BYTES]
        if behind and len(self._clients) > 1:
            now_s = time.monotonic()
            for client in behind:
                if now_s - client.progress_s > STALL_S:
                    self._drop(client)
                    return
            self._loop.set_deadline(f"stalled client of {id(self)}", STALL_S, self._balance)
        if bool(behind) != self._paused:
            self._paused = bool(behind)
            for fd in self._sources:
                self._watch_source(fd)

    # -- stdin

    def _flush_stdin(self) -> None:
        if self._stdin < 0:
            return
        try:
            while self._stdin_pending:
                written = os.write(self._stdin, self._stdin_pending[:CHUNK_BYTES])
                del self._stdin_pending[:written]
        except BlockingIOError:
            pass
        except OSError:  # the process closed its end
            self._close_stdin()
            return
        if self._stdin == self._terminal:
            if self._terminal in self._sources:
                self._watch_source(self._terminal)
        elif self._stdin_pending:
            self._loop.watch(self._stdin, WRITE, lambda events: self._flush_stdin())
        elif self._stdin_closing:
            self._close_stdin()
        else:
            self._loop.forget(self._stdin)
        self._watch_clients()

    def _close_stdin(self) -> None:
        """Input that comes from now on is read, so that clients do not hang, and thrown away."""
        fd, self._stdin = self._stdin, -1
        self._stdin_pending.clear()
        if fd >= 0 and fd != self._terminal:
            self._loop.forget(fd)
            os.close(fd)
        self._watch_clients()

    def _watch_clients(self) -> None:
        for client in self._clients:
            self._watch_client(client)
