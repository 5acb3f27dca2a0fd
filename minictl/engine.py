"""The daemon as minictl's commands see it: calls that give JSON, answers that stream, connections that upgrade."""

from __future__ import annotations

import os

from minictl import jsontext
from minictl.endpoint import Choice, Endpoint
from minictl.errors import ApiError
from minictl.http import CHUNKED, WANTS_TLS, Connection, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

API_VERSION = "1.44"
_TOO_NEW = "Maximum supported API version is "
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")


class Engine:
    """A daemon at an address (`unix://…`), or where `Choice` finds it. Nothing is looked up or sent before the first
    call; idle connections are used again.

    No ping goes ahead of a command: requests name API version 1.44, and only when the daemon says that this
    is too new for it is the request sent once more, with the version that the daemon can do.
    """

    def __init__(self, where: str | Endpoint | Choice) -> None:
        self.choice = where if isinstance(where, Choice) else None
        self._endpoint = where if isinstance(where, Endpoint) else None
        if isinstance(where, str):
            self._endpoint = Endpoint(where)
        self.version = os.environ.get("DOCKER_API_VERSION") or API_VERSION
        self.is_minid = False
        self._idle: list[Connection] = []

    @property
    def endpoint(self) -> Endpoint:
        """Raises Failure when there is none (a context that doesn't exist)."""
        if self._endpoint is None:
            assert self.choice
            self._endpoint = self.choice.endpoint()
        return self._endpoint

    @property
    def host(self) -> str:
        return self.endpoint.host

    def beside(self, place: str) -> Engine:
        """Another daemon: at an address, with TLS as this one's command line says, or a context's. Raises Failure."""
        if self.choice is None:
            return Engine(place)
        other = Engine(self.choice)
        other._endpoint = self.choice.elsewhere(place)
        return other

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """The JSON value answered (None when there is none). Raises ApiError for a status of 400 or more."""
        response = self.request(method, path, query, body, headers)
        data = response.read()
        self.release(response)
        return jsontext.loads(data) if data and response.content_type.endswith("json") else None

    def request(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """The answer with its body still to be read: give it back with `release` when that has been done.

        `body`: bytes or an iterable of bytes go as they are, anything else as JSON. Raises ApiError,
        ConnectError.
        """
        connection = self.send(method, path, query, body, headers)
        try:
            return self.receive(connection, method)
        except ApiError as error:
            if not self.accepts_older(error) or (body is not None and hasattr(body, "__next__")):
                raise
            return self.receive(self.send(method, path, query, body, headers), method)

    def accepts_older(self, error: ApiError) -> bool:
        """Whether `error` is the daemon's refusal of the API version; from now on the one it offers is spoken."""
        if error.http_status != 400 or _TOO_NEW not in error.detail:
            return False
        self.version = error.detail.partition(_TOO_NEW)[2].strip().rstrip(".")
        return True

    def settle_version(self) -> None:
        """Asks which version the daemon speaks: for a request whose body can't be sent twice. Sets `is_minid`."""
        connection = self._idle.pop() if self._idle else self.endpoint.open()
        connection.send("GET", "/_ping", {"User-Agent": "minictl"}, None)
        response = connection.receive()
        response.read()
        self.release(response)
        self.is_minid = response.headers.get("server", "").startswith("minid/")
        offered = response.headers.get("api-version", "")
        if offered and _number(offered) < _number(self.version):
            self.version = offered

    def send(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Connection:
        """Sends a request and doesn't wait for its answer (`receive` does)."""
        heads = {"User-Agent": "minictl"}
        if headers:
            heads.update(headers)
        if body is not None and not isinstance(body, bytes) and not hasattr(body, "__next__"):
            body = jsontext.dumps(body).encode("utf-8", "surrogateescape")
            heads["Content-Type"] = "application/json"
        connection = self._idle.pop() if self._idle else self.endpoint.open()
        connection.send(method, f"/v{self.version}{path}{query_string(query)}", heads, body)
        return connection

    def begin(self, path: str, query: dict[str, Any], headers: dict[str, str]) -> tuple[Connection, bytes]:
        """A POST whose body the caller sends in chunks: the connection, and the head, which is still to be sent."""
        connection = self._idle.pop() if self._idle else self.endpoint.open()
        heads = {"User-Agent": "minictl", **headers}
        target = f"/v{self.version}{path}{query_string(query)}"
        return connection, connection.head("POST", target, heads, CHUNKED)

    def receive(self, connection: Connection, method: str = "GET") -> Response:
        """The answer to what was sent on `connection`. Raises ApiError for a status of 400 or more."""
        response = connection.receive()
        if method == "HEAD":
            response.skip_body()
        if response.status >= 400:
            raise self._api_error(response)
        return response

    def upgrade(self, path: str, query: dict[str, Any] | None = None, body: Any = None) -> Connection:
        """Sends a POST that asks for a raw stream; `receive` gives the answer, the connection is the stream then."""
        return self.send("POST", path, query, body, {"Connection": "Upgrade", "Upgrade": "tcp"})

    def release(self, response: Response) -> None:
        """Keeps the connection of an answer that has been read to its end for the next call."""
        connection = response.connection
        if connection.reusable and not connection.buffer and response.ready:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Closes the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _api_error(self, response: Response) -> ApiError:
        data = response.read()
        self.release(response)
        text = data.decode("utf-8", "replace").strip()
        if response.content_type == "application/json" or text.startswith("{"):
            try:
                text = str(jsontext.loads(text)["message"])
            except (ValueError, KeyError, TypeError):
                pass
        if text.startswith("Client sent an HTTP request to an HTTPS server"):
            text = WANTS_TLS
        return ApiError(response.status, text.strip() or f"HTTP status {response.status} without a message")


def _number(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def query_string(query: dict[str, Any] | None) -> str:
    """`?a=b&c=d`, "" for none: None and "" are left out, True is 1, False 0, a list repeats its name."""
    if not query:
        return ""
    parts = []
    for name, value in query.items():
        if value is None or value == "":
            continue
        values: Iterable[Any] = value if isinstance(value, list) else (value,)
        for item in values:
            text = "1" if item is True else "0" if item is False else str(item)
            parts.append(f"{name}={quote(text)}")
    return "?" + "&".join(parts) if parts else ""


def quote(text: str, keep: str = "") -> str:
    """Percent-encodes for a query; RFC 3986's unreserved characters stay, and those in `keep`.

    A name in a path keeps "/:@", because an image's name may have them all.
    """
    if _SAFE.issuperset(text):
        return text
    return "".join(
        chr(byte) if chr(byte) in _SAFE or chr(byte) in keep else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def segment(name: str) -> str:
    """`name` (of a container, image, volume) as it goes into a path."""
    return quote(name, "/:@")
