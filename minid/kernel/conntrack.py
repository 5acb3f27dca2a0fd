"""Known flows of the kernel's connection tracking: finding them and forgetting them (``nfnetlink_conntrack.h``).

A flow keeps the destination that it had with its first packet. UDP clients that go on sending from one port
would therefore go on reaching a container that is gone, or nobody; forgotten, the next packet is a first one.
"""

import contextlib
import socket
import struct
from collections.abc import Callable
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


@dataclass(frozen=True, slots=True)
class Flow:
    """``answers_from``: where its answers come from, which is the destination after any rewriting."""

    family: int
    answers_from: str
    replied: bool
    rewritten: bool
    handle: bytes  # what names it to the kernel


def forget_udp(host_port: int, matches: Callable[[Flow], bool]) -> int:
    """Forget the UDP flows to ``host_port`` (as the client sees it) that match; how many there were.

    Of the calling thread's network namespace. Raises OSError.
    """
    with Socket(_NETLINK_NETFILTER) as kernel:
        found = [
            flow for family in _FAMILIES for flow in _to_port(kernel, family, host_port) if matches(flow)
        ]
        for flow in found:
            request = _request(_DELETE, flow.family, flow.handle, "conntrack: forget a flow")
            with contextlib.suppress(FileNotFoundError):  # it has ended by itself
                kernel.send([request])
    return len(found)


def led_to(address: str) -> Callable[[Flow], bool]:
    """Flows whose packets go to the container at ``address``."""
    return lambda flow: flow.rewritten and flow.answers_from == address


def unanswered(flow: Flow) -> bool:
    """Flows that were there before anybody listened, and that go where they were sent."""
    return not flow.replied and not flow.rewritten


def _request(kind: int, family: int, body: bytes, about: str) -> Request:
    header = struct.pack(">BBH", family, 0, 0)
    return Request(_NFNL_SUBSYS_CTNETLINK << 8 | kind, 0, header + body, about)


def _to_port(kernel: Socket, family: int, port: int) -> list[Flow]:
    """The kernel filters (Linux 5.8; older ones give all, which are filtered here)."""
    protocol = attribute(_CTA_PROTO_NUM, bytes((socket.IPPROTO_UDP,)))
    raw_port = struct.pack(">H", port)
    tuple_ = nested(
        _CTA_TUPLE_ORIG, nested(_CTA_TUPLE_PROTO, protocol, attribute(_CTA_PROTO_DST_PORT, raw_port))
    )
    flags = struct.pack("=I", _FILTER_PROTO_NUM | _FILTER_DST_PORT)
    wanted = nested(_CTA_FILTER, attribute(1, flags), attribute(2, bytes(4)))
    found = []
    for _, payload in kernel.dump(_request(_GET, family, tuple_ + wanted, "conntrack: list flows")):
        fields = attributes(payload[4:])
        sent = attributes(fields[_CTA_TUPLE_ORIG])
        ports = attributes(sent[_CTA_TUPLE_PROTO])
        if (
            ports[_CTA_PROTO_NUM] != bytes((socket.IPPROTO_UDP,))
            or ports.get(_CTA_PROTO_DST_PORT) != raw_port
        ):
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
                socket.inet_ntop(family, source),
                bool(status & _SEEN_REPLY),
                bool(status & _NAT),
                handle,
            )
        )
    return found
