"""What a container is asked to be and what it is: immutable records, no behaviour.

The fields are those of ``Engine API v1.44 POST /containers/create`` (``ContainerConfig`` and
``HostConfig``) in snake
case with the same units, so that ``minid.api.schema`` can map them by rule; units that the API leaves
implicit are in the
comments. ``None`` means "not given"; where Docker tells ``null`` from an empty list, so do we.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_MAPPING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Healthcheck:
    test: tuple[str, ...] = ()
    interval: int = 0  # nanoseconds, as are the next three
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """The portable half: what an image's config may preset."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: Mapping[str, Any] = field(default_factory=dict)  # {"80/tcp": {}}
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    image: str = ""  # as the user wrote it
    volumes: Mapping[str, Any] = field(default_factory=dict)  # {"/data": {}}
    working_dir: str = ""
    entrypoint: tuple[str, ...] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: tuple[str, ...] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    stop_timeout: int | None = None  # seconds
    shell: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Device:
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class Ulimit:
    name: str = ""
    soft: int = 0
    hard: int = 0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    name: str = ""  # "", no, always, unless-stopped, on-failure
    maximum_retry_count: int = 0


@dataclass(frozen=True, slots=True)
class LogConfig:
    type: str = ""
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BindOptions:
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


@dataclass(frozen=True, slots=True)
class DriverConfig:
    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    no_copy: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    driver_config: DriverConfig | None = None
    subpath: str = ""


@dataclass(frozen=True, slots=True)
class TmpfsOptions:
    size_bytes: int = 0
    mode: int = 0


@dataclass(frozen=True, slots=True)
class Mount:
    """A ``--mount``: ``type`` bind|volume|tmpfs."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


@dataclass(frozen=True, slots=True)
class PortBinding:
    host_ip: str = ""
    host_port: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """The limits; the API keeps them flat inside ``HostConfig`` (and ``POST /containers/{id}/update``)."""

    cpu_shares: int = 0
    memory: int = 0  # bytes
    cgroup_parent: str = ""
    nano_cpus: int = 0  # 1e-9 cpus
    blkio_weight: int = 0
    cpu_period: int = 0  # microseconds
    cpu_quota: int = 0  # microseconds
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: tuple[Device, ...] | None = None
    device_cgroup_rules: tuple[str, ...] | None = None
    device_requests: tuple[Any, ...] | None = None
    memory_reservation: int = 0  # bytes
    memory_swap: int = 0  # bytes, memory plus swap; -1 unlimited
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: tuple[Ulimit, ...] | None = None


@dataclass(frozen=True, slots=True)
class HostConfig(Resources):
    """The half that belongs to this host."""

    binds: tuple[str, ...] | None = None  # "src:dst[:options]"
    container_id_file: str = ""
    log_config: LogConfig = field(default_factory=LogConfig)
    network_mode: str = "default"
    port_bindings: Mapping[str, tuple[PortBinding, ...] | None] = field(default_factory=dict)
    restart_policy: RestartPolicy = field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: tuple[str, ...] | None = None
    mounts: tuple[Mount, ...] | None = None
    console_size: tuple[int, ...] = (0, 0)  # height, width in characters
    annotations: Mapping[str, str] = field(default_factory=dict)
    cap_add: tuple[str, ...] | None = None
    cap_drop: tuple[str, ...] | None = None
    cgroupns_mode: str = ""
    dns: tuple[str, ...] | None = None
    dns_options: tuple[str, ...] | None = None
    dns_search: tuple[str, ...] | None = None
    extra_hosts: tuple[str, ...] | None = None
    group_add: tuple[str, ...] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: tuple[str, ...] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: tuple[str, ...] | None = None
    storage_opt: Mapping[str, str] = field(default_factory=dict)
    tmpfs: Mapping[str, str] = field(default_factory=dict)  # {"/run": "size=64m"}
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: int = 0  # bytes; 0 means the default, 64 MiB
    sysctls: Mapping[str, str] = field(default_factory=dict)
    runtime: str = ""
    isolation: str = ""
    health_on_failure: str = ""  # none, kill, restart, stop; not in Docker's API
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    init: bool | None = None


@dataclass(frozen=True, slots=True)
class NetworkingConfig:
    endpoints_config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HealthResult:
    """One health check: ``exit_code`` -1 if it could not be run or took too long."""

    start_ns: int = 0  # since the epoch
    end_ns: int = 0
    exit_code: int = 0
    output: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """``status``: starting, healthy, unhealthy. ``log``: the last results, the oldest first."""

    status: str = "starting"
    failing_streak: int = 0
    log: tuple[HealthResult, ...] = ()
    was_healthy: bool = False  # in this run


@dataclass(frozen=True, slots=True)
class State:
    """Where a container is in its life. ``status``: created, running, paused, restarting, removing, exited,
    dead.
    """

    status: str = "created"
    pid: int = 0
    pid_start_ticks: int = 0  # field 22 of proc(5) /proc/PID/stat: a pid is only trusted together with it
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at_ns: int = 0  # since the epoch; 0 means never
    finished_at_ns: int = 0
    restart_count: int = 0
    stopped_by_user: bool = False
    health: Health | None = None  # None: there is no health check, or no first start yet
    ended_by_health: str = ""  # what was done to this run because it was unhealthy: kill, restart, stop

    @property
    def running(self) -> bool:
        return self.status in ("running", "paused")


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One mount as it was resolved at creation (what inspect shows under ``Mounts``)."""

    type: str  # bind, volume, tmpfs
    source: str
    destination: str
    name: str = ""  # of the volume
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as it is now. A new record replaces the old one at every change; readers never wait."""

    id: str  # 64 hex digits
    name: str  # without the slash
    created_ns: int
    image_id: str  # sha256:…
    platform: str  # "linux"
    config: ContainerConfig
    host_config: HostConfig
    networking: NetworkingConfig
    state: State
    path: str  # the command that runs, and its arguments: inspect's Path and Args
    args: tuple[str, ...]
    mounts: tuple[MountPoint, ...]
    storage_driver: str
    log_path: str
    diff_ids: tuple[
        str, ...
    ] = ()  # the image's layers, base first: the image's names may go, these are needed
    exec_ids: tuple[str, ...] = ()
    hidden: bool = (
        False  # a step of a build: it is not listed, makes no events and does not outlive the daemon
    )


@dataclass(frozen=True, slots=True)
class CreateRequest:
    name: str  # "" lets the daemon choose
    config: ContainerConfig
    host_config: HostConfig
    networking: NetworkingConfig
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Created:
    id: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExecConfig:
    """``Engine API v1.44 POST /containers/{id}/exec``."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    console_size: tuple[int, ...] | None = None
    detach_keys: str = ""
    tty: bool = False
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    privileged: bool = False
    user: str = ""
    working_dir: str = ""


@dataclass(frozen=True, slots=True)
class Exec:
    """An exec as it is now."""

    id: str
    container_id: str
    config: ExecConfig
    running: bool = False
    exit_code: int | None = None
    pid: int = 0
    can_remove: bool = False


@dataclass(frozen=True, slots=True)
class LogOptions:
    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    since_ns: int = 0
    until_ns: int = 0
    tail: int | None = None  # lines; None means all


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line (or the part of a long one), with its newline if it had one."""

    stream: str  # stdout, stderr
    time_ns: int
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)  # of --log-opt labels and env


@dataclass(frozen=True, slots=True)
class AttachOptions:
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    stream: bool = True
    logs: bool = False
    detach_keys: str = ""  # "" means ctrl-p,ctrl-q
    framed: bool = True  # without a terminal: each piece says of which stream it is


@dataclass(frozen=True, slots=True)
class Client:
    """The client's end of an upgraded connection, handed to the container's shim.

    ``fd`` is a stream socket that now belongs to the callee, which closes it; ``initial`` is what the
    client had sent
    behind its request already.
    """

    fd: int
    initial: bytes = b""

    def close(self) -> None:
        """For a callee that has no use for it."""
        os.close(self.fd)

    def dup(self) -> int:
        """A second descriptor of the connection."""
        return os.dup(self.fd)


@dataclass(frozen=True, slots=True)
class WaitResult:
    exit_code: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class ListFilter:
    """``GET /containers/json``; ``filters`` maps a key to the values that were given."""

    all: bool = False
    limit: int = 0
    size: bool = False
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
