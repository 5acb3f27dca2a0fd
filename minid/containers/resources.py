"""Limits: checked as dockerd checks them and turned into ``linux.resources`` and ``process.rlimits``. Pure.

Sources: Engine API v1.44 ``Resources``; OCI runtime-spec config-linux.md § Control groups; setrlimit(2).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from minid.containers.host import Host
from minid.containers.model import Resources, Ulimit
from minid.errors import InvalidParameter

R = TypeVar("R", bound=Resources)

MINIMUM_MEMORY_BYTES = 6 << 20
CPU_PERIOD_US = 100_000
CPU_SHARES_MINIMUM, CPU_SHARES_MAXIMUM = 2, 262144  # the kernel clamps to these itself
MAXIMUM_CPU = 8192
RLIMIT_INFINITY = (1 << 64) - 1

RLIMITS = frozenset(
    (
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    )
)


def adapt(resources: R) -> R:
    """``resources`` with what follows from them filled in: swap twice the memory, swappiness -1 as not given.

    Works on a ``HostConfig`` too and returns the same class.
    """
    changes: dict[str, Any] = {}
    if resources.memory > 0 and resources.memory_swap == 0:
        changes["memory_swap"] = resources.memory * 2
    if resources.memory_swappiness == -1:
        changes["memory_swappiness"] = None
    return dataclasses.replace(resources, **changes)


def validate(resources: Resources, host: Host, *, update: bool = False) -> list[str]:
    """Refuse what can't be; returns the warnings for what this host will leave out. Raises
    InvalidParameter.
    """
    _validate_cpu(resources, host)
    return _validate_memory(resources, host, update) + _validate_rest(resources, host)


def _validate_memory(wanted: Resources, host: Host, update: bool) -> list[str]:
    warnings = []
    if wanted.memory != 0 and wanted.memory < MINIMUM_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if wanted.memory > 0 and 0 < wanted.memory_swap < wanted.memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if wanted.memory == 0 and wanted.memory_swap > 0 and not update:
        raise InvalidParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if wanted.memory_swappiness is not None and not -1 <= wanted.memory_swappiness <= 100:
        raise InvalidParameter(
            f"Invalid value: {wanted.memory_swappiness}, valid memory swappiness range is 0-100"
        )
    if 0 < wanted.memory_reservation < MINIMUM_MEMORY_BYTES or wanted.memory_reservation < 0:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if 0 < wanted.memory < wanted.memory_reservation:
        raise InvalidParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    if wanted.memory > 0 and wanted.memory_swap != -1 and not host.swap_limit:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
    if wanted.memory_swappiness not in (None, -1) and host.cgroup_version != 1:
        warnings.append(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
            "Memory swappiness discarded."
        )
    if wanted.oom_kill_disable:
        if host.cgroup_version != 1:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        elif wanted.memory == 0:
            warnings.append(
                "OOM killer is disabled for the container, but no memory limit is set, this can result in "
                "the system running out of resources."
            )
    return warnings


def _validate_cpu(wanted: Resources, host: Host) -> None:
    if wanted.nano_cpus > 0 and wanted.cpu_period > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if wanted.nano_cpus > 0 and wanted.cpu_quota > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    count = len(host.cpus)
    if not 0 <= wanted.nano_cpus <= count * 1_000_000_000:
        raise InvalidParameter(
            f"Range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )
    if wanted.cpu_period != 0 and not 1000 <= wanted.cpu_period <= 1_000_000:
        raise InvalidParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < wanted.cpu_quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if wanted.cpu_realtime_period < wanted.cpu_realtime_runtime:
        raise InvalidParameter("cpu real-time runtime cannot be higher than cpu real-time period")
    _check_set(wanted.cpuset_cpus, host.cpus, "cpuset cpus", "CPUs")
    _check_set(wanted.cpuset_mems, host.memory_nodes, "cpuset mems", "memory nodes")


def _check_set(text: str, available: frozenset[int], field: str, things: str) -> None:
    if not text:
        return
    try:
        asked = parse_set(text)
    except ValueError as error:
        raise InvalidParameter(f"Invalid value {text} for {field}: {error}") from None
    if not asked <= available:
        raise InvalidParameter(
            f"Requested {things} are not available - requested {text}, available: {format_set(available)}"
        )


def _validate_rest(wanted: Resources, host: Host) -> list[str]:
    warnings = []
    if wanted.blkio_weight > 0 and not host.blkio_weight:
        warnings.append(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
        )
    elif wanted.blkio_weight and not 10 <= wanted.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if wanted.device_requests:
        raise InvalidParameter(
            'could not select device driver "" with capabilities: device requests are not supported'
        )
    seen = set()
    for limit in wanted.ulimits or ():
        if limit.name not in RLIMITS:
            raise InvalidParameter(f"invalid ulimit type: {limit.name}")
        if limit.name in seen:
            raise InvalidParameter(f"ulimit {limit.name} is given twice")
        seen.add(limit.name)
        if limit.soft < -1 or limit.hard < -1:
            raise InvalidParameter(f"ulimit {limit.name}: values must be -1 (unlimited) or more")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidParameter(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
    return warnings


def parse_set(text: str) -> frozenset[int]:
    """A cpuset list such as ``0-2,5`` (cpuset(7) § List format). Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isascii() or not first.isdigit() or (dash and not (last.isascii() and last.isdigit())):
            raise ValueError(f"invalid format: {text}")
        low, high = int(first), int(last) if dash else int(first)
        if high < low or high > MAXIMUM_CPU:
            raise ValueError(f"invalid format: {text}")
        found.update(range(low, high + 1))
    return frozenset(found)


def format_set(numbers: frozenset[int]) -> str:
    """The shortest cpuset list of ``numbers``: ``0-2,5``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def section(resources: Resources, device_rules: Sequence[dict[str, Any]], host: Host) -> dict[str, Any]:
    """``linux.resources`` of the runtime spec. What the host doesn't have (``validate`` warned) is left
    out.
    """
    wanted = adapt(resources)
    result: dict[str, Any] = {"devices": list(device_rules)}
    memory: dict[str, Any] = {}
    if wanted.memory > 0:
        memory["limit"] = wanted.memory
    if wanted.memory_reservation > 0:
        memory["reservation"] = wanted.memory_reservation
    if wanted.memory_swap != 0 and (wanted.memory > 0 or wanted.memory_swap < 0) and host.swap_limit:
        memory["swap"] = wanted.memory_swap
    if host.cgroup_version == 1:
        if wanted.memory_swappiness is not None:
            memory["swappiness"] = wanted.memory_swappiness
        if wanted.oom_kill_disable is not None:
            memory["disableOOMKiller"] = wanted.oom_kill_disable
    cpu: dict[str, Any] = {}
    if wanted.cpu_shares:
        cpu["shares"] = min(max(wanted.cpu_shares, CPU_SHARES_MINIMUM), CPU_SHARES_MAXIMUM)
    if wanted.nano_cpus > 0:
        cpu["quota"] = wanted.nano_cpus * CPU_PERIOD_US // 1_000_000_000
        cpu["period"] = CPU_PERIOD_US
    if wanted.cpu_quota:
        cpu["quota"] = wanted.cpu_quota
    if wanted.cpu_period:
        cpu["period"] = wanted.cpu_period
    if wanted.cpu_realtime_period:
        cpu["realtimePeriod"] = wanted.cpu_realtime_period
    if wanted.cpu_realtime_runtime:
        cpu["realtimeRuntime"] = wanted.cpu_realtime_runtime
    if wanted.cpuset_cpus:
        cpu["cpus"] = wanted.cpuset_cpus
    if wanted.cpuset_mems:
        cpu["mems"] = wanted.cpuset_mems
    if memory:
        result["memory"] = memory
    if cpu:
        result["cpu"] = cpu
    # Not given, 0 and -1 all mean that Docker sets no limit; -1 says so to the kernel.
    if wanted.pids_limit is not None and wanted.pids_limit != 0:
        result["pids"] = {"limit": max(wanted.pids_limit, -1)}
    if wanted.blkio_weight and host.blkio_weight:
        result["blockIO"] = {"weight": wanted.blkio_weight}
    return result


def rlimits(ulimits: Sequence[Ulimit] | None) -> list[dict[str, Any]]:
    """``process.rlimits``; -1 is unlimited."""
    return [
        {
            "type": f"RLIMIT_{limit.name.upper()}",
            "hard": RLIMIT_INFINITY if limit.hard == -1 else limit.hard,
            "soft": RLIMIT_INFINITY if limit.soft == -1 else limit.soft,
        }
        for limit in sorted(ulimits or (), key=lambda limit: limit.name)
    ]
