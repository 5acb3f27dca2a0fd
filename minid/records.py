"""Immutable dataclasses to JSON and back: one codec for the database (field names as they are) and the API.

``decode`` checks every type and names the offending field; ``null`` and a missing key mean the field's
default, unknown
keys are ignored (as Docker does). Supported field types: str, int, float, bool, ``X | None``, ``tuple[X,
...]``,
``Mapping[str, X]``, nested dataclasses, ``Any``.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from minid.errors import InvalidParameter

T = TypeVar("T")
Name = Callable[[str], str]


def same(name: str) -> str:
    """The naming used in the database: a field's own name."""
    return name


@cache
def _fields(cls: type) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(cls))


def encode(value: Any, name: Name = same) -> Any:
    """``value`` as JSON-ready dicts, lists and scalars; keys are ``name(field)``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name(key): encode(getattr(value, key), name) for key, _ in _fields(type(value))}
    if isinstance(value, Mapping):
        return {key: encode(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [encode(item, name) for item in value]
    return value


def decode(cls: type[T], data: Any, name: Name = same, where: str = "") -> T:
    """A ``cls`` made from parsed JSON. Raises ``InvalidParameter`` naming the path of the wrong field."""
    if not isinstance(data, Mapping):
        raise InvalidParameter(f"{where or 'request body'}: expected an object, not {_kind(data)}")
    values: dict[str, Any] = {}
    for key, hint in _fields(typing.cast(Any, cls)):
        outer = name(key)
        item = data.get(outer)
        if item is not None:
            values[key] = _decode(hint, item, name, f"{where}.{outer}" if where else outer)
    return cls(**values)


def _decode(hint: Any, data: Any, name: Name, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return None if data is None else _decode(options[0], data, name, where)
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise InvalidParameter(f"{where}: expected a list, not {_kind(data)}")
        item = typing.get_args(hint)[0]
        return tuple(_decode(item, value, name, f"{where}[{index}]") for index, value in enumerate(data))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, Mapping):
            raise InvalidParameter(f"{where}: expected an object, not {_kind(data)}")
        item = typing.get_args(hint)[1]
        return {str(key): _decode(item, value, name, f"{where}[{key!r}]") for key, value in data.items()}
    if hint is Any:
        return data
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type, hint), data, name, where)
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, hint) or (hint is int and isinstance(data, bool)):
        raise InvalidParameter(f"{where}: expected {_type_name(hint)}, not {_kind(data)}")
    return data


def _type_name(hint: Any) -> str:
    return {str: "a string", int: "an integer", float: "a number", bool: "true or false"}.get(hint, str(hint))


def _kind(data: Any) -> str:
    if data is None:
        return "null"
    names = {
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(data), type(data).__name__)
