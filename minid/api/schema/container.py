"""Containers in Docker's JSON: create requests, ``docker ps``, ``docker inspect``.

Shapes: ``Engine API v1.44 § ContainerSummary, ContainerInspect``; what is ``null`` and what is empty was
compared with a running dockerd.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minid.api.schema.endpoint import network_settings, networks, port_list
from minid.api.schema.naming import null_empty, read, timestamp, without_empty, write
from minid.containers import lifecycle
from minid.containers.health import health_status
from minid.containers.merge import merge
from minid.containers.model import (
    Container,
    ContainerConfig,
    CreateRequest,
    HostConfig,
    MountPoint,
    NetworkingConfig,
    PortBinding,
    Resources,
    RestartPolicy,
    State,
)
from minid.containers.networking import Joined
from minid.errors import InvalidParameter
from minid.images.rootfs import Rootfs
from minid.network.model import Sandbox

RESOURCE_NAMES = tuple(write(Resources()))
NOT_KEPT = {  # resources that minid has no field for, as dockerd shows them when they were not given
    "BlkioWeightDevice": None,
    "BlkioDeviceReadBps": None,
    "BlkioDeviceWriteBps": None,
    "BlkioDeviceReadIOps": None,
    "BlkioDeviceWriteIOps": None,
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
}


# --- requests


def create_request(data: Any, name: str, platform: str) -> CreateRequest:
    """The body of ``POST /containers/create``: the config's fields with HostConfig and NetworkingConfig."""
    folded = {key.lower(): value for key, value in data.items()}
    host = folded.pop("hostconfig", None)
    networking = folded.pop("networkingconfig", None)
    if not any(value is not None for value in folded.values()):
        raise InvalidParameter("config cannot be empty in order to create a container")
    return CreateRequest(
        name=name.removeprefix("/"),
        config=read(ContainerConfig, folded),
        host_config=host_config_from(host if host is not None else {}),
        networking=read(NetworkingConfig, networking if networking is not None else {}, "NetworkingConfig"),
        platform=platform,
    )


def host_config_from(data: Any) -> HostConfig:
    """``HostConfig`` with moby's readings of "not set": network mode "", swappiness -1, pids limit 0."""
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if not _unset(key.lower(), value)}
    return read(HostConfig, data, "HostConfig")


def _unset(key: str, value: Any) -> bool:
    return (
        (key == "networkmode" and value == "")
        or (key == "memoryswappiness" and value == -1)
        or (key == "pidslimit" and value == 0)
    )


def update_request(data: dict[str, Any]) -> tuple[Resources, RestartPolicy | None]:
    """The body of ``POST /containers/{id}/update``: flat resources and perhaps a restart policy."""
    policy = next((value for key, value in data.items() if key.lower() == "restartpolicy"), None)
    kept = {key: value for key, value in data.items() if not _unset(key.lower(), value)}
    return read(Resources, kept), None if not policy else read(RestartPolicy, policy, "RestartPolicy")


@dataclass(frozen=True, slots=True)
class PortChanges:
    """``PublishAdd`` and ``PublishRm``: an extension, in the form of ``HostConfig.PortBindings``."""

    publish_add: Mapping[str, tuple[PortBinding, ...] | None] = field(default_factory=dict)
    publish_rm: Mapping[str, tuple[PortBinding, ...] | None] = field(default_factory=dict)


def port_changes(data: dict[str, Any]) -> PortChanges:
    """What the body of ``POST /containers/{id}/update`` says about published ports."""
    return read(PortChanges, data)


# --- answers


def summary(
    container: Container,
    *,
    image: str,
    now_ns: int,
    joined: Sequence[Joined],
    sandbox: Sandbox | None,
    size: tuple[int, int] | None,
) -> dict[str, Any]:
    """One element of ``GET /containers/json``. ``size``: bytes of the writable part and of everything."""
    data: dict[str, Any] = {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": image,
        "ImageID": container.image_id,
        "Command": command_line(container.path, container.args),
        "Created": container.created_ns // 1_000_000_000,
        "Ports": port_list(container, sandbox),
        "Labels": dict(container.config.labels),
        "State": container.state.status,
        "Status": lifecycle.status_text(container.state, now_ns, health_status(container)),
        "HostConfig": {"NetworkMode": container.host_config.network_mode},
        "NetworkSettings": {"Networks": networks(container, joined)},
        "Mounts": [mount_point(mount) for mount in container.mounts],
    }
    if size is not None:
        data |= without_empty({"SizeRw": size[0], "SizeRootFs": size[1]})
    return data


def inspect(
    container: Container,
    *,
    paths: dict[str, str],
    graph_driver: dict[str, Any],
    joined: Sequence[Joined],
    sandbox: Sandbox | None,
    size: tuple[int, int] | None,
    links: Sequence[str] = (),
) -> dict[str, Any]:
    """``GET /containers/{id}/json``. ``paths``: ResolvConfPath, HostnamePath and HostsPath. ``links``: those
    of the default network, as they are shown.
    """
    data: dict[str, Any] = {
        "Id": container.id,
        "Created": timestamp(container.created_ns),
        "Path": container.path,
        "Args": list(container.args),
        "State": state(container.state),
        "Image": container.image_id,
        **paths,
        "LogPath": container.log_path,
        "Name": f"/{container.name}",
        "RestartCount": container.state.restart_count,
        "Driver": container.storage_driver,
        "Platform": container.platform or "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": list(container.exec_ids) or None,
        "HostConfig": host_config(container.host_config) | {"Links": list(links) or None},
        "GraphDriver": graph_driver,
        "Mounts": [mount_point(mount) for mount in container.mounts],
        "Config": config(container.config),
        "NetworkSettings": network_settings(container, joined, sandbox),
    }
    if size is not None:
        data |= {"SizeRw": size[0], "SizeRootFs": size[1]}
    return data


def graph_driver(driver: str, rootfs: Rootfs | None, state: State) -> dict[str, Any]:
    """``GraphDriver``. The merged tree is mounted in the container only, so it is shown as the process sees it."""
    data = None
    if rootfs is not None and rootfs.kind == "overlay":
        data = {
            "LowerDir": ":".join(rootfs.lower),
            "MergedDir": f"/proc/{state.pid}/root" if state.running else "",
            "UpperDir": rootfs.upper,
            "WorkDir": rootfs.work,
        }
    return {"Data": data, "Name": driver}


def state(state: State) -> dict[str, Any]:
    data: dict[str, Any] = {
        "Status": state.status,
        "Running": state.status in ("running", "paused", "restarting"),
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": state.status == "dead",
        "Pid": state.pid if state.running else 0,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": timestamp(state.started_at_ns),
        "FinishedAt": timestamp(state.finished_at_ns),
    }
    if state.health is not None:
        data["Health"] = {
            "Status": state.health.status,
            "FailingStreak": state.health.failing_streak,
            "Log": [
                {
                    "Start": timestamp(result.start_ns),
                    "End": timestamp(result.end_ns),
                    "ExitCode": result.exit_code,
                    "Output": result.output,
                }
                for result in state.health.log
            ],
        }
    return data


def command_line(path: str, args: tuple[str, ...]) -> str:
    """The command in one line, arguments with a space in single quotes, as moby's list view has it."""
    return " ".join([path, *(f"'{arg}'" if " " in arg else arg for arg in args)]) if args else path


def config(config: ContainerConfig) -> dict[str, Any]:
    data: dict[str, Any] = without_empty(
        write(config),
        "ExposedPorts",
        "Healthcheck",
        "ArgsEscaped",
        "NetworkDisabled",
        "MacAddress",
        "StopSignal",
        "Shell",
    )
    if data.get("Healthcheck"):
        data["Healthcheck"] = without_empty(data["Healthcheck"])
    if data["StopTimeout"] is None:
        del data["StopTimeout"]
    null_empty(data, "Env", "Volumes")
    return data


def committed_config(container: ContainerConfig, given: dict[str, Any]) -> dict[str, Any]:
    """The config of an image made from a container: what ``POST /commit`` has in its body, else the container's own."""
    own = config(container)
    folded = {key.lower(): value for key, value in given.items() if value is not None}
    if not folded:
        return own
    # as dockerd merges an image's config into a request's
    return config(merge(read(ContainerConfig, folded), own))


def host_config(config: HostConfig) -> dict[str, Any]:
    flat = write(config)
    resources = {name: flat.pop(name) for name in RESOURCE_NAMES}
    init, tail = flat.pop("Init"), {name: flat.pop(name) for name in ("MaskedPaths", "ReadonlyPaths")}
    data = without_empty(
        flat, "Annotations", "HealthOnFailure", "Mounts", "Runtime", "StorageOpt", "Sysctls", "Tmpfs"
    )
    if "Mounts" in data:
        data["Mounts"] = [_mount(mount) for mount in data["Mounts"]]
    data["ConsoleSize"] = list(config.console_size)
    resources["OomKillDisable"] = bool(config.oom_kill_disable)
    data |= {**resources, **NOT_KEPT, **tail}
    if init is not None:
        data["Init"] = init
    return data


def _mount(mount: dict[str, Any]) -> dict[str, Any]:
    """A ``--mount``: every empty field is left out, but an option object that was given stays."""
    data = without_empty(mount)
    for name in ("BindOptions", "VolumeOptions", "TmpfsOptions"):
        if mount[name] is not None:
            data[name] = without_empty(mount[name])
    return data


def mount_point(mount: MountPoint) -> dict[str, Any]:
    return without_empty(
        {
            "Type": mount.type,
            "Name": mount.name,
            "Source": mount.source,
            "Destination": mount.destination,
            "Driver": mount.driver,
            "Mode": mount.mode,
            "RW": mount.rw,
            "Propagation": mount.propagation,
        },
        "Name",
        "Driver",
    )


def own_files(container: Container) -> dict[str, str]:
    """The paths of the container's own resolv.conf, hostname and hosts: beside its log (``minid.layout``)."""
    folder = container.log_path.rpartition("/")[0] if container.state.started_at_ns else ""
    return {
        key: f"{folder}/{name}" if folder else ""
        for key, name in (
            ("ResolvConfPath", "resolv.conf"),
            ("HostnamePath", "hostname"),
            ("HostsPath", "hosts"),
        )
    }
