"""Requests about tables, chains, sets and rules of family inet (``nf_tables.h``, nft(8)). Pure.

A ``Request`` is one netlink message without its header; a transaction gives it a number.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from minid.kernel.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    attribute,
    attribute_list,
    attributes,
    nested,
    text,
)
from minid.kernel.nftables import expressions
from minid.kernel.nftables.attributes import number

NFPROTO_INET = 1

(
    NEWTABLE,
    GETTABLE,
    DELTABLE,
    NEWCHAIN,
    GETCHAIN,
    DELCHAIN,
    NEWRULE,
    GETRULE,
    DELRULE,
    NEWSET,
    GETSET,
    DELSET,
    NEWSETELEM,
    GETSETELEM,
    DELSETELEM,
    NEWGEN,
    GETGEN,
) = range(17)

HOOKS: Mapping[str, int] = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}

_SET_INTERVAL, _SET_MAP, _SET_CONCAT = 0x4, 0x8, 0x80
_ELEM_INTERVAL_END = 1
_ELEMENTS_A_MESSAGE = 500  # a list of elements is one attribute, of at most 64 KB


@dataclass(frozen=True, slots=True)
class Request:
    """``about`` names the object for error messages."""

    kind: int
    flags: int
    body: bytes
    about: str
    family: int = NFPROTO_INET


@dataclass(frozen=True, slots=True)
class DataType:
    """One field of a key: nft's number for it and its size; in a key it takes whole 32-bit registers."""

    number: int
    size_bytes: int

    @property
    def padded_bytes(self) -> int:
        return self.size_bytes + -self.size_bytes % 4


IPV4_ADDR, IPV6_ADDR = DataType(7, 4), DataType(8, 16)
INET_PROTO, INET_SERVICE = DataType(12, 1), DataType(13, 2)
IFNAME = DataType(41, 16)


@dataclass(frozen=True, slots=True)
class Set:
    """A named set, or a map if it has ``data``. ``interval``: elements are ranges of one address field."""

    name: str
    key: Sequence[DataType]
    data: Sequence[DataType] = ()
    interval: bool = False


@dataclass(frozen=True, slots=True)
class Element:
    """``key`` and ``data`` as ``join`` makes them; ``end`` is the first address after an interval."""

    key: bytes
    data: bytes = b""
    end: bytes = b""


def join(*fields: bytes) -> bytes:
    """A concatenation: each field padded to whole registers."""
    return b"".join(field + b"\0" * (-len(field) % 4) for field in fields)


def ifname(name: str) -> bytes:
    """A device's name as a key. Raises ValueError if no device can have it."""
    raw = name.encode()
    if not 0 < len(raw) < 16:
        raise ValueError(f"{name!r} is no name of a network device")
    return raw.ljust(16, b"\0")


def port(value: int) -> bytes:
    return struct.pack(">H", value)


def new_table(table: str) -> Request:
    return Request(NEWTABLE, NLM_F_CREATE, text(1, table) + number(2, 0), f"table inet {table}")


def delete_table(table: str) -> Request:
    return Request(DELTABLE, 0, text(1, table), f"table inet {table}")


def new_chain(table: str, name: str) -> Request:
    """A chain to jump to."""
    return Request(NEWCHAIN, NLM_F_CREATE, text(1, table) + text(3, name), f"chain inet {table} {name}")


def new_base_chain(table: str, name: str, kind: str, hook: str, priority: int) -> Request:
    """A chain that the kernel calls at ``hook``; ``kind`` is filter or nat. Its policy is accept."""
    body = (
        text(1, table)
        + text(3, name)
        + nested(4, number(1, HOOKS[hook]), number(2, priority))
        + number(5, 1)
        + text(7, kind)
    )
    return Request(NEWCHAIN, NLM_F_CREATE, body, f"chain inet {table} {name}")


def new_rule(table: str, chain: str, *parts: bytes, comment: str = "", family: int = NFPROTO_INET) -> Request:
    """Append a rule; ``parts`` are expressions. ``comment`` is what ``nft list`` shows (at most 128 bytes)."""
    body = text(1, table) + text(2, chain) + nested(4, *parts)
    if comment:
        raw = comment.encode()[:127] + b"\0"
        body += attribute(7, bytes((0, len(raw))) + raw)
    about = f"rule inet {table} {chain} {comment}".rstrip()
    return Request(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, body, about, family=family)


def delete_rule(table: str, chain: str, handle: int, family: int) -> Request:
    """Fails with ENOENT if it is not there."""
    body = text(1, table) + text(2, chain) + attribute(3, handle.to_bytes(8, "big"))
    return Request(DELRULE, 0, body, f"rule of {table} {chain}", family=family)


def _concatenation(fields: Sequence[DataType]) -> tuple[int, int]:
    """nft's number of a concatenated type, six bits a field, and its size."""
    if len(fields) == 1:
        return fields[0].number, fields[0].size_bytes
    kind = 0
    for field in fields:
        kind = kind << 6 | field.number
    return kind, sum(field.padded_bytes for field in fields)


def new_set(table: str, described: Set, number_in_batch: int) -> Request:
    """``number_in_batch`` is any number that no other set of the transaction has."""
    kind, size_bytes = _concatenation(described.key)
    flags = (_SET_INTERVAL if described.interval else 0) | (_SET_MAP if described.data else 0)
    if described.interval and len(described.key) > 1:
        raise ValueError("intervals of concatenated keys are not supported")
    body = (
        text(1, table) + text(2, described.name) + number(3, flags) + number(4, kind) + number(5, size_bytes)
    )
    if described.data:
        data_kind, data_size_bytes = _concatenation(described.data)
        body += number(6, data_kind) + number(7, data_size_bytes)
    body += number(10, number_in_batch)
    if tuple(described.key) == (IFNAME,):
        body += attribute(13, b"\0\4" + struct.pack("=I", 1))  # tells nft(8) to print it as text
    return Request(NEWSET, NLM_F_CREATE, body, f"set inet {table} {described.name}")


def _element(element: Element) -> bytes:
    key = nested(1, attribute(1, element.key))
    data = expressions.value(2, element.data) if element.data else b""
    return nested(1, key + data)


def _interval_end(key: bytes) -> bytes:
    return nested(1, number(3, _ELEM_INTERVAL_END) + nested(1, attribute(1, key)))


def _elements(kind: int, flags: int, table: str, name: str, elements: Iterable[Element]) -> list[Request]:
    encoded = []
    for element in elements:
        encoded.append(_element(element))
        if element.end:
            encoded.append(_interval_end(element.end))
    return [
        Request(
            kind,
            flags,
            text(1, table) + text(2, name) + nested(3, *encoded[first : first + _ELEMENTS_A_MESSAGE]),
            f"element of inet {table} {name}",
        )
        for first in range(0, len(encoded), _ELEMENTS_A_MESSAGE)
    ]


def add_elements(table: str, name: str, elements: Iterable[Element]) -> list[Request]:
    """Fails with EEXIST if one is there already."""
    return _elements(NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, table, name, elements)


def delete_elements(table: str, name: str, elements: Iterable[Element]) -> list[Request]:
    """Fails with ENOENT if one is not there."""
    return _elements(DELSETELEM, 0, table, name, elements)


def get_generation() -> Request:
    """The number of the last transaction that anybody committed."""
    return Request(GETGEN, 0, b"", "generation", family=0)


def list_rules(table: str, family: int = NFPROTO_INET) -> Request:
    return Request(GETRULE, NLM_F_DUMP, text(1, table), f"rules of {table}", family=family)


def list_elements(table: str, name: str) -> Request:
    return Request(GETSETELEM, NLM_F_DUMP, text(1, table) + text(2, name), f"elements of inet {table} {name}")


def list_chains() -> Request:
    """Of all tables of all families."""
    return Request(GETCHAIN, NLM_F_DUMP, b"", "chains", family=0)


@dataclass(frozen=True, slots=True)
class ListedRule:
    chain: str
    handle: int
    comment: str  # "" if it has none


def listed_rule(fields: Mapping[int, bytes]) -> ListedRule:
    """One answer to ``list_rules``. A comment is user data of type 0: type, length, text."""
    data = fields.get(7, b"")
    comment = data[2 : 2 + data[1]].rstrip(b"\0") if len(data) > 2 and data[0] == 0 else b""
    chain = fields[2].rstrip(b"\0").decode(errors="replace")
    return ListedRule(chain, rule_handle(fields), comment.decode(errors="replace"))


def rule_handle(fields: Mapping[int, bytes]) -> int:
    """The kernel's number of a listed rule, never used again in its table."""
    return int.from_bytes(fields[3], "big")


def element_keys(fields: Mapping[int, bytes]) -> Iterator[tuple[bytes, bool]]:
    """The keys in one answer to ``list_elements``; True if it is an interval's end."""
    for _, listed in attribute_list(fields.get(3, b"")):
        element = attributes(listed)
        flags = int.from_bytes(element.get(3, b""), "big")
        yield attributes(element[1])[1], bool(flags & _ELEM_INTERVAL_END)


@dataclass(frozen=True, slots=True)
class ListedChain:
    family: int
    table: str
    name: str
    hook: int | None  # of a base chain
    drops: bool  # its policy


def listed_chain(family: int, fields: Mapping[int, bytes]) -> ListedChain:
    def word(kind: int) -> str:
        return fields[kind].rstrip(b"\0").decode(errors="replace")

    hook = attributes(fields[4]).get(1) if 4 in fields else None
    return ListedChain(
        family,
        word(1),
        word(3),
        None if hook is None else int.from_bytes(hook, "big"),
        fields.get(5) == bytes(4),
    )
