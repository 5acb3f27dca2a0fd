"""A directory as a context's tar: everything that tarfile reads of it, and which entries there are."""

import io
import os
import socket
import stat
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minictl.build import header
from minictl.build.ignore import Patterns
from minictl.build.tree import Tree
from minictl.errors import Failure


def archive(top: Path, *lines: str, kept: tuple[str, ...] = (), replaced: str = "") -> bytes:
    return b"".join(Tree(str(top), Patterns(lines), frozenset(kept), replaced).stream())


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar}


def names(top: Path, *lines: str, kept: tuple[str, ...] = ()) -> list[str]:
    return list(members(archive(top, *lines, kept=kept)))


def fill(top: Path, *paths: str) -> None:
    for path in paths:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(os.fsencode(path))


def test_entries_are_sorted_and_complete(tmp_path: Path) -> None:
    fill(tmp_path, "b/y", "b/x", "a", "b-c", "é")
    (tmp_path / "empty").mkdir()
    data = archive(tmp_path)
    assert list(members(data)) == ["a", "b", "b/x", "b/y", "b-c", "empty", "é"]
    assert len(data) % 512 == 0
    assert data.endswith(header.END)
    assert data == archive(tmp_path)


def test_what_an_entry_says(tmp_path: Path) -> None:
    fill(tmp_path, "file", "sub/x")
    (tmp_path / "file").chmod(0o4751)
    (tmp_path / "sub").chmod(0o1770)
    os.utime(tmp_path / "file", ns=(5, 1_234_567_890_987_654_321))
    (tmp_path / "link").symlink_to("sub/x")
    (tmp_path / "twin").hardlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "fifo", 0o600)
    data = archive(tmp_path)
    found = members(data)
    file = found["file"]
    assert (file.mode, file.mtime, file.size, file.uid, file.gid, file.uname) == (
        0o4751,
        1_234_567_890,
        4,
        0,
        0,
        "",
    )
    assert (found["sub"].isdir(), found["sub"].mode) == (True, 0o1770)
    assert (found["link"].issym(), found["link"].linkname) == (True, "sub/x")
    assert (found["twin"].islnk(), found["twin"].linkname) == (True, "file")
    assert found["fifo"].isfifo()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        content = tar.extractfile("sub/x")
        assert content is not None
        assert content.read() == b"sub/x"


def test_names_that_need_more_room(tmp_path: Path) -> None:
    deep = "/".join(["d" * 60] * 4)
    fill(tmp_path, f"{deep}/{'n' * 200}", "\udcff\udcfe")
    (tmp_path / "l").symlink_to("t" * 300)
    found = members(archive(tmp_path))
    assert f"{deep}/{'n' * 200}" in found
    assert deep in found
    assert "\udcff\udcfe" in found
    assert found["l"].linkname == "t" * 300


@given(
    st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and name.strip(b"/") == name),
    st.integers(-(2**40), 2**40),
    st.integers(0, 2**40),
    st.binary(max_size=200).filter(lambda text: b"\0" not in text),
    st.binary(max_size=30),
)
def test_tarfile_reads_any_head(name: bytes, mtime: int, size: int, link: bytes, capability: bytes) -> None:
    head = header.head(name, header.SYMLINK, 0o7777, mtime, size, link, (1, 2), capability)
    assert len(head) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(head + header.END), errors="surrogateescape") as tar:
        [member] = tar.getmembers()
    assert os.fsencode(member.name) == name
    assert os.fsencode(member.linkname) == link
    assert (member.mode, int(member.mtime), member.size) == (0o7777, mtime, size)
    value = member.pax_headers.get("SCHILY.xattr.security.capability", "")
    assert value.encode("utf-8", "surrogateescape") == capability


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set security.capability and make devices")
def test_capabilities_and_devices(tmp_path: Path) -> None:
    value = bytes.fromhex("0100000200200000" + "00" * 12)
    fill(tmp_path, "ping")
    os.setxattr(tmp_path / "ping", "security.capability", value)
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    found = members(archive(tmp_path))
    assert found["ping"].pax_headers["SCHILY.xattr.security.capability"].encode() == value
    assert (found["null"].ischr(), found["null"].devmajor, found["null"].devminor) == (True, 1, 3)


def test_ignored_things_stay_behind(tmp_path: Path) -> None:
    fill(tmp_path, "a", "node/x/y", "keep/z", "x.md")
    assert names(tmp_path, "node", "*.md") == ["a", "keep", "keep/z"]


def test_what_is_brought_back_has_its_parents_once(tmp_path: Path) -> None:
    fill(tmp_path, "a/b/c/one.go", "a/b/c/two.go", "a/b/three.go", "a/b/x", "a/d/x", "a/four.go", "e/x")
    (tmp_path / "a").chmod(0o711)
    data = archive(tmp_path, "*", "!**/*.go")
    assert list(members(data)) == [
        "a", "a/b", "a/b/c", "a/b/c/one.go", "a/b/c/two.go", "a/b/three.go", "a/four.go"
    ]  # fmt: skip
    assert members(data)["a"].mode == 0o711


def test_kept_files_are_sent_whatever_the_patterns_say(tmp_path: Path) -> None:
    fill(tmp_path, "docker/app/Dockerfile", "docker/other", ".dockerignore", "x")
    assert names(tmp_path, "**", kept=("docker/app/Dockerfile", ".dockerignore")) == [
        ".dockerignore", "docker", "docker/app", "docker/app/Dockerfile"
    ]  # fmt: skip


def test_a_replaced_file_is_left_to_the_caller(tmp_path: Path) -> None:
    fill(tmp_path, ".dockerignore", "sub/.dockerignore")
    assert list(members(archive(tmp_path, replaced=".dockerignore"))) == ["sub", "sub/.dockerignore"]


def test_sockets_are_skipped_and_told(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        tree = Tree(str(tmp_path), Patterns([]))
        assert list(members(b"".join(tree.stream()))) == ["a"]
    assert tree.skipped == ["s"]


def test_an_ignored_directory_that_may_not_be_read_is_no_matter(tmp_path: Path) -> None:
    fill(tmp_path, "secret/x", "a")
    (tmp_path / "secret" / "loop").symlink_to("loop")
    assert names(tmp_path, "secret") == ["a"]


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"can't read .*/nowhere/?: no such file or directory"):
        archive(tmp_path / "nowhere")


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 1_000_000)
    stream = Tree(str(tmp_path), Patterns([])).stream()
    next(stream)
    os.truncate(big, 300_000)
    with pytest.raises(Failure, match="became shorter"):
        list(stream)


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(40_000_000)
    tracemalloc.start()
    total = sum(len(part) for part in Tree(str(tmp_path), Patterns([])).stream())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 40_000_000
    assert peak < 4_000_000
