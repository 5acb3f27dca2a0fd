"""Ways to answer a request at once."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web


def json_response(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=json_line(data), status=status, headers=headers, content_type="application/json")


def json_line(data: Any) -> bytes:
    """One JSON document and a newline; what a path name holds beside UTF-8 becomes "?"."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace") + b"\n"


def empty_response(status: int = 204) -> web.Response:
    return web.Response(status=status)
