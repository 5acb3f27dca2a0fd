"""The networks that every engine has: none and host. Pure."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache

from minid.network.model import Network

DRIVERS: Mapping[str, str] = {"none": "null", "host": "host"}  # by name


@lru_cache(maxsize=8)
def network_ids(engine_id: str) -> Mapping[str, str]:
    """Name to ID: 64 hex digits that stay the same as long as the engine does."""
    return {name: hashlib.sha256(f"network {engine_id} {name}".encode()).hexdigest() for name in DRIVERS}


def network_of(mode: str) -> str:
    """The name of the network that a container's network mode joins; "" for another container's."""
    if mode.startswith("container:"):
        return ""
    return "bridge" if mode in ("", "default") else mode


def networks(engine_id: str) -> tuple[Network, ...]:
    """The records of them all."""
    return tuple(
        Network(id=identifier, name=name, driver=DRIVERS[name], created_ns=0)
        for name, identifier in network_ids(engine_id).items()
    )
