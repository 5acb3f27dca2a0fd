"""The networks that every engine has, in Docker's JSON (``Engine API v1.44 § Network``)."""

from typing import Any

from minid.api.schema.container import endpoint_id
from minid.containers.model import Container
from minid.network.fixed import DRIVERS, network_of


def network(name: str, network_id: str, created: str, containers: list[Container]) -> dict[str, Any]:
    """``containers``: those whose endpoints to show (inspect), empty in the list."""
    joined = [
        container
        for container in containers
        if container.state.running and network_of(container.host_config.network_mode) == name
    ]
    return {
        "Name": name,
        "Id": network_id,
        "Created": created,
        "Scope": "local",
        "Driver": DRIVERS[name],
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": []},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            container.id: {
                "Name": container.name,
                "EndpointID": endpoint_id(container, name),
                "MacAddress": "",
                "IPv4Address": "",
                "IPv6Address": "",
            }
            for container in joined
        },
        "Options": {},
        "Labels": {},
    }
