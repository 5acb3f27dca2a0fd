"""A client of a container's streams: the HTTP connection itself, handed over by the daemon.

Without a terminal output is framed as ``Engine API v1.44 POST /containers/{id}/attach § Stream format`` says.
"""

import contextlib
import socket
import struct
import time
from collections import deque

from minid.shim import messages
from minid.shim.detach import Detacher, parse_keys

CHUNK_BYTES = 64 * 1024
STREAM_NUMBER = {"stdin": 0, "stdout": 1, "stderr": 2}


class AttachedClient:
    """One connection: what it wants to see, what is still to be sent, whether its input is ours to read."""

    def __init__(
        self, sock: socket.socket, wanted: frozenset[str], *, framed: bool, detacher: Detacher | None
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.wanted = wanted  # of stdin, stdout, stderr
        self.framed = framed
        self.detacher = detacher
        self.pending: deque[bytes] = deque()
        self.pending_bytes = 0
        self.input_open = True
        self.progress_s = time.monotonic()

    def queue(self, stream: str, data: bytes) -> None:
        if self.framed:
            data = struct.pack(">BxxxL", STREAM_NUMBER[stream], len(data)) + data
        self.pending.append(data)
        self.pending_bytes += len(data)

    def flush(self) -> bool:
        """Send what the socket takes; False once the other side is gone."""
        try:
            while self.pending:
                data = self.pending[0]
                sent = self.socket.send(data)
                self.pending_bytes -= sent
                self.progress_s = time.monotonic()
                if sent == len(data):
                    self.pending.popleft()
                else:
                    self.pending[0] = data[sent:]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def hang_up(self) -> None:
        """Close so that the peer sees the end of the stream, not a reset because of input nobody read."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            while self.socket.recv(CHUNK_BYTES):
                pass
        self.socket.close()


def receive(message: messages.Message, fds: list[int]) -> tuple[AttachedClient, bytes]:
    """The client that came with a request, and the input that came with the client's.

    fds: the connection, then perhaps a file with that input; they are taken out.
    """
    initial = b""
    if len(fds) > 1:
        with open(fds.pop(1), "rb") as file:
            initial = file.read()
    keys = message.get("detach_keys")
    detacher = Detacher(parse_keys(keys)) if keys else None
    sock = socket.socket(fileno=fds[0])
    fds.clear()
    wanted = frozenset(message["wanted"])
    return AttachedClient(sock, wanted, framed=message["framed"], detacher=detacher), initial
