"""Cgroups by container id: made, found again, removed with whatever is in them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minid.containers.groups import Groups
from minid.errors import Conflict
from minid.kernel.cgroups import Tree
from tests.forked import Child

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LIMITS = {"pids": {"limit": 10}}


@pytest.fixture
def tree() -> Iterator[Tree]:
    tree = Tree.open(f"mt-groups-{os.getpid()}")
    yield tree
    for name in tree.list():
        group = tree.find(name)
        assert group is not None
        group.kill()
        group.remove()
    tree.prune()


async def test_made_used_and_removed(tree: Tree) -> None:
    groups = Groups(tree)
    group = groups.create("a", LIMITS)
    with Child(group.join) as child:
        assert groups.pids("a") == [child.pid]
        assert groups.stats("a")["pids"]["current"] == 1
        await groups.freeze("a")
        await groups.thaw("a")
        await groups.remove("a")
        assert child.wait() == -9, "what is left in it is killed"
    assert tree.list() == []
    await groups.remove("a")


async def test_without_a_run_there_is_none(tree: Tree) -> None:
    groups = Groups(tree)
    for ask in (groups.get, groups.pids, groups.stats):
        with pytest.raises(Conflict, match="not running"):
            ask("a")


async def test_an_empty_left_over_is_replaced(tree: Tree) -> None:
    tree.create("a", {"pids": {"limit": 3}})
    group = Groups(tree).create("a", LIMITS)
    assert group.stats()["pids"]["limit"] == 10


async def test_a_later_daemon_finds_it_wherever_it_is(tree: Tree, tmp_path: Path) -> None:
    other = Tree.open(f"mt-groups-other-{os.getpid()}")
    group = other.create("a", LIMITS)
    (tmp_path / "task.json").write_text(json.dumps({"cgroup_paths": dict(group.paths)}))
    groups = Groups(tree)
    groups.restore("a", tmp_path)
    with Child(group.join) as child:
        assert groups.pids("a") == [child.pid]
        await groups.remove("a")
    assert other.list() == []
    other.prune()


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"cgroup_paths": 3}'])
async def test_a_damaged_task_json_is_no_obstacle(tree: Tree, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "task.json").write_text(text)
    groups = Groups(tree)
    groups.restore("a", tmp_path)
    await groups.remove("a")
