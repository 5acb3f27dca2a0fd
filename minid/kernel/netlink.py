"""Netlink: messages, attributes and a socket (``netlink(7)``, ``linux/netlink.h``).

Small and blocking, for callers that know which messages they want: encoding takes microseconds, several
messages go to the kernel in one ``sendmsg`` and are acknowledged one by one. (pyroute2 would do all this and
more, for half a second of start-up and 10 MB in the daemon; see docs/decisions/0016.)
"""

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_CAPPED, NLM_F_ACK_TLVS, NLM_F_DUMP_INTR = 0x100, 0x200, 0x10
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
NLMSGERR_ATTR_MSG = 1
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 270, 10, 11, 12
NETLINK_ROUTE = 0

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
RECEIVE_BYTES = 1 << 17


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=B", value))


def u16(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def attributes(data: bytes) -> dict[int, bytes]:
    """What a run of attributes holds, by kind (the flags taken off); of a repeated kind the last."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> Iterator[tuple[int, bytes]]:
    """All attributes in their order."""
    position = 0
    while position + 4 <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, position)
        if length < 4:
            return
        yield kind & NLA_TYPE_MASK, data[position + 4 : position + length]
        position += (length + 3) & ~3


class Request:
    """A message without its sequence number: ``kind`` (``RTM_…``), ``flags`` beside NLM_F_REQUEST, body."""

    __slots__ = ("body", "flags", "kind", "what")

    def __init__(self, kind: int, flags: int, body: bytes, what: str = "") -> None:
        self.kind = kind
        self.flags = flags
        self.body = body
        self.what = what  # for error messages


class NetlinkError(OSError):
    """The kernel refused a message; ``filename`` tells which, ``strerror`` has the kernel's own words."""


class Socket:
    """A netlink socket of the calling thread's network namespace; not for use by two threads at once."""

    def __init__(self, protocol: int = NETLINK_ROUTE, *, strict: bool = False) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, *([NETLINK_GET_STRICT_CHK] if strict else [])):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> "Socket":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, requests: Sequence[Request]) -> None:
        """All in one write; every one is acknowledged. The kernel tries each, whatever became of those
        before it; the first failure is raised after the last answer.
        """
        if not requests:
            return
        pending = self._write(requests, NLM_F_ACK)
        failure: NetlinkError | None = None
        while pending:
            for kind, _, sequence, payload in self._receive():
                if kind == NLMSG_ERROR and sequence in pending:
                    error = _error(payload, pending.pop(sequence).what)
                    failure = failure or error
        if failure is not None:
            raise failure

    def get(self, request: Request) -> tuple[int, bytes]:
        """The one answer: its kind and payload."""
        (sequence,) = self._write([request], 0)
        while True:
            for kind, _, number, payload in self._receive():
                if number != sequence:
                    continue
                if kind == NLMSG_ERROR:
                    raise _error(payload, request.what) or OSError(0, "no answer")
                return kind, payload

    def dump(self, request: Request) -> list[tuple[int, bytes]]:
        """All answers of a dump. What changes meanwhile may be missing."""
        (sequence,) = self._write([request], NLM_F_DUMP)
        result: list[tuple[int, bytes]] = []
        while True:
            for kind, _, number, payload in self._receive():
                if number != sequence:
                    continue
                if kind == NLMSG_DONE:
                    return result
                if kind == NLMSG_ERROR:
                    raise _error(payload, request.what) or OSError(0, "no answer")
                result.append((kind, payload))

    def _write(self, requests: Iterable[Request], flags: int) -> dict[int, Request]:
        numbered = {}
        data = []
        for request in requests:
            self._sequence += 1
            numbered[self._sequence] = request
            length = HEADER.size + len(request.body)
            header = HEADER.pack(
                length, request.kind, request.flags | flags | NLM_F_REQUEST, self._sequence, 0
            )
            data.append(header + request.body + b"\0" * (-length % 4))
        self._socket.send(b"".join(data))
        return numbered

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, sequence number and payload of each message in one datagram."""
        data = self._socket.recv(RECEIVE_BYTES)
        position = 0
        while position + HEADER.size <= len(data):
            length, kind, flags, sequence, _ = HEADER.unpack_from(data, position)
            payload = data[position + HEADER.size : position + length]
            if kind == NLMSG_ERROR and not flags & NLM_F_ACK_TLVS:
                payload = payload[:4]
            yield kind, flags, sequence, payload
            position += (length + 3) & ~3


def _error(payload: bytes, what: str) -> NetlinkError | None:
    (number,) = struct.unpack_from("=i", payload)
    if number == 0:
        return None
    reason = os.strerror(-number)
    # the error, the header of the refused message (NETLINK_CAP_ACK: no more of it), attributes
    if len(payload) > 4 + HEADER.size:
        said = attributes(payload[4 + HEADER.size :]).get(NLMSGERR_ATTR_MSG)
        if said:
            reason = f"{reason}: {said.rstrip(bytes(1)).decode(errors='replace')}"
    return NetlinkError(-number, reason, what or None)
