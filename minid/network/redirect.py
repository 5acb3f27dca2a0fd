"""How 127.0.0.11:53 of a container leads to the daemon's sockets: an nftables table in its network namespace.

The sockets have ports that the kernel chose, so that a program in the container may have port 53 itself. The
rules only overwrite two port numbers on their way out. No NAT, so no connection tracking is switched on for
the container's traffic, and a flow goes on when a new daemon has sockets with other ports.
"""

import dataclasses
import socket
from collections.abc import Iterator

from minid.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL
from minid.kernel.nftables import expressions as e
from minid.kernel.nftables import objects as o
from minid.kernel.nftables.transaction import Connection

ADDRESS = "127.0.0.11"
PORT = 53
TABLE = "minid_dns"
_BEFORE_EVERYBODY = -310  # what the container itself filters or tracks sees port 53 on answers
_PROTOCOLS = ((socket.IPPROTO_UDP, 6), (socket.IPPROTO_TCP, 16))  # and where the header has its checksum
_SOURCE, _DESTINATION = (12, 0), (16, 2)  # of the address in the IPv4 header, of the port in the next one


def ensure(connection: Connection, udp_port: int, tcp_port: int) -> None:
    """In the connection's namespace, in place of what an earlier daemon left. Raises OSError."""
    table = o.new_table(TABLE)
    try:
        fresh = dataclasses.replace(table, flags=NLM_F_CREATE | NLM_F_EXCL)
        connection.commit([fresh, *_rules(udp_port, tcp_port)])
    except FileExistsError:
        connection.commit([o.delete_table(TABLE), table, *_rules(udp_port, tcp_port)])


def _rules(udp_port: int, tcp_port: int) -> Iterator[o.Request]:
    yield o.new_base_chain(TABLE, "output", "filter", "output", _BEFORE_EVERYBODY)
    for (protocol, checksum), port in zip(_PROTOCOLS, (udp_port, tcp_port), strict=True):
        yield o.new_rule(TABLE, "output", _rewrite(protocol, checksum, _DESTINATION, PORT, port))
        yield o.new_rule(TABLE, "output", _rewrite(protocol, checksum, _SOURCE, port, PORT))


def _rewrite(protocol: int, checksum: int, side: tuple[int, int], before: int, after: int) -> bytes:
    in_ip, in_transport = side
    return (
        e.meta("nfproto")
        + e.equal(bytes((e.NFPROTO_IPV4,)))
        + e.payload(e.NETWORK_HEADER, in_ip, 4)
        + e.equal(socket.inet_aton(ADDRESS))
        + e.meta("l4proto")
        + e.equal(bytes((protocol,)))
        + e.payload(e.TRANSPORT_HEADER, in_transport, 2)
        + e.equal(o.port(before))
        + e.load(o.port(after))
        + e.store_port(in_transport, checksum)
    )
