"""Our nftables table: what it says, and which elements a network and a published port are. Pure.

    table inet minid
      set  bridges      {ifname}            our bridges
      set  talking      {ifname . ifname}   minid0 . minid0: where containers may talk to each other (icc)
      set  linked       {ipv4 . ipv4 . proto . port}   where they may not, but one is linked to the other's port
      set  internal     {ifname}            networks with no way in or out
      set  subnets4     {subnets}           all of ours; subnets6
      set  masquerade4  {subnets}           those whose outbound traffic gets the host's address; masquerade6
      set  hairpin      {ifname . proto . port}   see ``hairpin_elements``
      map  address4     {ipv4 . proto . port : ipv4 . port}   published at one address; address6
      map  every4       {proto . port : ipv4 . port}          published at every address; every6

The chains never change; a network and a port are elements, added and deleted in one transaction each.
No chain has a policy but accept, and nothing is dropped that does not come from or go to one of our bridges.
"""

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from minid.kernel.nftables import expressions as e
from minid.kernel.nftables import objects as o

_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_RAW, _DSTNAT, _FILTER, _SRCNAT = -300, -100, 0, 100  # nft(8) § priorities

Elements = list[tuple[str, o.Element]]  # (name of the set, element)


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """What the firewall must know of a network; ``name`` is its bridge device."""

    name: str
    subnets: Sequence[str] = ()  # of both families: "172.17.0.0/16", "fd00::/64"
    internal: bool = False  # no way in or out
    icc: bool = True  # its containers may talk to each other
    masquerade: bool = True  # what leaves gets the host's address


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A port of the host that leads to a port of a container."""

    protocol: str  # tcp, udp, sctp
    host_ip: str  # "" every address; "0.0.0.0" and "::" every one of a family
    host_port: int
    container_ip4: str  # "" if it has none
    container_ip6: str  # "" if it has none
    container_port: int
    bridge: str  # the device of the container's network


@dataclass(frozen=True, slots=True)
class LinkedPort:
    """One container may connect to a port of another one in a network where they may not talk (``icc`` off)."""

    bridge: str
    protocol: str
    source_ip4: str
    target_ip4: str
    port: int


SETS = (
    o.Set("bridges", (o.IFNAME,)),
    o.Set("talking", (o.IFNAME, o.IFNAME)),
    o.Set("linked", (o.IPV4_ADDR, o.IPV4_ADDR, o.INET_PROTO, o.INET_SERVICE)),
    o.Set("internal", (o.IFNAME,)),
    o.Set("hairpin", (o.IFNAME, o.INET_PROTO, o.INET_SERVICE)),
    o.Set("subnets4", (o.IPV4_ADDR,), interval=True),
    o.Set("subnets6", (o.IPV6_ADDR,), interval=True),
    o.Set("masquerade4", (o.IPV4_ADDR,), interval=True),
    o.Set("masquerade6", (o.IPV6_ADDR,), interval=True),
    o.Set("address4", (o.IPV4_ADDR, o.INET_PROTO, o.INET_SERVICE), (o.IPV4_ADDR, o.INET_SERVICE)),
    o.Set("address6", (o.IPV6_ADDR, o.INET_PROTO, o.INET_SERVICE), (o.IPV6_ADDR, o.INET_SERVICE)),
    o.Set("every4", (o.INET_PROTO, o.INET_SERVICE), (o.IPV4_ADDR, o.INET_SERVICE)),
    o.Set("every6", (o.INET_PROTO, o.INET_SERVICE), (o.IPV6_ADDR, o.INET_SERVICE)),
)

_IP4 = e.meta("nfproto") + e.equal(bytes((e.NFPROTO_IPV4,)))
_IP6 = e.meta("nfproto") + e.equal(bytes((e.NFPROTO_IPV6,)))
_FROM_OURS = e.meta("iifname") + e.lookup("bridges")
_TO_OURS = e.meta("oifname") + e.lookup("bridges")
_BETWEEN = e.meta("iifname") + e.meta("oifname", 4)
_TO_THIS_HOST = e.fib_daddr_type() + e.equal(e.RTN_LOCAL.to_bytes(4, "little"))
_PUBLISHED = e.conntrack("status") + e.has_bits(e.CT_STATUS_DNAT)
_LOOPBACK4 = e.equal(b"\x7f")
_LINK_LOCAL6 = e.mask(b"\xff\xc0".ljust(16, b"\0")) + e.equal(b"\xfe\x80".ljust(16, b"\0"))  # fe80::/10


def _ip4(offset: int, size: int = 4) -> bytes:
    return _IP4 + e.payload(e.NETWORK_HEADER, offset, size)


def _ip6(offset: int) -> bytes:
    return _IP6 + e.payload(e.NETWORK_HEADER, offset, 16)


def _ip4_pair() -> bytes:
    """Source and destination, in the first two registers."""
    return _IP4 + e.payload(e.NETWORK_HEADER, 12, 4) + e.payload(e.NETWORK_HEADER, 16, 4, 1)


def _protocol_and_port(register: int) -> bytes:
    return e.meta("l4proto", register) + e.payload(e.TRANSPORT_HEADER, 2, 2, register + 1)


BOTH = frozenset((4, 6))


def base(
    table: str, *, from_others: Collection[int] = BOTH, from_containers: Collection[int] = BOTH
) -> list[o.Request]:
    """The empty table: sets, chains, rules, in place of whatever has its name.

    ``from_others``, ``from_containers``: the IP versions of which packets from other machines and from
    containers are led to published ports. Those of which they are not stay on their way to the port
    holder's sockets (``ports.py``), which they reach through the host's own input rules.
    """

    def rule(chain: str, *parts: bytes, comment: str) -> o.Request:
        return o.new_rule(table, chain, *parts, comment=comment)

    def chain(name: str, kind: str, hook: str, priority: int) -> o.Request:
        return o.new_base_chain(table, name, kind, hook, priority)

    requests = [o.new_table(table), o.delete_table(table), o.new_table(table)]
    requests += [o.new_set(table, described, number) for number, described in enumerate(SETS, 1)]
    requests += [
        o.new_chain(table, "published"),
        chain("guard", "filter", "prerouting", _RAW),
        chain("prerouting", "nat", "prerouting", _DSTNAT),
        chain("output", "nat", "output", _DSTNAT),
        chain("forward", "filter", "forward", _FILTER),
        chain("postrouting", "nat", "postrouting", _SRCNAT),
        rule(
            "published",
            _ip4(16) + _protocol_and_port(1) + e.lookup("address4", into=0) + e.dnat(e.NFPROTO_IPV4, 0, 1),
            comment="published at one address",
        ),
        rule(
            "published",
            _IP4 + _protocol_and_port(0) + e.lookup("every4", into=0) + e.dnat(e.NFPROTO_IPV4, 0, 1),
            comment="published at every address",
        ),
        rule(
            "published",
            _ip6(24) + _protocol_and_port(4) + e.lookup("address6", into=0) + e.dnat(e.NFPROTO_IPV6, 0, 4),
            comment="published at one address",
        ),
        rule(
            "published",
            _IP6 + _protocol_and_port(0) + e.lookup("every6", into=0) + e.dnat(e.NFPROTO_IPV6, 0, 4),
            comment="published at every address",
        ),
        rule(
            "guard",
            _FROM_OURS + _ip4(16, 1) + _LOOPBACK4 + e.drop(),
            comment="route_localnet is for the host, not for containers",
        ),
        rule(
            "prerouting",
            _ip6(24) + _LINK_LOCAL6 + e.accept(),
            comment="the port holder serves link-local addresses",
        ),
        rule(
            "prerouting",
            e.meta("iifname") + _protocol_and_port(4) + e.lookup("hairpin") + e.accept(),
            comment="the port holder serves neighbours",
        ),
        *_leading(table, "from everywhere", b"", from_others),
        *_leading(table, "from containers", _FROM_OURS, frozenset(from_containers) - frozenset(from_others)),
        rule(
            "output",
            _ip6(24) + e.equal(bytes(15) + b"\x01") + e.accept(),
            comment="the port holder serves ::1",
        ),
        rule("output", _ip6(24) + _LINK_LOCAL6 + e.accept(), comment="and link-local addresses"),
        rule("output", _TO_THIS_HOST + e.jump("published"), comment="from the host itself"),
        rule(
            "forward",
            e.conntrack("state") + e.has_bits(e.CT_STATE_ESTABLISHED | e.CT_STATE_RELATED) + e.accept(),
            comment="known connections",
        ),
        rule("forward", _BETWEEN + e.lookup("talking") + e.accept(), comment="within a network"),
        rule(
            "forward",
            _ip4_pair() + _protocol_and_port(2) + e.lookup("linked") + e.accept(),
            comment="linked containers",
        ),
        rule("forward", e.meta("iifname") + e.lookup("internal") + e.drop(), comment="internal: no way out"),
        rule("forward", e.meta("oifname") + e.lookup("internal") + e.drop(), comment="internal: no way in"),
        rule("forward", _TO_OURS + _PUBLISHED + e.accept(), comment="to published ports"),
        rule("forward", _TO_OURS + e.drop(), comment="from other networks and other machines"),
        rule(
            "forward",
            _FROM_OURS + e.conntrack("state") + e.has_bits(e.CT_STATE_INVALID) + e.drop(),
            comment="would leave without masquerade",
        ),
        rule(
            "postrouting",
            _TO_OURS + _PUBLISHED + _ip4(12) + e.lookup("subnets4") + e.masquerade(),
            comment="from containers to published ports",
        ),
        rule(
            "postrouting",
            _TO_OURS + _PUBLISHED + _ip6(8) + e.lookup("subnets6") + e.masquerade(),
            comment="from containers to published ports",
        ),
        rule(
            "postrouting",
            _ip4_pair() + _protocol_and_port(2) + e.lookup("linked") + e.accept(),
            comment="linked containers",
        ),
        rule(
            "postrouting",
            _FROM_OURS + _ip4(12) + e.lookup("masquerade4") + e.masquerade(),
            comment="to the world",
        ),
        rule(
            "postrouting",
            _FROM_OURS + _ip6(8) + e.lookup("masquerade6") + e.masquerade(),
            comment="to the world",
        ),
        rule(
            "postrouting",
            _TO_OURS + _ip4(12, 1) + _LOOPBACK4 + e.masquerade(),
            comment="localhost to a published port",
        ),
    ]
    return requests


def _leading(table: str, comment: str, condition: bytes, versions: Collection[int]) -> list[o.Request]:
    families = [b""] if frozenset(versions) >= BOTH else [{4: _IP4, 6: _IP6}[one] for one in sorted(versions)]
    return [
        o.new_rule(
            table, "prerouting", condition + family + _TO_THIS_HOST + e.jump("published"), comment=comment
        )
        for family in families
    ]


def network_elements(rules: NetworkRules) -> Elements:
    """Raises ValueError for a device name or a subnet that is none."""
    device = o.ifname(rules.name)
    pair = o.Element(o.join(device, device))
    elements: Elements = [("bridges", o.Element(device))]
    if rules.icc:
        elements.append(("talking", pair))
    if rules.internal:
        elements.append(("internal", o.Element(device)))
    for text in rules.subnets:
        subnet = ipaddress.ip_network(text, strict=False)
        after = int(subnet.broadcast_address) + 1
        end = after.to_bytes(subnet.max_prefixlen // 8, "big") if after < 1 << subnet.max_prefixlen else b""
        interval = o.Element(subnet.network_address.packed, end=end)
        elements.append((f"subnets{subnet.version}", interval))
        if rules.masquerade and not rules.internal:
            elements.append((f"masquerade{subnet.version}", interval))
    return elements


def port_elements(port: PublishedPort) -> Elements:
    """Where packets for ``port`` are led; none for a family that its container or its host address is not of.

    Raises ValueError for a protocol, an address or a port that is none.
    """
    if port.protocol not in _PROTOCOLS:
        raise ValueError(f"{port.protocol!r} is not tcp, udp or sctp")
    key = (bytes((_PROTOCOLS[port.protocol],)), o.port(port.host_port))
    host = ipaddress.ip_address(port.host_ip) if port.host_ip else None
    elements: Elements = []
    for version, text in ((4, port.container_ip4), (6, port.container_ip6)):
        if not text or (host is not None and host.version != version):
            continue
        data = o.join(ipaddress.ip_address(text).packed, o.port(port.container_port))
        if host is None or host.is_unspecified:
            elements.append((f"every{version}", o.Element(o.join(*key), data)))
        else:
            elements.append((f"address{version}", o.Element(o.join(host.packed, *key), data)))
    return elements


def linked_elements(link: LinkedPort) -> Elements:
    """Raises ValueError for a protocol, an address or a port that is none."""
    if link.protocol not in _PROTOCOLS:
        raise ValueError(f"{link.protocol!r} is not tcp, udp or sctp")
    ends = (ipaddress.IPv4Address(text).packed for text in (link.source_ip4, link.target_ip4))
    key = o.join(*ends, bytes((_PROTOCOLS[link.protocol],)), o.port(link.port))
    return [("linked", o.Element(key))]


def hairpin_elements(port: PublishedPort) -> Elements:
    """Leave neighbours of the container, and itself, to the port holder's sockets.

    Needed while the kernel calls the IP hooks for bridged frames (br_netfilter, which Docker and Kubernetes
    load): a frame whose new destination is on the bridge that it came from then never leaves the bridge, and
    no bridge sends a frame back to the port that it came from, nor from one isolated port to another.
    """
    if port.protocol == "sctp":
        return []  # the port holder does not serve it
    key = o.join(o.ifname(port.bridge), bytes((_PROTOCOLS[port.protocol],)), o.port(port.host_port))
    return [("hairpin", o.Element(key))]


def add(table: str, elements: Iterable[tuple[str, o.Element]]) -> list[o.Request]:
    return [request for name, some in _by_set(elements) for request in o.add_elements(table, name, some)]


def delete(table: str, elements: Iterable[tuple[str, o.Element]]) -> list[o.Request]:
    return [request for name, some in _by_set(elements) for request in o.delete_elements(table, name, some)]


def _by_set(elements: Iterable[tuple[str, o.Element]]) -> Iterator[tuple[str, list[o.Element]]]:
    grouped: dict[str, list[o.Element]] = {}
    for name, element in elements:
        grouped.setdefault(name, []).append(element)
    yield from grouped.items()
