"""cgroup v2: one directory; controllers come from the parent's cgroup.subtree_control (cgroup-v2.rst)."""

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterable, Mapping
from typing import Any

from minid.kernel import devices_bpf
from minid.kernel.cgroups import devices
from minid.kernel.cgroups.cgroup import (
    Cgroup,
    find_number,
    find_text,
    flat_keyed,
    read,
    signal_all,
    write,
    write_settings,
)
from minid.kernel.cgroups.hierarchy import V2_CONTROLLERS
from minid.kernel.cgroups.settings import for_v2


class CgroupV2(Cgroup):
    """See Cgroup. ``paths`` is ``{"": directory}``."""

    version = 2

    @property
    def directory(self) -> str:
        return self.paths[""]

    @property
    def procs_files(self) -> tuple[str, ...]:
        return (self.directory + "/cgroup.procs",)

    @property
    def fork_directory(self) -> str | None:
        return self.directory

    @property
    def oom_file(self) -> str | None:
        path = self.directory + "/memory.events"
        return path if os.path.exists(path) else None

    def inner(self, name: str) -> "CgroupV2":
        directory = f"{self.directory}/{name}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
        return CgroupV2({"": directory})

    def update(self, resources: Mapping[str, Any]) -> list[str]:
        settings = for_v2(resources)
        rules = devices.parse(resources.get("devices") or ())
        warnings = write_settings(self.paths, settings.writes)
        if rules and not (devices.allows_everything(rules) and not self._has_device_program()):
            devices_bpf.replace(self.directory, devices_bpf.assemble(rules))
        return list(dict.fromkeys([*settings.warnings, *warnings]))

    def _has_device_program(self) -> bool:
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return bool(devices_bpf.attached(fd))
        finally:
            os.close(fd)

    def freeze(self, timeout_s: float = 10.0) -> None:
        write(self.directory + "/cgroup.freeze", "1")
        try:
            self._await_event("frozen", 1, timeout_s)
        except TimeoutError:
            self.thaw()
            raise

    def thaw(self) -> None:
        write(self.directory + "/cgroup.freeze", "0")

    def frozen(self) -> bool:
        return find_number(self.directory + "/cgroup.freeze") == 1

    def _await_event(self, key: str, value: int, timeout_s: float) -> None:
        """Wait until cgroup.events says so; the kernel announces each change by POLLPRI."""
        deadline = time.monotonic() + timeout_s
        path = self.directory + "/cgroup.events"
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while flat_keyed(os.pread(fd, 4096, 0).decode()).get(key, 0) != value:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError(
                        errno.EBUSY, f"{key} did not become {value} within {timeout_s} s", path
                    )
                poll.poll(left_s * 1000)
        finally:
            os.close(fd)

    def kill(self) -> None:
        try:
            write(self.directory + "/cgroup.kill", "1")
            return
        except FileNotFoundError:
            if not self.exists():
                return
        # Before Linux 5.14.
        # Unlike v1's freezer, this one lets a killed process die.
        with contextlib.suppress(OSError):
            self.freeze(timeout_s=1.0)
        try:
            for _ in range(100):
                pids = self.pids()
                signal_all(pids)
                if not pids or self.frozen():
                    break
        finally:
            self.thaw()

    def remove(self, timeout_s: float = 10.0) -> None:
        if self.try_remove():
            return
        with contextlib.suppress(FileNotFoundError, TimeoutError):
            self._await_event("populated", 0, timeout_s)
        super().remove(timeout_s if timeout_s < 1 else 1.0)

    def stats(self) -> dict[str, Any]:
        """``cpu``: usage_ns, user_ns, system_ns, periods, throttled_periods, throttled_ns. ``memory``:
        usage_bytes, max_usage_bytes, limit_bytes, failures, stat (v2's own keys). ``pids``: current, limit
        (None: no limit). ``blkio``: io_service_bytes_recursive → list of {major, minor, op, value}.
        """
        result: dict[str, Any] = {}
        directory = self.directory
        if text := find_text(directory + "/cpu.stat"):
            stat = flat_keyed(text)
            result["cpu"] = {
                "usage_ns": stat.get("usage_usec", 0) * 1000,
                "user_ns": stat.get("user_usec", 0) * 1000,
                "system_ns": stat.get("system_usec", 0) * 1000,
                "periods": stat.get("nr_periods", 0),
                "throttled_periods": stat.get("nr_throttled", 0),
                "throttled_ns": stat.get("throttled_usec", 0) * 1000,
            }
        usage = find_number(directory + "/memory.current")
        if usage is not None:
            result["memory"] = {
                "usage_bytes": usage,
                "max_usage_bytes": find_number(directory + "/memory.peak") or 0,
                "limit_bytes": find_number(directory + "/memory.max"),
                "failures": flat_keyed(find_text(directory + "/memory.events") or "").get("max", 0),
                "stat": flat_keyed(find_text(directory + "/memory.stat") or ""),
            }
        current = find_number(directory + "/pids.current")
        if current is not None:
            result["pids"] = {"current": current, "limit": find_number(directory + "/pids.max")}
        text = find_text(directory + "/io.stat")
        if text is not None:
            result["blkio"] = {"io_service_bytes_recursive": io_stats(text)}
        return result


def io_stats(text: str) -> list[dict[str, Any]]:
    """io.stat's rbytes and wbytes as v1's ``read`` and ``write`` entries, which is how Docker shows them."""
    entries = []
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        major, _, minor = device.partition(":")
        if not minor:
            continue
        values = dict(word.split("=", 1) for word in rest.split() if "=" in word)
        for key, operation in (("rbytes", "read"), ("wbytes", "write")):
            if key in values:
                entries.append(
                    {"major": int(major), "minor": int(minor), "op": operation, "value": int(values[key])}
                )
    return entries


def enable_controllers(mount: str, parent: str) -> None:
    """Enable what there is of V2_CONTROLLERS for the children of ``parent``, from ``mount`` downwards.

    A controller that cannot be enabled somewhere (it is in use on v1, not delegated, or a cgroup on the way
    has processes: EBUSY) is left out below; the limits that need it become warnings.
    """
    directory = mount
    for name in [None, *os.path.relpath(parent, mount).split("/")]:
        if name is not None and name != ".":
            directory += "/" + name
        available = (find_text(directory + "/cgroup.controllers") or "").split()
        enabled = read(directory + "/cgroup.subtree_control").split()
        for each in V2_CONTROLLERS:
            if each in available and each not in enabled:
                with contextlib.suppress(OSError):
                    write(directory + "/cgroup.subtree_control", "+" + each)


def processes(directory: str) -> list[int]:
    """The processes directly in a cgroup; 0 stands for those outside of our pid namespace."""
    return [int(word) for word in read(directory + "/cgroup.procs").split()]


def make(parent: str, name: str) -> dict[str, str]:
    """Make ``parent/name``; FileNotFoundError without the parent, EBUSY if it exists with processes in it."""
    directory = f"{parent}/{name}"
    try:
        os.mkdir(directory)
    except FileExistsError:
        os.rmdir(directory)
        os.mkdir(directory)
    return {"": directory}


def leave(directories: Iterable[str]) -> None:
    """Remove empty cgroups, ignoring the others."""
    for directory in directories:
        with contextlib.suppress(OSError):
            os.rmdir(directory)
