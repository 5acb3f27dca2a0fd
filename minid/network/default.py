"""The default network, "bridge": what the configuration says it should be. Pure, but for the dice.

Source: docs.docker.com/reference/cli/dockerd § --bip, --bridge, --fixed-cidr, --ipv6 and their kin.
"""

import ipaddress
import time
from collections.abc import Collection, Sequence

from minid.config import Config
from minid.network import creation, ipam, options
from minid.network.bridge import Interface
from minid.network.ipam import Network as IpNetwork
from minid.network.model import Network, Subnet

NAME = "bridge"
DEVICE = "minid0"


def device(config: Config) -> str:
    return config.bridge or DEVICE


def pools(config: Config) -> Sequence[tuple[str, int]]:
    """Where subnets are chosen from that nobody named."""
    return tuple((pool.base, pool.size) for pool in config.default_address_pools) or ipam.DEFAULT_POOLS


def plan(
    config: Config, known: Network | None, present: Sequence[Interface], taken: Collection[IpNetwork]
) -> Network:
    """``known``: what an earlier daemon made of it. ``present``: the addresses that its bridge has already.
    ``taken``: subnets that it may not get. Raises Failed when there is none left.
    """
    own = device(config)
    before = known if known is not None and known.device == own else None
    subnets = [_four(config, before, present, taken)]
    if config.ipv6:
        subnets.append(_six(config, before, present, taken))
    return Network(
        id=known.id if known is not None else creation.new_id(),
        name=NAME,
        driver="bridge",
        created_ns=known.created_ns if known is not None else time.time_ns(),
        subnets=tuple(subnets),
        device=own,
        ipv6=config.ipv6,
        options={
            options.DEFAULT_BRIDGE: "true",
            options.ICC: str(config.icc).lower(),
            options.MASQUERADE: str(config.ip_masq).lower(),
            options.HOST_BINDING: config.ip,
            options.BRIDGE_NAME: own,
            options.MTU: str(config.mtu),
            **config.default_network_opts.get("bridge", {}),
        },
    )


def _four(
    config: Config, before: Network | None, present: Sequence[Interface], taken: Collection[IpNetwork]
) -> Subnet:
    aux = {"DefaultGatewayIPv4": config.default_gateway} if config.default_gateway else {}
    old = before.subnet(4) if before is not None else None
    if config.bip:
        interface = ipaddress.ip_interface(config.bip)
    elif old is not None:
        interface = ipaddress.ip_interface(f"{old.gateway}/{ipaddress.ip_network(old.subnet).prefixlen}")
    elif any(address.version == 4 for address in present):
        interface = next(address for address in present if address.version == 4)
    else:
        chosen = ipam.choose_subnet(4, pools(config), taken)
        interface = ipaddress.ip_interface(f"{ipam.first_host(chosen)}/{chosen.prefixlen}")
    return Subnet(str(interface.network), str(interface.ip), config.fixed_cidr, aux)


def _six(
    config: Config, before: Network | None, present: Sequence[Interface], taken: Collection[IpNetwork]
) -> Subnet:
    """``--fixed-cidr-v6`` inside of ``--bip6`` is where addresses are chosen from, alone it is the subnet."""
    aux = {"DefaultGatewayIPv6": config.default_gateway_v6} if config.default_gateway_v6 else {}
    old = before.subnet(6) if before is not None else None
    if config.bip6:
        interface = ipaddress.ip_interface(config.bip6)
        return Subnet(str(interface.network), str(interface.ip), config.fixed_cidr_v6, aux)
    if config.fixed_cidr_v6:
        network = ipaddress.ip_network(config.fixed_cidr_v6)
        return Subnet(str(network), ipam.first_host(network), "", aux)
    if old is not None:
        return old
    own = next((address for address in present if address.version == 6), None)
    if own is not None:
        return Subnet(str(own.network), str(own.ip), "", aux)
    six = [pool for pool in pools(config) if ":" in pool[0]] or [(creation.unique_local(), 64)]
    chosen = ipam.choose_subnet(6, six, taken)
    return Subnet(str(chosen), ipam.first_host(chosen), "", aux)
