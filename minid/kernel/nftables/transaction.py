"""Sending requests to the kernel: all of a transaction or nothing (``nfnetlink``, Linux 3.13).

A transaction may name the generation of the ruleset that it is meant for. When anybody else has changed
any rule since, the kernel refuses it (ERESTART), and so a flush by another program is noticed without
asking each time.
"""

import errno
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minid.kernel.netlink import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attributes,
)
from minid.kernel.nftables.attributes import number
from minid.kernel.nftables.objects import Request, get_generation

NETLINK_NETFILTER = 12
_NFNL_SUBSYS_NFTABLES = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_BATCH_GENID = 1
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_RECEIVE_BYTES = 1 << 16
ERESTART = 85


@dataclass(frozen=True, slots=True)
class Answer:
    """One object: its family (NFPROTO_…) and its attributes by kind."""

    family: int
    fields: Mapping[int, bytes]


class Changed(Exception):
    """The ruleset is of another generation than the transaction expected; nothing was changed."""


def message(kind: int, flags: int, sequence: int, family: int, resource: int, body: bytes) -> bytes:
    """A netlink message: ``struct nlmsghdr``, ``struct nfgenmsg``, attributes."""
    size = 20 + len(body)
    header = struct.pack("=IHHII", size, kind, flags | NLM_F_REQUEST, sequence, 0)
    return header + struct.pack(">BBH", family, 0, resource) + body


def batch(requests: Sequence[Request], generation: int | None = None) -> bytes:
    """A whole transaction; the requests are numbered from 1, begin is 0. Pure."""
    expected = b"" if generation is None else number(_BATCH_GENID, generation)
    parts = [message(_BATCH_BEGIN, 0, 0, 0, _NFNL_SUBSYS_NFTABLES, expected)]
    for sequence, request in enumerate(requests, 1):
        kind = _NFNL_SUBSYS_NFTABLES << 8 | request.kind
        parts.append(message(kind, request.flags, sequence, request.family, 0, request.body))
    parts.append(message(_BATCH_END, 0, len(requests) + 1, 0, _NFNL_SUBSYS_NFTABLES, b""))
    return b"".join(parts)


def messages(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """``(kind, flags, sequence, payload)`` of each netlink message in a datagram. Pure."""
    found = []
    offset = 0
    while offset + 16 <= len(data):
        size, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, offset)
        if size < 16 or offset + size > len(data):
            raise ValueError("netlink message cut short")
        found.append((kind, flags, sequence, data[offset + 16 : offset + size]))
        offset += size + -size % 4
    return found


def _error_number(payload: bytes) -> int:
    """Of an NLMSG_ERROR: a positive errno, 0 for an acknowledgement."""
    return -int(struct.unpack_from("=i", payload)[0])


class Connection:
    """A netlink socket in the network namespace of the thread that made it. Not for two threads at once."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
        )
        self._socket.bind((0, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 20)

    def close(self) -> None:
        self._socket.close()

    def commit(self, requests: Sequence[Request], generation: int | None = None) -> None:
        """Do all requests, or none and raise OSError for the first that failed, naming its object.

        Raises Changed if the ruleset is not of ``generation`` any more.
        """
        data = batch(requests, generation)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, max(1 << 18, 2 * len(data)))
        self._socket.send(data)
        failures = []
        while True:
            # The kernel has worked the batch off and queued every answer before send() returned.
            try:
                answer = self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            for kind, _, sequence, payload in messages(answer):
                if kind == NLMSG_ERROR and _error_number(payload):
                    failures.append((sequence, _error_number(payload)))
        if not failures:
            return
        sequence, code = min(failures)
        if code == ERESTART:
            raise Changed
        about = requests[sequence - 1].about if 0 < sequence <= len(requests) else "transaction"
        raise OSError(code, f"nftables: {about}: {os.strerror(code)}")

    def ask(self, request: Request) -> list[Answer]:
        """Each object in the answer. Raises OSError naming the object.

        A list that changed while it was read is read again.
        """
        for _ in range(16):
            found = self._ask_once(request)
            if found is not None:
                return found
        raise OSError(errno.EINTR, f"nftables: {request.about}: changes all the time")

    def _ask_once(self, request: Request) -> list[Answer] | None:
        kind = _NFNL_SUBSYS_NFTABLES << 8 | request.kind
        dumping = request.flags & NLM_F_DUMP == NLM_F_DUMP
        flags = request.flags if dumping else request.flags | NLM_F_ACK
        self._socket.send(message(kind, flags, 1, request.family, 0, request.body))
        found: list[Answer] = []
        interrupted = False
        while True:
            for answer_kind, answer_flags, _, payload in messages(self._socket.recv(_RECEIVE_BYTES)):
                interrupted |= bool(answer_flags & NLM_F_DUMP_INTR)
                if answer_kind == NLMSG_DONE:
                    return None if interrupted else found
                if answer_kind == NLMSG_ERROR:
                    code = _error_number(payload)
                    if code == errno.EINTR:
                        return None
                    if code:
                        raise OSError(code, f"nftables: {request.about}: {os.strerror(code)}")
                    return found
                found.append(Answer(payload[0], attributes(payload[4:])))

    def generation(self) -> int:
        """The number of the ruleset's last change, by whomever."""
        for answer in self.ask(get_generation()):
            return int.from_bytes(answer.fields[1], "big")
        raise OSError(errno.EPROTO, "nftables: the kernel told no generation")
