"""What one container can look up: names and addresses of its user-defined networks. Pure.

An index of a network is shared by all its containers and made again when somebody comes or goes; a view is
one container's: its networks in their order, and its links.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from minid.network.model import Endpoint, Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
NOBODY: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Index:
    """One network. Names that are looked up are in lower case and without a dot at the end, bare and as
    ``name.network``.
    """

    network_name: str
    addresses: Mapping[str, tuple[Address, ...]]
    owners: Mapping[Address, str]  # address → ``name.network``, as they are written
    containers: Mapping[str, tuple[Address, ...]]  # by id
    subnets: tuple[Subnet, ...] = ()  # that lead nowhere but to containers
    internal: bool = False


def index(network: Network, endpoints: Iterable[Endpoint]) -> Index:
    """Everybody in a network; an alias that several have stands for all of them."""
    addresses: dict[str, dict[Address, None]] = {}
    owners: dict[Address, str] = {}
    containers: dict[str, tuple[Address, ...]] = {}
    suffix = "." + network.name.lower()
    for endpoint in endpoints:
        own = tuple(ipaddress.ip_address(text) for text in (endpoint.ip4, endpoint.ip6) if text)
        containers[endpoint.container_id] = own
        names = [name.lower().rstrip(".") for name in (*endpoint.names, *endpoint.aliases)]
        for name in names:
            for known in (name, name + suffix):
                addresses.setdefault(known, {}).update(dict.fromkeys(own))
        if endpoint.names:
            owners.update(dict.fromkeys(own, f"{endpoint.names[0].rstrip('.')}.{network.name}"))
    return Index(
        network_name=network.name,
        addresses={name: tuple(found) for name, found in addresses.items() if name},
        owners=owners,
        containers=containers,
        subnets=tuple(ipaddress.ip_network(one.subnet) for one in network.subnets)
        if network.driver == "bridge"
        else (),
        internal=network.internal,
    )


@dataclass(frozen=True, slots=True)
class Link:
    """``alias`` stands for a container, in one network or ("") in all that both are in."""

    alias: str
    container_id: str
    network_name: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """Of one container. ``forwards``: what is not found may be asked for elsewhere."""

    indexes: Sequence[Index] = ()
    links: Sequence[Link] = ()
    forwards: bool = True
    _linked: dict[str, list[Link]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for link in self.links:
            self._linked.setdefault(link.alias.lower(), []).append(link)

    def addresses(self, name: str, version: int) -> tuple[Address, ...] | None:
        """Of the first network that has an address of that IP version for the name (in any case); empty if
        the name has only the other kind; None if nobody is called so.
        """
        name = name.lower()
        known = False
        for one in self.indexes:
            for found in (self._by_link(one, name), one.addresses.get(name)):
                if found is None:
                    continue
                known = True
                of_version = tuple(address for address in found if address.version == version)
                if of_version:
                    return of_version
        return NOBODY if known else None

    def _by_link(self, one: Index, name: str) -> tuple[Address, ...] | None:
        bare = name.removesuffix("." + one.network_name.lower())
        for link in self._linked.get(name) or self._linked.get(bare) or ():
            if link.network_name in ("", one.network_name) and link.container_id in one.containers:
                return one.containers[link.container_id]
        return None

    def name(self, address: Address) -> str | None:
        """Whose address it is."""
        return next((one.owners[address] for one in self.indexes if address in one.owners), None)

    def covers(self, address: Address) -> bool:
        """Whether nobody elsewhere can know more about it."""
        return any(
            address in subnet
            for one in self.indexes
            for subnet in one.subnets
            if subnet.version == address.version
        )
