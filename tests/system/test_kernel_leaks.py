"""The leak check finds what it is there to find; a leak check that cannot fail checks nothing."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from minid.kernel import syscall
from minid.kernel.cgroups import Tree
from tests.forked import Child
from tests.leaks import Machine

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts, cgroups and namespaces need root"),
]
PARENT = f"/minid-leaks-{os.getpid()}"


@contextmanager
def mount(data: Path, _: Path) -> Iterator[None]:
    target = str(data / "mounted")
    syscall.mount("tmpfs", target, "tmpfs")
    yield
    syscall.umount(target)


@contextmanager
def cgroup(_: Path, __: Path) -> Iterator[None]:
    tree = Tree.open(PARENT)
    group = tree.create("leaked", {})
    yield
    group.remove()
    tree.prune()


@contextmanager
def file(data: Path, _: Path) -> Iterator[None]:
    (data / "left").touch()
    yield
    (data / "left").unlink()


@contextmanager
def descriptor(_: Path, __: Path) -> Iterator[None]:
    fds = os.pipe()
    yield
    for fd in fds:
        os.close(fd)


@contextmanager
def process_below(_: Path, __: Path) -> Iterator[None]:
    with Child():
        yield


@contextmanager
def zombie(_: Path, __: Path) -> Iterator[None]:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield
    os.waitpid(pid, 0)


@contextmanager
def namespace(_: Path, __: Path) -> Iterator[None]:
    with Child(lambda: syscall.unshare(syscall.CLONE_NEWNET)):
        yield


@pytest.mark.parametrize(
    ("leak", "expected"),
    [
        (mount, "mounts: tmpfs on {data}/mounted"),
        (cgroup, f"{PARENT}/leaked"),
        (file, "files: {data}/left"),
        (descriptor, "descriptors: pipe (2 more)"),
        (process_below, "processes: "),
        (zombie, "processes: zombie true"),
        (namespace, "network namespaces: net"),
    ],
)
def test_leaks_are_found(
    tmp_path: Path, leak: Callable[[Path, Path], AbstractContextManager[None]], expected: str
) -> None:
    data, run = tmp_path / "data", tmp_path / "exec"
    (data / "mounted").mkdir(parents=True)
    run.mkdir()
    before = Machine.snapshot(data, run, PARENT, os.getpid())
    assert Machine.leaks(before, timeout_s=1) == []
    with leak(data, run):
        lines = Machine.leaks(before, timeout_s=0)
        assert any(expected.format(data=os.path.realpath(data)) in line for line in lines), lines
    assert Machine.leaks(before, timeout_s=1) == []


def test_what_was_there_before_and_goes_is_no_leak(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    before = Machine.snapshot(tmp_path, tmp_path / "exec", PARENT)
    (tmp_path / "old").unlink()
    assert before.difference(Machine.snapshot(tmp_path, tmp_path / "exec", PARENT)) == []
