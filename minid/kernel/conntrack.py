"""Known flows of the kernel's connection tracking: finding them and forgetting them (``nfnetlink_conntrack.h``).

A flow keeps the destination that it had with its first packet. UDP clients that go on sending from one port
would therefore go on reaching a container that is gone, or nobody; forgotten, the next packet is a first one.
"""

import contextlib
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass

from minid.kernel.netlink import Request, Socket, attribute, attributes, nested

_NETLINK_NETFILTER = 12
_NFNL_SUBSYS_CTNETLINK = 1
_GET, _DELETE = 1, 2
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_STATUS, _CTA_ID, _CTA_FILTER = 1, 2, 3, 12, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_PROTO_NUM, _CTA_PROTO_DST_PORT = 1, 3
_FILTER_PROTO_NUM, _FILTER_DST_PORT = 1 << 3, 1 << 5
_SEEN_REPLY, _NAT = 1 << 1, 1 << 4 | 1 << 5  # ip_conntrack_status: IPS_SRC_NAT, IPS_DST_NAT
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


# The port that the client sends to, and the address that its packets go to after rewriting; "" for flows that
# go where they were sent and have never been answered, because nobody listened.
Stale = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Flow:
    """``answers_from``: where its answers come from, which is the destination after any rewriting."""

    family: int
    port: int  # that the client sends to
    answers_from: str
    replied: bool
    rewritten: bool
    handle: bytes  # what names it to the kernel

    @property
    def stale(self) -> Stale | None:
        """What it must be forgotten as, if at all."""
        if self.rewritten:
            return self.port, self.answers_from
        return None if self.replied else (self.port, "")


def forget_udp(stale: Collection[Stale]) -> int:
    """Forget these UDP flows; how many there were.

    Of the calling thread's network namespace. The kernel looks through its whole table, twice: 20 ms
    with the 262144 buckets that it has on most machines. Raises OSError.
    """
    forgotten = 0
    ports = {port for port, _ in stale}
    with Socket(_NETLINK_NETFILTER) as kernel:
        for family in _FAMILIES:
            for flow in _flows(kernel, family, next(iter(ports)) if len(ports) == 1 else None):
                if flow.stale in stale:
                    with contextlib.suppress(FileNotFoundError):  # it has ended by itself
                        kernel.send([_request(_DELETE, family, flow.handle, "conntrack: forget a flow")])
                    forgotten += 1
    return forgotten


def _request(kind: int, family: int, body: bytes, about: str) -> Request:
    header = struct.pack(">BBH", family, 0, 0)
    return Request(_NFNL_SUBSYS_CTNETLINK << 8 | kind, 0, header + body, about)


def _flows(kernel: Socket, family: int, port: int | None) -> list[Flow]:
    """UDP flows, to ``port`` if it is given. The kernel filters (Linux 5.8); older ones give all flows."""
    udp = bytes((socket.IPPROTO_UDP,))
    wanted, flags = attribute(_CTA_PROTO_NUM, udp), _FILTER_PROTO_NUM
    if port is not None:
        wanted += attribute(_CTA_PROTO_DST_PORT, struct.pack(">H", port))
        flags |= _FILTER_DST_PORT
    body = nested(_CTA_TUPLE_ORIG, nested(_CTA_TUPLE_PROTO, wanted))
    body += nested(_CTA_FILTER, attribute(1, struct.pack("=I", flags)), attribute(2, bytes(4)))
    found = []
    for _, payload in kernel.dump(_request(_GET, family, body, "conntrack: list flows")):
        fields = attributes(payload[4:])
        ports = attributes(attributes(fields[_CTA_TUPLE_ORIG])[_CTA_TUPLE_PROTO])
        if ports[_CTA_PROTO_NUM] != udp:
            continue
        answers = attributes(attributes(fields[_CTA_TUPLE_REPLY])[_CTA_TUPLE_IP])
        status = int.from_bytes(fields.get(_CTA_STATUS, b""), "big")
        handle = nested(_CTA_TUPLE_ORIG, fields[_CTA_TUPLE_ORIG])
        if _CTA_ID in fields:
            handle += attribute(_CTA_ID, fields[_CTA_ID])
        source = answers[1 if family == socket.AF_INET else 3]
        found.append(
            Flow(
                family,
                int.from_bytes(ports[_CTA_PROTO_DST_PORT], "big"),
                socket.inet_ntop(family, source),
                bool(status & _SEEN_REPLY),
                bool(status & _NAT),
                handle,
            )
        )
    return found
