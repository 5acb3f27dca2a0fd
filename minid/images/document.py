"""JSON documents that a registry or an archive sent: parsed with limits, and read field by field.

Everything here distrusts its input: size, nesting, repeated keys and types are checked, and each error names
the document and the field (design rule 3).
"""

import json
from collections.abc import Mapping
from typing import Any

from minid.errors import InvalidParameter

SIZE_MAX = 4 << 20
DEPTH_MAX = 32


class InvalidDocument(InvalidParameter):
    """A manifest, an index or an image config is not what its specification demands."""


def load(data: bytes, what: str, *, size_max: int = SIZE_MAX) -> dict[str, Any]:
    """The JSON object in ``data``; ``what`` (``manifest sha256:…``, say) begins every error message."""
    if len(data) > size_max:
        raise InvalidDocument(f"{what} has {len(data)} bytes, more than the {size_max} that are accepted")
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=lambda pairs: _unique(pairs, what),
            parse_constant=lambda name: _refuse(what, f"{name} is no JSON number"),
        )
    except RecursionError:
        raise InvalidDocument(f"{what} is nested more than {DEPTH_MAX} levels deep") from None
    except UnicodeDecodeError as error:
        raise InvalidDocument(f"{what} is not UTF-8: {error.reason} at byte {error.start}") from None
    except InvalidDocument:
        raise
    except ValueError as error:
        raise InvalidDocument(f"{what} is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidDocument(f"{what} is not a JSON object")
    _check_depth(document, what)
    if b"\\ud" in data.lower():
        _check_surrogates(document, what)
    return document


def text_field(document: Mapping[str, Any], key: str, what: str, *, required: bool = False) -> str:
    """The string at ``key``; ``""`` when missing or null and not ``required``."""
    value = document.get(key)
    if value is None and not required:
        return ""
    if value is None:
        raise InvalidDocument(f"{what}: the field {key!r} is missing")
    if not isinstance(value, str):
        raise InvalidDocument(f"{what}: the field {key!r} is not a string")
    return value


def list_field(document: Mapping[str, Any], key: str, what: str, *, length_max: int) -> list[Any]:
    """The list at ``key``, which must be there."""
    value = document.get(key)
    if value is None:
        raise InvalidDocument(f"{what}: the field {key!r} is missing")
    if not isinstance(value, list):
        raise InvalidDocument(f"{what}: the field {key!r} is not a list")
    if len(value) > length_max:
        raise InvalidDocument(f"{what}: the field {key!r} has {len(value)} entries, more than {length_max}")
    return value


def size_field(document: Mapping[str, Any], key: str, what: str) -> int:
    """The non-negative integer at ``key``, which must be there."""
    value = document.get(key)
    if value is None:
        raise InvalidDocument(f"{what}: the field {key!r} is missing")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise InvalidDocument(f"{what}: the field {key!r} is not a size in bytes")
    return value


def _unique(pairs: list[tuple[str, Any]], what: str) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidDocument(f"{what}: the field {key!r} is there twice")
            seen.add(key)
    return result


def _refuse(what: str, why: str) -> None:
    raise InvalidDocument(f"{what} is not valid JSON: {why}")


def _check_surrogates(document: dict[str, Any], what: str) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidDocument(f"{what} has half a surrogate pair in a string") from None


def _check_depth(document: dict[str, Any], what: str) -> None:
    """Level by level, not by recursion."""
    level: list[Any] = [document]
    for _ in range(DEPTH_MAX):
        following: list[Any] = []
        for item in level:
            children = item.values() if isinstance(item, dict) else item
            following.extend(child for child in children if isinstance(child, dict | list))
        if not following:
            return
        level = following
    raise InvalidDocument(f"{what} is nested more than {DEPTH_MAX} levels deep")
