"""Real cgroups of this machine: limits that bite, processes that are frozen, killed and gone."""

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minid.kernel import clone, devices_bpf
from minid.kernel.cgroups import Tree, reopen
from minid.kernel.cgroups.devices import parse
from minid.kernel.cgroups.hierarchy import parse_mounts
from minid.kernel.cgroups.v2 import CgroupV2, make
from tests.forked import Child, Ended, forked

pytestmark = pytest.mark.root
MIB = 1 << 20
DENY_ALL = {"allow": False, "access": "rwm"}
NULL = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}


def _mounts() -> Any:
    return parse_mounts(Path("/proc/self/mountinfo").read_text())


@pytest.fixture
def tree() -> Iterator[Tree]:
    if os.geteuid() != 0:
        pytest.skip("making cgroups needs root")
    if _mounts().version == 0:
        pytest.skip("no cgroup hierarchy is mounted on this machine")
    # Absolute, so that on v2 the test does not move pytest out of its own cgroup.
    tree = Tree.open(f"/minid-test-{os.getpid()}")
    yield tree
    for name in tree.list():
        group = tree.find(name)
        assert group is not None
        group.kill()
        group.remove()
    tree.prune()
    assert not any(map(os.path.exists, tree.directories))


def _needs(tree: Tree, feature: str) -> None:
    if not tree.features()[feature]:
        pytest.skip(f"this machine's cgroups lack {feature}")


def test_join_and_remove(tree: Tree) -> None:
    group = tree.create("one", {})
    assert group.warnings == ()
    assert tree.list() == ["one"]
    with Child(group.join) as child:
        assert group.pids() == [child.pid]
        assert not group.try_remove()
        assert group.exists()
    group.remove()
    assert not group.exists()
    assert tree.find("one") is None
    group.remove()


def test_join_by_procs_files_moves_every_controller(tree: Tree) -> None:
    group = tree.create("one", {"pids": {"limit": 10}})

    def join() -> str:
        for path in group.procs_files:
            with open(path, "w") as file:
                file.write("0")
        return Path("/proc/self/cgroup").read_text()

    own = forked(join)
    for controller in [each for each, path in group.paths.items() if path in group.joined]:
        lines = [line for line in own.splitlines() if controller in line.split(":")[1].split(",")]
        assert lines
        assert lines[0].endswith("/one")


def test_reopened_by_paths(tree: Tree) -> None:
    group = tree.create("one", {})
    with Child(group.join) as child:
        again = reopen(group.paths)
        assert again.version == tree.version
        assert again.pids() == [child.pid]
    again.remove()
    assert not group.exists()


def test_remove_waits_for_the_last_process(tree: Tree) -> None:
    group = tree.create("one", {})

    def join() -> None:
        group.join()
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    with Child(join) as child:
        with pytest.raises(TimeoutError, match=str(child.pid)):
            group.remove(timeout_s=0.05)
        assert group.exists()
        os.kill(child.pid, signal.SIGTERM)
        group.remove(timeout_s=5)
        assert not group.exists()


def test_a_left_over_of_the_same_name(tree: Tree) -> None:
    tree.create("one", {"pids": {"limit": 7}})
    found = tree.find("one")
    assert found is not None
    found.freeze()
    again = tree.create("one", {})
    assert not again.frozen()
    assert again.stats().get("pids", {}).get("limit") is None
    with Child(again.join), pytest.raises(OSError) as caught:
        tree.create("one", {})
    assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a"])
def test_names_stay_below_the_parent(tree: Tree, name: str) -> None:
    with pytest.raises(ValueError, match="not a name for a cgroup"):
        tree.create(name, {})


def test_memory_limit_kills_and_is_counted(tree: Tree) -> None:
    _needs(tree, "MemoryLimit")
    group = tree.create("one", {"memory": {"limit": 24 * MIB, "swap": 24 * MIB}})
    assert group.oom_kills() == 0

    def grow() -> None:
        group.join()
        bytearray(64 * MIB)

    with pytest.raises(Ended) as caught:
        forked(grow)
    assert caught.value.status == -signal.SIGKILL
    assert group.oom_kills() == 1
    assert group.stats()["memory"]["limit_bytes"] == 24 * MIB


def test_update_memory_up_and_down(tree: Tree) -> None:
    _needs(tree, "MemoryLimit")
    group = tree.create("one", {"memory": {"limit": 32 * MIB, "swap": 64 * MIB}})
    for limit, swap in ((128 * MIB, 256 * MIB), (16 * MIB, 16 * MIB), (64 * MIB, 64 * MIB), (32 * MIB, -1)):
        group.update({"memory": {"limit": limit, "swap": swap}})
        assert group.stats()["memory"]["limit_bytes"] == limit


def test_pids_limit(tree: Tree) -> None:
    _needs(tree, "PidsLimit")
    group = tree.create("one", {"pids": {"limit": 1}})

    def fork() -> None:
        group.join()
        if os.fork() == 0:
            os._exit(0)

    with pytest.raises(BlockingIOError):
        forked(fork)


def test_cpuset(tree: Tree) -> None:
    _needs(tree, "CPUSet")
    group = tree.create("one", {"cpu": {"cpus": "0"}})

    def affinity() -> set[int]:
        group.join()
        return os.sched_getaffinity(0)

    assert forked(affinity) == {0}
    with pytest.raises(OSError, match="write '4096' to cgroup file"):
        tree.create("two", {"cpu": {"cpus": "4096"}})
    assert tree.list() == ["one"]


def test_cpu_quota_throttles(tree: Tree) -> None:
    _needs(tree, "CpuCfsQuota")
    group = tree.create("one", {"cpu": {"quota": 10000, "period": 100000, "shares": 512}})

    def burn() -> float:
        group.join()
        begun = time.monotonic()
        while time.process_time() < 0.03:
            pass
        return time.monotonic() - begun

    assert forked(burn) > 0.1
    assert group.stats()["cpu"]["throttled_periods"] >= 1


def test_update_of_a_running_container_adds_controllers(tree: Tree) -> None:
    _needs(tree, "CPUSet")
    group = tree.create("one", {})
    with Child(group.join) as child:
        group.update({"cpu": {"cpus": "0"}, "pids": {"limit": 55}})
        assert os.sched_getaffinity(child.pid) == {0}
        assert group.stats()["pids"]["limit"] == 55
        found = tree.find("one")
        assert found is not None
        assert found.paths == group.paths
    group.remove()
    assert tree.list() == []


def test_update_of_a_container_that_was_frozen_once(tree: Tree) -> None:
    """On v1 the freezer is made by the first freeze, and is in use from then on."""
    _needs(tree, "CPUSet")
    group = tree.create("one", {})
    with Child(group.join) as child:
        group.freeze()
        group.thaw()
        group.update({"cpu": {"cpus": "0"}})
        assert os.sched_getaffinity(child.pid) == {0}
        group.freeze()
        assert group.frozen()
        group.thaw()
    group.remove()
    assert tree.list() == []


def _open(path: str, flags: int) -> str:
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return errno.errorcode[error.errno]
    return ""


def _look_at_devices() -> dict[str, str]:
    return {
        "null rw": _open("/dev/null", os.O_RDWR),
        "zero r": _open("/dev/zero", os.O_RDONLY),
        "urandom r": _open("/dev/urandom", os.O_RDONLY),
        "urandom w": _open("/dev/urandom", os.O_WRONLY),
    }


RULES = [DENY_ALL, NULL, {"allow": True, "type": "c", "major": 1, "minor": 9, "access": "r"}]
SEEN = {"null rw": "", "zero r": "EPERM", "urandom r": "", "urandom w": "EPERM"}


def test_devices(tree: Tree) -> None:
    group = tree.create("one", {"devices": RULES})

    def look() -> dict[str, str]:
        group.join()
        return _look_at_devices()

    assert forked(look) == SEEN
    group.update({"devices": [DENY_ALL, {"allow": True, "access": "rwm"}]})
    assert set(forked(look).values()) == {""}
    group.update({"devices": RULES})
    assert forked(look) == SEEN


def test_freeze_and_thaw(tree: Tree) -> None:
    group = tree.create("one", {})

    def spin() -> None:
        group.join()
        if os.fork() == 0:
            while True:
                pass

    with Child(spin):
        assert len(group.pids()) == 2
        assert not group.frozen()
        group.freeze()
        assert group.frozen()
        used = group.stats()["cpu"]["usage_ns"]
        time.sleep(0.05)
        assert group.stats()["cpu"]["usage_ns"] == used
        group.thaw()
        assert not group.frozen()
        group.kill()
        group.remove()
    assert not group.exists()


def test_kill_gets_a_fork_bomb(tree: Tree) -> None:
    _needs(tree, "PidsLimit")
    group = tree.create("one", {"pids": {"limit": 40}})

    def bomb() -> None:
        group.join()
        if os.fork():
            return
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            try:
                os.fork()
            except BlockingIOError:
                pass

    with Child(bomb):
        group.kill()
        group.remove(timeout_s=10)
    assert not group.exists()


def test_kill_frozen(tree: Tree) -> None:
    group = tree.create("one", {})
    with Child(group.join) as child:
        group.freeze()
        group.kill()
        assert child.wait() == -signal.SIGKILL


def test_cgroups_made_inside_go_too(tree: Tree) -> None:
    group = tree.create("one", {})
    inside = group.directories[0] + "/a/b"
    os.makedirs(inside)

    def join() -> None:
        with open(inside + "/cgroup.procs", "w") as file:
            file.write("0")

    with Child(join) as child:
        assert group.pids() == [child.pid]
        group.kill()
        group.remove()
    assert not group.exists()


def test_contradicting_limits_leave_nothing(tree: Tree) -> None:
    with pytest.raises(ValueError, match="Minimum memoryswap"):
        tree.create("one", {"memory": {"limit": 2 * MIB, "swap": MIB}})
    assert tree.list() == []


def test_what_the_machine_lacks_is_a_warning(tree: Tree) -> None:
    resources = {"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}
    expected = (
        "Your kernel does not support huge page limits or the cgroup is not mounted. Limitation discarded."
    )
    assert tree.warnings(resources) == (expected,)
    assert tree.create("one", resources).warnings == (expected,)
    assert tree.warnings({"memory": {"limit": 64 * MIB}}) == ()


@pytest.fixture
def unified() -> Iterator[CgroupV2]:
    """A v2 cgroup, also on a machine that has its controllers on v1: what needs none works there as well."""
    mount = _mounts().v2
    if os.geteuid() != 0 or mount is None:
        pytest.skip("needs root and a mounted cgroup2 hierarchy")
    parent = f"{mount.directory}/minid-test-{os.getpid()}"
    os.mkdir(parent)
    group = CgroupV2(make(parent, "one"))
    yield group
    group.kill()
    group.remove()
    os.rmdir(parent)


def test_v2_devices(unified: CgroupV2) -> None:
    def look() -> dict[str, str]:
        unified.join()
        return _look_at_devices()

    assert set(forked(look).values()) == {""}
    unified.update({"devices": RULES})
    assert forked(look) == SEEN
    fd = os.open(unified.directory, os.O_RDONLY)
    try:
        first = devices_bpf.attached(fd)
        assert len(first) == 1
        unified.update({"devices": [DENY_ALL, NULL]})
        assert forked(look) == SEEN | {"urandom r": "EPERM"}
        second = devices_bpf.attached(fd)
        assert len(second) == 1
        assert second != first
        unified.update({"devices": [DENY_ALL, NULL]})
        assert devices_bpf.attached(fd) == second
    finally:
        os.close(fd)


def test_v2_many_different_rules(unified: CgroupV2) -> None:
    """More programs than are kept loaded: each still is in force where it was attached."""
    open_before = len(os.listdir("/proc/self/fd"))
    for minor in range(2 * devices_bpf._LOADED_MAX):
        unified.update({"devices": [DENY_ALL, {**NULL, "minor": minor}]})
    assert len(os.listdir("/proc/self/fd")) <= open_before + devices_bpf._LOADED_MAX
    unified.update({"devices": RULES})

    def look() -> dict[str, str]:
        unified.join()
        return _look_at_devices()

    assert forked(look) == SEEN


def test_v2_biggest_device_numbers_load(unified: CgroupV2) -> None:
    rule = {"allow": True, "type": "b", "major": 0xFFFFFFFF, "minor": 0x80000000, "access": "m"}
    devices_bpf.replace(unified.directory, devices_bpf.assemble(parse([DENY_ALL, rule])))


def test_v2_freeze_kill_remove(unified: CgroupV2) -> None:
    with Child(unified.join) as child:
        unified.freeze()
        assert unified.frozen()
        unified.thaw()
        assert unified.pids() == [child.pid]
        unified.kill()
        assert child.wait() == -signal.SIGKILL
    unified.remove()
    assert not unified.exists()


def test_v2_kill_of_a_kernel_before_5_14(unified: CgroupV2, monkeypatch: pytest.MonkeyPatch) -> None:
    from minid.kernel.cgroups import v2

    def write(path: str, value: str) -> None:
        if path.endswith("/cgroup.kill"):
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        original(path, value)

    original = v2.write
    monkeypatch.setattr(v2, "write", write)
    with Child(unified.join) as child:
        unified.kill()
        assert child.wait() == -signal.SIGKILL
        assert not unified.frozen()


def test_v2_born_in_it(unified: CgroupV2) -> None:
    def run() -> dict[str, object]:
        read, write = os.pipe()
        child = clone.fork(unified.fork_directory)
        if child.pid == 0:
            thread = threading.Thread(target=lambda: os.write(write, b"thread "))
            thread.start()
            thread.join()
            os.write(write, Path("/proc/self/cgroup").read_bytes())
            os.kill(os.getpid(), signal.SIGTERM)
        os.close(write)
        with os.fdopen(read) as file:
            text = file.read()
        return {"text": text, "status": os.waitstatus_to_exitcode(os.wait()[1])}

    seen = forked(run)
    assert seen["status"] == -signal.SIGTERM
    assert str(seen["text"]).startswith("thread ")
    assert f"0::{unified.directory.removeprefix(_mounts().v2.directory)}\n" in str(seen["text"])


def test_v2_born_in_it_without_clone3(unified: CgroupV2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clone.NR, "clone3", 100000)

    def run() -> bool:
        child = clone.fork(unified.fork_directory)
        if child.pid == 0:
            os._exit(0 if "minid-test" in Path("/proc/self/cgroup").read_text() else 3)
        return os.waitstatus_to_exitcode(os.wait()[1]) == 0

    assert forked(run)


def test_v2_not_born_into_what_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        clone.fork("/sys/fs/cgroup/no such cgroup")


def test_v2_remove_waits_for_the_last_process(unified: CgroupV2) -> None:
    with Child(unified.join) as child:
        assert not unified.try_remove()
        os.kill(child.pid, signal.SIGKILL)
        unified.remove(timeout_s=5)
    assert not unified.exists()


def test_block_io_throttle(tree: Tree) -> None:
    disks = [line.split() for line in Path("/proc/partitions").read_text().splitlines()[2:]]
    disks = [words for words in disks if os.path.isdir("/sys/block/" + words[3])]
    if tree.version != 1 or "blkio" not in tree.parents or not disks:
        pytest.skip("needs the blkio controller of cgroup v1, and a disk")
    major, minor = int(disks[0][0]), int(disks[0][1])
    limit = {"major": major, "minor": minor, "rate": 1 << 20}
    group = tree.create("one", {"blockIO": {"throttleReadBpsDevice": [limit]}})
    written = Path(group.paths["blkio"], "blkio.throttle.read_bps_device").read_text()
    assert written == f"{major}:{minor} {1 << 20}\n"
    with pytest.raises(OSError, match=r"write '4000:0 1' to cgroup file"):
        tree.create("two", {"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 0, "rate": 1}]}})
    assert tree.list() == ["one"]


def test_a_cgroup_inside(tree: Tree) -> None:
    """Some of the processes are found, killed and let go by themselves; they are the outer one's all the same."""
    group = tree.create("one", {"pids": {"limit": 50}})
    inner, again = group.inner("in"), group.inner("in")
    assert inner.paths == again.paths

    def join() -> None:
        for path in group.procs_files_with(inner):
            with open(path, "w") as file:
                file.write("0")

    with Child(group.join) as outside, Child(join) as inside:
        assert inner.pids() == [inside.pid]
        assert set(group.pids()) == {inside.pid, outside.pid}
        own = {path for path in group.joined if str(inside.pid) in _members(path)}
        assert set(group.joined) - own <= {os.path.dirname(path) for path in inner.joined}, (
            "in all the others"
        )
        inner.kill()
        assert inside.wait() == -signal.SIGKILL
        with Child(join) as other:
            inner.lift()
            assert inner.pids() == [] and set(group.pids()) == {other.pid, outside.pid}
    group.remove()
    assert not inner.exists() and not group.exists()


def _members(directory: str) -> list[str]:
    return Path(directory, "cgroup.procs").read_text().split()


def test_v2_a_cgroup_inside(unified: CgroupV2) -> None:
    inner = unified.inner("in")
    assert unified.procs_files_with(inner) == inner.procs_files
    with Child(inner.join) as first, Child(inner.join) as second:
        assert set(inner.pids()) == set(unified.pids()) == {first.pid, second.pid}
        inner.lift()
        assert inner.pids() == [] and set(unified.pids()) == {first.pid, second.pid}
        inner.join(second.pid)
        inner.kill()
        assert second.wait() == -signal.SIGKILL and unified.pids() == [first.pid]
    unified.remove()
    assert not inner.exists()
