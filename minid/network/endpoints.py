"""New endpoints: their addresses, their interfaces' names. Nothing is made here."""

import secrets
from collections.abc import Sequence

from minid.errors import Failed, Forbidden, InvalidParameter, MinidError
from minid.network import ipam, options
from minid.network.model import Endpoint, EndpointRequest, Network
from minid.network.store import Taken


def plan(
    network: Network,
    container_id: str,
    request: EndpointRequest,
    others: Sequence[Endpoint],
    taken: Taken,
) -> Endpoint:
    """The endpoint that ``request`` asks for. ``others``: the container's, in other networks. ``taken``: the
    network's addresses. Raises InvalidParameter, Forbidden (address in use), Failed (none left).
    """
    if any(one.network_id == network.id for one in others):
        raise InvalidParameter(f"network {network.name} is given twice")
    ip4, prefix4, gateway4 = _address(network, 4, request.ip4, taken)
    ip6, prefix6, gateway6 = _address(network, 6, request.ip6, taken)
    names = {one.interface for one in others}
    prefix = network.options.get(options.CONTAINER_INTERFACE_PREFIX) or "eth"
    return Endpoint(
        id=secrets.token_hex(32),
        network_id=network.id,
        container_id=container_id,
        interface=next(f"{prefix}{n}" for n in range(1000) if f"{prefix}{n}" not in names),
        device=f"veth{secrets.token_hex(4)[:7]}" if network.driver == "bridge" else "",
        mac=request.mac or (ipam.mac_of(ip4) if ip4 else "02:42:" + secrets.token_bytes(4).hex(":")),
        ip4=ip4,
        prefix4=prefix4,
        gateway4="" if network.internal else gateway4,
        ip6=ip6,
        prefix6=prefix6,
        gateway6="" if network.internal else gateway6,
        aliases=request.aliases,
        names=request.names,
        driver_opts=request.driver_opts,
        gateway_priority=request.gateway_priority,
    )


def _address(network: Network, version: int, wanted: str, taken: Taken) -> tuple[str, int, str]:
    """Address, prefix length and gateway; empty where the network has no such subnet."""
    subnets = [subnet for subnet in network.subnets if subnet.version == version]
    if not subnets:
        if wanted:
            raise InvalidParameter(
                f"network {network.name} has no IPv{version} subnet: {wanted} is not possible in it"
            )
        return "", 0, ""
    numbers = taken.numbers[version]
    failure: MinidError | None = None
    for subnet in subnets:
        addresses = ipam.Range.of(subnet)
        try:
            if wanted:
                number = addresses.check(wanted, numbers)
            else:
                number = addresses.next(numbers, taken.last[version])
                taken.last[version] = number
        except (InvalidParameter, Failed) as error:
            failure = error
            continue
        gateway = subnet.aux_addresses.get(f"DefaultGatewayIPv{version}") or subnet.gateway
        return addresses.text(number), addresses.whole.prefixlen, gateway
    raise failure or Forbidden("Address already in use")
