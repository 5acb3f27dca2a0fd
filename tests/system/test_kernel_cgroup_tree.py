"""Where the containers' parent is found on v2, on the real hierarchy: also on machines that use v1 for
controllers.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minid.kernel.cgroups import Tree
from minid.kernel.cgroups.hierarchy import Hierarchies, Mount, parse_mounts, parse_own
from minid.kernel.cgroups.tree import open_in
from tests.forked import Child, forked

pytestmark = pytest.mark.root
NAME = f"minid-tree-{os.getpid()}"


@pytest.fixture
def mount() -> Iterator[Mount]:
    mount = parse_mounts(Path("/proc/self/mountinfo").read_text()).v2
    if os.geteuid() != 0 or mount is None:
        pytest.skip("needs root and a mounted cgroup2 hierarchy")
    subtree = Path(mount.directory, "cgroup.subtree_control")
    before = set(subtree.read_text().split())
    os.makedirs(f"{mount.directory}/{NAME}/service")
    yield mount
    for directory, _, _ in os.walk(f"{mount.directory}/{NAME}", topdown=False):
        os.rmdir(directory)
    for controller in set(subtree.read_text().split()) - before:
        subtree.write_text("-" + controller)


def in_service(mount: Mount, function: Callable[[Tree, str], Any], parent: str | None = None) -> Any:
    """``function(tree, own path)`` in a process that is alone in its cgroup, as systemd would start a
    daemon.
    """
    service = f"{mount.directory}/{NAME}/service"

    def run() -> Any:
        Path(service, "cgroup.procs").write_text("0")
        own = parse_own(Path("/proc/self/cgroup").read_text())
        return function(open_in(Hierarchies({}, mount), own, parent), service)

    return forked(run)


def own() -> str:
    return parse_own(Path("/proc/self/cgroup").read_text())[""]


def test_daemon_moves_into_a_leaf(mount: Mount) -> None:
    def run(tree: Tree, service: str) -> dict[str, Any]:
        again = open_in(Hierarchies({}, mount), parse_own(Path("/proc/self/cgroup").read_text()), None)
        return {
            "own": own(),
            "parents": tree.parents,
            "again": again.parents,
            "left in the service": Path(service, "cgroup.procs").read_text(),
            "enabled": set(Path(service, "cgroup.subtree_control").read_text().split()),
            "available": set(Path(service, "containers/cgroup.controllers").read_text().split()),
        }

    seen = in_service(mount, run)
    assert seen["own"] == f"/{NAME}/service/daemon"
    assert seen["parents"] == seen["again"] == {"": f"{mount.directory}/{NAME}/service/containers"}
    assert seen["left in the service"] == ""
    root = set(Path(mount.directory, "cgroup.controllers").read_text().split())
    wanted = root & {"cpu", "cpuset", "io", "memory", "pids", "hugetlb"}
    assert seen["enabled"] == seen["available"] == wanted


def test_children_move_along(mount: Mount) -> None:
    service = Path(mount.directory, NAME, "service")

    def run() -> Any:
        (service / "cgroup.procs").write_text("0")
        with Child() as child:
            tree = open_in(Hierarchies({}, mount), {"": f"/{NAME}/service"}, None)
            pids = (service / "daemon/cgroup.procs").read_text().split()
            return tree.parents, set(pids) == {str(os.getpid()), str(child.pid)}

    assert forked(run) == ({"": f"{service}/containers"}, True)


def test_limits_in_a_container_of_it(mount: Mount) -> None:
    if "hugetlb" not in Path(mount.directory, "cgroup.controllers").read_text().split():
        pytest.skip("this machine's cgroup2 hierarchy does not have the hugetlb controller")

    def run(tree: Tree, service: str) -> dict[str, Any]:
        group = tree.create("one", {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]})
        limit = Path(group.paths[""], "hugetlb.2MB.max").read_text().strip()
        listed = tree.list()
        with Child(group.join) as child:
            inside = group.pids() == [child.pid]
        group.remove()
        tree.prune()
        again = tree.create("two", {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 << 20}]})
        return {
            "limit": limit,
            "warnings": [*group.warnings, *again.warnings],
            "listed": listed,
            "inside": inside,
            "left": os.path.exists(group.paths[""]),
        }

    assert in_service(mount, run) == {
        "limit": str(4 << 20),
        "warnings": [],
        "listed": ["one"],
        "inside": True,
        "left": False,
    }


def test_features_and_warnings_are_of_this_machine(mount: Mount) -> None:
    resources = {"memory": {"limit": 64 << 20}}
    has_memory = "memory" in Path(mount.directory, "cgroup.controllers").read_text().split()

    def run(tree: Tree, service: str) -> Any:
        return tree.features(), tree.warnings(resources), tree.list()

    features, warnings, listed = in_service(mount, run)
    assert features["MemoryLimit"] is has_memory
    assert features["OomKillDisable"] is False
    assert bool(warnings) is not has_memory
    assert listed == []


def test_somebody_elses_processes_stay_where_they_are(mount: Mount) -> None:
    service = Path(mount.directory, NAME, "service")
    fallback = f"{mount.directory}/minid"
    was_there = os.path.isdir(fallback)
    with Child(lambda: (service / "cgroup.procs").write_text("0")) as other:

        def run(tree: Tree, _: str) -> Any:
            return tree.parents, own()

        parents, where = in_service(mount, run)
        assert parents == {"": fallback + "/containers"}
        assert where == f"/{NAME}/service"
        assert str(other.pid) in (service / "cgroup.procs").read_text().split()
    if not was_there:
        os.rmdir(fallback + "/containers")
        os.rmdir(fallback)


def test_absolute_parent_moves_nobody(mount: Mount) -> None:
    def run(tree: Tree, _: str) -> Any:
        return tree.parents, own()

    parents, where = in_service(mount, run, f"/{NAME}/elsewhere")
    assert parents == {"": f"{mount.directory}/{NAME}/elsewhere"}
    assert where == f"/{NAME}/service"
