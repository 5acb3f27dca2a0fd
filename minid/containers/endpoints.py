"""What a client may say about an endpoint: the API's ``EndpointSettings``, checked, and made into a request.

Pure.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from minid.containers.model import Container
from minid.errors import InvalidParameter
from minid.network.model import EndpointRequest, Network

Settings = Mapping[str, Any]
NONE: Settings = {}


def endpoint_settings(name: str, raw: Any) -> Settings:
    """The user's half of ``EndpointSettings``, checked for types."""
    if raw is None:
        return NONE
    if not isinstance(raw, Mapping):
        raise InvalidParameter(f"EndpointsConfig.{name}: expected an object")
    folded = {str(key).lower(): value for key, value in raw.items()}
    result: dict[str, Any] = {}
    ipam = folded.get("ipamconfig")
    if ipam is not None:
        if not isinstance(ipam, Mapping):
            raise InvalidParameter(f"EndpointsConfig.{name}.IPAMConfig: expected an object")
        result["IPAMConfig"] = {key: value for key, value in ipam.items() if value}
        for key in ("IPv4Address", "IPv6Address"):
            if not isinstance(ipam.get(key) or "", str):
                raise InvalidParameter(f"EndpointsConfig.{name}.IPAMConfig.{key}: expected a string")
    for key in ("Links", "Aliases"):
        value = folded.get(key.lower())
        if value is not None:
            if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
                raise InvalidParameter(f"EndpointsConfig.{name}.{key}: expected a list of strings")
            result[key] = list(value)
    options = folded.get("driveropts")
    if options is not None:
        if not isinstance(options, Mapping):
            raise InvalidParameter(f"EndpointsConfig.{name}.DriverOpts: expected an object")
        result["DriverOpts"] = {str(key): str(value) for key, value in options.items()}
    priority = folded.get("gwpriority")
    if priority:
        if not isinstance(priority, int):
            raise InvalidParameter(f"EndpointsConfig.{name}.GwPriority: expected an integer")
        result["GwPriority"] = priority
    mac = folded.get("macaddress")
    if mac:
        if not isinstance(mac, str):
            raise InvalidParameter(f"EndpointsConfig.{name}.MacAddress: expected a string")
        result["MacAddress"] = mac
    return result


def check(network: Network, settings: Settings) -> None:
    """What an endpoint may be told depends on its network. Raises InvalidParameter."""
    ipam = settings.get("IPAMConfig") or {}
    if network.builtin:
        if ipam.get("IPv4Address") or ipam.get("IPv6Address"):
            raise InvalidParameter("user specified IP address is supported on user defined networks only")
        if settings.get("Aliases"):
            raise InvalidParameter(
                "network-scoped alias is supported only for containers in user defined networks"
            )
    for key, version in (("IPv4Address", 4), ("IPv6Address", 6)):
        text = ipam.get(key)
        if text:
            try:
                right = ipaddress.ip_address(text).version == version
            except ValueError:
                right = False
            if not right:
                raise InvalidParameter(f"invalid IPv{version} address: {text}")
            subnets = [subnet for subnet in network.subnets if subnet.version == version]
            if not any(ipaddress.ip_address(text) in ipaddress.ip_network(one.subnet) for one in subnets):
                raise InvalidParameter(f"no configured subnet or ip-range contain the IP address {text}")
    if settings.get("MacAddress") and not is_mac(settings["MacAddress"]):
        raise InvalidParameter(f"invalid MAC address: {settings['MacAddress']}")


def request(container: Container, network: Network, settings: Settings, *, mac: str = "") -> EndpointRequest:
    """What a container asks of a network. ``mac``: where the settings name none."""
    ipam = settings.get("IPAMConfig") or {}
    mac = settings.get("MacAddress") or mac
    return EndpointRequest(
        network=network.id,
        ip4=ipam.get("IPv4Address") or "",
        ip6=ipam.get("IPv6Address") or "",
        mac=mac.lower().replace("-", ":"),
        aliases=tuple(settings.get("Aliases") or ()),
        names=() if network.builtin else dns_names(container, settings.get("Aliases") or ()),
        driver_opts=settings.get("DriverOpts") or {},
        gateway_priority=settings.get("GwPriority") or 0,
    )


def dns_names(container: Container, aliases: Iterable[str]) -> tuple[str, ...]:
    """What a container is called in a user-defined network, the canonical name first."""
    short = container.id[:12]
    return tuple(
        dict.fromkeys(name for name in (container.name, *aliases, short, container.config.hostname) if name)
    )


def is_mac(text: str) -> bool:
    parts = text.replace("-", ":").split(":")
    try:
        return len(parts) == 6 and all(len(part) == 2 and int(part, 16) >= 0 for part in parts)
    except ValueError:
        return False
