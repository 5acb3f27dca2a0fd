"""Which cgroup hierarchies are mounted where, and which cgroup in them is ours; pure parsing of proc(5)
files.

cgroups(7): v1 has a hierarchy per controller (or per few, mounted together), v2 one for all. "Hybrid"
machines have the controllers on v1 and an (almost) empty v2 beside them: these count as v1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# Those of v1 that a container can need. On v2 cpuacct is part of cpu, blkio is called io, devices and
# freezer are no controllers.
V1_CONTROLLERS = (
    "memory",
    "cpuacct",
    "pids",
    "devices",
    "freezer",
    "cpu",
    "cpuset",
    "blkio",
    "hugetlb",
)
V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted hierarchy: ``root`` is the cgroup that one sees at ``directory``."""

    directory: str
    root: str

    def path(self, cgroup: str) -> str:
        """The directory of a cgroup named as in /proc/PID/cgroup; the mount itself if it lies outside."""
        if self.root == "/":
            inside = cgroup
        elif cgroup == self.root or cgroup.startswith(self.root + "/"):
            inside = cgroup[len(self.root) :]
        else:
            inside = "/"
        if inside.startswith("/.."):
            inside = "/"
        return (self.directory + inside).rstrip("/")


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """What is mounted: a mount for each v1 controller, and the v2 mount if there is one."""

    v1: Mapping[str, Mount]
    v2: Mount | None

    @property
    def version(self) -> int:
        """1 if any controller is on v1, else 2; 0 if nothing is mounted at all."""
        if self.v1:
            return 1
        return 2 if self.v2 else 0


def parse_mounts(mountinfo: str) -> Hierarchies:
    """From /proc/self/mountinfo. If something is mounted twice, the first mount that shows the root wins."""
    v1: dict[str, Mount] = {}
    v2: Mount | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, rest = after.partition(" ")
        if kind not in ("cgroup", "cgroup2"):
            continue
        fields = before.split(" ")
        mount = Mount(_unescape(fields[4]), _unescape(fields[3]))
        if kind == "cgroup2":
            if v2 is None or (v2.root != "/" and mount.root == "/"):
                v2 = mount
            continue
        for option in rest.partition(" ")[2].split(","):
            if option in V1_CONTROLLERS and (
                option not in v1 or (v1[option].root != "/" and mount.root == "/")
            ):
                v1[option] = mount
    return Hierarchies(v1, v2)


def _unescape(path: str) -> str:
    return (
        path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
        if "\\" in path
        else path
    )


def parse_own(proc_cgroup: str) -> dict[str, str]:
    """From /proc/PID/cgroup: controller → its cgroup; ``""`` is v2's, ``name=systemd`` a named v1
    hierarchy's.
    """
    own: dict[str, str] = {}
    for line in proc_cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        path = path.removesuffix(" (deleted)")
        for controller in controllers.split(","):
            own[controller] = path
    return own
