"""One request to an operation: its parameters in Docker's conventions, its body, and ways to answer it."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

from aiohttp import web

from minid.api.connection import Connection
from minid.api.failure import BodyTooLarge
from minid.api.services import Services
from minid.errors import InvalidParameter, MinidError

JSON_LIMIT_BYTES = 4 << 20
JSON_TYPES = ("application/json", "text/json")

Version = tuple[int, ...]


class Call:
    """``version`` is the API version that the client speaks, e.g. ``(1, 44)``."""

    __slots__ = ("connection", "headers", "parameters", "request", "services", "version")

    def __init__(
        self,
        request: web.BaseRequest,
        services: Services,
        version: Version,
        parameters: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> None:
        self.request = request
        self.services = services
        self.version = version
        self.parameters = parameters
        self.headers = headers
        self.connection = cast(Connection, request.protocol)

    # --- the query

    def text(self, name: str, default: str = "") -> str:
        return self.request.query.get(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean as moby reads it: anything but an empty string, 0, no, false and none is true."""
        value = self.request.query.get(name)
        if value is None:
            return default
        return value.strip().lower() not in ("", "0", "no", "false", "none")

    def integer(self, name: str, default: int | None = None) -> int | None:
        """A decimal integer; ``default`` when missing or empty."""
        value = self.request.query.get(name, "")
        if value == "":
            return default
        return parse_integer(value, name)

    def required_integer(self, name: str) -> int:
        return parse_integer(self.request.query.get(name, ""), name)

    def filters(self, accepted: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """``?filters=`` with only ``accepted`` keys; raises ``InvalidParameter`` for any other."""
        wanted = parse_filters(self.text("filters"))
        for key in wanted:
            if key not in accepted:
                raise InvalidParameter(f"invalid filter '{key}': this operation takes {', '.join(accepted)}")
        return wanted

    # --- the body

    async def json(self, *, optional: bool = False) -> Any:
        """The parsed body (an object), checked as moby checks it. ``optional``: no body gives ``{}``."""
        raw = await self.body(JSON_LIMIT_BYTES)
        if not raw.strip() and optional:
            return {}
        check_json_type(self.request.headers.get("Content-Type", ""), bool(raw))
        if not raw.strip():
            raise InvalidParameter("the request body is empty: got EOF while reading request body")
        data = parse_json(raw)
        if data is not None and not isinstance(data, dict):
            raise InvalidParameter("the request body must be a JSON object")
        return data or {}

    async def body(self, limit_bytes: int) -> bytes:
        self._ask_for_body()
        if self.connection.hijackable(self.request):
            return await self.connection.read_body(self.request.headers, limit_bytes)
        if not self.request.can_read_body:
            return b""
        length = self.request.content_length
        if length is not None and length > limit_bytes:
            raise BodyTooLarge(f"the request body has {length} bytes, at most {limit_bytes} are taken")
        chunks, total = [], 0
        async for chunk in self.request.content.iter_any():
            total += len(chunk)
            if total > limit_bytes:
                raise BodyTooLarge(f"the request body has more than {limit_bytes} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body piece by piece as it arrives, of any length."""
        self._ask_for_body()
        async for piece in self.request.content.iter_any():
            yield piece

    def _ask_for_body(self) -> None:
        """``Expect: 100-continue`` (RFC 9110 § 10.1.1): the client sends the body when it is told that it is wanted."""
        if self.request.headers.get("Expect", "").lower() == "100-continue" and self.request.transport:
            self.request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # --- answers

    async def start(self, content_type: str, *, more: Mapping[str, str] | None = None) -> web.StreamResponse:
        """A streamed answer whose headers have been sent when this returns."""
        response = web.StreamResponse(headers={**self.headers, **(more or {})})
        response.content_type = content_type
        await response.prepare(self.request)
        self.connection.answering = True
        return response

    def after(self, *version: int) -> bool:
        """Whether the client speaks at least this API version."""
        return self.version >= version


def parse_json(raw: bytes) -> Any:
    """Strict JSON: no NaN or Infinity, no lone surrogates, no bottomless nesting."""

    def refuse(constant: str) -> None:
        raise InvalidParameter(f"invalid JSON: {constant} is not a JSON value")

    try:
        data = json.loads(raw, parse_constant=refuse)
        if b"\\u" in raw:
            json.dumps(data, ensure_ascii=False).encode()
    except MinidError:
        raise
    except UnicodeEncodeError:
        raise InvalidParameter("invalid JSON: a \\u escape is half of a surrogate pair") from None
    except RecursionError:
        raise InvalidParameter("invalid JSON: nested too deeply") from None
    except ValueError as error:
        raise InvalidParameter(f"invalid JSON: {error}") from None
    return data


def check_json_type(content_type: str, has_body: bool) -> None:
    kind = content_type.split(";", 1)[0].strip().lower()
    if has_body and kind not in JSON_TYPES:
        raise InvalidParameter(
            f"unsupported Content-Type header ({content_type or 'none'}): must be 'application/json'"
        )


def parse_integer(value: str, name: str) -> int:
    digits = value[1:] if value[:1] in ("-", "+") else value
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise InvalidParameter(f'{name}: parsing "{value}": invalid syntax, an integer is needed')
    return int(value)


def parse_filters(text: str) -> dict[str, tuple[str, ...]]:
    """``{"status": ["a", "b"]}`` or the older ``{"status": {"a": true}}``."""
    if not text:
        return {}
    try:
        data = parse_json(text.encode("utf-8", "surrogateescape"))
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid filter: {error}") from None
    if not isinstance(data, dict):
        raise InvalidParameter("invalid filter: an object of lists is needed")
    filters: dict[str, tuple[str, ...]] = {}
    for key, values in data.items():
        if isinstance(values, dict):
            values = [value for value, wanted in values.items() if wanted]
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise InvalidParameter(f"invalid filter '{key}': a list of strings is needed")
        filters[key] = tuple(values)
    return filters
