"""The networks that every engine has, in Docker's JSON (``Engine API v1.44 § Network``)."""

import hashlib
from functools import lru_cache
from typing import Any

from minid.api.schema.container import endpoint_id, network_name
from minid.containers.model import Container

FIXED = {"none": "null", "host": "host"}  # name to driver


@lru_cache(maxsize=8)
def network_ids(engine_id: str) -> dict[str, str]:
    """Name to ID: 64 hex digits that stay the same as long as the engine does."""
    return {name: hashlib.sha256(f"network {engine_id} {name}".encode()).hexdigest() for name in FIXED}


def network(name: str, network_id: str, created: str, containers: list[Container]) -> dict[str, Any]:
    """``containers``: those whose endpoints to show (inspect), empty in the list."""
    joined = [
        container
        for container in containers
        if container.state.running and network_name(container.host_config.network_mode) == name
    ]
    return {
        "Name": name,
        "Id": network_id,
        "Created": created,
        "Scope": "local",
        "Driver": FIXED[name],
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
