"""Containers in Docker's JSON: create requests, ``docker ps``, ``docker inspect``.

Shapes: ``Engine API v1.44 § ContainerSummary, ContainerInspect``; what is ``null`` and what is empty was
compared with a running dockerd.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from minid.api.schema.duration import human_duration
from minid.api.schema.naming import null_empty, read, timestamp, without_empty, write
from minid.containers.model import (
    Container,
    ContainerConfig,
    CreateRequest,
    HostConfig,
    MountPoint,
    NetworkingConfig,
    Resources,
    RestartPolicy,
    State,
)
from minid.errors import InvalidParameter
from minid.images.rootfs import Rootfs
from minid.network.fixed import network_of

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


# --- answers


def summary(
    container: Container,
    *,
    image: str,
    now_ns: int,
    network_ids: Mapping[str, str],
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
        "Ports": [],
        "Labels": dict(container.config.labels),
        "State": container.state.status,
        "Status": status_text(container.state, now_ns),
        "HostConfig": {"NetworkMode": container.host_config.network_mode},
        "NetworkSettings": {"Networks": networks(container, network_ids)},
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
    network_ids: Mapping[str, str],
    size: tuple[int, int] | None,
) -> dict[str, Any]:
    """``GET /containers/{id}/json``. ``paths``: ResolvConfPath, HostnamePath and HostsPath."""
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
        "HostConfig": host_config(container.host_config),
        "GraphDriver": graph_driver,
        "Mounts": [mount_point(mount) for mount in container.mounts],
        "Config": config(container.config),
        "NetworkSettings": network_settings(container, network_ids),
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
    return {
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


def status_text(state: State, now_ns: int) -> str:
    """``"Up 5 minutes"``: what ``docker ps`` shows under STATUS."""

    def since(time_ns: int) -> str:
        return human_duration((now_ns - time_ns) / 1e9)

    match state.status:
        case "running":
            return f"Up {since(state.started_at_ns)}"
        case "paused":
            return f"Up {since(state.started_at_ns)} (Paused)"
        case "restarting":
            return f"Restarting ({state.exit_code}) {since(state.finished_at_ns)} ago"
        case "removing":
            return "Removal In Progress"
        case "dead":
            return "Dead"
    if not state.started_at_ns:
        return "Created"
    return f"Exited ({state.exit_code}) {since(state.finished_at_ns)} ago" if state.finished_at_ns else ""


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


def host_config(config: HostConfig) -> dict[str, Any]:
    flat = write(config)
    resources = {name: flat.pop(name) for name in RESOURCE_NAMES}
    init, tail = flat.pop("Init"), {name: flat.pop(name) for name in ("MaskedPaths", "ReadonlyPaths")}
    data = without_empty(flat, "Annotations", "Mounts", "Runtime", "StorageOpt", "Sysctls", "Tmpfs")
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


# --- network settings


def endpoint_id(container: Container, network: str) -> str:
    """An endpoint lives as long as its container runs."""
    if not container.state.running:
        return ""
    return hashlib.sha256(
        f"endpoint {container.id} {network} {container.state.started_at_ns}".encode()
    ).hexdigest()


def networks(container: Container, network_ids: Mapping[str, str]) -> dict[str, Any]:
    names = list(container.networking.endpoints_config) or [network_of(container.host_config.network_mode)]
    return {name: _endpoint(container, name, network_ids) for name in names if name}


def _endpoint(container: Container, network: str, network_ids: Mapping[str, str]) -> dict[str, Any]:
    wanted = container.networking.endpoints_config.get(network)
    wanted = wanted if isinstance(wanted, dict) else {}
    return {
        "IPAMConfig": wanted.get("IPAMConfig"),
        "Links": wanted.get("Links"),
        "Aliases": wanted.get("Aliases"),
        "MacAddress": "",
        "NetworkID": network_ids.get(network, ""),
        "EndpointID": endpoint_id(container, network) if network in network_ids else "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DriverOpts": wanted.get("DriverOpts"),
        "DNSNames": None,
    }


def network_settings(container: Container, network_ids: Mapping[str, str]) -> dict[str, Any]:
    running = container.state.running
    sandbox = hashlib.sha256(f"sandbox {container.id}".encode()).hexdigest() if running else ""
    return {
        "Bridge": "",
        "SandboxID": sandbox,
        "SandboxKey": f"/proc/{container.state.pid}/ns/net" if running else "",
        "Ports": {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": networks(container, network_ids),
    }


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
