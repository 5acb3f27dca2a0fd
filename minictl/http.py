"""HTTP/1.1 over one connected socket: the client's half of it that the Engine API uses, and no more.

`http.client` costs 25 ms of imports; this module imports only C modules. A request is a head and an optional
body of known length or in chunks; a response's body is counted, chunked, or lasts until the connection
closes; a 101 (or a 200 without a length, as old daemons answer) turns the connection into a raw stream. RFC
9112.
"""

from __future__ import annotations

import _socket

from minictl.errors import ConnectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_MAX_HEAD_BYTES = 256 * 1024
_READ_BYTES = 64 * 1024
CHUNKED = b"Transfer-Encoding: chunked\r\n"
WANTS_TLS = (
    "Client sent an HTTP request to an HTTPS server: are you trying to connect to a TLS-enabled daemon without TLS?\n"
    "Add --tlsverify, with ca.pem, cert.pem and key.pem in ~/.docker or in DOCKER_CERT_PATH (docs/remote.md)."
)


class Connection:
    """A socket to the daemon and the bytes already read from it; one request at a time.

    `trouble` tells why what is behind the socket (TLS, ssh) has ended it; "" when it ended as it should.
    """

    __slots__ = ("_trouble", "buffer", "host", "reusable", "sock")

    def __init__(self, sock: _socket.socket, host: str, trouble: Callable[[], str] | None = None) -> None:
        self.sock = sock
        self.host = host
        self._trouble = trouble
        self.buffer = b""
        self.reusable = True

    def close(self) -> None:
        self.sock.close()

    def send(
        self, method: str, target: str, headers: dict[str, str], body: bytes | Iterable[bytes] | None
    ) -> None:
        """Sends one request; an iterable body goes in chunks. Raises ConnectError when the daemon hangs up.

        When the daemon answers and hangs up before it has read the whole body, the answer can still be read:
        such a broken pipe is not an error here.
        """
        framing = payload = b""
        chunks: Iterable[bytes] = ()
        if body is None:
            if method == "POST" or method == "PUT":
                framing = b"Content-Length: 0\r\n"
        elif isinstance(body, bytes):
            framing = b"Content-Length: %d\r\n" % len(body)
            payload = body
        else:
            framing = CHUNKED
            chunks = body
        try:
            self.sock.sendall(self.head(method, target, headers, framing) + payload)
            if chunks != ():
                for chunk in chunks:
                    if chunk:
                        self.sock.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                self.sock.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.reusable = False
        except OSError as error:
            raise ConnectError(
                f"the connection to the daemon broke while sending: {error.strerror}"
            ) from None

    def head(self, method: str, target: str, headers: dict[str, str], framing: bytes) -> bytes:
        """The head of a request; `framing` is the line that says how long its body is."""
        lines = [f"{method} {target} HTTP/1.1\r\nHost: {self.host}\r\n"]
        for name, value in headers.items():
            lines.append(f"{name}: {value}\r\n")
        return "".join(lines).encode("utf-8", "surrogateescape") + framing + b"\r\n"

    def receive(self) -> Response:
        """The head of the answer to the request just sent. Raises ConnectError when none comes."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            if len(self.buffer) > _MAX_HEAD_BYTES:
                raise ConnectError("the daemon's answer is not HTTP: its head never ends")
            data = self.read_some()
            if not data:
                if self.buffer.startswith(b"\x15\x03"):  # an alert, RFC 8446 § 6
                    raise ConnectError(WANTS_TLS)
                raise ConnectError("the daemon closed the connection without an answer (EOF)")
            self.buffer += data
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        self.buffer = self.buffer[end + 4 :]
        words = lines[0].split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise ConnectError(f"the daemon's answer is not HTTP: {lines[0][:60]!r}")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return Response(self, int(words[1]), headers)

    def read_some(self) -> bytes:
        """Up to 64 KiB from the socket, b"" at its end; bytes read ahead are not looked at.

        Raises ConnectError when the transport says that this is not the end.
        """
        try:
            data = self.sock.recv(_READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data and self._trouble and (text := self._trouble()):
            raise ConnectError(text)
        return data


class Response:
    """Status and headers (names in lower case), and the body to be read once."""

    __slots__ = ("_chunked", "_done", "_left", "connection", "headers", "status")

    def __init__(self, connection: Connection, status: int, headers: dict[str, str]) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "")
        self._left = -1 if self._chunked or not length.isdigit() else int(length)
        self._done = status in (204, 304) or self._left == 0
        if headers.get("connection", "").lower() == "close" or not (
            self._done or self._chunked or self._left >= 0
        ):
            connection.reusable = False

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def skip_body(self) -> None:
        """There is none: this answers a HEAD."""
        self._done = True

    def read(self) -> bytes:
        return b"".join(self.parts())

    def parts(self) -> Iterator[bytes]:
        """The body as it arrives. A body that ends too early raises ConnectError."""
        while data := self.read_part():
            yield data

    def read_part(self) -> bytes:
        """The next bytes of the body, b"" at its end; waits for at least one."""
        if self._done:
            return b""
        connection = self.connection
        if self._chunked and self._left <= 0:
            self._left = self._chunk_size()
            if self._left == 0:
                self._done = True
                return b""
        data = connection.buffer or connection.read_some()
        connection.buffer = b""
        if not data:
            self._done = True
            connection.reusable = False
            if self._left > 0:
                raise ConnectError(
                    "the daemon closed the connection in the middle of an answer (unexpected EOF)"
                )
            return b""
        if self._left >= 0:
            if len(data) > self._left:
                connection.buffer = data[self._left :]
                data = data[: self._left]
            self._left -= len(data)
            if self._left == 0 and not self._chunked:
                self._done = True
        return data

    @property
    def immediate(self) -> bool:
        """Whether `read_part` gives something, or tells the end, from what has already been read from the socket."""
        buffer = self.connection.buffer
        if self._done or self._left > 0 or not self._chunked:
            return self._done or bool(buffer)
        if self._left == 0:  # the line's end after the chunk before
            buffer = buffer[2:]
        line, end, rest = buffer.partition(b"\r\n")
        return bool(end) and (line.strip(b"0") != b"" or rest.startswith(b"\r\n") or b"\r\n\r\n" in rest)

    def _chunk_size(self) -> int:
        """Reads the line before a chunk (and the end of line after the chunk before), and the trailer after 0."""
        if self._left == 0:
            self._line()
        line = self._line().partition(b";")[0].strip()
        try:
            size = int(line, 16)
        except ValueError:
            raise ConnectError(
                "the daemon's answer is not HTTP: a chunk has no size (unexpected EOF)"
            ) from None
        if size == 0:
            while self._line():
                pass
        return size

    def _line(self) -> bytes:
        connection = self.connection
        while (end := connection.buffer.find(b"\r\n")) < 0:
            data = connection.read_some()
            if not data:
                connection.reusable = False
                line, connection.buffer = connection.buffer, b""
                return line
            connection.buffer += data
        line = connection.buffer[:end]
        connection.buffer = connection.buffer[end + 2 :]
        return line

    @property
    def ready(self) -> bool:
        """Whether bytes of the body have already been read from the socket (so poll would not tell of them)."""
        return bool(self.connection.buffer) or self._done
