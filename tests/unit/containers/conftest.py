"""Records made short, for the tests of this directory."""

from dataclasses import replace
from typing import Any

from minid.containers import capabilities, merge, mounts
from minid.containers.host import Host
from minid.containers.model import Container, ContainerConfig, HostConfig, NetworkingConfig, State

ID = "0123456789ab" + "0" * 52
HOST = Host(capabilities=frozenset(capabilities.ALL), cpus=frozenset((0, 1)), hostname="machine")


def make_container(
    config: ContainerConfig | None = None,
    host_config: HostConfig | None = None,
    host: Host = HOST,
    **fields: Any,
) -> Container:
    config = config or ContainerConfig()
    if not config.cmd and not config.entrypoint:
        config = replace(config, cmd=("sleep", "1"))
    full, full_host = merge.with_defaults(config, host_config or HostConfig(), container_id=ID, host=host)
    points = []
    for planned in mounts.plan(full, full_host):
        point = planned.point
        if point.type == "volume":
            point = replace(point, source=f"/volumes/{point.name or 'anonymous'}")
        points.append(point)
    path, args = merge.command(full)
    values: dict[str, Any] = {
        "id": ID,
        "name": "one",
        "created_ns": 1,
        "image_id": "sha256:" + "a" * 64,
        "platform": "linux",
        "config": full,
        "host_config": full_host,
        "networking": NetworkingConfig(),
        "state": State(),
        "path": path,
        "args": args,
        "mounts": tuple(points),
        "storage_driver": "overlay2",
        "log_path": "",
        "diff_ids": (),
    }
    return Container(**(values | fields))
