"""Interfaces of a container: made in its network namespace, and taken away. Blocking; for the network thread.

On a bridge: a veth pair, born with one end in the bridge and the other in the namespace, then in one batch
inside: up, addresses, routes. Three conversations with the kernel in all. When the container ends, the
kernel removes its end with the namespace, and the host's end with it.
"""

import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minid.kernel import links, netlink, netns, sysctls
from minid.network.model import Endpoint, Network

EADDRINUSE = 98
GOING_S, GOING_STEP_S = 5.0, 0.01

MakeLink = Callable[[netlink.Socket, int], None]


@dataclass(frozen=True, slots=True)
class Wiring:
    """How one endpoint is made: ``make`` puts the interface (down) into the namespace of a descriptor."""

    endpoint: Endpoint
    make: MakeLink
    on_link: bool = False  # the default route has no gateway (layer 3 ipvlan)
    sysctls: tuple[tuple[str, ...], ...] = ()  # value, then the parts of its name, IFNAME replaced


def on_bridge(network: Network, endpoint: Endpoint, *, bridge_index: int, mtu: int, isolated: bool) -> Wiring:
    def make(host: netlink.Socket, netns_fd: int) -> None:
        requests = [
            links.veth(
                endpoint.device,
                master=bridge_index,
                mtu=mtu,
                peer_name=endpoint.interface,
                peer_address=endpoint.mac,
                peer_netns=netns_fd,
            )
        ]
        if isolated:
            requests.append(links.bridge_port(endpoint.device, isolated=True))
        host.send(requests)

    return Wiring(endpoint, make)


def connect(
    pid: int, start_ticks: int, wirings: Sequence[Wiring], gateways: tuple[Endpoint | None, Endpoint | None]
) -> None:
    """Make the interfaces of a process's network namespace; the default routes (IPv4, IPv6) go through
    ``gateways``.

    Raises ProcessLookupError when the process has ended, OSError with the kernel's words.
    """
    if not wirings:
        return
    namespace = netns.open_of(pid, start_ticks)
    try:
        with netlink.Socket() as host, _socket_inside(namespace) as inside:
            for wiring in wirings:
                wiring.make(host, namespace)
            with netns.inside(namespace):
                for wiring in wirings:
                    _set_sysctls(wiring)
            addresses, ups = [], []
            for wiring in wirings:
                link = links.find_link(inside, wiring.endpoint.interface)
                if link is None:
                    raise ProcessLookupError(3, "the interface is gone", wiring.endpoint.interface)
                addresses += _addresses(wiring.endpoint, link.index)
                ups += _up(wiring, link.index, gateways)
            _send(inside, addresses, ups)
    finally:
        netns.close(namespace)


def disconnect(pid: int, start_ticks: int, endpoint: Endpoint) -> None:
    """Take the interface out of a running container. Idempotent."""
    try:
        namespace = netns.open_of(pid, start_ticks)
    except ProcessLookupError:
        return
    try:
        with _socket_inside(namespace) as inside:
            link = links.find_link(inside, endpoint.interface)
            if link is not None:
                inside.send([links.delete(link.index)])
    finally:
        netns.close(namespace)


def set_gateways(
    pid: int, start_ticks: int, gateways: tuple[Endpoint | None, Endpoint | None], on_link: frozenset[str]
) -> None:
    """Let the default routes go where they should go now."""
    namespace = netns.open_of(pid, start_ticks)
    try:
        with _socket_inside(namespace) as inside:
            for version, endpoint in zip((4, 6), gateways, strict=True):
                if endpoint is None:
                    continue
                link = links.find_link(inside, endpoint.interface)
                if link is not None:
                    route = _route(endpoint, link.index, version, on_link=endpoint.id in on_link)
                    inside.send([route])
    finally:
        netns.close(namespace)


def _send(inside: netlink.Socket, addresses: list[netlink.Request], ups: list[netlink.Request]) -> None:
    """Addresses come before "up", because then the kernel tells the neighbours of them.

    A macvlan can't go up while another one on its parent has its hardware address. That of the run before goes with its
    namespace, a moment after the last process in it; the kernel tells nobody when.
    """
    try:
        inside.send([*addresses, *ups])
        return
    except OSError as error:
        if error.errno != EADDRINUSE:
            raise
    deadline = time.monotonic() + GOING_S
    while True:
        time.sleep(GOING_STEP_S)
        try:
            inside.send(ups)
            return
        except OSError as error:
            if error.errno != EADDRINUSE or time.monotonic() > deadline:
                raise


def _addresses(endpoint: Endpoint, index: int) -> list[netlink.Request]:
    return [
        links.address(index, ipaddress.ip_interface(f"{ip}/{prefix}"))
        for ip, prefix in ((endpoint.ip4, endpoint.prefix4), (endpoint.ip6, endpoint.prefix6))
        if ip
    ]


def _up(
    wiring: Wiring, index: int, gateways: tuple[Endpoint | None, Endpoint | None]
) -> list[netlink.Request]:
    endpoint, requests = wiring.endpoint, [links.change(index, up=True)]
    for version, chosen in zip((4, 6), gateways, strict=True):
        if chosen is not None and chosen.id == endpoint.id:
            requests.append(_route(endpoint, index, version, on_link=wiring.on_link))
    return requests


def _route(endpoint: Endpoint, index: int, version: int, *, on_link: bool) -> netlink.Request:
    text = endpoint.gateway4 if version == 4 else endpoint.gateway6
    gateway = None if on_link or not text else ipaddress.ip_address(text)
    return links.default_route(gateway, index, version)


def _set_sysctls(wiring: Wiring) -> None:
    """Before the interface goes up: without an IPv6 address it stays silent about IPv6. Whoever remembers the
    address with another hardware address is told (``ip-sysctl.rst`` § arp_notify, ndisc_notify).
    """
    endpoint = wiring.endpoint
    sysctls.ensure("0" if endpoint.ip6 else "1", "ipv6", "conf", endpoint.interface, "disable_ipv6")
    sysctls.ensure("1", "ipv4", "conf", endpoint.interface, "arp_notify")
    if endpoint.ip6:
        sysctls.ensure("1", "ipv6", "conf", endpoint.interface, "ndisc_notify")
    for value, *parts in wiring.sysctls:
        sysctls.ensure(value, *(part.replace("IFNAME", endpoint.interface) for part in parts))


def _socket_inside(namespace: int) -> netlink.Socket:
    with netns.inside(namespace):
        return netlink.Socket()
