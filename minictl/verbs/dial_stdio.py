"""system dial-stdio: what `ssh://` runs at the daemon's machine, and so does the docker CLI (as `docker`)."""

from __future__ import annotations

import _socket
import os
import select

from minictl.errors import Failure
from minictl.flags import Command, Options
from minictl.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl.engine import Engine

_READ_BYTES = 64 * 1024


def dial_stdio(options: Options, arguments: list[str], engine: Engine) -> int:
    """Joins stdin and stdout to a connection to the daemon, until the daemon ends it or nobody reads stdout."""
    sock = engine.endpoint.open().sock
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLIN)
    poller.register(0, select.POLLIN)
    poller.register(1, 0)  # POLLERR, POLLHUP: the reader has gone
    while True:
        for fd, events in poller.poll():
            if fd == sock.fileno():
                data = _received(sock)
                if not data:
                    return 0
                write_all(1, data)
            elif fd == 0:
                if not _pass_input(sock):
                    poller.unregister(0)
            elif events & (select.POLLERR | select.POLLHUP):
                return 0


def _received(sock: _socket.socket) -> bytes:
    try:
        return sock.recv(_READ_BYTES)
    except ConnectionResetError:
        return b""


def _pass_input(sock: _socket.socket) -> bool:
    """False at the end of stdin: the daemon is told, and may still have something to say."""
    try:
        data = os.read(0, _READ_BYTES)
    except BlockingIOError:
        return True
    try:
        if data:
            sock.sendall(data)
            return True
        sock.shutdown(_socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        pass
    except OSError as error:
        raise Failure(f"the connection to the daemon broke: {error.strerror}") from None
    return False


DIAL_STDIO = Command(
    "dial-stdio", "[OPTIONS]", "Join stdin and stdout to the daemon (what ssh:// runs)", dial_stdio, (), 0, 0
)
