"""A container's networks in Docker's JSON (``Engine API v1.44 § NetworkSettings, EndpointSettings, Port``)."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from minid.containers.model import Container
from minid.containers.networking import Joined
from minid.network.model import Endpoint, Sandbox

NO_ADDRESSES = {
    "EndpointID": "",
    "Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "MacAddress": "",
}


def networks(container: Container, joined: Sequence[Joined]) -> dict[str, Any]:
    """By name."""
    return {one.name: _settings(container, one) for one in joined}


def addresses(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "EndpointID": endpoint.id,
        "Gateway": endpoint.gateway4,
        "GlobalIPv6Address": endpoint.ip6,
        "GlobalIPv6PrefixLen": endpoint.prefix6,
        "IPAddress": endpoint.ip4,
        "IPPrefixLen": endpoint.prefix4,
        "IPv6Gateway": endpoint.gateway6,
        "MacAddress": endpoint.mac,
    }


def _settings(container: Container, joined: Joined) -> dict[str, Any]:
    wanted, network = joined.settings, joined.network
    own_names = network is not None and not network.builtin
    aliases = list(wanted.get("Aliases") or ())
    data: dict[str, Any] = {
        "IPAMConfig": wanted.get("IPAMConfig"),
        "Links": wanted.get("Links"),
        # until API 1.44 the short id was among them
        "Aliases": list(dict.fromkeys((*aliases, container.id[:12]))) if own_names else wanted.get("Aliases"),
        "DriverOpts": wanted.get("DriverOpts"),
        "NetworkID": network.id if network is not None else "",
        **NO_ADDRESSES,
        "MacAddress": wanted.get("MacAddress") or "",
        "DNSNames": list(joined.names) if own_names else None,
    }
    if joined.endpoint is not None:
        data |= addresses(joined.endpoint)
    elif network is not None and network.driver in ("host", "null"):
        data["EndpointID"] = endpoint_id(container, network.name)
    return data


def endpoint_id(container: Container, network: str) -> str:
    """Of the networks without endpoints, host and none: one for each run."""
    if not container.state.running:
        return ""
    return hashlib.sha256(
        f"endpoint {container.id} {network} {container.state.started_at_ns}".encode()
    ).hexdigest()


def network_settings(
    container: Container, joined: Sequence[Joined], sandbox: Sandbox | None
) -> dict[str, Any]:
    """Those of the default network are repeated at the top, for old clients."""
    shares = container.host_config.network_mode.startswith("container:")
    running = container.state.running and not shares
    own = hashlib.sha256(f"sandbox {container.id}".encode()).hexdigest()
    default = next((one.endpoint for one in joined if one.name == "bridge" and one.endpoint), None)
    return {
        "Bridge": "",
        "SandboxID": (sandbox.id if sandbox is not None else own) if running else "",
        "SandboxKey": f"/proc/{container.state.pid}/ns/net" if running else "",
        "Ports": port_map(container, sandbox) if running else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **(addresses(default) if default is not None else NO_ADDRESSES),
        "Networks": networks(container, joined),
    }


def port_map(container: Container, sandbox: Sandbox | None) -> dict[str, Any]:
    """Every exposed port; those that are not published with ``null``."""
    if sandbox is None:
        return {}
    result: dict[str, Any] = dict.fromkeys(sorted(container.config.exposed_ports))
    for port in sandbox.ports:
        key = f"{port['container_port']}/{port['protocol']}"
        result[key] = [
            *(result.get(key) or ()),
            *({"HostIp": ip, "HostPort": str(port["host_port"])} for ip in _host_ips(port)),
        ]
    return result


def port_list(container: Container, sandbox: Sandbox | None) -> list[dict[str, Any]]:
    """The ``Ports`` of a list's element."""
    if sandbox is None or not container.state.running:
        return []
    result = []
    for key, bindings in port_map(container, sandbox).items():
        number, _, protocol = key.partition("/")
        if bindings is None:
            result += [
                {"PrivatePort": one, "Type": protocol or "tcp"}
                for one in range(int(number.partition("-")[0]), int(number.rpartition("-")[2]) + 1)
            ]
        for binding in bindings or ():
            result.append(
                {
                    "IP": binding["HostIp"],
                    "PrivatePort": int(number),
                    "PublicPort": int(binding["HostPort"]),
                    "Type": protocol,
                }
            )
    return result


def _host_ips(port: Mapping[str, Any]) -> Sequence[str]:
    return (port["host_ip"],) if port["host_ip"] else ("0.0.0.0", "::")
