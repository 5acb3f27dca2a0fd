"""The Engine API without a client library: requests, upgraded connections and frames, byte for byte.

Frames are those of ``Engine API POST /containers/{id}/attach``: stream (1 byte), three zero bytes, size (4 bytes, big
endian), payload.
"""

import http.client
import io
import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

TIMEOUT_S = 30


@dataclass(frozen=True)
class Response:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]

    @property
    def message(self) -> str:
        """The text of an error."""
        return str(self.json["message"])


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Stream:
    """An upgraded connection, or the body of a response that goes on; use ``with``."""

    def __init__(self, status: int, headers: dict[str, str], sock: socket.socket, rest: bytes) -> None:
        self.status = status
        self.headers = headers
        self.sock = sock
        self._rest = rest

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close_write(self) -> None:
        """Half-close: the container's stdin ends, its output goes on."""
        self.sock.shutdown(socket.SHUT_WR)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; b"" at the end."""
        if self._rest:
            data, self._rest = self._rest[:size], self._rest[size:]
            return data
        return self.sock.recv(size)

    def read_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.read(size - len(data))
            if not part:
                raise EOFError(f"the stream ended after {len(data)} of {size} bytes")
            data += part
        return data

    def read_all(self) -> bytes:
        parts = io.BytesIO()
        while part := self.read(65536):
            parts.write(part)
        return parts.getvalue()

    def read_until(self, marker: bytes) -> bytes:
        data = b""
        while marker not in data:
            part = self.read(65536)
            if not part:
                raise EOFError(f"the stream ended before {marker!r}; it had {data!r}")
            data += part
        return data

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(stream, payload) of every frame; fails on anything that is not whole frames. 1 is stdout, 2 stderr."""
    position = 0
    while position < len(data):
        header = data[position : position + 8]
        assert len(header) == 8 and header[1:4] == b"\0\0\0" and header[0] in (0, 1, 2), (
            f"not a frame: {header!r}"
        )
        (size,) = struct.unpack(">I", header[4:])
        payload = data[position + 8 : position + 8 + size]
        assert len(payload) == size, f"the frame at {position} says {size} bytes, {len(payload)} are there"
        yield header[0], payload
        position += 8 + size


def unframed(data: bytes, stream: int) -> bytes:
    """Everything that one stream (1 stdout, 2 stderr) carried."""
    return b"".join(payload for number, payload in frames(data) if number == stream)


class Wire:
    """Requests to one daemon; each on a new connection unless ``connection`` is given."""

    def __init__(self, path: Path, version: str = "1.41") -> None:
        self.path = path
        self.version = version

    def url(self, path: str, query: dict[str, Any] | None = None) -> str:
        encoded = {
            key: json.dumps(value) if isinstance(value, dict | list) else value
            for key, value in (query or {}).items()
        }
        prefix = f"/v{self.version}" if self.version else ""
        return prefix + quote(path, safe="/:@%") + (f"?{urlencode(encoded)}" if encoded else "")

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        connection: http.client.HTTPConnection | None = None,
    ) -> Response:
        own = connection is None
        connection = connection or UnixConnection(self.path, timeout_s)
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, self.url(path, query), body=body, headers=sent)
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())
        finally:
            if own:
                connection.close()

    def get(self, path: str, **query: Any) -> Any:
        """GET that must be 200; its JSON."""
        response = self("GET", path, query=query)
        assert response.status == 200, (path, response.status, response.body)
        return response.json

    def post(self, path: str, body: Any = None, **query: Any) -> Response:
        return self("POST", path, body, query=query)

    def stream(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        upgrade: bool = True,
        timeout_s: float = TIMEOUT_S,
    ) -> Stream:
        """Send one request and return after the header of the answer; the body is read raw from the stream.

        With ``upgrade`` the request asks for ``Upgrade: tcp``; 101 is then the answer for attach and exec.
        """
        data = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} {self.url(path, query)} HTTP/1.1",
            "Host: localhost",
            f"Content-Length: {len(data)}",
        ]
        if body is not None:
            lines.append("Content-Type: application/json")
        if upgrade:
            lines += ["Connection: Upgrade", "Upgrade: tcp"]
        else:
            lines.append("Connection: close")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout_s)
        try:
            sock.connect(str(self.path))
            sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
            received = b""
            while b"\r\n\r\n" not in received:
                part = sock.recv(65536)
                if not part:
                    raise EOFError(f"no answer to {method} {path}; got {received!r}")
                received += part
        except BaseException:
            sock.close()
            raise
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)
        }
        return Stream(int(first.split()[1]), headers, sock, rest)
