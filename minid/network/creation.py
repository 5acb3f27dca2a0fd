"""From a request to a network: checks, names, subnets. Pure; nothing is made here.

Source: Engine API v1.44 ``POST /networks/create``; refusals in moby's words.
"""

import dataclasses
import ipaddress
import re
import secrets
import time
from collections.abc import Collection, Sequence

from minid.errors import Conflict, Forbidden, InvalidParameter, NotFound, Unsupported
from minid.network import ipam, options
from minid.network.bridge import device_name
from minid.network.ipam import Network as IpNetwork
from minid.network.model import CreateNetwork, Network, Subnet

DRIVERS = ("bridge", "macvlan", "ipvlan")
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
POOL_OVERLAPS = "Pool overlaps with other one on this address space"


def new_id() -> str:
    """64 hex digits."""
    return secrets.token_hex(32)


def plan(
    request: CreateNetwork,
    *,
    known: Collection[Network],
    pools: Sequence[tuple[str, int]],
    host_subnets: Collection[IpNetwork],
) -> Network:
    """The network that ``request`` asks for, with an id, subnets and gateways. Raises a MinidError."""
    _check(request, known)
    network_id = new_id()
    if request.config_only:
        return _configuration(request, network_id)
    if request.config_from:
        request = _configured(request, known)
    _check_options(request, known)
    ours = [
        ipaddress.ip_network(subnet.subnet)
        for network in known
        if not network.config_only
        for subnet in network.subnets
    ]
    subnets = [_settle(subnet, request.driver, request.options) for subnet in request.subnets]
    versions = [subnet.version for subnet in subnets]
    for position, subnet in enumerate(subnets):
        own = ipaddress.ip_network(subnet.subnet)
        others = [ipaddress.ip_network(other.subnet) for other in subnets[:position]]
        if request.driver == "bridge" and (ipam.overlaps(own, ours) or ipam.overlaps(own, others)):
            raise Forbidden("invalid pool request: " + POOL_OVERLAPS)
    if 4 not in versions:
        chosen = ipam.choose_subnet(4, pools, [*ours, *host_subnets])
        subnets.insert(0, _settle(Subnet(str(chosen)), request.driver, request.options))
    if request.enable_ipv6 and 6 not in versions:
        chosen = ipam.choose_subnet(6, [*pools, (unique_local(), 64)], [*ours, *host_subnets])
        subnets.append(_settle(Subnet(str(chosen)), request.driver, request.options))
    if not request.enable_ipv6:
        subnets = [subnet for subnet in subnets if subnet.version == 4]
    if request.driver == "bridge":
        device = request.options.get(options.BRIDGE_NAME) or device_name(network_id)
    else:
        device = request.options.get("parent", "")
    return Network(
        id=network_id,
        name=request.name,
        driver=request.driver,
        created_ns=time.time_ns(),
        subnets=tuple(subnets),
        device=device,
        internal=request.internal,
        ipv6=request.enable_ipv6,
        attachable=request.attachable,
        options=request.options,
        labels=request.labels,
        ipam_driver=request.ipam_driver or "default",
        ipam_options=request.ipam_options,
        config_from=request.config_from,
    )


def _configuration(request: CreateNetwork, network_id: str) -> Network:
    """A network that only holds what others are made with: nothing is chosen for it, nothing made."""
    for subnet in request.subnets:
        _settle(subnet, "null", request.options)
    return Network(
        id=network_id,
        name=request.name,
        driver="null",
        created_ns=time.time_ns(),
        subnets=request.subnets,
        ipv6=request.enable_ipv6,
        options=request.options,
        labels=request.labels,
        ipam_driver=request.ipam_driver or "default",
        ipam_options=request.ipam_options,
        config_only=True,
    )


def _configured(request: CreateNetwork, known: Collection[Network]) -> CreateNetwork:
    """With what the network has that ``config_from`` names. Raises NotFound."""
    found = next((one for one in known if one.name == request.config_from and one.config_only), None)
    if found is None:
        raise NotFound(f'configuration network "{request.config_from}" does not exist')
    return dataclasses.replace(
        request,
        enable_ipv6=found.ipv6,
        subnets=found.subnets,
        options=found.options,
        labels=found.labels,
        ipam_driver=found.ipam_driver,
        ipam_options=found.ipam_options,
    )


def _check(request: CreateNetwork, known: Collection[Network]) -> None:
    if not request.name.strip():
        raise InvalidParameter("invalid network name: name is empty")
    if request.name in ("bridge", "host", "none", "default") or request.name.startswith("container:"):
        raise Forbidden(f"operation is not permitted on predefined {request.name} network")
    if not NAME.fullmatch(request.name):
        raise InvalidParameter(
            f"invalid network name {request.name}: only letters, digits, _ . and - are allowed, "
            "and the first character must be a letter or a digit"
        )
    if any(network.name == request.name for network in known):
        raise Conflict(f"network with name {request.name} already exists")
    if request.driver in ("host", "null", "none"):
        kind = "host" if request.driver == "host" else "null"
        raise Forbidden(f'only one instance of "{kind}" network is allowed')
    if request.driver == "overlay" or request.scope == "swarm" or request.ingress:
        raise Unsupported("This node is not a swarm manager: networks that span machines are not supported")
    if request.driver not in DRIVERS:
        raise NotFound(
            f"could not find plugin {request.driver} in v1 plugin registry: plugin not found: "
            f"the network drivers are {', '.join(DRIVERS)}"
        )
    _check_configuration(request)
    if request.ipam_driver not in ("", "default"):
        raise InvalidParameter(f"could not find an IPAM driver with name {request.ipam_driver}: use default")


def _check_configuration(request: CreateNetwork) -> None:
    """``--config-only`` and ``--config-from``: what goes together."""
    if request.config_only:
        if request.internal or request.attachable or request.scope:
            raise Forbidden(
                "configuration network can only contain network specific fields. Network operator fields like "
                "[ ingress | internal | attachable | scope ] are not supported."
            )
        if request.config_from:
            raise Forbidden("a configuration network cannot depend on another configuration network")
    elif request.config_from:
        if request.subnets or request.labels or request.enable_ipv6 or request.ipam_options:
            raise Forbidden(
                "user specified configurations are not supported if the network depends on a configuration "
                "network"
            )
        if request.options:
            raise Forbidden(
                "network driver options are not supported if the network depends on a configuration network"
            )


def _check_options(request: CreateNetwork, known: Collection[Network]) -> None:
    """The driver's options, and that nobody has the device that they name."""
    options.check(request.driver, request.options)
    device = request.options.get(options.BRIDGE_NAME) if request.driver == "bridge" else ""
    for network in known:
        if device and network.device == device:
            raise Forbidden(
                f"cannot create network {request.name}: conflicts with network {network.id} ({network.name}): "
                "networks have same bridge name"
            )
    if request.driver == "macvlan" and request.options.get("parent"):
        for network in known:
            if network.driver == "macvlan" and network.device == request.options["parent"]:
                raise Forbidden(f"network {network.id} is already using parent interface {network.device}")


def _settle(subnet: Subnet, driver: str, given: object) -> Subnet:
    """Checked and completed: a gateway for networks that have one."""
    if not subnet.subnet:
        raise InvalidParameter("invalid network config: a subnet is needed with a gateway, range or address")
    try:
        whole = ipaddress.ip_network(subnet.subnet, strict=False)
    except ValueError:
        raise InvalidParameter(f"invalid subnet {subnet.subnet}: invalid CIDR block notation") from None
    if subnet.subnet != str(whole) and ipaddress.ip_interface(subnet.subnet).ip != whole.network_address:
        raise InvalidParameter(f"invalid subnet {subnet.subnet}: it should be {whole}")
    if whole.max_prefixlen - whole.prefixlen < 2 and driver == "bridge":
        raise InvalidParameter(f"invalid subnet {whole}: it has no room for a gateway and a container")
    if subnet.ip_range:
        try:
            chosen = ipaddress.ip_network(subnet.ip_range, strict=False)
        except ValueError:
            raise InvalidParameter(
                f"invalid ip-range {subnet.ip_range}: invalid CIDR block notation"
            ) from None
        if chosen.version != whole.version or not (
            int(whole.network_address) <= int(chosen.network_address)
            and int(chosen.broadcast_address) <= int(whole.broadcast_address)
        ):
            raise InvalidParameter(f"invalid ip-range {subnet.ip_range}: it is not inside {whole}")
    for what, text in (("gateway address", subnet.gateway), *_named(subnet)):
        if text:
            try:
                inside = ipaddress.ip_address(text) in whole
            except ValueError:
                raise InvalidParameter(f"invalid {what}: {text}") from None
            if not inside:
                raise InvalidParameter(f"invalid {what} {text}: no matching subnet for {text}")
    chosen_range = ipaddress.ip_network(subnet.ip_range, strict=False) if subnet.ip_range else None
    gateway = subnet.gateway or (ipam.first_host(whole) if driver in DRIVERS else "")
    return Subnet(str(whole), gateway, str(chosen_range) if chosen_range else "", subnet.aux_addresses)


def _named(subnet: Subnet) -> list[tuple[str, str]]:
    return [("auxiliary address", text) for text in subnet.aux_addresses.values()]


def unique_local() -> str:
    """A random /48 of RFC 4193."""
    return str(ipaddress.IPv6Network((b"\xfd" + secrets.token_bytes(5) + bytes(10), 48)))
