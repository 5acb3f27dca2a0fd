"""The judgement: from ``Facts`` to a table of findings, each with what to do about it. Pure.

What fails keeps the daemon or the usual container from working; what warns takes something away or will be in the way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from minid.doctor.facts import Facts

OK, WARN, FAIL = "ok", "warn", "fail"

# What the daemon and every container cannot do without (capabilities(7)).
NEEDED = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD", "CAP_NET_ADMIN", "CAP_SETGID",
    "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT",
)  # fmt: skip
USUAL = (
    "CAP_FSETID",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
    "CAP_SYS_RESOURCE",
)
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
CALLS = {
    "openat2": (FAIL, "5.6", "paths in containers cannot be resolved safely"),
    "pidfd_open": (FAIL, "5.3", "processes of containers cannot be held on to"),
    "mount_setattr": (WARN, "5.12", "`-v A:B:ro` is not read-only below mounts inside of A"),
}
CONTROLLERS = {
    "memory": "--memory",
    "cpu": "--cpus, --cpu-shares",
    "pids": "--pids-limit",
    "cpuset": "--cpuset-cpus",
    "io": "--device-read-bps and the like",
}
LEAST_RELEASE = (5, 10)
RELEASED_S = 1_735_689_600  # 2025-01-01: no clock that is right shows less
FAR_S = 4_102_444_800  # 2100-01-01
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """``state`` is ok, warn or fail; ``advice`` is "" where there is nothing to do."""

    name: str
    state: str
    what: str
    advice: str = ""


def findings(facts: Facts) -> tuple[Finding, ...]:
    """One finding or more on each subject, in a fixed order."""
    return tuple(finding for check in _CHECKS for finding in check(facts))


def shown(table: tuple[Finding, ...]) -> str:
    """Lines for people: `warn  clock   …` and below it what to do; with a last line that counts."""
    width = max((len(one.name) for one in table), default=0)
    lines = []
    for one in table:
        lines.append(f"{one.state:<4}  {one.name:<{width}}  {one.what}")
        if one.advice:
            lines.append(f"{'':<{width + 8}}what to do: {one.advice}")
    failed, warned = (sum(one.state == state for one in table) for state in (FAIL, WARN))
    lines.append(f"{len(table)} checks: {failed} failed, {warned} to look at")
    return "\n".join(lines)


def _kernel(facts: Facts) -> Iterator[Finding]:
    if _numbers(facts.release) < LEAST_RELEASE:
        yield Finding(
            "kernel", FAIL, f"Linux {facts.release}: minid needs 5.10 or newer", "upgrade the kernel"
        )
    else:
        yield Finding("kernel", OK, f"Linux {facts.release}")


def _numbers(release: str) -> tuple[int, ...]:
    parts = release.split("-")[0].split(".")[:2]
    return tuple(int(part) for part in parts if part.isdecimal())


def _calls(facts: Facts) -> Iterator[Finding]:
    for name, (state, since, lost) in CALLS.items():
        if name not in facts.missing_calls:
            continue
        since_numbers = _numbers(since)
        if _numbers(facts.release) < since_numbers:
            advice = f"use Linux {since} or newer"
        else:
            advice = "this kernel has it: let the seccomp filter around this machine or container allow it"
        yield Finding(name, state, f"the system call does not work: {lost}", advice)
    if not facts.missing_calls:
        yield Finding("system calls", OK, ", ".join(sorted(CALLS)))


def _namespaces(facts: Facts) -> Iterator[Finding]:
    missing = [name for name in NAMESPACES if name not in facts.namespaces]
    if missing:
        config = " ".join(f"CONFIG_{_CONFIG[name]}" for name in missing)
        yield Finding("namespaces", FAIL, f"missing: {', '.join(missing)}", f"use a kernel with {config}")
    else:
        yield Finding("namespaces", OK, ", ".join(NAMESPACES))


_CONFIG = {
    "cgroup": "CGROUPS", "ipc": "IPC_NS", "mnt": "NAMESPACES", "net": "NET_NS", "pid": "PID_NS", "uts": "UTS_NS"
}  # fmt: skip


def _seccomp(facts: Facts) -> Iterator[Finding]:
    if facts.seccomp:
        yield Finding("seccomp", OK, "system calls of containers are filtered")
    else:
        yield Finding(
            "seccomp",
            FAIL,
            "the kernel has no seccomp filters: containers start only with --security-opt seccomp=unconfined",
            "use a kernel with CONFIG_SECCOMP_FILTER, or set seccomp-profile: unconfined knowing what that means",
        )


def _cgroups(facts: Facts) -> Iterator[Finding]:
    if not facts.cgroup_version:
        yield Finding(
            "cgroups",
            FAIL,
            "no hierarchy is mounted",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup (systemd does)",
        )
        return
    missing = [
        name
        for name in CONTROLLERS
        if (name if facts.cgroup_version == 2 or name != "io" else "blkio") not in facts.controllers
    ]
    told = f"version {facts.cgroup_version}"
    if missing:
        flags = "; ".join(CONTROLLERS[name] for name in missing)
        advice = (
            "boot with cgroup_enable=memory" if "memory" in missing else "let the controllers be delegated"
        )
        yield Finding("cgroups", WARN, f"{told} without {', '.join(missing)}: no effect of {flags}", advice)
    else:
        yield Finding("cgroups", OK, f"{told} with {', '.join(sorted(facts.controllers))}")
    if not facts.swap_limit and "memory" not in missing:
        yield Finding(
            "swap limit", WARN, "--memory-swap has no effect", "boot with swapaccount=1, or use cgroup v2"
        )


def _storage(facts: Facts) -> Iterator[Finding]:
    root = facts.data_root
    where = f"{root.path} on {root.type} at {root.mount}"
    elsewhere = "choose another directory with --data-root"
    if root.newer:
        yield Finding("data root", FAIL, root.newer, "see there")
    elif root.unfit:
        yield Finding("data root", FAIL, f"{where}, {root.unfit}", elsewhere)
    elif root.nosuid:
        advice = f"mount -o remount,suid {root.mount}, and in /etc/fstab"
        yield Finding(
            "data root", WARN, f"{where}, mounted nosuid: su and ping may fail in containers", advice
        )
    else:
        yield Finding("data root", OK, where)
    yield _room("disk space", root.free_bytes, f"{root.free_bytes / GIB:.1f} GiB free", GIB // 4, 2 * GIB)
    if root.inodes:
        share = f"{root.free_inodes} of {root.inodes} inodes free"
        yield _room("inodes", root.free_inodes, share, 2000, 100_000)
    yield from _driver(facts)


def _room(name: str, free: int, told: str, least: int, little: int) -> Finding:
    if free >= little:
        return Finding(name, OK, told)
    advice = "minictl system prune, minictl image gc --dry-run, or another --data-root"
    return Finding(name, FAIL if free < least else WARN, told, advice)


def _driver(facts: Facts) -> Iterator[Finding]:
    storage = facts.storage
    if storage is None:
        yield Finding("storage driver", WARN, "not tried: only root can mount", "look again as root")
        return
    refused = "; ".join(f"{name}: {reason}" for name, reason in storage.refused.items())
    because = {
        "configured": "as configured",
        "in use": "it has the layers that are here",
        "first": "the first that works",
    }.get(storage.because, storage.because)
    if not storage.driver:
        yield Finding(
            "storage driver", FAIL, f"none works: {refused}", "use another --storage-driver or --data-root"
        )
    elif storage.driver == "vfs":
        advice = "modprobe overlay, or a data root on ext4, xfs or btrfs" if refused else ""
        told = f"vfs ({because}{f'; {refused}' if refused else ''}): every container copies its whole image"
        yield Finding(
            "storage driver", WARN, told, advice or "set storage-driver: overlay2 for a new data root"
        )
    else:
        told = f"{storage.driver}, {because}"
        yield Finding("storage driver", OK, f"{told} (not {refused})" if refused else told)


def _firewall(facts: Facts) -> Iterator[Finding]:
    if facts.nftables is None:
        yield Finding("firewall", WARN, "not looked at: only root can", "look again as root")
    elif facts.nftables:
        yield Finding(
            "firewall",
            FAIL,
            f"nftables does not work ({facts.nftables}): containers have no networks but none and host",
            "modprobe nf_tables, or use a kernel with CONFIG_NF_TABLES_INET and CONFIG_NFT_NAT",
        )
    else:
        yield Finding("firewall", OK, "nftables works")
    for obstacle in facts.obstacles:
        what, _, remedy = obstacle.partition("; let it: ")
        if facts.forward_policy == "accept":
            yield Finding(
                "forward policy", OK, f"{what.partition(' drops ')[0]} drops; forward-policy accepts ours"
            )
        else:
            yield Finding("forward policy", WARN, what, remedy or "set forward-policy: accept")
    if facts.nftables == "" and not facts.obstacles:
        yield Finding("forward policy", OK, "nobody else drops what containers send")
    if facts.ip_forward:
        yield Finding("IP forwarding", OK, "on")
    elif facts.switches_forward and not facts.serving:
        yield Finding("IP forwarding", OK, "off; the daemon switches it on")
    else:
        yield Finding(
            "IP forwarding",
            WARN,
            "off: containers reach the host and nothing beyond it",
            "sysctl -w net.ipv4.ip_forward=1, and a file in /etc/sysctl.d",
        )


def _dns(facts: Facts) -> Iterator[Finding]:
    reachable = [one for one in facts.resolvers if not one.startswith("127.") and one != "::1"]
    if facts.dns_option:
        yield Finding("DNS", OK, f"containers ask {', '.join(facts.dns_option)} (option dns)")
    elif reachable:
        yield Finding("DNS", OK, f"containers ask {', '.join(reachable)}")
    elif facts.resolvers and facts.resolved_file:
        yield Finding("DNS", OK, f"containers ask those behind {facts.resolvers[0]} (systemd-resolved)")
    elif facts.resolvers:
        yield Finding(
            "DNS",
            WARN,
            f"the host's resolver {facts.resolvers[0]} cannot be reached from the default network: "
            "containers there ask 8.8.8.8",
            "name resolvers with the option dns, or use networks of your own, whose names minid serves",
        )
    else:
        yield Finding(
            "DNS",
            WARN,
            "/etc/resolv.conf names no resolver: pulls by name fail, and containers ask 8.8.8.8",
            "write one there (nameserver ADDRESS), and for containers alone: the option dns",
        )


def _clock(facts: Facts) -> Iterator[Finding]:
    if not RELEASED_S <= facts.time_s < FAR_S:
        yield Finding(
            "clock",
            FAIL,
            "shows a time that cannot be: registries' certificates will be refused",
            "set it (timedatectl set-time, or date -s) and let NTP keep it right",
        )
    elif facts.synchronized:
        yield Finding("clock", OK, "kept right by NTP")
    elif facts.synchronized is None:
        yield Finding("clock", OK, "plausible; whether NTP keeps it right is not known")
    else:
        yield Finding(
            "clock", WARN, "plausible, and kept right by nobody", "timedatectl set-ntp true, or start chrony"
        )


def _limits(facts: Facts) -> Iterator[Finding]:
    for name, has, least, advice in (
        ("open files", facts.open_files, 65_536, "LimitNOFILE=1048576 in the unit, or ulimit -Hn 1048576"),
        ("inotify instances", facts.inotify_instances, 128, "sysctl -w fs.inotify.max_user_instances=1024"),
        ("pid_max", facts.pid_max, 32_768, "sysctl -w kernel.pid_max=4194304"),
    ):
        if has >= least:
            yield Finding(name, OK, str(has))
        else:
            yield Finding(name, WARN, f"{has}: little for many containers", advice)


def _capabilities(facts: Facts) -> Iterator[Finding]:
    if not facts.root:
        yield Finding("capabilities", WARN, "not looked at: minid runs as root", "look again as root")
        return
    needed = [name for name in NEEDED if name not in facts.capabilities]
    usual = [name for name in USUAL if name not in facts.capabilities]
    advice = (
        "give them to the daemon: CapabilityBoundingSet of its unit, or --cap-add (--privileged) of the container "
        "that it runs in"
    )
    if needed:
        yield Finding("capabilities", FAIL, f"minid cannot work without {', '.join(needed)}", advice)
    elif usual:
        yield Finding("capabilities", WARN, f"containers cannot have {', '.join(usual)}", advice)
    else:
        yield Finding("capabilities", OK, f"all of {len(NEEDED) + len(USUAL)} that are needed")
    if facts.no_new_privileges:
        yield Finding(
            "no_new_privs",
            WARN,
            "is set for the daemon: sudo, su and ping fail in containers",
            "take NoNewPrivileges=yes, and what implies it, out of the daemon's unit",
        )


def _group(facts: Facts) -> Iterator[Finding]:
    if not facts.group:
        return
    if facts.group_exists:
        yield Finding("group", OK, f"{facts.group} may use the socket")
    else:
        yield Finding(
            "group",
            WARN,
            f"there is no group {facts.group}: only root can connect",
            f"groupadd --system {facts.group}",
        )


_CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _kernel, _calls, _namespaces, _seccomp, _cgroups, _capabilities, _storage, _firewall, _dns, _clock, _limits, _group,
)  # fmt: skip
