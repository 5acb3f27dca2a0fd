"""Networks on an interface of the host itself: macvlan and ipvlan. Blocking; for the network thread.

Source: docs.docker.com/engine/network/drivers/macvlan and /ipvlan; ``linux/if_link.h``.
"""

import dataclasses
import re
from collections.abc import Mapping

from minid.errors import InvalidParameter, Unsupported
from minid.kernel import links, netlink
from minid.network.bridge import refused
from minid.network.model import Endpoint, Network
from minid.network.plumbing import Wiring

EOPNOTSUPP, ENODEV = 95, 19
VLAN = re.compile(r"(.+)\.([0-9]{1,4})")


def settle(network: Network) -> Network:
    """The parent exists afterwards: ``eth0``, ``eth0.10`` (made if need be), or with none given a dummy.
    Raises Unsupported where the kernel has no such driver.
    """
    _probe(network.driver)
    with netlink.Socket() as sock:
        if not network.device:
            name = f"dm-{network.id[:12]}"
            try:
                sock.send([links.dummy(name)])
            except OSError as error:
                if error.errno != EOPNOTSUPP:
                    raise refused(error, f"the parent interface {name} can't be made") from error
                raise Unsupported(
                    "this machine's kernel has no dummy interfaces: name a parent interface (-o parent=eth0)"
                ) from None
            return dataclasses.replace(
                network, device=name, options={**network.options, "parent": name}, internal=True
            )
        if links.find_link(sock, network.device) is not None:
            return dataclasses.replace(network, owns_device=False)
        found = VLAN.fullmatch(network.device)
        parent = links.find_link(sock, found[1]) if found else None
        if found is None or parent is None:
            raise InvalidParameter(
                f"invalid parent interface {network.device}: the host has no interface of that name"
            )
        if not 1 <= int(found[2]) <= 4094:
            raise InvalidParameter(f"vlan id must be between 1-4094, received: {found[2]}")
        data = links.vlan_data(int(found[2]))
        _make(
            sock, links.upper("vlan", network.device, parent=parent.index, data=data, up=True), network.device
        )
    return network


def remove(device: str) -> None:
    """Take away a parent that ``settle`` made. Idempotent."""
    with netlink.Socket() as sock:
        link = links.find_link(sock, device)
        if link is not None:
            sock.send([links.delete(link.index)])


def on_link(network: Network) -> bool:
    """Layer 3 ipvlan has no neighbours to ask, hence no gateway."""
    return network.driver == "ipvlan" and network.options.get("ipvlan_mode", "l2") != "l2"


def wiring(network: Network, endpoint: Endpoint, mtu: int) -> Wiring:
    kind = network.driver

    def make(host: netlink.Socket, netns_fd: int) -> None:
        parent = links.find_link(host, network.device)
        if parent is None:
            raise OSError(ENODEV, f"the parent interface {network.device} is gone")
        host.send(
            [
                links.upper(
                    kind,
                    endpoint.interface,
                    parent=parent.index,
                    data=_data(kind, network.options),
                    netns=netns_fd,
                    address=endpoint.mac if kind == "macvlan" else "",
                    mtu=min(mtu, parent.mtu),
                )
            ]
        )

    return Wiring(endpoint, make, on_link=on_link(network))


def _data(kind: str, options: Mapping[str, str]) -> bytes:
    if kind == "macvlan":
        return links.macvlan_data(options.get("macvlan_mode", "bridge"))
    return links.ipvlan_data(options.get("ipvlan_mode", "l2"), options.get("ipvlan_flag", "bridge"))


def _probe(kind: str) -> None:
    """Whether this kernel can: asked for a device on an interface that does not exist, one that has the
    driver misses the interface, one that has not misses the driver.
    """
    with netlink.Socket() as sock:
        try:
            sock.send([links.upper(kind, "minid-probe", parent=0x7FFFFFFF, data=_data(kind, {}))])
        except OSError as error:
            if error.errno == EOPNOTSUPP or "Unknown device type" in str(error.strerror):
                raise Unsupported(
                    f"this machine's kernel has no {kind} driver ({kind}.ko): use a bridge network, or a "
                    "kernel that has it"
                ) from None


def _make(sock: netlink.Socket, request: netlink.Request, name: str) -> None:
    try:
        sock.send([request])
    except OSError as error:
        raise refused(error, f"the parent interface {name} can't be made") from error
