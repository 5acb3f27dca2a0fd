"""JSON to text and back, at a fraction of the start-up cost of the json package.

`import json` costs 6 ms (re, enum, functools), as much as starting the interpreter; the C scanner and encoder
that it stands on cost 0.2 ms. They are CPython's, in `_json`; where that module is missing the json package
does the work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    import _json
except ImportError:  # pragma: no cover - another Python than CPython
    _json = None  # type: ignore[assignment]


class _Rules:
    """What `_json.make_scanner` asks of its context (json.JSONDecoder has the same attributes)."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is not JSON")


def loads(text: str | bytes | bytearray) -> Any:
    """The value that `text` (UTF-8 when bytes) holds. Raises ValueError when it is not one JSON value."""
    if not isinstance(text, str):
        text = text.decode("utf-8", "replace")
    if _json is None:  # pragma: no cover
        import json

        return json.loads(text)
    text = text.strip(" \t\r\n")
    try:
        value, end = _scan(text, 0)
    except StopIteration as error:
        raise ValueError(f"not JSON at character {error.value}: {text[:80]!r}") from None
    except (
        SystemError
    ):  # the scanner's error is a class of the json package: without it, there is none to raise
        raise ValueError(f"not JSON: {text[:80]!r}") from None
    if end != len(text):
        raise ValueError(f"more than one JSON value, at character {end}")
    return value


def loads_many(text: str) -> tuple[list[Any], str]:
    """All whole JSON values at the start of `text`, and the rest that is not a whole one (a stream in progress)."""
    values: list[Any] = []
    start = 0
    while True:
        while start < len(text) and text[start] in " \t\r\n":
            start += 1
        try:
            value, end = _scan(text, start)
        except (StopIteration, ValueError, SystemError):  # see loads
            return values, text[start:]
        if end == len(text) and isinstance(value, int | float):  # "12" may go on
            return values, text[start:]
        values.append(value)
        start = end


def dumps_for_html(value: Any) -> str:
    """As Go's encoding/json writes by default: <, > and & escaped."""
    return dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def dumps(value: Any) -> str:
    """Compact JSON with nothing escaped that need not be (UTF-8 follows when the caller encodes)."""
    if _json is None:  # pragma: no cover
        import json

        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return "".join(_encode(value, 0))


if _json is not None:
    _scan = _json.make_scanner(_Rules)  # type: ignore[arg-type]
    # markers, default, encoder, indent, key separator, item separator, sort_keys, skipkeys, allow_nan
    _encode = _json.make_encoder(
        None,
        _refuse,
        _json.encode_basestring,
        None,
        ":",
        ",",
        False,
        False,
        False,
    )
else:  # pragma: no cover
    from json.decoder import JSONDecoder

    _scan = JSONDecoder(strict=False).scan_once
