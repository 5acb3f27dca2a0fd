"""A container's ``config.json``: the OCI runtime spec document that dockerd would write for it. Pure.

Everything that has to be looked up on the machine comes in as data: ``Host``, device nodes
(``devices.gather``), the paths of namespaces to join, the sources of the files under ``/etc``. The user is
left as a name, because only the runtime sees the container's own ``/etc/passwd``: ``process.user.username``
holds ``USER`` as it was given, the annotation ``minid.group-add`` the additional groups, comma separated.

Sources: OCI runtime-spec config.md, config-linux.md; what dockerd 20.10 and 28 write.
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from minid.containers import capabilities, devices, resources, security
from minid.containers.devices import DeviceNode
from minid.containers.host import Host
from minid.containers.model import Container, ExecConfig, HostConfig, MountPoint
from minid.containers.mounts import clean, merge_tmpfs_options, tmpfs_options

OCI_VERSION = "1.1.0"
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GROUPS_ANNOTATION = "minid.group-add"
INIT_ANNOTATION = "minid.init"
INIT_DESTINATION = "/sbin/docker-init"

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# A fresh network namespace belongs to the container alone, so low ports and ping need no capability in it.
NETWORK_SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}

Spec = dict[str, Any]


def build(
    container: Container,
    *,
    host: Host,
    rootfs_path: str,
    etc_files: Mapping[str, str],
    cgroup_path: str,
    nodes: Sequence[DeviceNode] = (),
    join: Mapping[str, str] | None = None,
    shm_source: str = "",
    seccomp: Mapping[str, Any] | None = None,
    init_path: str = "",
    linked: Iterable[str] = (),
) -> Spec:
    """The runtime spec of ``container``, whose config is merged and has its defaults (``merge``).

    ``etc_files``: destination → source of ``/etc/resolv.conf``, ``/etc/hostname``, ``/etc/hosts``.
    ``cgroup_path``: becomes ``linux.cgroupsPath``. ``nodes``: from ``devices.gather``. ``join``: namespace
    type of the runtime spec ("network", "pid", "ipc", "uts", "cgroup", "mount") → path of the namespace to
    enter, such as ``/proc/7/ns/net``; it goes before what the mode says. ``shm_source``: what to bind at
    ``/dev/shm`` for ``ipc`` "container:ID" (for "host" it is ``/dev/shm`` itself). ``seccomp``: the ready
    ``linux.seccomp`` object, None for unconfined. ``init_path``: a static init on the host that ``--init``
    puts in front of the command; without it the runtime is asked by the annotation ``minid.init`` to be that
    init itself. ``linked``: variables of ``--link``.
    """
    config, host_config = container.config, container.host_config
    options = security.parse(host_config)
    granted, _ = capabilities.resolve(host_config, host.capabilities)
    node_list = tuple(nodes)
    args = [container.path, *container.args]
    mounts = _mounts(container, host, etc_files, shm_source, options.writable_cgroups)
    annotations = dict(host_config.annotations)
    if host_config.group_add:
        annotations[GROUPS_ANNOTATION] = ",".join(host_config.group_add)
    if host_config.init and not host_config.pid_mode:
        if init_path:
            args = [INIT_DESTINATION, "--", *args]
            bind = {"destination": INIT_DESTINATION, "type": "bind", "source": init_path}
            mounts.append(bind | {"options": ["bind", "ro"]})
        else:
            annotations[INIT_ANNOTATION] = "true"
    process: Spec = {
        "user": _user(config.user),
        "args": args,
        "env": environment(container, linked=linked),
        "cwd": clean(config.working_dir or "/"),
        "capabilities": {kind: list(granted) for kind in ("bounding", "effective", "permitted")},
        "noNewPrivileges": options.no_new_privileges,
        "oomScoreAdj": host_config.oom_score_adj,
    }
    if config.tty:
        process["terminal"] = True
        height, width = (*host_config.console_size, 0, 0)[:2]
        if height and width:
            process["consoleSize"] = {"height": height, "width": width}
    if limits := resources.rlimits(host_config.ulimits):
        process["rlimits"] = limits
    if options.apparmor and options.apparmor != "unconfined":
        process["apparmorProfile"] = options.apparmor
    linux: Spec = {
        "sysctl": _sysctls(container),
        "resources": resources.section(host_config, devices.rules(host_config, node_list), host),
        "cgroupsPath": cgroup_path,
        "namespaces": _namespaces(host_config, join or {}),
        "devices": devices.section(node_list),
    }
    if seccomp is not None:
        linux["seccomp"] = dict(seccomp)
    protected = with_protected_paths(host_config)
    masked, readonly = list(protected.masked_paths or ()), list(protected.readonly_paths or ())
    if masked:
        linux["maskedPaths"] = masked
    if readonly:
        linux["readonlyPaths"] = readonly
    if propagation := _rootfs_propagation(container.mounts):
        linux["rootfsPropagation"] = propagation
    spec: Spec = {
        "ociVersion": OCI_VERSION,
        "process": process,
        "root": {"path": rootfs_path, "readonly": host_config.readonly_rootfs},
        "mounts": mounts,
        "linux": linux,
    }
    if host_config.uts_mode != "host":
        spec["hostname"] = config.hostname
    if annotations:
        spec["annotations"] = annotations
    return spec


def exec_process(
    container: Container,
    exec_config: ExecConfig,
    *,
    host: Host,
    console_size: Sequence[int] = (),
    linked: Iterable[str] = (),
) -> Spec:
    """The ``process`` of an exec in ``container``: its environment, limits, capabilities; the exec's own
    user, cwd, env.

    ``--privileged`` gives every capability that the daemon has. The caller adds the annotation of the
    additional groups itself (they are the container's).
    """
    config, host_config = container.config, container.host_config
    privileged = host_config.privileged or exec_config.privileged
    wanted = capabilities.ALL if privileged else capabilities.wanted(host_config)
    granted = [name for name in wanted if name in host.capabilities]
    process: Spec = {
        "terminal": exec_config.tty,
        "user": _user(exec_config.user or config.user),
        "args": list(exec_config.cmd),
        "env": replace_env(environment(container, tty=exec_config.tty, linked=linked), exec_config.env),
        "cwd": clean(exec_config.working_dir or config.working_dir or "/"),
        "capabilities": {kind: list(granted) for kind in ("bounding", "effective", "permitted")},
        "noNewPrivileges": security.parse(host_config).no_new_privileges,
        "oomScoreAdj": host_config.oom_score_adj,
    }
    size = console_size or exec_config.console_size or ()
    if exec_config.tty and len(size) == 2 and all(size):
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    if limits := resources.rlimits(host_config.ulimits):
        process["rlimits"] = limits
    return process


def _user(user: str) -> Spec:
    """``process.user`` before the runtime has seen the container's passwd; root needs no name."""
    return {"uid": 0, "gid": 0, "username": user} if user else {"uid": 0, "gid": 0}


def environment(container: Container, *, tty: bool | None = None, linked: Iterable[str] = ()) -> list[str]:
    """PATH, HOSTNAME, TERM (with a terminal), those of links, each as the user has it, then the other
    variables. HOME is the runtime's.
    """
    config = container.config
    defaults = [DEFAULT_PATH, f"HOSTNAME={config.hostname}"]
    if config.tty if tty is None else tty:
        defaults.append("TERM=xterm")
    defaults += linked
    return replace_env(defaults, config.env)


def replace_env(base: Iterable[str], changes: Iterable[str]) -> list[str]:
    """``base`` with ``changes`` put in place by name or added; ``NAME`` without ``=`` removes."""
    result = {item.partition("=")[0]: item for item in base}
    for item in changes:
        name, separator, _ = item.partition("=")
        if separator:
            result[name] = item
        else:
            result.pop(name, None)
    return list(result.values())


def with_protected_paths(host_config: HostConfig) -> HostConfig:
    """``host_config`` with the masked and read-only paths it will get; an empty list from the user
    (``systempaths=unconfined``) means none.
    """
    masked, readonly = host_config.masked_paths, host_config.readonly_paths
    if host_config.privileged:
        masked, readonly = (), ()
    return replace(
        host_config,
        masked_paths=MASKED_PATHS if masked is None else masked,
        readonly_paths=READONLY_PATHS if readonly is None else readonly,
    )


def _namespaces(host_config: HostConfig, join: Mapping[str, str]) -> list[Spec]:
    modes = {
        "mount": "",
        "network": host_config.network_mode,
        "uts": host_config.uts_mode,
        "pid": host_config.pid_mode,
        "ipc": host_config.ipc_mode,
        "cgroup": host_config.cgroupns_mode,
    }
    result: list[Spec] = []
    for kind, mode in modes.items():
        if kind in join:
            result.append({"type": kind, "path": join[kind]})
        elif mode != "host":
            result.append({"type": kind})
    return result


def _sysctls(container: Container) -> dict[str, str]:
    host_config = container.host_config
    result = dict(host_config.sysctls)
    if host_config.network_mode != "host" and not host_config.network_mode.startswith("container:"):
        result = NETWORK_SYSCTLS | result
    # The spec's own "domainname" is newer than the runtimes of Debian 12.
    if container.config.domainname and host_config.uts_mode != "host":
        result.setdefault("kernel.domainname", container.config.domainname)
    return result


def _default_mounts(host_config: HostConfig, writable_cgroups: bool) -> list[Spec]:
    quiet = ["nosuid", "noexec", "nodev"]
    readonly = [] if host_config.privileged else ["ro"]
    cgroup_readonly = [] if writable_cgroups else readonly
    rows: list[tuple[str, str, str, list[str]]] = [
        ("/proc", "proc", "proc", quiet),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        ("/sys", "sysfs", "sysfs", quiet + readonly),
        ("/sys/fs/cgroup", "cgroup", "cgroup", cgroup_readonly + quiet),
        ("/dev/mqueue", "mqueue", "mqueue", quiet),
    ]
    if host_config.ipc_mode in ("", "private", "shareable"):
        size = host_config.shm_size or 64 << 20
        rows.append(("/dev/shm", "tmpfs", "shm", [*quiet, "mode=1777", f"size={size}"]))
    return [
        {"destination": destination, "type": fstype, "source": source, "options": list(options)}
        for destination, fstype, source, options in rows
    ]


def _mounts(
    container: Container, host: Host, etc_files: Mapping[str, str], shm_source: str, writable_cgroups: bool
) -> list[Spec]:
    host_config = container.host_config
    users = _user_mounts(container, host)
    taken = {mount["destination"] for mount in users}
    kept = [
        mount
        for mount in _default_mounts(host_config, writable_cgroups)
        if mount["destination"] not in taken
        # Whoever mounts all of /dev wants to see what is there.
        and not ("/dev" in taken and mount["destination"].startswith("/dev/"))
    ]
    bind = ["rbind", "ro", "rprivate"] if host_config.readonly_rootfs else ["rbind", "rprivate"]
    files = [
        {"destination": destination, "type": "bind", "source": source, "options": list(bind)}
        for destination, source in etc_files.items()
        if destination not in taken
    ]
    shm: list[Spec] = []
    source = "/dev/shm" if host_config.ipc_mode == "host" else shm_source
    if source and "/dev/shm" not in taken and (host_config.ipc_mode not in ("", "private", "none")):
        kept = [mount for mount in kept if mount["destination"] != "/dev/shm"]
        shm.append(
            {"destination": "/dev/shm", "type": "bind", "source": source, "options": ["rbind", "rprivate"]}
        )
    return kept + users + files + shm


def _user_mounts(container: Container, host: Host) -> list[Spec]:
    """The mounts of ``-v``, ``--mount``, ``--tmpfs`` and volumes, parents before children."""
    given = {clean(mount.target): mount for mount in container.host_config.mounts or ()}
    result: list[Spec] = []
    for point in container.mounts:
        destination = clean(point.destination)
        mount = given.get(destination)
        if point.type == "tmpfs":
            options = merge_tmpfs_options([*_TMPFS, *(tmpfs_options(mount) if mount else [])])
            result.append(
                {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}
            )
            continue
        bind = mount.bind_options if mount is not None else None
        options = ["bind" if bind and bind.non_recursive else "rbind"]
        if not point.rw:
            shallow = bind is not None and (bind.read_only_non_recursive or bind.non_recursive)
            options.append("rro" if host.recursive_read_only and not shallow else "ro")
        if point.propagation:
            options.append(point.propagation)
        result.append(
            {"destination": destination, "type": "bind", "source": point.source, "options": options}
        )
    for target, text in container.host_config.tmpfs.items():
        options = merge_tmpfs_options([*_TMPFS, *(option for option in text.split(",") if option)])
        result.append({"destination": clean(target), "type": "tmpfs", "source": "tmpfs", "options": options})
    return sorted(result, key=lambda mount: (_depth(mount["destination"]), mount["destination"]))


_TMPFS = ("noexec", "nosuid", "nodev", "rprivate")


def _depth(path: str) -> int:
    return 0 if path == "/" else path.count(posixpath.sep)


def _rootfs_propagation(points: Iterable[MountPoint]) -> str:
    """A bind that shares mounts with the host needs a rootfs that lets them through."""
    asked = {point.propagation for point in points}
    if asked & {"shared", "rshared"}:
        return "shared"
    return "rslave" if asked & {"slave", "rslave"} else ""
