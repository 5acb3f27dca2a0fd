"""TLS behind a socket pair: a thread encrypts what one end is given and decrypts what comes, until both halves end.

So everything that speaks to a daemon polls, reads, writes and shuts down a plain socket, and the end of one half (stdin
of `run -i`) is a half over TLS, too: close_notify, RFC 8446 § 6.1.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import _thread
import select
import ssl

_READ_BYTES = 64 * 1024


class Relay:
    """`start` returns the near end of the pair; `trouble` tells, once that has ended, whether it should have."""

    def __init__(
        self, sock: _socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        """`sock` is connected and past its handshake; it belongs to the relay now."""
        self._far = sock
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._near, self._given = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC
        )
        self._to_near = b""  # decrypted, and not yet taken
        self._to_far = b""  # encrypted, and not yet sent
        self._from_near = True  # more may come from there
        self._from_far = True
        self._left = False  # the near end has been closed altogether
        self.problem: Exception | None = None

    def start(self) -> _socket.socket:
        self._near.setblocking(False)
        self._far.setblocking(False)
        _thread.start_new_thread(self._run, ())
        return self._given

    def _run(self) -> None:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())  # they are the main thread's
        try:
            while self._open():
                self._decrypt()
                if not self._wait():
                    break
        except OSError as error:  # ssl.SSLError is one
            self.problem = error
        finally:
            self._near.close()
            self._far.close()

    def _open(self) -> bool:
        """Until the daemon has ended its half, or this side wants no more of it."""
        return (self._from_far or bool(self._to_near)) and not (self._left and not self._to_far)

    def _decrypt(self) -> None:
        """Everything that has come, up to `_READ_BYTES`; at the daemon's end, its half is ended."""
        while self._from_far and len(self._to_near) < _READ_BYTES and self._take():
            pass
        self._to_far += self._outgoing.read()
        self._give()
        if not self._from_far and not self._to_near:
            self._near.shutdown(_socket.SHUT_WR)

    def _wait(self) -> bool:
        """One turn: waits for what can be done, and does it. False when nobody will say anything any more."""
        poller = select.poll()
        far = (select.POLLIN if len(self._to_near) < _READ_BYTES else 0) | (
            select.POLLOUT if self._to_far else 0
        )
        near = (select.POLLIN if self._from_near and not self._to_far else 0) | (
            select.POLLOUT if self._to_near else 0
        )
        poller.register(self._far.fileno(), far)
        if not self._left:
            poller.register(self._near.fileno(), near)
        for fd, events in poller.poll():
            if fd == self._near.fileno():
                self._near_ready(events)
            else:
                self._far_ready(events)
        return True

    def _near_ready(self, events: int) -> None:
        if events & select.POLLOUT:
            self._give()
        if events & select.POLLIN and self._from_near:
            data = self._near.recv(_READ_BYTES)
            if data:
                self._tls.write(data)
            else:
                self._end()
            self._to_far += self._outgoing.read()
            self._send()
        elif events & (select.POLLHUP | select.POLLERR):
            self._left = True

    def _far_ready(self, events: int) -> None:
        if events & select.POLLOUT:
            self._send()
        if events & ~select.POLLOUT:
            data = self._far.recv(_READ_BYTES)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _end(self) -> None:
        """Says that no more will come. OpenSSL must have nothing to read then: it would take it for a mistake."""
        self._from_near = False
        while self._from_far and self._take():
            pass
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # the daemon has not ended its half
            pass

    def _take(self) -> bool:
        """Decrypts some of what has come; False when more is needed for it."""
        try:
            data = self._tls.read(_READ_BYTES)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:  # after close_notify both ways; b"" when only the daemon has sent it
            data = b""
        self._from_far = bool(data)
        self._to_near += data
        return True

    def _give(self) -> None:
        try:
            while self._to_near:
                self._to_near = self._to_near[self._near.send(self._to_near, _socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._left = True
            self._to_near = b""

    def _send(self) -> None:
        try:
            while self._to_far:
                self._to_far = self._to_far[self._far.send(self._to_far, _socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
