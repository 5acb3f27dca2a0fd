"""What a daemon leaves on the machine: a picture before, a picture after, and the differences in words.

Only what belongs to one daemon is looked at (by its roots, its cgroup parent and its process), so that
several can be tested at once on one machine.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from minid.kernel import process
from minid.kernel.cgroups.hierarchy import Mount, parse_mounts, parse_own

SPARE_WORKER = "minid: worker of a spare shim"

# What SQLite makes and removes as it likes, and the cache of compiled seccomp filters.
_COMING_AND_GOING = re.compile(
    r"minid\.db-(wal|shm|journal)$|/seccomp(/[0-9a-f]{64})?$|/blobs/unsynced$|/ports\.sock$"
)
# Processes that minid starts when it needs them and ends when it has not needed them for a while (10 and 30 s), with
# the descriptors that the daemon has for each.
_RESTING = {
    "minid: forkserver of jobs": Counter({"socket": 2, "pipe": 1}),
    "minid: published ports": Counter({"socket": 1}),
}
_INODE = re.compile(r":\[\d+\]$")


@dataclass(frozen=True)
class Snapshot:
    """Each field is a multiset of descriptions; ``scope`` says where to look again."""

    scope: "Scope"
    mounts: Counter[str]
    cgroups: Counter[str]
    network_namespaces: Counter[str]
    processes: Counter[str]
    descriptors: Counter[str]
    files: Counter[str]

    def difference(self, later: "Snapshot") -> list[str]:
        """A line for everything that ``later`` has and this one has not, or has fewer of; empty: nothing
        leaked.
        """
        lines = []
        for field in fields(self):
            if field.name == "scope":
                continue
            before, after = getattr(self, field.name), getattr(later, field.name)
            for what, count in sorted((after - before).items()):
                times = f" ({count} more)" if count > 1 else ""
                lines.append(f"{field.name.replace('_', ' ')}: {what}{times}")
        return lines


@dataclass(frozen=True)
class Scope:
    data_root: str
    exec_root: str
    cgroup_parent: str | None
    daemon_pid: int | None


class Machine:
    """The machine that the tests run on; needs root."""

    @staticmethod
    def snapshot(
        data_root: str | Path,
        exec_root: str | Path,
        cgroup_parent: str | None = None,
        daemon_pid: int | None = None,
    ) -> Snapshot:
        """Take the picture. ``cgroup_parent`` as in ``--cgroup-parent``: give each daemon under test its
        own, the default one is shared by all daemons in one cgroup, and their containers cannot be told
        apart there. Without ``daemon_pid`` (or when that process has gone) its descriptors and children are
        left out.
        """
        scope = Scope(os.path.realpath(data_root), os.path.realpath(exec_root), cgroup_parent, daemon_pid)
        if daemon_pid is not None:
            _await_spare_shim(daemon_pid)
        groups = list(_cgroups(scope))
        pids = _processes(scope, groups)
        resting = {pid: held for pid in pids if (held := _resting(pid)) is not None}
        pids -= set(resting)
        held_for_them = sum(resting.values(), Counter[str]())
        return Snapshot(
            scope,
            Counter(_mounts(scope)),
            Counter(groups),
            Counter(_network_namespaces(pids)),
            Counter(_describe(pid) for pid in pids),
            Counter(_descriptors(daemon_pid)) - held_for_them,
            Counter(_files(scope)),
        )

    @staticmethod
    def leaks(before: Snapshot, timeout_s: float = 5.0, daemon_pid: int | None = None) -> list[str]:
        """``before.difference`` of now, giving what is still on its way out a little time to go.

        ``daemon_pid``: the daemon's process now, if it has been started again since.
        """
        scope = replace(before.scope, daemon_pid=daemon_pid or before.scope.daemon_pid)
        deadline = time.monotonic() + timeout_s
        while True:
            now = Machine.snapshot(scope.data_root, scope.exec_root, scope.cgroup_parent, scope.daemon_pid)
            lines = before.difference(now)
            if not lines or time.monotonic() > deadline:
                return lines
            time.sleep(0.02)


def _await_spare_shim(daemon_pid: int, timeout_s: float = 5.0) -> None:
    """minid has one, but makes it a moment after a start; it belongs to the picture. (dockerd has no forkserver.)"""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and os.path.exists(f"/proc/{daemon_pid}"):
        try:
            servers = [pid for pid in process.list_children(daemon_pid) if _title(pid) == "minid: forkserver"]
            keepers = [pid for server in servers for pid in process.list_children(server)]
            workers = [pid for keeper in keepers for pid in process.list_children(keeper)]
            if not servers or any(_title(pid) == SPARE_WORKER for pid in workers):
                return
        except ProcessLookupError:
            pass  # one of them has just ended: look again
        time.sleep(0.02)


def _title(pid: int) -> str:
    return _text(f"/proc/{pid}/cmdline").rstrip("\0")


def _resting(pid: int) -> Counter[str] | None:
    title = _text(f"/proc/{pid}/cmdline")
    return next((held for name, held in _RESTING.items() if title.startswith(name)), None)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _inside(path: str, scope: Scope) -> bool:
    return any(path == root or path.startswith(root + "/") for root in (scope.data_root, scope.exec_root))


def _mounts(scope: Scope) -> Iterator[str]:
    """Mounts at or of our directories, in the daemon's mount namespace and in ours."""
    tables = {"self": _text("/proc/self/mountinfo")}
    if scope.daemon_pid and _link(f"/proc/{scope.daemon_pid}/ns/mnt") != _link("/proc/self/ns/mnt"):
        tables["daemon"] = _text(f"/proc/{scope.daemon_pid}/mountinfo")
    for namespace, table in tables.items():
        for line in table.splitlines():
            before, _, after = line.partition(" - ")
            words = before.split(" ")
            if _inside(words[4], scope) or scope.data_root + "/" in after or scope.exec_root + "/" in after:
                where = "" if namespace == "self" else " (in the daemon's mount namespace)"
                yield f"{after.split(' ')[0]} on {words[4]}{where}"


def _cgroups(scope: Scope) -> Iterator[str]:
    pid = scope.daemon_pid if scope.daemon_pid and os.path.isdir(f"/proc/{scope.daemon_pid}") else "self"
    own = parse_own(_text(f"/proc/{pid}/cgroup"))
    mounts = parse_mounts(_text("/proc/self/mountinfo"))
    places: list[tuple[Mount, str]] = [(mount, own.get(name, "/")) for name, mount in mounts.v1.items()]
    if mounts.v2 is not None:
        places.append((mounts.v2, own.get("", "/").removesuffix("/daemon")))
    parent = scope.cgroup_parent or "containers"
    tops = {
        (mount.directory if parent.startswith("/") else mount.path(path)).rstrip("/")
        + "/"
        + parent.strip("/")
        for mount, path in places
    }
    for top in sorted(tops):
        for directory, _, _ in os.walk(top):
            if directory != top:
                yield directory


def _processes(scope: Scope, groups: Iterable[str]) -> set[int]:
    """Below the daemon, in its containers' cgroups, or using its directories."""
    parents: dict[int, int] = {}
    for name in _names("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = int(process.stat_fields(int(name))[1])
            except (ProcessLookupError, OSError):
                continue
    found = {int(word) for group in groups for word in _text(group + "/cgroup.procs").split()}
    for pid in parents:
        if pid == os.getpid():
            continue
        if scope.daemon_pid and _descends(pid, scope.daemon_pid, parents):
            found.add(pid)
            continue
        command = _text(f"/proc/{pid}/cmdline").split("\0")
        if any(_inside(word.partition("=")[2] or word, scope) for word in command) and (
            any(word.endswith("minid") for word in command[:3]) or "minid.shim" in " ".join(command)
        ):
            found.add(pid)
            continue
        open_files = (_link(f"/proc/{pid}/fd/{fd}") for fd in _names(f"/proc/{pid}/fd"))
        if not _descends(pid, os.getpid(), parents) and any(_inside(each, scope) for each in open_files):
            found.add(pid)
    return found


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        pid = parents.get(pid, 0)
        if pid == ancestor:
            return True
    return False


def _describe(pid: int) -> str:
    """Without the pid: a daemon that has been started again is no leak."""
    try:
        stat = process.stat_fields(pid)
    except ProcessLookupError:
        return "one that ended meanwhile"
    command = _text(f"/proc/{pid}/cmdline").replace("\0", " ").strip()[:100]
    name = command or _text(f"/proc/{pid}/comm").strip()
    return f"zombie {name}" if stat[0] == "Z" else name


def _network_namespaces(pids: Iterable[int]) -> Iterator[str]:
    """Those that are not ours, once each, of the processes and of what they hold open."""
    found = set()
    for pid in pids:
        found.add(_link(f"/proc/{pid}/ns/net"))
        found.update(_link(f"/proc/{pid}/fd/{fd}") for fd in _names(f"/proc/{pid}/fd"))
    own = _link("/proc/self/ns/net")
    yield from ("net" for each in found if each.startswith("net:[") and each != own)


def _descriptors(pid: int | None) -> Iterator[str]:
    """Sockets, pipes and namespaces by kind only: their numbers tell nobody anything. The few device
    programs that a daemon keeps loaded (kernel.devices_bpf) are left out, and its idle connections to
    registries, which it closes after some seconds.
    """
    if pid is None:
        return
    targets = [_link(f"/proc/{pid}/fd/{fd}") for fd in _names(f"/proc/{pid}/fd")]
    tables = _text(f"/proc/{pid}/net/tcp") + _text(f"/proc/{pid}/net/tcp6")
    to_registries = {f"socket:[{line.split()[9]}]" for line in tables.splitlines() if line.split()[0] != "sl"}
    for target in targets:
        if target and target != "anon_inode:bpf-prog" and target not in to_registries:
            yield _INODE.sub("", target)


def _files(scope: Scope) -> Iterator[str]:
    """Everything below both roots, symlinks not followed, other file systems (a container's root) not
    entered.
    """
    for root in (scope.data_root, scope.exec_root):
        for directory, directories, names in os.walk(root):
            for name in list(directories):
                if os.path.ismount(f"{directory}/{name}"):
                    directories.remove(name)
            for name in [*directories, *names]:
                if not _COMING_AND_GOING.search(f"{directory}/{name}"):
                    yield f"{directory}/{name}"
