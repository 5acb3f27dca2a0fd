"""Volumes in Docker's JSON (``Engine API v1.44 § Volume``)."""

from typing import Any

from minid.api.schema.naming import timestamp
from minid.volumes.model import Volume


def volume(volume: Volume, usage: tuple[int, int] | None = None) -> dict[str, Any]:
    """``usage``: bytes and the number of containers, shown by ``/system/df`` only."""
    data: dict[str, Any] = {
        "CreatedAt": timestamp(volume.created_ns // 1_000_000_000 * 1_000_000_000),
        "Driver": volume.driver,
        "Labels": dict(volume.labels) or None,
        "Mountpoint": str(volume.mountpoint),
        "Name": volume.name,
        "Options": dict(volume.options) or None,
        "Scope": "local",
    }
    if usage is not None:
        data["UsageData"] = {"RefCount": usage[1], "Size": usage[0]}
    return data
