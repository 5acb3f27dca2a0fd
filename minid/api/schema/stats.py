"""A container's use of the machine in Docker's JSON (``Engine API v1.44 GET /containers/{id}/stats``).

What is left out and what is null for a container that does not run was compared with a running dockerd.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from minid.api.schema.naming import timestamp, without_empty
from minid.containers.stats import Sample, Usage

UNLIMITED = (1 << 64) - 1
BLKIO_KINDS = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)
NO_CPU: dict[str, Any] = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


def stats(usage: Usage) -> dict[str, Any]:
    """One answer, or one of a stream. Without a sample it has the container's identity and zeros."""
    now, before = usage.now, usage.before
    data: dict[str, Any] = {
        "read": timestamp(now.read_ns if now else 0),
        "preread": timestamp(before.read_ns if before else 0),
        "pids_stats": _pids(now) if now else {},
        "blkio_stats": _blkio(now),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(now),
        "precpu_stats": _cpu(before),
        "memory_stats": _memory(now) if now else {},
        "name": f"/{usage.container.name}",
        "id": usage.container.id,
    }
    if now is not None and now.interfaces:
        data["networks"] = {name: dict(now.interfaces[name]) for name in sorted(now.interfaces)}
    return data


def _pids(sample: Sample) -> dict[str, int]:
    pids = sample.group.get("pids")
    if pids is None:
        return {}
    limit = pids["limit"]
    if limit is None:  # as dockerd tells "max": not on v1, and as the largest number on v2
        return {"current": pids["current"]} | ({"limit": UNLIMITED} if sample.cgroup_version == 2 else {})
    return {"current": pids["current"], "limit": limit}


def _blkio(sample: Sample | None) -> dict[str, list[dict[str, Any]] | None]:
    given: Mapping[str, Iterable[Any]] = sample.group.get("blkio", {}) if sample else {}
    return {kind: [dict(entry) for entry in given[kind]] if kind in given else None for kind in BLKIO_KINDS}


def _cpu(sample: Sample | None) -> dict[str, Any]:
    cpu = sample.group.get("cpu") if sample else None
    if sample is None or cpu is None:
        return NO_CPU
    times = {"total_usage": cpu["usage_ns"]}
    if cpu.get("percpu_ns"):  # cgroup v1 only
        times["percpu_usage"] = list(cpu["percpu_ns"])
    return {
        "cpu_usage": {
            **times,
            "usage_in_kernelmode": cpu["system_ns"],
            "usage_in_usermode": cpu["user_ns"],
        },
        "system_cpu_usage": sample.machine.total_ns,
        "online_cpus": sample.machine.online,
        "throttling_data": {
            "periods": cpu.get("periods", 0),
            "throttled_periods": cpu.get("throttled_periods", 0),
            "throttled_time": cpu.get("throttled_ns", 0),
        },
    }


def _memory(sample: Sample) -> dict[str, Any]:
    memory = sample.group.get("memory")
    if memory is None:
        return {}
    # A limit above what there is means nothing; v1 writes "no limit" as a number near 2**63.
    limit = min(memory["limit_bytes"] or UNLIMITED, sample.machine_memory_bytes or UNLIMITED)
    data = {"usage": memory["usage_bytes"], "stats": dict(memory["stat"]), "limit": limit}
    if sample.cgroup_version == 1:
        data |= {"max_usage": memory["max_usage_bytes"], "failcnt": memory["failures"]}
    return without_empty(data)
