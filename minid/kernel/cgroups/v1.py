"""cgroup v1: a directory in each hierarchy that the container needs, and no more than those.

Joining is by the ``tasks`` file: a single-threaded process that writes its own ``0`` there needs no lock on
all of the machine's processes, one that writes to ``cgroup.procs`` does and waits for an RCU grace period if
nobody else has done so lately (measured here: 0.1 ms against 5 ms; kernel/cgroup/cgroup.c,
cgroup_procs_write_start).
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from minid.kernel.cgroups import devices
from minid.kernel.cgroups.cgroup import (
    Cgroup,
    find_number,
    find_text,
    flat_keyed,
    processes,
    read,
    signal_all,
    walk,
    write,
    write_settings,
)
from minid.kernel.cgroups.settings import Setting, for_v1

# Every container is in these, to be measured. It gets into a freezer only when it is frozen.
ALWAYS = ("memory", "cpuacct")
_FREEZER = "freezer"
_LIMIT, _MEMSW = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"


class CgroupV1(Cgroup):
    """See Cgroup. ``paths`` has a directory for each controller that the container is in, and the freezer
    that it would be in: that one is made when it is needed.

    ``parents``: controller → directory in which ``update`` may make more of them, when a limit asks for a
    controller that the container is not yet in; ``paths`` is another one then, and to be kept again.
    """

    version = 1

    def __init__(
        self, paths: Mapping[str, str], warnings: Iterable[str] = (), parents: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(paths, warnings)
        self._parents = dict(parents or {})

    @property
    def joined(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for each, path in self.paths.items() if each != _FREEZER))

    @property
    def procs_files(self) -> tuple[str, ...]:
        return tuple(directory + "/tasks" for directory in self.joined)

    @property
    def oom_file(self) -> str | None:
        memory = self.paths.get("memory")
        return None if memory is None else memory + "/memory.oom_control"

    def apply(self, resources: Mapping[str, Any]) -> list[str]:
        """The writes of ``update``, into the directories that are there."""
        settings = for_v1(resources)
        writes = list(settings.writes)
        warnings = list(settings.warnings)
        memory = [each for each in writes if each.choices[0][0] in (_LIMIT, _MEMSW)]
        others = [each for each in writes if each not in memory]
        if memory:
            warnings += self._write_memory(memory)
        warnings += write_settings(self.paths, others)
        if "devices" in self.paths:
            self._write_devices(devices.parse(resources.get("devices") or ()))
        return warnings

    def _write_memory(self, writes: list[Setting]) -> list[str]:
        """Limit and memory+swap limit: the second must never be below the first, so the order depends."""
        try:
            return write_settings(self.paths, writes)
        except OSError as error:
            if error.errno != errno.EINVAL or len(writes) == 1:
                raise
            return write_settings(self.paths, reversed(writes))

    def _write_devices(self, rules: tuple[devices.DeviceRule, ...]) -> None:
        directory = self.paths["devices"]
        if devices.allows_everything(rules):
            write(directory + "/devices.allow", "a")
            return
        fds = {
            name: os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            for name in ("devices.allow", "devices.deny")
        }
        try:
            for name, line in devices.lines_v1(rules):
                try:
                    os.write(fds[name], line.encode())
                except OSError as error:
                    number = error.errno or errno.EIO
                    message = f"write {line!r} to cgroup file: {os.strerror(number)}"
                    raise OSError(number, message, f"{directory}/{name}") from None
        finally:
            for fd in fds.values():
                os.close(fd)

    def inner(self, name: str) -> "CgroupV1":
        # in one hierarchy only, and in one whose cgroups cost little
        controller = next((each for each in ("cpuacct", "pids", "memory") if each in self.paths), None)
        if controller is None:
            raise OSError(
                errno.EOPNOTSUPP, "this machine has no cgroup controller for a cgroup inside another"
            )
        directory = f"{self.paths[controller]}/{name}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
        return CgroupV1({controller: directory})

    def update(self, resources: Mapping[str, Any]) -> list[str]:
        missing = [
            each for each in controllers_for(resources) if each in self._parents and each not in self.paths
        ]
        if not missing:
            return self.apply(resources)
        # make() clears a freezer that a crash left behind; this one is in use
        others = {each: parent for each, parent in self._parents.items() if each != _FREEZER}
        added = make(others, os.path.basename(self.joined[0]), missing)
        self.paths |= added
        warnings = self.apply(resources)
        for directory in dict.fromkeys(path for each, path in added.items() if each != _FREEZER):
            self._move_all(directory)
        return warnings

    def _move_all(self, directory: str) -> None:
        """Move every process into one more cgroup; those that are forked meanwhile come in a next round."""
        tried: set[int] = set()
        while more := set(self.pids()) - set(processes(directory)) - tried:
            for pid in more:
                with contextlib.suppress(ProcessLookupError):
                    write(directory + "/cgroup.procs", str(pid))
            tried |= more

    def freeze(self, timeout_s: float = 10.0) -> None:
        directory = self._freezer()
        state = directory + "/freezer.state"
        with contextlib.suppress(FileExistsError):
            os.makedirs(directory)
        deadline = time.monotonic() + timeout_s
        pause_s = 0.0
        while True:
            # What gets into a frozen freezer freezes. Writing again helps with what was uninterruptible at
            # the time; nothing announces the end of FREEZING on v1, so it is asked for.
            write(state, "FROZEN")
            self._move_all(directory)
            if read(state).strip() == "FROZEN" and set(self.pids()) <= set(processes(directory)):
                return
            if time.monotonic() > deadline:
                write(state, "THAWED")
                raise TimeoutError(errno.EBUSY, f"processes did not freeze within {timeout_s} s", state)
            time.sleep(pause_s)
            pause_s = min(pause_s * 2 or 0.0001, 0.01)

    def thaw(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            write(self._freezer() + "/freezer.state", "THAWED")

    def frozen(self) -> bool:
        state = find_text(self.paths.get(_FREEZER, "") + "/freezer.state")
        return state is not None and state.strip() != "THAWED"

    def _freezer(self) -> str:
        if _FREEZER not in self.paths:
            raise OSError(errno.EOPNOTSUPP, "this machine has no freezer cgroup controller")
        return self.paths[_FREEZER]

    def kill(self) -> None:
        # Frozen, nobody can fork away from under the list; SIGKILL is delivered at the thaw.
        if not self.pids():
            return
        frozen = False
        try:
            self.freeze(timeout_s=1.0)
            frozen = True
        except OSError:
            pass
        try:
            for _ in range(1 if frozen else 100):
                pids = self.pids()
                signal_all(pids)
                if not pids:
                    break
        finally:
            if frozen:
                self.thaw()

    def stats(self) -> dict[str, Any]:
        """``cpu``: usage_ns, user_ns, system_ns, percpu_ns, and where limited periods, throttled_periods,
        throttled_ns. ``memory``: usage_bytes, max_usage_bytes, limit_bytes, failures, stat. ``pids``:
        current, limit (None: no limit). ``blkio``: kind → list of {major, minor, op, value}.
        """
        result: dict[str, Any] = {}
        if directory := self.paths.get("cpuacct"):
            result["cpu"] = _cpu_stats(directory, self.paths.get("cpu"))
        if directory := self.paths.get("memory"):
            result["memory"] = {
                "usage_bytes": find_number(directory + "/memory.usage_in_bytes") or 0,
                "max_usage_bytes": find_number(directory + "/memory.max_usage_in_bytes") or 0,
                "limit_bytes": find_number(directory + "/memory.limit_in_bytes"),
                "failures": find_number(directory + "/memory.failcnt") or 0,
                "stat": flat_keyed(find_text(directory + "/memory.stat") or ""),
            }
        if directory := self.paths.get("pids"):
            result["pids"] = {
                "current": find_number(directory + "/pids.current") or 0,
                "limit": find_number(directory + "/pids.max"),
            }
        else:
            threads = sum(len((find_text(each + "/tasks") or "").split()) for each in walk(self.joined[0]))
            result["pids"] = {"current": threads, "limit": None}
        if directory := self.paths.get("blkio"):
            result["blkio"] = {
                name: _blkio_stats(find_text(f"{directory}/blkio.throttle.{name}") or "")
                for name in ("io_service_bytes_recursive", "io_serviced_recursive")
            }
        return result


def _cpu_stats(cpuacct: str, cpu: str | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "usage_ns": find_number(cpuacct + "/cpuacct.usage") or 0,
        "user_ns": find_number(cpuacct + "/cpuacct.usage_user") or 0,
        "system_ns": find_number(cpuacct + "/cpuacct.usage_sys") or 0,
        "percpu_ns": [int(word) for word in (find_text(cpuacct + "/cpuacct.usage_percpu") or "").split()],
    }
    if cpu is not None:
        stat = flat_keyed(find_text(cpu + "/cpu.stat") or "")
        result["periods"] = stat.get("nr_periods", 0)
        result["throttled_periods"] = stat.get("nr_throttled", 0)
        result["throttled_ns"] = stat.get("throttled_time", 0)
    return result


def _blkio_stats(text: str) -> list[dict[str, Any]]:
    entries = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and ":" in words[0]:
            major, _, minor = words[0].partition(":")
            entries.append({"major": int(major), "minor": int(minor), "op": words[1], "value": int(words[2])})
    return entries


def controllers_for(resources: Mapping[str, Any]) -> tuple[str, ...]:
    """The controllers that a container with these resources has to be in; pure."""
    needed = dict.fromkeys(ALWAYS)
    if not devices.allows_everything(devices.parse(resources.get("devices") or ())):
        needed["devices"] = None
    needed.update((setting.controller, None) for setting in for_v1(resources).writes)
    return tuple(needed)


def prepare_cpuset(directory: str) -> None:
    """Give new cpusets their parents' CPUs and memory nodes: with empty ones nobody can join (cpuset(7))."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        if not read(f"{directory}/{file}").strip():
            parent = os.path.dirname(directory)
            prepare_cpuset(parent)
            write(f"{directory}/{file}", read(f"{parent}/{file}").strip())


def make(parents: Mapping[str, str], name: str, controllers: Iterable[str]) -> dict[str, str]:
    """Make the directories ``<parent of controller>/name``; returns controller → directory, without those
    that this machine lacks. Parents are made as needed. FileExistsError if there is one that has processes.
    """
    wanted = {each: f"{parents[each]}/{name}" for each in controllers if each in parents and each != _FREEZER}
    # A controller that is mounted together with another one is in the same directory anyway.
    paths = {each: f"{parent}/{name}" for each, parent in parents.items()}
    paths = {each: path for each, path in paths.items() if path in wanted.values() or each == _FREEZER}
    if _FREEZER in paths:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(paths[_FREEZER])  # left behind by a crash, perhaps frozen
    made: list[str] = []
    try:
        for directory in dict.fromkeys(wanted.values()):
            _make_directory(directory)
            made.append(directory)
        if "cpuset" in paths:
            prepare_cpuset(paths["cpuset"])
    except OSError:
        for directory in made:
            os.rmdir(directory)
        raise
    return paths


def find(parents: Mapping[str, str], name: str) -> dict[str, str]:
    """The ``paths`` of a cgroup that exists, empty if none of it does."""
    paths = {each: f"{parent}/{name}" for each, parent in parents.items()}
    there = {each: path for each, path in paths.items() if os.path.isdir(path)}
    if there and _FREEZER in paths:
        there[_FREEZER] = paths[_FREEZER]
    return there


def _make_directory(directory: str) -> None:
    try:
        os.mkdir(directory)
    except FileNotFoundError:
        os.makedirs(directory)
    except FileExistsError:
        # Left behind by a crash, and empty: start over, so that no old limit stays. EBUSY means it is in use.
        os.rmdir(directory)
        os.mkdir(directory)
