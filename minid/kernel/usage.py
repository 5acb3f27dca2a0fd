"""What the machine and single network namespaces have used so far, by the counters in /proc. Sources: proc(5),
proc_stat(5), proc_pid_net(5).
"""

import os
from collections.abc import Collection
from dataclasses import dataclass

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_TIMES = 7  # user, nice, system, idle, iowait, irq, softirq: what Docker adds up
# The columns of /proc/PID/net/dev behind the interface's name; the second half repeats the first for what was sent.
_COLUMNS = {"bytes": 0, "packets": 1, "errors": 2, "dropped": 3}
_COLUMNS_EACH_WAY = 8


@dataclass(frozen=True, slots=True)
class CpuTime:
    """``total_ns``: of all CPUs together since boot, idle or not. ``online``: how many there are now."""

    total_ns: int
    online: int


def cpu_time() -> CpuTime:
    """The machine's, as of now."""
    with open("/proc/stat", encoding="ascii") as file:
        return parse_cpu_time(file.read())


def parse_cpu_time(text: str) -> CpuTime:
    """``cpu_time`` of the text of /proc/stat."""
    lines = [line.split() for line in text.splitlines() if line.startswith("cpu")]
    total = next((words[1:] for words in lines if words[0] == "cpu"), [])
    ticks = sum(int(word) for word in total[:_TIMES])
    return CpuTime(ticks * _TICK_NS, sum(words[0] != "cpu" for words in lines))


def machine_memory_bytes() -> int:
    """The memory that the kernel manages: MemTotal of /proc/meminfo."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def interfaces(pid: int, names: Collection[str]) -> dict[str, dict[str, int]]:
    """What passed through the interfaces ``names`` in the network namespace of ``pid``: rx_bytes, rx_packets,
    rx_errors, rx_dropped and the same with tx. Nothing of a process that has gone.
    """
    try:
        with open(f"/proc/{pid}/net/dev", encoding="utf-8", errors="replace") as file:
            return parse_interfaces(file.read(), names)
    except OSError:
        return {}


def parse_interfaces(text: str, names: Collection[str]) -> dict[str, dict[str, int]]:
    """``interfaces`` of the text of /proc/PID/net/dev."""
    found = {}
    for line in text.splitlines():
        name, colon, rest = line.rpartition(":")
        name = name.strip()
        words = rest.split()
        if colon and name in names and len(words) >= 2 * _COLUMNS_EACH_WAY:
            found[name] = {
                f"{way}_{what}": int(words[start + column])
                for way, start in (("rx", 0), ("tx", _COLUMNS_EACH_WAY))
                for what, column in _COLUMNS.items()
            }
    return found
