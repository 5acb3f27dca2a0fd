"""The flags of `run` and `create` that are about networks: which ones, addresses, links, names, DNS servers."""

from __future__ import annotations

from minictl.environment import pairs
from minictl.errors import invalid_argument, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minictl.flags import Options

_NO_ENDPOINT = {
    "IPAMConfig": None,
    "Links": None,
    "Aliases": None,
    "MacAddress": "",
    "DriverOpts": None,
    "GwPriority": 0,
    "NetworkID": "",
    "EndpointID": "",
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "DNSNames": None,
}


_BUILT_IN_NETWORKS = ("default", "bridge", "host", "none", "nat")


def network_names(options: Options) -> list[str]:
    return [_network(text)["name"] for text in options["network"]]


def endpoints(options: Options) -> dict[str, Any]:
    """EndpointsConfig: an entry for each network that is the user's own, or that is given settings."""
    networks = [_network(text) for text in options["network"]] or [_network("default")]
    if len(networks) > 1 and any(_built_in(network["name"]) for network in networks):
        raise refused(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    first = networks[0]
    first["alias"] += options["network-alias"]
    first["link-local-ip"] += options["link-local-ip"]
    for flag in ("ip", "ip6", "mac-address"):
        if options[flag]:
            first[flag] = options[flag]
    result: dict[str, Any] = {}
    for index, network in enumerate(networks):
        endpoint: dict[str, Any] = dict(_NO_ENDPOINT)
        addresses: dict[str, Any] = {}
        if network.get("ip"):
            addresses["IPv4Address"] = network["ip"]
        if network.get("ip6"):
            addresses["IPv6Address"] = network["ip6"]
        if network["link-local-ip"]:
            addresses["LinkLocalIPs"] = network["link-local-ip"]
        links = options["link"] if index == 0 and not _built_in(network["name"]) else None
        endpoint["IPAMConfig"] = addresses or None
        endpoint["Links"] = links or None
        endpoint["Aliases"] = network["alias"] or None
        endpoint["MacAddress"] = _mac_address(network.get("mac-address", ""))
        endpoint["DriverOpts"] = pairs(network["driver-opt"]) or None
        endpoint["GwPriority"] = int(network.get("gw-priority", 0))
        if endpoint != _NO_ENDPOINT or not options["network"] or len(networks) > 1:
            result[network["name"]] = endpoint
    return result


def _network(text: str) -> dict[str, Any]:
    """`NAME` or `name=…,alias=…,ip=…,ip6=…,mac-address=…,link-local-ip=…,driver-opt=k=v,gw-priority=N`."""
    wanted: dict[str, Any] = {"name": text, "alias": [], "driver-opt": [], "link-local-ip": []}
    if "=" not in text.partition(",")[0]:
        return wanted
    wanted["name"] = ""
    for field in text.split(","):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            raise invalid_argument(
                "network", "", text, f"invalid key/value pair format in driver options: {field}"
            )
        if key in ("alias", "driver-opt", "link-local-ip"):
            wanted[key].append(value)
        elif key in ("name", "ip", "ip6", "mac-address", "gw-priority"):
            wanted[key] = value
        else:
            raise invalid_argument("network", "", text, f"invalid field key {key}")
    if not wanted["name"]:
        raise invalid_argument("network", "", text, "network name/id is not specified")
    return wanted


def _built_in(name: str) -> bool:
    return name in _BUILT_IN_NETWORKS or name.startswith("container:")


def _mac_address(text: str) -> str:
    if not text:
        return ""
    parts = text.replace("-", ":").split(":")
    if len(parts) not in (6, 8) or not all(len(part) == 2 and _is_hex(part) for part in parts):
        raise refused(f"{text} is not a valid mac address")
    return text


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdefABCDEF" for letter in text)


def links(texts: list[str]) -> list[str] | None:
    for text in texts:
        if text.count(":") > 1 or not text:
            raise invalid_argument("link", "", text, f"bad format for links: {text}")
    return texts or None


def extra_hosts(texts: list[str]) -> list[str] | None:
    result = []
    for text in texts:
        separator = "=" if "=" in text else ":"
        name, found, address = text.partition(separator)
        if not found or not name or not address:
            raise invalid_argument("add-host", "", text, f'bad format for add-host: "{text}"')
        if address.startswith("[") and address.endswith("]"):
            address = address[1:-1]
        result.append(f"{name}:{address}")
    return result or None


def dns_servers(texts: list[str]) -> list[str]:
    import _socket

    for text in texts:
        family = _socket.AF_INET6 if ":" in text else _socket.AF_INET
        try:
            _socket.inet_pton(family, text.partition("%")[0])
        except OSError:
            raise invalid_argument(
                "dns", "", text, f"IP address is not correctly formatted: {text}"
            ) from None
    return texts
