"""What a client may say about an endpoint: the API's ``EndpointSettings``, checked. Pure."""

from collections.abc import Mapping
from typing import Any

from minid.errors import InvalidParameter

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


def is_mac(text: str) -> bool:
    parts = text.replace("-", ":").split(":")
    try:
        return len(parts) == 6 and all(len(part) == 2 and int(part, 16) >= 0 for part in parts)
    except ValueError:
        return False
