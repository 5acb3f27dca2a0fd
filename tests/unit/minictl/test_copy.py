"""cp: what a destination means, and archives that must not lead out of it."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from minictl.errors import Failure
from minictl.tar_reading import extract
from minictl.tar_writing import tar_stream
from minictl.verbs.copy import asserts_directory, base_name, destination, renamed


@pytest.mark.parametrize(
    ("path", "name", "directory"),
    [("/a/b", "b", False), ("/a/b/", "b", True), ("/a/.", ".", True), (".", ".", True), ("/", "/", True)],
)
def test_names(path: str, name: str, directory: bool) -> None:
    assert (base_name(path), asserts_directory(path)) == (name, directory)


@pytest.mark.parametrize(
    ("source", "is_directory", "target", "exists", "target_is_directory", "expected"),
    [
        ("f", False, "/d", True, True, ("/d", "", "")),
        ("d", True, "/e", True, True, ("/e", "", "")),
        ("f", False, "/x/g", False, False, ("/x", "f", "g")),
        ("f", False, "/x/g", True, False, ("/x", "f", "g")),
        ("d", True, "/x/new", False, False, ("/x", "d", "new")),
        (".", True, "/x/new/", False, False, ("/x", ".", "new")),
        ("f", False, "g", False, False, (".", "f", "g")),
    ],
)
def test_destination(
    source: str,
    is_directory: bool,
    target: str,
    exists: bool,
    target_is_directory: bool,
    expected: tuple[str, str, str],
) -> None:
    assert destination(source, is_directory, target, exists, target_is_directory) == expected


def test_refused_destinations() -> None:
    with pytest.raises(Failure, match="cannot copy directory"):
        destination("d", True, "/f", True, False)
    with pytest.raises(Failure, match="no such directory"):
        destination("f", False, "/new/", False, False)


@pytest.mark.parametrize(
    ("name", "old", "new", "result"),
    [
        ("d/x/d", "d", "e", "e/x/d"),
        ("d", "d", "e", "e"),
        ("./d/x", "d", "e", "e/x"),
        ("./x", ".", "e", "e/x"),
        ("dd/x", "d", "e", "dd/x"),
        ("bin/sh", "/", "e", "e/bin/sh"),
        ("d/x", "", "", "d/x"),
    ],
)
def test_renamed(name: str, old: str, new: str, result: str) -> None:
    assert renamed(name, old, new) == result


class Source:
    """Stands where the body of an answer is read."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


def unpack(data: bytes, directory: Path) -> None:
    extract(Source(data), str(directory), lambda name: name)  # type: ignore[arg-type]


def test_a_tree_survives_both_ways(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_bytes(b"x" * 1000)
    os.link(tree / "file", tree / "sub/hard")
    (tree / "link").symlink_to("/etc/passwd")
    (tree / ("long" * 40)).write_text("")
    os.mkfifo(tree / "fifo")
    (tree / "file").chmod(0o4751)
    os.utime(tree / "file", (1, 1_600_000_000))
    os.utime(tree / "sub", (1, 1_500_000_000))
    (tree / os.fsdecode(b"not-utf8-\xff")).write_text("")
    target = tmp_path / "target"
    target.mkdir()
    unpack(b"".join(tar_stream(str(tree), "copy")), target)
    copy = target / "copy"
    assert sorted(os.listdir(copy)) == sorted(os.listdir(tree))
    assert (copy / "file").read_bytes() == b"x" * 1000
    assert (copy / "file").stat().st_mode == (tree / "file").stat().st_mode
    assert (copy / "file").stat().st_mtime == 1_600_000_000
    assert (copy / "sub").stat().st_mtime == 1_500_000_000
    assert (copy / "file").samefile(copy / "sub/hard")
    assert os.readlink(copy / "link") == "/etc/passwd"
    assert (copy / "fifo").is_fifo()


def archive(*entries: tuple[str, str, str]) -> bytes:
    """(name, kind, content or link target)"""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, kind, value in entries:
            entry = tarfile.TarInfo(name)
            if kind == "file":
                entry.size = len(value)
                tar.addfile(entry, io.BytesIO(value.encode()))
                continue
            entry.type = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "dir": tarfile.DIRTYPE}[kind]
            entry.linkname = value
            tar.addfile(entry)
    return data.getvalue()


@pytest.mark.parametrize(
    "entries",
    [
        [("../out", "file", "x")],
        [("a/../../out", "file", "x")],
        [("l", "link", ".."), ("l/out", "file", "x")],
        [("d/l", "link", "../.."), ("d/l/out", "file", "x")],
        [("h", "hard", "../secret")],
        [("l", "link", ".."), ("h", "hard", "l/secret")],
    ],
)
def test_nothing_lands_outside(tmp_path: Path, entries: list[tuple[str, str, str]]) -> None:
    (tmp_path / "secret").write_text("s")
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises((Failure, OSError)):
        unpack(archive(*entries), target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "target"]
    assert (tmp_path / "secret").stat().st_nlink == 1


def test_absolute_names_are_below_the_target_too(tmp_path: Path) -> None:
    unpack(archive(("/etc/x", "file", "1")), tmp_path)
    assert (tmp_path / "etc/x").read_text() == "1"


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("keep")
    target = tmp_path / "target"
    target.mkdir()
    (target / "f").symlink_to("../outside")
    unpack(archive(("f", "file", "new")), target)
    assert (tmp_path / "outside").read_text() == "keep"
    assert (target / "f").read_text() == "new"


def test_a_directory_gives_way_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(Failure, match="cannot overwrite directory"):
        unpack(archive(("d", "file", "x")), tmp_path)
    (tmp_path / "f").write_text("")
    with pytest.raises(Failure, match="cannot overwrite non-directory"):
        unpack(archive(("f", "dir", "")), tmp_path)
