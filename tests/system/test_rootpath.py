"""rootpath resolves inside its root whatever the symlinks say. Needs no root privilege, but openat2(2)."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from minid.kernel import rootpath


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    return root


@pytest.fixture
def root(tree: Path) -> Iterator[int]:
    fd = rootpath.open_root(str(tree))
    yield fd
    os.close(fd)


def read(root: int, path: str) -> str:
    fd = rootpath.open_in_root(root, path, os.O_RDONLY)
    with open(fd) as file:
        return file.read()


@pytest.mark.parametrize(
    "path",
    ["etc/passwd", "/etc/passwd", "../../etc/passwd", "/x/passwd", "rel/passwd", "up/etc/passwd", "loopback"],
)
def test_lookups_stay_inside(tree: Path, root: int, path: str) -> None:
    (tree / "x").symlink_to("/etc")
    (tree / "rel").symlink_to("../../../etc")
    (tree / "up").symlink_to("..")
    (tree / "loopback").symlink_to("/../x/../../etc/passwd")
    assert read(root, path) == "inside"


def test_outside_is_not_there(tree: Path, root: int) -> None:
    (tree / "out").symlink_to("../secret")
    for path in ("../secret", "out", "/out"):
        with pytest.raises(FileNotFoundError):
            rootpath.open_in_root(root, path)
        assert rootpath.find_in_root(root, path) is None


def test_stat_and_readlink_of_a_link_itself(tree: Path, root: int) -> None:
    (tree / "link").symlink_to("/etc/passwd")
    assert stat.S_ISLNK(rootpath.stat_in_root(root, "link", follow=False).st_mode)
    assert rootpath.stat_in_root(root, "link").st_size == len("inside")
    assert rootpath.readlink_in_root(root, "link") == "/etc/passwd"


def test_ensure_dir_makes_what_is_missing_and_only_that(tree: Path, root: int) -> None:
    (tree / "etc").chmod(0o700)
    os.close(rootpath.ensure_dir(root, "/etc/a/b/", 0o1777))
    assert stat.S_IMODE((tree / "etc/a/b").stat().st_mode) == 0o1777
    assert stat.S_IMODE((tree / "etc").stat().st_mode) == 0o700
    os.close(rootpath.ensure_dir(root, "etc/a/b", 0o755))
    assert stat.S_IMODE((tree / "etc/a/b").stat().st_mode) == 0o1777
    os.close(rootpath.ensure_dir(root, "/"))


def test_ensure_dir_follows_dangling_links_inside(tree: Path, root: int, tmp_path: Path) -> None:
    (tree / "var").mkdir()
    (tree / "var/run").symlink_to("/run")
    (tree / "var/lock").symlink_to("../../../../run/lock")
    os.close(rootpath.ensure_dir(root, "/var/lock/x"))
    os.close(rootpath.ensure_dir(root, "/var/run/y"))
    assert (tree / "run/lock/x").is_dir()
    assert (tree / "run/y").is_dir()
    assert sorted(os.listdir(tmp_path)) == ["root", "secret"]


def test_a_relative_link_below_a_linked_directory_means_what_the_kernel_means(tree: Path, root: int) -> None:
    (tree / "deep/er").mkdir(parents=True)
    (tree / "a").symlink_to("/deep/er")
    (tree / "deep/er/b").symlink_to("../z")
    os.close(rootpath.ensure_dir(root, "/a/b"))
    assert (tree / "deep/z").is_dir()


def test_files_in_the_way_and_loops_are_errors(tree: Path, root: int) -> None:
    (tree / "loop").symlink_to("loop")
    with pytest.raises(NotADirectoryError):
        rootpath.ensure_dir(root, "/etc/passwd/x")
    with pytest.raises(IsADirectoryError):
        rootpath.ensure_file(root, "/etc")
    with pytest.raises(IsADirectoryError):
        rootpath.ensure_file(root, "/")
    with pytest.raises(OSError) as caught:
        rootpath.ensure_dir(root, "/loop/x")
    assert caught.value.errno == errno.ELOOP


def test_ensure_file_makes_it_behind_links(tree: Path, root: int) -> None:
    (tree / "etc/resolv.conf").symlink_to("../run/systemd/stub.conf")
    os.close(rootpath.ensure_file(root, "/etc/resolv.conf"))
    made = tree / "run/systemd/stub.conf"
    assert made.is_file() and stat.S_IMODE(made.stat().st_mode) == 0o644
    fd = rootpath.ensure_mountpoint(root, "/etc/passwd", directory=False)
    os.close(fd)
    assert (tree / "etc/passwd").read_text() == "inside"


def test_open_parent_keeps_the_last_link(tree: Path, root: int) -> None:
    (tree / "x").symlink_to("/etc")
    (tree / "etc/link").symlink_to("nowhere")
    parent, name = rootpath.open_parent(root, "/x/link")
    try:
        assert (name, os.readlink(name, dir_fd=parent)) == ("link", "nowhere")
    finally:
        os.close(parent)
    with pytest.raises(OSError):
        rootpath.open_parent(root, "/..")


def test_no_descriptor_leaks(tree: Path, root: int) -> None:
    (tree / "dangling").symlink_to("made/here")
    before = len(os.listdir("/proc/self/fd"))
    os.close(rootpath.ensure_dir(root, "/dangling/x/y"))
    os.close(rootpath.ensure_file(root, "/dangling/f"))
    for path in ("/etc/passwd/x", "/etc/passwd/y/z"):
        with pytest.raises(NotADirectoryError):
            rootpath.ensure_dir(root, path)
    assert len(os.listdir("/proc/self/fd")) == before
