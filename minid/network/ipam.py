"""Address management: which subnet a new network gets, which address a new endpoint gets. Pure.

Sources: Docker's default address pools (moby ``ipamutils``), RFC 1918, RFC 4193.
"""

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from minid.errors import Failed, Forbidden, InvalidParameter
from minid.network.model import Subnet

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# base, prefix length of the networks that it is cut into
DEFAULT_POOLS: tuple[tuple[str, int], ...] = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)
NO_SUBNET = (
    "could not find an available, non-overlapping {family} address pool among the defaults to assign to the "
    "network"
)


def overlaps(subnet: Network, others: Iterable[Network]) -> Network | None:
    """The first of ``others`` that shares an address with ``subnet``."""
    return next(
        (other for other in others if other.version == subnet.version and _overlap(subnet, other)), None
    )


def _overlap(one: Network, other: Network) -> bool:
    return int(one.network_address) <= int(other.broadcast_address) and int(other.network_address) <= int(
        one.broadcast_address
    )


def choose_subnet(version: int, pools: Sequence[tuple[str, int]], taken: Collection[Network]) -> Network:
    """The first subnet of the pools that overlaps nothing of ``taken``. Raises Failed when there is none."""
    for base, size in pools:
        network = ipaddress.ip_network(base)
        if network.version != version:
            continue
        in_the_way = [other for other in taken if other.version == version and _overlap(network, other)]
        for candidate in _cut(network, max(size, network.prefixlen)):
            if overlaps(candidate, in_the_way) is None:
                return candidate
    raise Failed(NO_SUBNET.format(family=f"IPv{version}"))


def _cut(network: Network, prefix: int) -> Iterator[Network]:
    if network.version == 4:
        yield from network.subnets(new_prefix=prefix)
        return
    step = 1 << (128 - prefix)
    first = int(network.network_address)
    for number in range(min(1 << (prefix - network.prefixlen), 1 << 16)):
        yield ipaddress.IPv6Network((first + number * step, prefix))


@dataclass(frozen=True, slots=True)
class Range:
    """The addresses of a subnet that may be given out: ``first`` to ``last`` but not ``reserved``.

    Everything as integers; ``whole`` is the subnet that an address asked for by name must lie in.
    """

    version: int
    first: int
    last: int
    reserved: frozenset[int]
    whole: Network

    @classmethod
    def of(cls, subnet: Subnet) -> "Range":
        """The network's own address and (IPv4) its broadcast address, its gateway and its auxiliary
        addresses are never given out.
        """
        whole = ipaddress.ip_network(subnet.subnet)
        chosen = ipaddress.ip_network(subnet.ip_range) if subnet.ip_range else whole
        reserved = {
            int(ipaddress.ip_address(text))
            for text in (subnet.gateway, *subnet.aux_addresses.values())
            if text
        }
        if whole.max_prefixlen - whole.prefixlen > 1:
            reserved.add(int(whole.network_address))
            if whole.version == 4:
                reserved.add(int(whole.broadcast_address))
        return cls(
            whole.version,
            int(chosen.network_address),
            int(chosen.broadcast_address),
            frozenset(reserved),
            whole,
        )

    def next(self, taken: Collection[int], after: int) -> int:
        """A free address: the first behind ``after``, else the first of all. Going round instead of taking
        the lowest keeps an address unused for a while after its holder has ended, so that nobody talks to
        the wrong container. Raises Failed when all are taken.
        """
        size = self.last - self.first + 1
        start = after + 1 if self.first <= after < self.last else self.first
        # within len(taken) + len(reserved) + 1 steps one must be free, if any is
        for step in range(min(size, len(taken) + len(self.reserved) + 1)):
            candidate = self.first + (start - self.first + step) % size
            if candidate not in self.reserved and candidate not in taken:
                return candidate
        raise Failed(
            f"no available IPv{self.version} addresses on this network's address pools: {self.whole}"
        )

    def check(self, text: str, taken: Collection[int]) -> int:
        """An address that was asked for. Raises InvalidParameter (no such address here), Forbidden (taken)."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise InvalidParameter(f"invalid IPv{self.version} address: {text}") from None
        if address not in self.whole:
            raise InvalidParameter(
                f"invalid address {text}: It does not belong to any of this network's subnets"
            )
        number = int(address)
        if number in self.reserved or number in taken:
            raise Forbidden("Address already in use")
        return number

    def text(self, number: int) -> str:
        return str(ipaddress.IPv4Address(number) if self.version == 4 else ipaddress.IPv6Address(number))


def first_host(subnet: Network) -> str:
    """The gateway that a network gets when none was asked for."""
    if subnet.max_prefixlen == subnet.prefixlen:
        return str(subnet.network_address)
    return str(subnet.network_address + 1)


def mac_of(ip4: str) -> str:
    """The hardware address that goes with an IPv4 address: one address, one MAC, so that nobody's ARP table
    is ever wrong.
    """
    return "02:42:" + ipaddress.IPv4Address(ip4).packed.hex(":")
