"""The bridge device of a network: made, found again and taken away. Blocking; for the network thread."""

import dataclasses
import hashlib
import ipaddress
import socket

from minid.errors import Failed, MinidError
from minid.kernel import links, netlink, sysctls
from minid.network.model import Network

ENODEV = 19
Interface = links.Interface


def device_name(network_id: str) -> str:
    """As Docker names them: ``br-`` and the start of the network's id."""
    return f"br-{network_id[:12]}"


class Hold:
    """A claim on a device's name among all daemons in this network namespace; gone with the process.

    An abstract unix socket: its name is as wide as a device's, the network namespace (``unix(7)``,
    ``network_namespaces(7)``).
    """

    def __init__(self, device: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(f"\0minid/bridge/{device}")
        except OSError as error:
            self._socket.close()
            raise Failed(
                f"the bridge {device} is in use by another minid: choose another name with --bridge"
            ) from error

    def close(self) -> None:
        self._socket.close()


def ensure(network: Network, mtu: int) -> int:
    """The bridge is there, up, and has the gateways' addresses; its index. What somebody took away or
    changed is put back.
    """
    with netlink.Socket() as sock:
        link = links.find_link(sock, network.device)
        if link is None:
            sock.send([links.bridge(network.device, address=_mac(network))])
            link = links.find_link(sock, network.device)
            if link is None:
                raise Failed(f"the bridge {network.device} went away while it was made")
            _set_sysctls(network)
        elif link.kind != "bridge":
            raise Failed(f"{network.device} is not a bridge: choose another name with --bridge")
        have = {address for _, address in links.addresses(sock, link.index)}
        wanted = [
            ipaddress.ip_interface(f"{subnet.gateway}/{ipaddress.ip_network(subnet.subnet).prefixlen}")
            for subnet in network.subnets
            if subnet.gateway and network.options.get("com.docker.network.bridge.inhibit_ipv4") != "true"
        ]
        requests = [links.change(link.index, up=True, mtu=mtu if link.mtu != mtu else 0)]
        requests += [links.address(link.index, address) for address in wanted if address not in have]
        # an old gateway address would be taken as the source of what the host sends
        requests += [
            links.delete_address(link.index, address)
            for address in have
            if address not in wanted and network.owns_device and not address.ip.is_link_local
        ]
        sock.send(requests)
        return link.index


def remove(device: str) -> None:
    """Idempotent."""
    with netlink.Socket() as sock:
        link = links.find_link(sock, device)
        if link is not None and link.kind == "bridge":
            sock.send([links.delete(link.index)])


def remove_strangers(bridges: frozenset[int], known: frozenset[str]) -> None:
    """Delete the veth ports of these bridges that are not ``known``."""
    with netlink.Socket() as sock:
        for link in links.links(sock):
            if link.master in bridges and link.kind == "veth" and link.name not in known:
                try:
                    sock.send([links.delete(link.index)])
                except OSError as error:
                    if error.errno != ENODEV:  # the kernel was quicker
                        raise


def find_addresses(device: str) -> list[links.Interface]:
    """What somebody gave the bridge already; none if it does not exist."""
    with netlink.Socket() as sock:
        link = links.find_link(sock, device)
        if link is None:
            return []
        found = [address for _, address in links.addresses(sock, link.index)]
    return [address for address in found if not address.ip.is_link_local]


def not_ours(network: Network) -> Network:
    """A network on a bridge that somebody else has made, who takes it away too."""
    return dataclasses.replace(network, owns_device=False)


def exists(device: str) -> bool:
    with netlink.Socket() as sock:
        return links.find_link(sock, device) is not None


def host_subnets(except_devices: frozenset[str] = frozenset()) -> list[links.Network]:
    """What the host has routes to, or addresses in, through other devices than these; no default routes."""
    with netlink.Socket() as sock:
        skip = {link.index for link in links.links(sock) if link.name in except_devices}
        found = [
            route.destination
            for route in links.routes(sock)
            if route.index not in skip and route.destination.prefixlen
        ]
        found += [address.network for index, address in links.addresses(sock) if index not in skip]
    return found


def _mac(network: Network) -> str:
    """Stays the same as long as the network does."""
    return "02:42:" + hashlib.sha256(network.id.encode()).digest()[:4].hex(":")


def _set_sysctls(network: Network) -> None:
    device = network.device
    if not network.ipv6:
        sysctls.ensure("1", "ipv6", "conf", device, "disable_ipv6")
    sysctls.ensure("0", "ipv6", "conf", device, "accept_ra")


def refused(error: OSError, what: str) -> MinidError:
    """An error of the kernel in words."""
    detail = error.strerror or str(error)
    return Failed(f"{what}: {detail}" + (f" ({error.filename})" if error.filename else ""))
