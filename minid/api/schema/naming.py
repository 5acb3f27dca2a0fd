"""The rule that turns field names into Docker's, its conventions for values, and lenient reading.

Go's JSON decoder, which every Docker client was tested against, takes keys in any case, and a single string
where an argument list is expected; so does ``read``.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

from minid.errors import InvalidParameter
from minid.records import decode, encode

T = TypeVar("T")

UNIX_TIME = re.compile(r"-?[0-9]{1,11}(\.[0-9]*)?")
ZERO_TIME = "0001-01-01T00:00:00Z"

EXCEPTIONS = {
    "container_id_file": "ContainerIDFile",
    "rw": "RW",
    "uts_mode": "UTSMode",
}
ARGUMENT_LISTS = frozenset({"cmd", "entrypoint", "shell"})


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    """``oom_score_adj`` as ``OomScoreAdj``, with Docker's irregular names from ``EXCEPTIONS``."""
    return EXCEPTIONS.get(name) or "".join(part.capitalize() for part in name.split("_"))


def write(record: Any) -> Any:
    """A domain record as Docker spells it."""
    return encode(record, camel)


def read(cls: type[T], data: Any, where: str = "") -> T:
    """A ``cls`` from a request's JSON. Raises ``InvalidParameter`` that names the wrong field."""
    return decode(cls, _respell(cls, data), camel, where)


@lru_cache(maxsize=256)
def _spellings(cls: type) -> tuple[dict[str, str], dict[str, type], frozenset[str]]:
    """Lower case to Docker's spelling; which fields hold records; which are argument lists."""
    known: dict[str, str] = {}
    nested: dict[str, type] = {}
    lists: set[str] = set()
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        outer = camel(field.name)
        known[outer.lower()] = outer
        if field.name in ARGUMENT_LISTS:
            lists.add(outer)
        if record := _record_in(hints[field.name]):
            nested[outer] = record
    return known, nested, frozenset(lists)


def _record_in(hint: Any) -> type | None:
    """The dataclass somewhere inside ``X``, ``X | None``, ``tuple[X, ...]``; of a mapping's values none."""
    if dataclasses.is_dataclass(hint):
        return typing.cast(type, hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union, tuple):
        return next((found for part in typing.get_args(hint) if (found := _record_in(part))), None)
    return None


def _respell(cls: type, data: Any) -> Any:
    if not isinstance(data, Mapping):
        return data
    known, nested, lists = _spellings(cls)
    respelled: dict[str, Any] = {}
    for key, value in data.items():
        outer = known.get(key.lower())
        if outer is None or (outer != key and outer in data):
            continue
        if outer in lists and isinstance(value, str):
            value = [value]
        elif outer in nested:
            value = (
                [_respell(nested[outer], item) for item in value]
                if isinstance(value, list)
                else _respell(nested[outer], value)
            )
        respelled[outer] = value
    return respelled


def timestamp(time_ns: int) -> str:
    """RFC 3339 in UTC with up to nine digits, trailing zeros dropped as Go does; 0 is Go's zero time."""
    if not time_ns:
        return ZERO_TIME
    seconds, rest = divmod(time_ns, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def fixed_timestamp(time_ns: int) -> str:
    """RFC 3339 in UTC with exactly nine digits: the time in front of a log line."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def parse_timestamp(text: str, name: str) -> int:
    """``"1136073600.000000001"`` (what clients send) or RFC 3339, as nanoseconds since the epoch; "" is 0."""
    if not text:
        return 0
    seconds, _, rest = text.partition(".")
    if UNIX_TIME.fullmatch(text):
        sign = -1 if seconds.startswith("-") else 1
        return int(seconds) * 1_000_000_000 + sign * int((rest[:9]).ljust(9, "0"))
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidParameter(f'{name}: parsing "{text}": invalid syntax, a Unix time is needed') from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1_000_000) * 1000


def seconds_of(rfc3339: str) -> int:
    """An RFC 3339 time as whole Unix seconds; anything else is 0 (an image without a creation time)."""
    try:
        when = datetime.fromisoformat(rfc3339)
    except ValueError:
        return 0
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def without_empty(data: dict[str, Any], *names: str) -> dict[str, Any]:
    """``data`` without those of ``names`` (of all keys when none are given) that are empty: ``omitempty``."""
    drop = names or tuple(data)
    return {key: value for key, value in data.items() if value or key not in drop}


def null_empty(data: dict[str, Any], *names: str) -> None:
    """Make empty lists and objects ``null`` where dockerd has a nil slice or map."""
    for name in names:
        if not data.get(name):
            data[name] = None
