"""What networks and their endpoints are: immutable records, no behaviour.

Addresses are kept as text: plain ("172.17.0.2") for an address, CIDR ("172.17.0.0/16") for a subnet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Subnet:
    """One entry of ``IPAM.Config``."""

    subnet: str
    gateway: str = ""  # "" where the network has none (internal macvlan, layer 3 ipvlan)
    ip_range: str = ""  # where addresses are chosen from; "" is the whole subnet
    aux_addresses: Mapping[str, str] = field(default_factory=dict)  # name → address never given out

    @property
    def version(self) -> int:
        return 6 if ":" in self.subnet else 4


@dataclass(frozen=True, slots=True)
class Network:
    id: str  # 64 hex digits
    name: str
    driver: str  # bridge, macvlan, ipvlan, host, null
    created_ns: int
    subnets: tuple[Subnet, ...] = ()
    device: str = ""  # the bridge, or the parent interface
    internal: bool = False
    ipv6: bool = False
    attachable: bool = False
    ingress: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] | None = None
    owns_device: bool = True  # we made ``device`` and take it away
    config_only: bool = False  # nobody is in it: others take their subnets and options from it
    config_from: str = ""  # name of the network that this one took them from

    @property
    def builtin(self) -> bool:
        """One of the three that every engine has."""
        return self.name in ("bridge", "host", "none")

    def subnet(self, version: int) -> Subnet | None:
        return next((subnet for subnet in self.subnets if subnet.version == version), None)


@dataclass(frozen=True, slots=True)
class CreateNetwork:
    """``Engine API v1.44 POST /networks/create``."""

    name: str = ""
    check_duplicate: bool = True
    driver: str = "bridge"
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    enable_ipv6: bool = False
    config_only: bool = False
    config_from: str = ""
    scope: str = ""
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] | None = None
    subnets: tuple[Subnet, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """What a container wants of one network. ``names``: what it is called there, beside its aliases."""

    network: str  # name, id or prefix of one
    ip4: str = ""
    ip6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    gateway_priority: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's place in one network, from before it starts until it has ended."""

    id: str
    network_id: str
    container_id: str
    interface: str  # in the container: eth0
    device: str  # on the host: vethXXXXXXX; "" where there is none
    mac: str
    ip4: str = ""  # 172.17.0.2
    prefix4: int = 0
    gateway4: str = ""
    ip6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    aliases: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    gateway_priority: int = 0  # the highest one's network leads out


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A port that a container wants published. ``host_port`` (0, 0) lets the daemon choose."""

    protocol: str  # tcp, udp, sctp
    container_port: int
    host_ip: str = ""
    host_ports: tuple[int, int] = (0, 0)  # first and last


@dataclass(frozen=True, slots=True)
class Sandbox:
    """All endpoints of one run of a container."""

    id: str  # 64 hex digits
    container_id: str
    name: str
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[Mapping[str, Any], ...] = ()  # published: see ports.py

    def endpoint(self, network_id: str) -> Endpoint | None:
        return next((one for one in self.endpoints if one.network_id == network_id), None)
