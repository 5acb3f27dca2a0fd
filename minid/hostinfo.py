"""The machine and the engine as facts, read when asked: what ``/info`` and ``/version`` tell."""

import os
import platform
import socket
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minid import __version__

GO_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "i386": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


@dataclass(frozen=True, slots=True)
class HostInfo:
    """``architecture`` is the kernel's name for it (x86_64), ``go_architecture`` Docker's (amd64)."""

    id: str
    name: str
    data_root: str
    driver_name: str
    driver_status: tuple[tuple[str, str], ...]
    server_version: str
    git_commit: str
    build_time: str
    language_version: str
    kernel_version: str
    operating_system: str
    os_version: str
    os_type: str
    architecture: str
    go_architecture: str
    cpus: int
    memory_bytes: int
    cgroup_version: int
    memory_limit: bool
    swap_limit: bool
    cpu_cfs: bool
    cpu_shares: bool
    cpuset: bool
    pids_limit: bool
    oom_kill_disable: bool
    ipv4_forwarding: bool
    bridge_nf_iptables: bool
    bridge_nf_ip6tables: bool
    debug: bool
    open_files: int
    threads: int
    security_options: tuple[str, ...]
    insecure_registries: tuple[str, ...]
    registry_mirrors: tuple[str, ...]
    labels: tuple[str, ...]
    http_proxy: str
    https_proxy: str
    no_proxy: str
    warnings: tuple[str, ...]


def gather(
    *,
    engine_id: str,
    data_root: Path,
    driver_name: str,
    driver_status: tuple[tuple[str, str], ...] = (),
    insecure_registries: tuple[str, ...] = (),
    registry_mirrors: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
    debug: bool = False,
    warnings: tuple[str, ...] = (),
    root: Path = Path("/"),
) -> HostInfo:
    """The facts as they are now. ``root``: where /proc, /sys and /etc are looked for (tests).

    Reads a dozen small files; never fails because of one that is missing.
    """
    uname = platform.uname()
    release = os_release(_text(root / "etc/os-release") or _text(root / "usr/lib/os-release"))
    controllers = cgroup_controllers(root)
    version = 2 if (root / "sys/fs/cgroup/cgroup.controllers").exists() else 1
    memory = root / "sys/fs/cgroup/memory"
    return HostInfo(
        id=engine_id,
        name=socket.gethostname(),
        data_root=str(data_root),
        driver_name=driver_name,
        driver_status=driver_status,
        server_version=__version__,
        git_commit="",
        build_time="",
        language_version=f"python{platform.python_version()}",
        kernel_version=uname.release,
        operating_system=release.get("PRETTY_NAME", "Linux"),
        os_version=release.get("VERSION_ID", ""),
        os_type=sys.platform,
        architecture=uname.machine,
        go_architecture=GO_ARCHITECTURES.get(uname.machine, uname.machine),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=memory_total(_text(root / "proc/meminfo")),
        cgroup_version=version,
        memory_limit="memory" in controllers,
        swap_limit=version == 2 or (memory / "memory.memsw.limit_in_bytes").exists(),
        cpu_cfs="cpu" in controllers,
        cpu_shares="cpu" in controllers,
        cpuset="cpuset" in controllers,
        pids_limit="pids" in controllers,
        oom_kill_disable=version == 1 and "memory" in controllers,
        ipv4_forwarding=_is_one(root / "proc/sys/net/ipv4/ip_forward"),
        bridge_nf_iptables=_is_one(root / "proc/sys/net/bridge/bridge-nf-call-iptables"),
        bridge_nf_ip6tables=_is_one(root / "proc/sys/net/bridge/bridge-nf-call-ip6tables"),
        debug=debug,
        open_files=_count(root / "proc/self/fd"),
        threads=_count(root / "proc/self/task"),
        security_options=("name=seccomp,profile=builtin", *(("name=cgroupns",) if version == 2 else ())),
        insecure_registries=insecure_registries,
        registry_mirrors=registry_mirrors,
        labels=labels,
        http_proxy=_proxy("HTTP_PROXY"),
        https_proxy=_proxy("HTTPS_PROXY"),
        no_proxy=_proxy("NO_PROXY"),
        warnings=warnings,
    )


def ensure_engine_id(data_root: Path) -> str:
    """The identity of the engine with this data root: made once, kept in ``<data_root>/engine-id``."""
    path = data_root / "engine-id"
    if known := _text(path).strip():
        return known
    made = str(uuid.uuid4())
    aside = path.with_suffix(".new")
    aside.write_text(made + "\n")
    aside.replace(path)
    return made


def os_release(text: str) -> Mapping[str, str]:
    """``os-release(5)``: shell-like assignments, quotes taken off."""
    values = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            values[name] = value[1:-1] if quoted else value
    return values


def memory_total(meminfo: str) -> int:
    """``MemTotal`` of ``proc(5)`` /proc/meminfo in bytes; 0 if it is not there."""
    for line in meminfo.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "MemTotal:":
            return int(words[1]) * 1024
    return 0


def cgroup_controllers(root: Path = Path("/")) -> frozenset[str]:
    """The controllers that the kernel has enabled, of either version (``cgroups(7)`` /proc/cgroups)."""
    unified = _text(root / "sys/fs/cgroup/cgroup.controllers").split()
    rows = [line.split() for line in _text(root / "proc/cgroups").splitlines() if not line.startswith("#")]
    return frozenset(unified) or frozenset(row[0] for row in rows if len(row) == 4 and row[3] == "1")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _is_one(path: Path) -> bool:
    return _text(path).strip() == "1"


def _count(path: Path) -> int:
    try:
        return len(os.listdir(path))
    except OSError:
        return 0


def _proxy(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower(), "")
