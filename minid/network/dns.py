"""Answers to DNS queries from a view (RFC 1035, 6891): bytes in, bytes out. Pure, and never raises.

What containers send may be hostile, and one process serves all of them: so a query is read strictly and once
(one question, no compression, nothing beside it but EDNS), and an answer is the question's own bytes with
records behind it. See docs/decisions/0017.
"""

import ipaddress
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minid.network.zone import Address, View

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

TTL_S = 5  # an address may be somebody else's soon; Docker says 600, and caches believe it
PLAIN_BYTES = 512  # what every client takes over UDP
OWN_BYTES = 4096  # what is sent over UDP at most; it only ever crosses a loopback
QUERY_BYTES = 4096  # no honest query is longer

_HEADER = struct.Struct(">6H")
_RECORD = struct.Struct(">HHIH")
_QR, _AA, _TC, _RD, _RA, _CD, _OPCODE = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010, 0x7800
_EDNS_DO = 0x8000
_NAME_BYTES, _LABEL_BYTES, _EXTRA_RECORDS = 255, 63, 4
_TO_QUESTION = b"\xc0\x0c"  # a name that is the question's
_REVERSE4, _REVERSE6 = ".in-addr.arpa", ".ip6.arpa"


@dataclass(frozen=True, slots=True)
class Forward:
    """Ask elsewhere; ``size_bytes`` is the longest answer that the client takes over UDP."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Query:
    """A query that could be read. ``end`` is where its question ends; ``edns_ttl`` is None without EDNS."""

    id: int
    flags: int
    labels: tuple[bytes, ...]
    kind: int
    class_: int
    question: bytes
    size_bytes: int = PLAIN_BYTES
    edns_ttl: int | None = None

    @property
    def name(self) -> str:
        """In lower case, without a dot at the end."""
        return b".".join(self.labels).decode("utf-8", "surrogateescape").lower()


def answer(
    packet: bytes, view: View, *, udp: bool = True, shuffle: Callable[[list[Address]], None] = random.shuffle
) -> bytes | Forward | None:
    """None when there is nothing to say: it is no query, or has no header. ``shuffle`` brings the addresses of
    a name in the order in which they are told.
    """
    if len(packet) < _HEADER.size or packet[2] & _QR >> 8:
        return None
    if packet[2] & _OPCODE >> 8:
        return failure(packet, NOTIMP)
    try:
        query = parse(packet)
    except ValueError:
        return failure(packet, FORMERR)
    if query.edns_ttl is not None and query.edns_ttl >> 16 & 0xFF:
        return _pack(query, BADVERS, [], udp)
    return _answer(query, view, udp, shuffle)


def _answer(query: Query, view: View, udp: bool, shuffle: Callable[[list[Address]], None]) -> bytes | Forward:
    if query.class_ == IN and not any(b"." in label for label in query.labels):
        name = query.name
        reverse = address_of(name)
        if reverse is not None:
            owner = view.name(reverse)
            if owner is not None:
                records = [_record(PTR, _name(owner))] if query.kind in (PTR, ANY) else []
                return _pack(query, NOERROR, records, udp)
            if view.covers(reverse):
                return _pack(query, NXDOMAIN, [], udp)
        else:
            of_version = {A: view.addresses(name, 4), AAAA: view.addresses(name, 6)}
            if any(found is not None for found in of_version.values()):
                told = [
                    address
                    for kind, found in of_version.items()
                    if query.kind in (kind, ANY)
                    for address in found or ()
                ]
                shuffle(told)
                records = [_record(AAAA if one.version == 6 else A, one.packed) for one in told]
                return _pack(query, NOERROR, records, udp)
    if view.forwards:
        return Forward(query.size_bytes)
    # A bare name can only be one of ours. Of others nothing is known here.
    return _pack(query, NXDOMAIN if len(query.labels) == 1 else SERVFAIL, [], udp)


def parse(packet: bytes) -> Query:
    """Raises ValueError for what is no plain query."""
    if len(packet) > QUERY_BYTES:
        raise ValueError("too long")
    try:
        number, flags, questions, answers, authorities, extras = _HEADER.unpack_from(packet)
        if questions != 1 or answers or authorities or extras > _EXTRA_RECORDS:
            raise ValueError("one question is answered at a time")
        labels, end = _labels(packet, _HEADER.size)
        kind, class_ = struct.unpack_from(">HH", packet, end)
        end += 4
        question = packet[_HEADER.size : end]
        size_bytes, edns_ttl = PLAIN_BYTES, None
        for _ in range(extras):
            owner, end = _labels(packet, end)
            extra_kind, extra_class, ttl, length = _RECORD.unpack_from(packet, end)
            end += _RECORD.size + length
            if end > len(packet):
                raise ValueError("a record is cut short")
            if extra_kind == OPT:
                if owner or edns_ttl is not None:
                    raise ValueError("EDNS of a name, or twice")
                size_bytes, edns_ttl = min(max(extra_class, PLAIN_BYTES), OWN_BYTES), ttl
    except (struct.error, IndexError) as error:
        raise ValueError("cut short") from error
    return Query(number, flags, labels, kind, class_, question, size_bytes, edns_ttl)


def failure(packet: bytes, code: int, flags: int = 0) -> bytes:
    """An answer without records to any packet that has a header; the question is repeated if there is one."""
    try:
        query = parse(packet)
    except ValueError:
        number, asked, *_ = _HEADER.unpack_from(packet)
        flags |= _QR | _RA | asked & (_OPCODE | _RD | _CD) | code
        return _HEADER.pack(number, flags, 0, 0, 0, 0)
    return _pack(query, code, [], False, flags)


def fits(packet: bytes, response: bytes, size_bytes: int) -> bytes:
    """A response from elsewhere for UDP: whole, or, when the client can't take it, one that says so (TC)."""
    if len(response) <= size_bytes:
        return response
    return failure(packet, code_of(response), _TC)


def belongs(packet: bytes, response: bytes) -> bool:
    """Whether ``response`` answers ``packet``: the same number and question."""
    if len(response) < _HEADER.size or packet[:2] != response[:2] or not response[2] & _QR >> 8:
        return False
    if response[4:6] == b"\0\0":
        # some servers leave the question out of an error, or when an answer is too long
        return code_of(response) != NOERROR or bool(response[2] & _TC >> 8)
    try:
        labels, end = _labels(packet, _HEADER.size)
        theirs, their_end = _labels(response, _HEADER.size)
    except (IndexError, ValueError):
        return False
    same_name = [label.lower() for label in labels] == [label.lower() for label in theirs]
    return same_name and packet[end : end + 4] == response[their_end : their_end + 4]


def code_of(response: bytes) -> int:
    return response[3] & 0x0F


def address_of(name: str) -> Address | None:
    """Of a name below ``in-addr.arpa`` or ``ip6.arpa``, in lower case; None if it is no whole address."""
    try:
        if name.endswith(_REVERSE4):
            return ipaddress.IPv4Address(".".join(reversed(name.removesuffix(_REVERSE4).split("."))))
        if name.endswith(_REVERSE6):
            digits = name.removesuffix(_REVERSE6).split(".")
            if len(digits) == 32 and all(len(digit) == 1 and digit.isascii() for digit in digits):
                return ipaddress.IPv6Address(int("".join(reversed(digits)), 16))
    except ValueError:
        pass
    return None


def _labels(packet: bytes, offset: int) -> tuple[tuple[bytes, ...], int]:
    """The name at ``offset`` and where it ends. Raises ValueError, IndexError."""
    start = offset
    labels = []
    while length := packet[offset]:
        end = offset + 1 + length
        if length > _LABEL_BYTES or end - start >= _NAME_BYTES:
            raise ValueError("compressed, or too long")
        labels.append(packet[offset + 1 : end])
        offset = end
    return tuple(labels), offset + 1


def _name(text: str) -> bytes:
    labels = [label.encode("utf-8", "surrogateescape")[:_LABEL_BYTES] for label in text.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def _record(kind: int, data: bytes) -> bytes:
    return _TO_QUESTION + _RECORD.pack(kind, IN, TTL_S, len(data)) + data


def _pack(query: Query, code: int, records: Sequence[bytes], udp: bool, flags: int = 0) -> bytes:
    """As many records as the client takes, and a note (TC) if that is not all."""
    extra = b""
    if query.edns_ttl is not None:
        ttl = code >> 4 << 24 | query.edns_ttl & _EDNS_DO
        extra = b"\0" + _RECORD.pack(OPT, OWN_BYTES, ttl, 0)
    flags |= _QR | _RA | query.flags & (_OPCODE | _RD | _CD) | code & 0x0F
    if code in (NOERROR, NXDOMAIN) and not flags & _TC:
        flags |= _AA
    left_bytes = (query.size_bytes if udp else 65535) - _HEADER.size - len(query.question) - len(extra)
    told = []
    for record in records:
        left_bytes -= len(record)
        if left_bytes < 0:
            flags |= _TC
            break
        told.append(record)
    header = _HEADER.pack(query.id, flags, 1, len(told), 0, int(bool(extra)))
    return header + query.question + b"".join(told) + extra
