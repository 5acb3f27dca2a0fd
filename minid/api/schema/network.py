"""Networks in Docker's JSON (``Engine API v1.44 § Network``)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minid.api.schema.endpoint import endpoint_id
from minid.api.schema.naming import read, timestamp
from minid.containers.model import Container
from minid.errors import InvalidParameter
from minid.network.model import CreateNetwork, Endpoint, Network, Subnet


@dataclass(frozen=True, slots=True)
class IpamRequest:
    driver: str = ""
    config: Any = None
    options: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """The body of ``POST /networks/create`` as it is spelled there."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: Any = None
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def create_request(data: Mapping[str, Any]) -> CreateNetwork:
    """Raises InvalidParameter that names the wrong field."""
    folded = {key.lower(): value for key, value in data.items()}
    raw_ipam, enable_ipv6 = folded.pop("ipam", None), folded.pop("enableipv6", None)
    request = read(NetworkRequest, folded)
    ipam = read(IpamRequest, raw_ipam if raw_ipam is not None else {}, "IPAM")
    if enable_ipv6 is not None and not isinstance(enable_ipv6, bool):
        raise InvalidParameter("EnableIPv6: expected true or false")
    source = request.config_from
    return CreateNetwork(
        name=request.name,
        driver=request.driver or "bridge",
        internal=request.internal,
        attachable=request.attachable,
        ingress=request.ingress,
        enable_ipv6=bool(enable_ipv6),
        config_only=request.config_only,
        config_from=str(source.get("Network") or "") if isinstance(source, Mapping) else "",
        scope=request.scope,
        ipam_driver=ipam.driver or "default",
        ipam_options=ipam.options,
        subnets=tuple(_subnets(ipam.config)),
        options=request.options,
        labels=request.labels,
    )


def _subnets(config: Any) -> list[Subnet]:
    if config is None:
        return []
    if not isinstance(config, list):
        raise InvalidParameter("IPAM.Config: expected a list")
    result = []
    for entry in config:
        if not isinstance(entry, Mapping):
            raise InvalidParameter("IPAM.Config: expected a list of objects")
        folded = {key.lower(): value for key, value in entry.items()}
        texts = [folded.get(key) or "" for key in ("subnet", "gateway", "iprange")]
        # the specification says AuxiliaryAddresses, moby reads AuxAddress
        aux = folded.get("auxiliaryaddresses") or folded.get("auxaddress") or {}
        if not all(isinstance(text, str) for text in texts) or not isinstance(aux, Mapping):
            raise InvalidParameter("IPAM.Config: Subnet, Gateway and IPRange are strings")
        if any(texts) or aux:
            named = {str(name): str(address) for name, address in aux.items()}
            result.append(Subnet(texts[0], texts[1], texts[2], named))
    return result


def network(network: Network, members: Sequence[tuple[Container, Endpoint | None]] = ()) -> dict[str, Any]:
    """``members``: those whose endpoints to show (inspect), empty in the list."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": timestamp(network.created_ns),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": network.ipam_driver,
            "Options": dict(network.ipam_options) if network.ipam_options is not None else None,
            "Config": [_subnet(subnet) for subnet in network.subnets],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": network.ingress,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": {
            container.id: _member(container, network, endpoint) for container, endpoint in members
        },
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def _subnet(subnet: Subnet) -> dict[str, Any]:
    data: dict[str, Any] = {"Subnet": subnet.subnet}
    if subnet.ip_range:
        data["IPRange"] = subnet.ip_range
    if subnet.gateway:
        data["Gateway"] = subnet.gateway
    if subnet.aux_addresses:
        data["AuxiliaryAddresses"] = dict(subnet.aux_addresses)
    return data


def _member(container: Container, network: Network, endpoint: Endpoint | None) -> dict[str, Any]:
    if endpoint is None:
        return {
            "Name": container.name,
            "EndpointID": endpoint_id(container, network.name),
            "MacAddress": "",
            "IPv4Address": "",
            "IPv6Address": "",
        }
    return {
        "Name": container.name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": f"{endpoint.ip4}/{endpoint.prefix4}" if endpoint.ip4 else "",
        "IPv6Address": f"{endpoint.ip6}/{endpoint.prefix6}" if endpoint.ip6 else "",
    }
