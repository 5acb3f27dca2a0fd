"""Where the containers' cgroups are: finding the place, making, finding and listing them.

The place is ``containers`` in the daemon's own cgroup, or what ``--cgroup-parent`` names:

    v1, in each hierarchy                     v2
    <own>/                  the daemon        <own>/daemon/           the daemon and the shims
    <own>/containers/<id>/  a container       <own>/containers/<id>/  a container

On v2 a cgroup with controllers for its children may not have processes itself ("no internal processes"),
unless it is the root. So there the daemon moves into a leaf, with its children. If others are in its cgroup
as well (somebody's login session, say), that cgroup is not ours to rearrange, and the containers go to
``/minid`` of the hierarchy, as Docker's do to ``/docker``. An absolute ``--cgroup-parent`` counts from the
hierarchy's root, a relative one from the daemon's own.

Where systemd started the daemon as a service on v2, the place is a scope beside that service (see ``scope``):

    <slice>/minid.service/                       the daemon
    <slice>/minid-containers.scope/shims/        forkserver and shims
    <slice>/minid-containers.scope/containers/   the containers
"""

import contextlib
import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from minid.kernel import process
from minid.kernel.cgroups import scope, v1, v2
from minid.kernel.cgroups.cgroup import Cgroup, find_text, read, write
from minid.kernel.cgroups.hierarchy import V1_CONTROLLERS, Hierarchies, parse_mounts, parse_own
from minid.kernel.cgroups.settings import for_v1, for_v2
from minid.kernel.cgroups.v1 import CgroupV1
from minid.kernel.cgroups.v2 import CgroupV2

_T = TypeVar("_T")

CONTAINERS, DAEMON, FALLBACK = "containers", "daemon", "minid"


def reopen(paths: Mapping[str, str]) -> Cgroup:
    """The cgroup that had these ``paths``, whether or not it still exists."""
    return CgroupV2(paths) if "" in paths else CgroupV1(paths)


@dataclass(frozen=True, slots=True)
class Home:
    """The service of systemd's that this process is in; ``own`` is its cgroup below ``mount``."""

    mount: str
    own: str

    def ensure(self, resident: int) -> str | None:
        """See ``scope.ensure``."""
        return scope.ensure(self.mount, self.own, resident)


class Tree:
    """The containers' parent cgroup. ``parents``: controller → directory (v2: ``""`` → directory)."""

    def __init__(self, version: int, parents: Mapping[str, str], home: Home | None = None) -> None:
        self.version = version
        self.parents = dict(parents)
        self._home = home

    @staticmethod
    def open(parent: str | None = None, resident: int | None = None) -> "Tree":
        """The tree of this process (see the module); on v2 it may move this process and enables controllers.

        ``resident``: the process of which shims are forked; it moves to where the containers are, and a later
        one has to be told to ``adopt``. Without it there is no scope. OSError: no cgroup hierarchy is
        mounted, or it is read-only, or systemd refuses the scope.
        """
        hierarchies = parse_mounts(read("/proc/self/mountinfo"))
        own = parse_own(read("/proc/self/cgroup"))
        if hierarchies.version == 0:
            raise OSError(
                errno.ENOENT, "no cgroup hierarchy is mounted, mount cgroup2 there", "/sys/fs/cgroup"
            )
        if hierarchies.version == 2 and hierarchies.v2 and resident and not (parent or "").startswith("/"):
            home = Home(hierarchies.v2.directory, own.get("", "/"))
            if directory := home.ensure(resident):
                directory = _below(directory, parent or CONTAINERS)
                os.makedirs(directory, exist_ok=True)
                v2.enable_controllers(hierarchies.v2.directory, directory)
                return Tree(2, {"": directory}, home)
        return open_in(hierarchies, own, parent)

    def adopt(self, resident: int) -> None:
        """A new process takes the place of the ``resident`` that ``open`` was told of."""
        if self._home:
            self._home.ensure(resident)

    @property
    def directories(self) -> tuple[str, ...]:
        """The parent's directories, each once."""
        return tuple(dict.fromkeys(self.parents.values()))

    def create(self, container_id: str, resources: Mapping[str, Any]) -> Cgroup:
        """Make and limit a container's cgroup. ``resources``: OCI ``linux.resources``.

        Nothing is left behind on failure. ValueError: limits that contradict each other, or a name that
        cannot be one. OSError: the kernel refuses (EBUSY: the name exists and has processes; else it names
        the file and value). What the machine does not have at all is in ``.warnings``, in Docker's words.
        """
        _check_name(container_id)
        if self.version == 1:
            paths = v1.make(self.parents, container_id, v1.controllers_for(resources))
            group: CgroupV1 | CgroupV2 = CgroupV1(paths, parents=self.parents)
        else:
            self._ensure_parent()
            group = CgroupV2(v2.make(self.parents[""], container_id))
        try:
            warnings = group.apply(resources) if isinstance(group, CgroupV1) else group.update(resources)
        except BaseException:
            group.try_remove()
            raise
        group.warnings = tuple(warnings)
        return group

    def _ensure_parent(self) -> None:
        if not os.path.isdir(self.parents[""]):
            os.makedirs(self.parents[""])
            v2.enable_controllers(_mount_of(self.parents[""]), self.parents[""])

    def find(self, container_id: str) -> Cgroup | None:
        """The container's cgroup if any part of it exists."""
        _check_name(container_id)
        if self.version == 1:
            paths = v1.find(self.parents, container_id)
            return CgroupV1(paths, parents=self.parents) if paths else None
        directory = f"{self.parents['']}/{container_id}"
        return CgroupV2({"": directory}) if os.path.isdir(directory) else None

    def list(self) -> list[str]:
        """The names of the cgroups below the parent in any hierarchy, sorted; another daemon's may be among
        them.
        """
        names: set[str] = set()
        for directory in self.directories:
            with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
                names.update(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return sorted(names)

    def prune(self) -> None:
        """Remove the parent's directories that are empty; ``create`` makes them again."""
        v2.leave(self.directories)

    def warnings(self, resources: Mapping[str, Any]) -> tuple[str, ...]:
        """What ``create`` would warn of, without making anything that stays; for the answer to a create
        request.
        """
        return self._probe(lambda group: _lacking(group, resources))

    def features(self) -> dict[str, bool]:
        """What can be limited here; keys as in the Engine API's GET /info."""
        files = _FEATURES_V1 if self.version == 1 else _FEATURES_V2
        return self._probe(lambda group: {key: _has(group, *where) for key, where in files.items()})

    def _probe(self, look: Callable[[Cgroup], _T]) -> _T:
        """``look`` at a cgroup with every controller; the root lacks files, so it takes a real child."""
        name = f"probe-{os.getpid()}-{os.urandom(4).hex()}"
        if self.version == 1:
            group: Cgroup = CgroupV1(v1.make(self.parents, name, V1_CONTROLLERS))
        else:
            self._ensure_parent()
            group = CgroupV2(v2.make(self.parents[""], name))
        try:
            return look(group)
        finally:
            group.try_remove()


_FEATURES_V1 = {
    "MemoryLimit": ("memory", "memory.limit_in_bytes"),
    "SwapLimit": ("memory", "memory.memsw.limit_in_bytes"),
    "KernelMemoryTCP": ("memory", "memory.kmem.tcp.limit_in_bytes"),
    "OomKillDisable": ("memory", "memory.oom_control"),
    "CpuCfsPeriod": ("cpu", "cpu.cfs_period_us"),
    "CpuCfsQuota": ("cpu", "cpu.cfs_quota_us"),
    "CPUShares": ("cpu", "cpu.shares"),
    "CPUSet": ("cpuset", "cpuset.cpus"),
    "PidsLimit": ("pids", "pids.max"),
}
_FEATURES_V2 = {
    "MemoryLimit": ("", "memory.max"),
    "SwapLimit": ("", "memory.swap.max"),
    "KernelMemoryTCP": ("", "no such file on v2"),
    "OomKillDisable": ("", "no such file on v2"),
    "CpuCfsPeriod": ("", "cpu.max"),
    "CpuCfsQuota": ("", "cpu.max"),
    "CPUShares": ("", "cpu.weight"),
    "CPUSet": ("", "cpuset.cpus"),
    "PidsLimit": ("", "pids.max"),
}


def _has(group: Cgroup, controller: str, file: str) -> bool:
    directory = group.paths.get(controller)
    return directory is not None and os.path.exists(f"{directory}/{file}")


def _lacking(group: Cgroup, resources: Mapping[str, Any]) -> tuple[str, ...]:
    settings = for_v1(resources) if group.version == 1 else for_v2(resources)
    warnings = list(settings.warnings)
    for setting in settings.writes:
        controller = setting.controller if group.version == 1 else ""
        if not any(_has(group, controller, file) for file, _ in setting.choices):
            warnings.append(setting.lacking)
    return tuple(dict.fromkeys(warnings))


def _check_name(name: str) -> None:
    if not name or "/" in name or name in (".", "..") or "\n" in name:
        raise ValueError(f"not a name for a cgroup: {name!r}")


def open_in(hierarchies: Hierarchies, own: Mapping[str, str], parent: str | None) -> Tree:
    """``Tree.open`` for given mounts and own cgroups (/proc/self/cgroup, parsed)."""
    if hierarchies.version == 1:
        return Tree(1, _parents_v1(hierarchies, own, parent))
    return Tree(2, {"": _parent_v2(hierarchies, own.get("", "/"), parent)})


def _parents_v1(hierarchies: Hierarchies, own: Mapping[str, str], parent: str | None) -> dict[str, str]:
    parents = {}
    for controller in V1_CONTROLLERS:
        mount = hierarchies.v1.get(controller)
        if mount is not None:
            start = mount.directory if parent and parent[0] == "/" else mount.path(own.get(controller, "/"))
            parents[controller] = _below(start, parent or CONTAINERS)
    return parents


def _below(directory: str, parent: str) -> str:
    """``--cgroup-parent`` below a directory; ``..`` cannot lead out of it."""
    return directory.rstrip("/") + os.path.normpath("/" + parent.lstrip("/")).rstrip("/")


def _parent_v2(hierarchies: Hierarchies, own: str, parent: str | None) -> str:
    mount = hierarchies.v2
    if mount is None:
        raise OSError(errno.ENOENT, "no cgroup2 hierarchy is mounted", "/sys/fs/cgroup")
    if parent and parent[0] == "/":
        directory = _below(mount.directory, parent)
    else:
        directory = _below(_own_v2(mount.directory, mount.path(own)), parent or CONTAINERS)
    os.makedirs(directory, exist_ok=True)
    v2.enable_controllers(mount.directory, directory)
    return directory


def _own_v2(mount: str, own: str) -> str:
    """The cgroup in which the containers' parent may be made: its own, with the daemon out of the way."""
    if own == mount:
        return own
    if os.path.basename(own) == DAEMON and os.path.isdir(f"{os.path.dirname(own)}/{CONTAINERS}"):
        return os.path.dirname(own)  # a restart from within, or a forked process: it is in the leaf already
    ours = _with_descendants(os.getpid())
    inside = v2.processes(own)
    if set(inside) - set(ours):
        return _below(mount, FALLBACK)
    leaf = f"{own}/{DAEMON}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(leaf)
    for pid in inside:
        with contextlib.suppress(ProcessLookupError):
            write(leaf + "/cgroup.procs", str(pid))
    return own


def _with_descendants(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            found += process.list_children(each)
    return found


def _mount_of(directory: str) -> str:
    """The hierarchy's root: the topmost directory above that still is a cgroup."""
    above = os.path.dirname(directory)
    while find_text(os.path.dirname(above) + "/cgroup.controllers") is not None:
        above = os.path.dirname(above)
    return above
