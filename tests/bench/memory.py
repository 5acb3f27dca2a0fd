"""What processes and the kernel use: PSS of process trees, what the kernel has for them."""

import os
import threading
import time
from pathlib import Path
from types import TracebackType

STACK_BYTES = 16 << 10  # of x86-64 and aarch64


def children() -> dict[int, list[int]]:
    """pid → pids of its children, of the whole machine."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.setdefault(parent, []).append(int(name))
    return found


def family(pid: int) -> set[int]:
    """The process and all below it."""
    tree, found, todo = children(), set(), [pid]
    while todo:
        found.add(current := todo.pop())
        todo += tree.get(current, [])
    return found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def pss_bytes(pids: set[int]) -> int:
    """Proportional set size, proc(5) smaps_rollup."""
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def own_bytes(pids: set[int]) -> int:
    """Anonymous and shared memory of processes, what they share among each other and with others in proportion
    (Pss_Anon, Pss_Shmem of smaps_rollup). Programs and libraries are left out: they are page cache, of which the
    machine has one copy.
    """
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1]) * 1024
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def table_and_stack_bytes(pids: set[int]) -> int:
    """Page tables (VmPTE of proc(5) status) and kernel stacks (one a thread) of processes."""
    total = 0
    for pid in pids:
        try:
            lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            fields = {words[0]: words[1] for words in lines if len(words) > 1}
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields.get("VmPTE:", 0)) * 1024 + int(fields["Threads:"]) * STACK_BYTES
    return total


def slab_bytes() -> int:
    """The objects that the kernel keeps, and its per-cpu memory, with caches dropped. They are the machine's, and
    other processes change them too: take the median of many small differences.
    """
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    time.sleep(0.3)  # the kernel gives no sign when its per-cpu counters and deferred frees are done
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(words[1]) * 1024 for words in lines if words[0] in ("Slab:", "Percpu:"))


class PeakPss:
    """Samples the PSS of a growing and shrinking family while the block runs; ``growth_bytes`` afterwards."""

    def __init__(self, pid: int, interval_s: float = 0.03) -> None:
        self._pid = pid
        self._interval_s = interval_s
        self._done = threading.Event()
        self._before = pss_bytes(family(pid))
        self._peak = self._before
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._done.wait(self._interval_s):
            self._peak = max(self._peak, pss_bytes(family(self._pid)))

    def __enter__(self) -> "PeakPss":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    @property
    def growth_bytes(self) -> int:
        return self._peak - self._before
