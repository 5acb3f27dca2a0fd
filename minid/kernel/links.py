"""Network interfaces, addresses and routes: rtnetlink messages and what they answer (``rtnetlink(7)``).

Functions named for what they make return ``netlink.Request``, to be sent in batches; ``find_link``,
``links``, ``addresses`` and ``routes`` ask.
"""

import ipaddress
import socket
import struct
from dataclasses import dataclass

from minid.kernel import netlink
from minid.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request, Socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_TXQLEN, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_NET_NS_FD, IFLA_EXT_MASK = 13, 20, 26, 28, 29
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 8, 1
VETH_INFO_PEER = 1
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
IFLA_BR_FORWARD_DELAY, IFLA_BR_STP_STATE, IFLA_BR_MCAST_SNOOPING = 1, 5, 23
IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS, IFLA_VLAN_ID = 1, 1, 2, 1
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}

IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE = 1, 4, 5, 6, 15
RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RTN_UNICAST = 254, 3, 0, 253, 1
RTN_LOCAL, RTN_BROADCAST = 2, 3
IFF_UP = 1

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    kind: str  # "bridge", "veth", … "" for a device of the machine
    up: bool
    address: str  # 02:42:ac:11:00:02
    mtu: int
    master: int  # index, 0 for none
    alias: str


@dataclass(frozen=True, slots=True)
class Route:
    destination: Network  # 0.0.0.0/0 is the default route
    gateway: Address | None
    index: int  # of the interface; 0 for several


# -- making


def veth(
    name: str,
    *,
    master: int,
    mtu: int,
    peer_name: str,
    peer_address: str,
    peer_netns: int,
) -> Request:
    """A pair: ``name`` here, up and in the bridge ``master``; its peer in the namespace of descriptor
    ``peer_netns``, where it has to be set up (the kernel cannot while it makes the pair).
    """
    peer = (
        _link(0, 0)
        + netlink.text(IFLA_IFNAME, peer_name)
        + netlink.attribute(IFLA_ADDRESS, _mac(peer_address))
        + netlink.u32(IFLA_MTU, mtu)
        + netlink.u32(IFLA_NET_NS_FD, peer_netns)
    )
    body = (
        _link(0, IFF_UP)
        + netlink.text(IFLA_IFNAME, name)
        + netlink.u32(IFLA_MTU, mtu)
        + netlink.u32(IFLA_MASTER, master)
        + netlink.nested(
            IFLA_LINKINFO,
            netlink.text(IFLA_INFO_KIND, "veth"),
            netlink.nested(IFLA_INFO_DATA, netlink.attribute(VETH_INFO_PEER | netlink.NLA_F_NESTED, peer)),
        )
    )
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"veth {name}")


def bridge(name: str, *, address: str) -> Request:
    """A bridge with a fixed hardware address, so that it does not change with its ports. Not up yet, and
    with an MTU that follows its ports' until one is set (``change``): one given here would be forgotten.
    """
    body = (
        _link(0, 0)
        + netlink.text(IFLA_IFNAME, name)
        + netlink.attribute(IFLA_ADDRESS, _mac(address))
        + netlink.nested(IFLA_LINKINFO, netlink.text(IFLA_INFO_KIND, "bridge"))
    )
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"bridge {name}")


def upper(
    kind: str,
    name: str,
    *,
    parent: int,
    data: bytes,
    netns: int | None = None,
    address: str = "",
    mtu: int = 0,
    up: bool = False,
) -> Request:
    """A device on top of another one (macvlan, ipvlan, vlan), made in the namespace of descriptor
    ``netns`` at once.
    """
    body = _link(0, IFF_UP if up else 0) + netlink.text(IFLA_IFNAME, name) + netlink.u32(IFLA_LINK, parent)
    if address:
        body += netlink.attribute(IFLA_ADDRESS, _mac(address))
    if mtu:
        body += netlink.u32(IFLA_MTU, mtu)
    if netns is not None:
        body += netlink.u32(IFLA_NET_NS_FD, netns)
    body += netlink.nested(
        IFLA_LINKINFO, netlink.text(IFLA_INFO_KIND, kind), netlink.attribute(IFLA_INFO_DATA, data)
    )
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"{kind} {name}")


def dummy(name: str) -> Request:
    """An interface that leads nowhere: the parent of a macvlan network without one."""
    body = (
        _link(0, IFF_UP)
        + netlink.text(IFLA_IFNAME, name)
        + netlink.nested(IFLA_LINKINFO, netlink.text(IFLA_INFO_KIND, "dummy"))
    )
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"dummy {name}")


def macvlan_data(mode: str) -> bytes:
    return netlink.u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode])


def ipvlan_data(mode: str, flag: str) -> bytes:
    return netlink.u16(IFLA_IPVLAN_MODE, IPVLAN_MODES[mode]) + netlink.u16(
        IFLA_IPVLAN_FLAGS, IPVLAN_FLAGS[flag]
    )


def vlan_data(number: int) -> bytes:
    return netlink.u16(IFLA_VLAN_ID, number)


def change(
    index: int,
    *,
    up: bool | None = None,
    mtu: int = 0,
    name: str = "",
    address: str = "",
) -> Request:
    """Change an existing interface; what is not given stays."""
    change_mask = 0 if up is None else IFF_UP
    body = _LINK.pack(0, 0, index, IFF_UP if up else 0, change_mask)
    if name:
        body += netlink.text(IFLA_IFNAME, name)
    if mtu:
        body += netlink.u32(IFLA_MTU, mtu)
    if address:
        body += netlink.attribute(IFLA_ADDRESS, _mac(address))
    return Request(RTM_NEWLINK, 0, body, f"interface {index}")


def bridge_port(name: str, *, isolated: bool, hairpin: bool = False) -> Request:
    """How a port behaves: ``isolated`` ports of a bridge do not hear each other, only what is not isolated
    (the bridge itself); ``hairpin`` may send back where a frame came from.
    """
    body = (
        _link(0, 0)
        + netlink.text(IFLA_IFNAME, name)
        + netlink.nested(
            IFLA_LINKINFO,
            netlink.text(IFLA_INFO_SLAVE_KIND, "bridge"),
            netlink.nested(
                IFLA_INFO_SLAVE_DATA,
                netlink.u8(IFLA_BRPORT_MODE, int(hairpin)),
                netlink.u8(IFLA_BRPORT_ISOLATED, int(isolated)),
            ),
        )
    )
    return Request(RTM_NEWLINK, 0, body, f"bridge port {name}")


def delete(index: int) -> Request:
    return Request(RTM_DELLINK, 0, _link(index, 0), f"interface {index}")


def address(index: int, interface: Interface) -> Request:
    """An address of an interface; IPv6 ones are usable at once (we gave them, nobody else has them)."""
    return Request(
        RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, _address(index, interface), f"address {interface}"
    )


def delete_address(index: int, interface: Interface) -> Request:
    return Request(RTM_DELADDR, 0, _address(index, interface), f"address {interface}")


def _address(index: int, interface: Interface) -> bytes:
    packed = interface.ip.packed
    network = interface.network
    is_4 = interface.version == 4
    body = _ADDRESS.pack(
        socket.AF_INET if is_4 else socket.AF_INET6, network.prefixlen, 0 if is_4 else IFA_F_NODAD, 0, index
    )
    body += netlink.attribute(IFA_LOCAL, packed) + netlink.attribute(IFA_ADDRESS, packed)
    if is_4 and network.prefixlen < 31:
        body += netlink.attribute(IFA_BROADCAST, network.broadcast_address.packed)
    return body


def default_route(gateway: Address | None, index: int, version: int) -> Request:
    """``gateway`` None: everything is on the link."""
    return Request(
        RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _default(gateway, index, version), "default route"
    )


def delete_default_route(version: int) -> Request:
    return Request(RTM_DELROUTE, 0, _default(None, 0, version, scope=255), "default route")


def _default(gateway: Address | None, index: int, version: int, scope: int | None = None) -> bytes:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    if scope is None:
        scope = RT_SCOPE_LINK if gateway is None and version == 4 else RT_SCOPE_UNIVERSE
    body = _ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0)
    if gateway is not None:
        body += netlink.attribute(RTA_GATEWAY, gateway.packed)
    if index:
        body += netlink.u32(RTA_OIF, index)
    return body


# -- asking


def find_link(sock: Socket, name: str) -> Link | None:
    """The interface called ``name``."""
    if len(name.encode()) > 15:
        return None
    body = _link(0, 0) + netlink.text(IFLA_IFNAME, name)
    try:
        _, payload = sock.get(Request(RTM_GETLINK, 0, body, name))
    except OSError as error:
        if error.errno in (19, 2):  # ENODEV
            return None
        raise
    return _read_link(payload)


def links(sock: Socket) -> list[Link]:
    return [_read_link(payload) for _, payload in sock.dump(Request(RTM_GETLINK, 0, _link(0, 0)))]


def addresses(sock: Socket, index: int = 0) -> list[tuple[int, Interface]]:
    """Interface index and address, of one interface or (0) all."""
    result: list[tuple[int, Interface]] = []
    for _, payload in sock.dump(Request(RTM_GETADDR, 0, _ADDRESS.pack(0, 0, 0, 0, 0))):
        _, prefix, _, _, number = _ADDRESS.unpack_from(payload)
        found = netlink.attributes(payload[_ADDRESS.size :])
        packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
        if packed and index in (0, number):
            result.append((number, ipaddress.ip_interface((packed, prefix))))
    return result


def routes(sock: Socket) -> list[Route]:
    """Unicast routes of the main table, IPv4 and IPv6."""
    result = []
    for family in (socket.AF_INET, socket.AF_INET6):
        body = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for _, payload in sock.dump(Request(RTM_GETROUTE, 0, body)):
            _, prefix, _, _, table, _, _, kind, flags = _ROUTE.unpack_from(payload)
            found = netlink.attributes(payload[_ROUTE.size :])
            if RTA_TABLE in found:
                (table,) = struct.unpack("=I", found[RTA_TABLE])
            if table != RT_TABLE_MAIN or kind != RTN_UNICAST or flags & 0x200:  # RTM_F_CLONED
                continue
            packed = found.get(RTA_DST) or bytes(4 if family == socket.AF_INET else 16)
            gateway = found.get(RTA_GATEWAY)
            index = struct.unpack("=I", found[RTA_OIF])[0] if RTA_OIF in found else 0
            result.append(
                Route(
                    ipaddress.ip_network((packed, prefix), strict=False),
                    ipaddress.ip_address(gateway) if gateway else None,
                    index,
                )
            )
    return result


def _read_link(payload: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(payload)
    found = netlink.attributes(payload[_LINK.size :])
    info = netlink.attributes(found.get(IFLA_LINKINFO, b""))
    return Link(
        index,
        _text(found.get(IFLA_IFNAME, b"")),
        _text(info.get(IFLA_INFO_KIND, b"")),
        bool(flags & IFF_UP),
        found.get(IFLA_ADDRESS, b"").hex(":"),
        int.from_bytes(found.get(IFLA_MTU, bytes(4)), "little"),
        int.from_bytes(found.get(IFLA_MASTER, bytes(4)), "little"),
        _text(found.get(IFLA_IFALIAS, b"")),
    )


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def _link(index: int, flags: int) -> bytes:
    return _LINK.pack(0, 0, index, flags, flags)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", "").replace("-", ""))
