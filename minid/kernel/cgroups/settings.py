"""What to write into a cgroup's files for the ``linux.resources`` of the OCI runtime spec; pure.

``for_v1`` and ``for_v2`` give the writes in the order in which the kernel accepts them for a new cgroup.
What a version cannot express at all becomes a warning; whether a file exists on this machine is found out by
the writer. Sources: OCI runtime-spec config-linux.md § Control groups, cgroup-v1/*.rst, cgroup-v2.rst,
cgroups(7).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """One write: of ``choices`` (file, value), the first whose file exists in the cgroup of ``controller``.

    If none exists, ``lacking`` is the warning (in Docker's words), and the setting is left out.
    """

    controller: str
    choices: tuple[tuple[str, str], ...]
    lacking: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All writes for a cgroup, and what could not be expressed."""

    writes: tuple[Setting, ...]
    warnings: tuple[str, ...] = ()


def _lacking(what: str, result: str) -> str:
    return f"Your kernel does not support {what} or the cgroup is not mounted. {result}"


_NO_MEMORY = _lacking("memory limit capabilities", "Limitation discarded.")
_NO_RESERVATION = _lacking("memory soft limit capabilities", "Limitation discarded.")
_NO_SWAP = (
    "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
    "Memory limited without swap."
)
_NO_SWAPPINESS = _lacking("memory swappiness capabilities", "Memory swappiness discarded.")
_NO_OOM_DISABLE = "Your kernel does not support OomKillDisable. OomKillDisable discarded."
_NO_SHARES = _lacking("CPU shares", "Shares discarded.")
_NO_QUOTA = _lacking("CPU CFS scheduler", "Limitation discarded.")
_NO_REALTIME = _lacking("CPU real-time scheduler", "Real-time limits discarded.")
_NO_CPUSET = _lacking("cpuset", "Cpuset discarded.")
_NO_PIDS = _lacking("PIDs limit capabilities", "PIDs limit discarded.")
_NO_WEIGHT = _lacking("Block I/O weight", "Weight discarded.")
_NO_WEIGHT_DEVICE = _lacking("Block I/O weight_device", "Weight-device discarded.")
_NO_HUGETLB = _lacking("huge page limits", "Limitation discarded.")
_WEIGHT_V1 = ("blkio.weight", "blkio.bfq.weight")
_THROTTLES = (
    ("throttleReadBpsDevice", "read_bps_device", "rbps", "BPS Block I/O read limit"),
    ("throttleWriteBpsDevice", "write_bps_device", "wbps", "BPS Block I/O write limit"),
    ("throttleReadIOPSDevice", "read_iops_device", "riops", "IOPS Block read limit"),
    ("throttleWriteIOPSDevice", "write_iops_device", "wiops", "IOPS Block write limit"),
)


def _one(controller: str, file: str, value: str, lacking: str) -> Setting:
    return Setting(controller, ((file, value),), lacking)


def weight_from_shares(shares: int) -> int:
    """cpu.weight (1 to 10000) for v1's cpu.shares (2 to 262144): both ends and 1024 → 100, the defaults, map
    exactly.

    The curve is that of current OCI runtimes: quadratic in the exponent through those three points.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    exponent = math.log2(shares)
    # The tiny step back is for float noise: without it 1024 becomes 101.
    return math.ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34) - 1e-9)


def io_weight_from_blkio(weight: int) -> int:
    """io.weight (1 to 10000) for v1's blkio weight (10 to 1000), linearly."""
    return 1 + (max(10, min(weight, 1000)) - 10) * 9999 // 990


def swap_from_memory_and_swap(limit_bytes: int | None, total_bytes: int) -> str:
    """memory.swap.max for the spec's ``swap``, which is memory and swap together; ValueError if that makes
    no sense.
    """
    if total_bytes < 0:
        return "max"
    if limit_bytes is None or limit_bytes <= 0:
        raise ValueError("You should always set the Memory limit when using Memoryswap limit, see usage")
    if total_bytes < limit_bytes:
        raise ValueError("Minimum memoryswap limit should be larger than memory limit, see usage")
    return str(total_bytes - limit_bytes)


def _limit(value: int) -> str:
    return "max" if value < 0 else str(value)


def _given(part: Mapping[str, Any], key: str) -> Any:
    """A value that asks for something: 0, "" and null are the API's ways to say "not set"."""
    return part.get(key) or None


def for_v1(resources: Mapping[str, Any]) -> Settings:
    """The writes for cgroup v1; ValueError for values that contradict each other."""
    if resources.get("unified"):
        raise ValueError("invalid configuration: cannot use unified on cgroup v1")
    writes = [
        *_memory_v1(resources.get("memory") or {}),
        *_cpu_v1(resources.get("cpu") or {}),
        *_pids(resources.get("pids") or {}),
        *_blkio_v1(resources.get("blockIO") or {}),
    ]
    for page in resources.get("hugepageLimits") or ():
        name = f"hugetlb.{page['pageSize']}.limit_in_bytes"
        writes.append(_one("hugetlb", name, str(page["limit"]), _NO_HUGETLB))
    return Settings(tuple(writes))


def _memory_v1(memory: Mapping[str, Any]) -> Iterator[Setting]:
    if limit := _given(memory, "limit"):
        yield _one("memory", "memory.limit_in_bytes", str(limit), _NO_MEMORY)
    if swap := _given(memory, "swap"):
        if swap > 0:
            swap_from_memory_and_swap(limit, swap)
        yield _one("memory", "memory.memsw.limit_in_bytes", str(swap), _NO_SWAP)
    if reservation := _given(memory, "reservation"):
        yield _one("memory", "memory.soft_limit_in_bytes", str(reservation), _NO_RESERVATION)
    if kernel_tcp := _given(memory, "kernelTCP"):
        yield _one("memory", "memory.kmem.tcp.limit_in_bytes", str(kernel_tcp), _NO_MEMORY)
    swappiness = memory.get("swappiness")
    if swappiness is not None and 0 <= swappiness <= 100:
        yield _one("memory", "memory.swappiness", str(swappiness), _NO_SWAPPINESS)
    if memory.get("disableOOMKiller"):
        yield _one("memory", "memory.oom_control", "1", _NO_OOM_DISABLE)


def _cpu_v1(cpu: Mapping[str, Any]) -> Iterator[Setting]:
    if cpus := _given(cpu, "cpus"):
        yield _one("cpuset", "cpuset.cpus", cpus, _NO_CPUSET)
    if mems := _given(cpu, "mems"):
        yield _one("cpuset", "cpuset.mems", mems, _NO_CPUSET)
    if shares := _given(cpu, "shares"):
        yield _one("cpu", "cpu.shares", str(shares), _NO_SHARES)
    if period := _given(cpu, "period"):
        yield _one("cpu", "cpu.cfs_period_us", str(period), _NO_QUOTA)
    if quota := _given(cpu, "quota"):
        yield _one("cpu", "cpu.cfs_quota_us", str(quota), _NO_QUOTA)
    if burst := _given(cpu, "burst"):
        yield _one("cpu", "cpu.cfs_burst_us", str(burst), _NO_QUOTA)
    if cpu.get("idle") is not None:
        yield _one("cpu", "cpu.idle", str(cpu["idle"]), _NO_QUOTA)
    if rt_period := _given(cpu, "realtimePeriod"):
        yield _one("cpu", "cpu.rt_period_us", str(rt_period), _NO_REALTIME)
    if rt_runtime := _given(cpu, "realtimeRuntime"):
        yield _one("cpu", "cpu.rt_runtime_us", str(rt_runtime), _NO_REALTIME)


def _pids(pids: Mapping[str, Any]) -> Iterator[Setting]:
    if limit := _given(pids, "limit"):
        yield _one("pids", "pids.max", _limit(limit), _NO_PIDS)


def _blkio_v1(block: Mapping[str, Any]) -> Iterator[Setting]:
    if weight := _given(block, "weight"):
        yield Setting("blkio", tuple((file, str(weight)) for file in _WEIGHT_V1), _NO_WEIGHT)
    for entry in block.get("weightDevice") or ():
        if entry.get("weight"):
            value = f"{_device(entry)} {entry['weight']}"
            choices = tuple((file + "_device", value) for file in _WEIGHT_V1)
            yield Setting("blkio", choices, _NO_WEIGHT_DEVICE)
    for key, file, _, what in _THROTTLES:
        for entry in block.get(key) or ():
            lacking = _lacking(what, f"{what} discarded.")
            value = f"{_device(entry)} {entry['rate']}"
            yield _one("blkio", "blkio.throttle." + file, value, lacking)


def _device(entry: Mapping[str, Any]) -> str:
    return f"{entry['major']}:{entry['minor']}"


def for_v2(resources: Mapping[str, Any]) -> Settings:
    """The writes for cgroup v2; ValueError for values that contradict each other."""
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    warnings = []
    if _given(memory, "swappiness") is not None:
        warnings.append(_NO_SWAPPINESS)
    if memory.get("disableOOMKiller"):
        warnings.append(_NO_OOM_DISABLE)
    if _given(cpu, "realtimePeriod") or _given(cpu, "realtimeRuntime"):
        warnings.append(_NO_REALTIME)
    writes = [
        *_memory_v2(memory),
        *_cpu_v2(cpu),
        *_pids(resources.get("pids") or {}),
        *_io_v2(resources.get("blockIO") or {}),
    ]
    for page in resources.get("hugepageLimits") or ():
        name = f"hugetlb.{page['pageSize']}.max"
        writes.append(_one("hugetlb", name, str(page["limit"]), _NO_HUGETLB))
    for file, value in (resources.get("unified") or {}).items():
        if not file or "/" in file or "." not in file:
            raise ValueError(f"unified resource {file!r} must be a cgroup file name without slashes")
        lacking = f"cgroup file {file} does not exist on this machine. {file}={value} discarded."
        writes.append(_one(file.partition(".")[0], file, value, lacking))
    return Settings(tuple(writes), tuple(warnings))


def _memory_v2(memory: Mapping[str, Any]) -> Iterator[Setting]:
    limit = _given(memory, "limit")
    if swap := _given(memory, "swap"):
        value = swap_from_memory_and_swap(limit, swap)
        yield _one("memory", "memory.swap.max", value, _NO_SWAP)
    if limit:
        yield _one("memory", "memory.max", _limit(limit), _NO_MEMORY)
    if reservation := _given(memory, "reservation"):
        yield _one("memory", "memory.low", _limit(reservation), _NO_RESERVATION)


def _cpu_v2(cpu: Mapping[str, Any]) -> Iterator[Setting]:
    if cpus := _given(cpu, "cpus"):
        yield _one("cpuset", "cpuset.cpus", cpus, _NO_CPUSET)
    if mems := _given(cpu, "mems"):
        yield _one("cpuset", "cpuset.mems", mems, _NO_CPUSET)
    if cpu.get("idle") is not None:
        yield _one("cpu", "cpu.idle", str(cpu["idle"]), _NO_SHARES)
    if shares := _given(cpu, "shares"):
        yield _one("cpu", "cpu.weight", str(weight_from_shares(shares)), _NO_SHARES)
    quota, period = _given(cpu, "quota"), _given(cpu, "period")
    if quota or period:
        value = "max" if quota is None or quota < 0 else str(quota)
        yield _one("cpu", "cpu.max", f"{value} {period}" if period else value, _NO_QUOTA)
    if burst := _given(cpu, "burst"):
        yield _one("cpu", "cpu.max.burst", str(burst), _NO_QUOTA)


def _io_v2(block: Mapping[str, Any]) -> Iterator[Setting]:
    if weight := _given(block, "weight"):
        # bfq's has the meaning and the range of v1's; without bfq there may be iocost's, which has its own
        # range.
        scaled = str(io_weight_from_blkio(weight))
        yield Setting("io", (("io.bfq.weight", str(weight)), ("io.weight", scaled)), _NO_WEIGHT)
    for entry in block.get("weightDevice") or ():
        if entry.get("weight"):
            value = f"{_device(entry)} {entry['weight']}"
            yield _one("io", "io.bfq.weight", value, _NO_WEIGHT_DEVICE)
    for key, _, word, what in _THROTTLES:
        for entry in block.get(key) or ():
            value = f"{_device(entry)} {word}={entry['rate'] or 'max'}"
            yield _one("io", "io.max", value, _lacking(what, f"{what} discarded."))
