"""A layer can touch nothing outside its own directory, whatever it says; and what it means inside is kept."""

import errno
import gzip
import json
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minid.shim.client import JobError, Jobs
from tests import tars
from tests.system.rootfs_jobs import facts
from tests.tars import Tar


class Bench:
    """A directory to unpack into, with things beside it that must stay as they are."""

    def __init__(self, root: Path, jobs: Jobs) -> None:
        self.root = root
        self.layer = root / "layer"
        self.fs = self.layer / "fs"
        self.outside = root / "outside"
        self._jobs = jobs
        self.fs.mkdir(parents=True)
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")
        (root / "secret").write_text("secret")
        self._before = self._snapshot()

    def _snapshot(self) -> dict[str, Any]:
        return {
            str(path): {key: value for key, value in facts(str(path), 100).items() if key != "links"}
            for path in (self.root, *self.root.glob("*"), *self.outside.rglob("*"))
            if path != self.layer
        }

    async def unpack(
        self, data: bytes, style: str = "overlay", *, target: str = "minid.images.layers:unpack_job"
    ) -> dict[str, Any]:
        fd = tars.feed(data)
        request = {"directory": str(self.layer), "media_type": "", "style": style, "diff_id": ""}
        try:
            await self._jobs.call(target, request, [fd])
        finally:
            os.close(fd)
            after = self._snapshot()
            assert after == self._before, "something outside the layer has changed"
        described: dict[str, Any] = json.loads((self.layer / "layer.json").read_text())
        return described

    def tree(self) -> list[str]:
        return sorted(str(path.relative_to(self.fs)) for path in self.fs.rglob("*"))


@pytest.fixture(scope="module")
def jobs(privileged: None) -> Iterator[Jobs]:
    jobs = Jobs(("minid.images.layers", "tests.system.rootfs_jobs"))
    yield jobs
    jobs.close()


@pytest.fixture
def bench(jobs: Jobs) -> Iterator[Bench]:
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    yield Bench(root, jobs)
    shutil.rmtree(root)


REFUSED: dict[str, tuple[Callable[[], Tar], str]] = {
    "dot-dot": (lambda: Tar().file("../outside/secret", b"x"), "leads out"),
    "dot-dot inside": (lambda: Tar().file("a/../../outside/secret", b"x"), "leads out"),
    "absolute dot-dot": (lambda: Tar().file("/../../outside/new", b"x"), "leads out"),
    "only dot-dot": (lambda: Tar().dir(".."), "leads out"),
    "hard link out": (lambda: Tar().hardlink("x", "../outside/secret"), "leads out"),
    "hard link out, absolute": (lambda: Tar().hardlink("x", "/etc/passwd"), "not in this layer"),
    "hard link to nothing": (lambda: Tar().hardlink("x", "missing"), "not in this layer"),
    "hard link through a link": (
        lambda: Tar().link("l", "../../outside").hardlink("x", "l/secret"),
        "not in this layer",
    ),
    "hard link to the root": (lambda: Tar().hardlink("x", "."), "hard link to the root"),
    "hard link to a directory": (lambda: Tar().dir("d").hardlink("x", "d"), "'x'"),
    "whiteout of dot": (lambda: Tar().file(".wh.."), "a whiteout of '.'"),
    "whiteout of dot-dot": (lambda: Tar().file("a/.wh..."), r"a whiteout of '\.\.'"),
    "whiteout of nothing": (lambda: Tar().file("a/.wh."), "a whiteout of ''"),
    "file as parent": (lambda: Tar().file("f", b"x").file("f/inner", b"x"), "not a directory"),
    "device as parent": (
        lambda: Tar().add("c", tarfile.CHRTYPE, devmajor=1, devminor=3).file("c/x"),
        "not a directory",
    ),
    "link to a file as parent": (lambda: Tar().file("f").link("l", "f").file("l/x"), "not a directory"),
    "loop as parent": (lambda: Tar().link("a", "b").link("b", "a").file("a/x"), "'a/x'"),
    "root that is a file": (lambda: Tar().file(".", b"x"), "only a directory can be the root"),
    "root that is a link": (lambda: Tar().link("./", "/etc"), "only a directory can be the root"),
    "name too long": (lambda: Tar().file("n" * 256), "File name too long"),
    "path too long": (lambda: Tar().file("a/" * 2100 + "x"), "File name too long"),
    "owner out of range": (lambda: Tar().file("x", uid=2**32 - 1), "out of range"),
    "unknown type": (lambda: Tar().add("x", b"Q"), "unknown type"),
    "sparse beyond every file system": (
        lambda: Tar().file("x", b"", pax_headers={"GNU.sparse.map": "", "GNU.sparse.size": str(2**62)}),
        "File too large",
    ),
}


@pytest.mark.parametrize("style", ["overlay", "list"])
@pytest.mark.parametrize("case", REFUSED)
async def test_refused(bench: Bench, case: str, style: str) -> None:
    make, text = REFUSED[case]
    with pytest.raises(JobError, match=text):
        await bench.unpack(make().data, style)


KEPT_INSIDE: dict[str, tuple[Callable[[], Tar], list[str]]] = {
    "absolute path": (lambda: Tar().file("/outside/secret", b"x"), ["outside", "outside/secret"]),
    "many slashes": (lambda: Tar().file("//a/.//b/../c", b"x"), ["a", "a/c"]),
    "through an absolute link": (
        lambda: Tar().link("l", "/d").file("l/x", b"x"),
        ["d", "d/x", "l"],
    ),
    "through a link out": (
        lambda: Tar().link("l", "../../outside").file("l/secret", b"x"),
        ["l", "outside", "outside/secret"],
    ),
    "through two links": (
        lambda: Tar().dir("b").link("b/l", "../../..").link("a", "b/l").file("a/x", b"x"),
        ["a", "b", "b/l", "x"],
    ),
    "over a link out": (lambda: Tar().link("x", "../outside/secret").file("x", b"new"), ["x"]),
    "a directory over a link out": (
        lambda: Tar().link("x", "../outside").dir("x", mode=0o700).file("x/secret", b"new"),
        ["x", "x/secret"],
    ),
    "a link, held open, then replaced": (
        lambda: Tar().dir("d").file("d/a").link("d", "../outside").file("d/secret", b"x"),
        ["d", "outside", "outside/secret"],
    ),
    "hard link to a link out": (
        lambda: Tar().link("l", "../outside/secret").hardlink("h", "l").file("h", b"x"),
        ["h", "l"],
    ),
    "hard link to itself": (lambda: Tar().file("x", b"x").hardlink("x", "./x"), ["x"]),
    "metadata of aufs": (lambda: Tar().dir(".wh..wh.plnk").file(".wh..wh.aufs", b"x").file("y"), ["y"]),
}


@pytest.mark.parametrize("style", ["overlay", "list"])
@pytest.mark.parametrize("case", KEPT_INSIDE)
async def test_kept_inside(bench: Bench, case: str, style: str) -> None:
    make, expected = KEPT_INSIDE[case]
    await bench.unpack(make().data, style)
    assert bench.tree() == expected


async def test_opaque_through_a_link_out(bench: Bench) -> None:
    await bench.unpack(Tar().link("l", "../outside").file("l/.wh..wh..opq").file("l/.wh.secret").data)
    assert bench.tree() == ["l", "outside", "outside/secret"]
    assert facts(str(bench.fs / "outside/secret"), 0)["device"] == [0, 0]


async def test_overlays_own_attributes_are_not_the_layers_to_set(bench: Bench) -> None:
    xattrs = {
        "trusted.overlay.redirect": b"/etc",
        "trusted.overlay.opaque": b"y",
        "user.overlay.opaque": b"y",
        "user.kept": b"1",
    }
    await bench.unpack(Tar().dir("d", xattrs=xattrs).file("f", xattrs=xattrs).data)
    for name in ("d", "f"):
        assert facts(str(bench.fs / name), 0)["xattrs"] == {"user.kept": b"1".hex()}


async def test_whiteouts_become_overlayfs_form(bench: Bench) -> None:
    archive = Tar().dir("d").file("d/.wh.gone").file(".wh.top").dir("o").file("o/.wh..wh..opq").file("o/new")
    await bench.unpack(archive.data)
    for name in ("d/gone", "top"):
        info = facts(str(bench.fs / name), 0)
        assert stat.S_ISCHR(info["mode"]) and info["device"] == [0, 0]
    assert facts(str(bench.fs / "o"), 0)["xattrs"] == {"trusted.overlay.opaque": b"y".hex()}


@pytest.mark.parametrize("order", ["whiteout first", "whiteout last", "never an entry"])
async def test_a_directory_that_replaces_one_does_not_merge_with_it(bench: Bench, order: str) -> None:
    archive = Tar()
    if order != "whiteout last":
        archive.file(".wh.d")
    if order != "never an entry":
        archive.dir("d")
    archive.file("d/new", b"x")
    if order == "whiteout last":
        archive.file(".wh.d")
    await bench.unpack(archive.data)
    assert bench.tree() == ["d", "d/new"]
    assert facts(str(bench.fs / "d"), 0)["xattrs"] == {"trusted.overlay.opaque": b"y".hex()}


async def test_whiteouts_are_listed_for_drivers_that_copy(bench: Bench) -> None:
    archive = Tar().dir("d").file("d/.wh.gone").dir("o").file("o/.wh..wh..opq").file("deep/er/x")
    described = await bench.unpack(archive.data, "list")
    assert bench.tree() == ["d", "deep", "deep/er", "deep/er/x", "o"]
    told = {key: [bytes.fromhex(path) for path in described[key]] for key in ("hidden", "opaque", "implied")}
    assert told == {"hidden": [b"d/gone"], "opaque": [b"o"], "implied": [b"deep", b"deep/er"]}


async def test_later_entries_replace_earlier_ones(bench: Bench) -> None:
    archive = (
        Tar()
        .file("a", b"1", mode=0o600)
        .file("a", b"22", mode=0o644)
        .dir("b")
        .file("b/x")
        .file("b", b"3")
        .file("c")
        .dir("c")
        .file("c/y")
        .dir("m", mode=0o700)
        .file("m/1")
        .dir("m", mode=0o755, mtime=5)
    )
    await bench.unpack(archive.data)
    assert bench.tree() == ["a", "b", "c", "c/y", "m", "m/1"]
    assert (bench.fs / "a").read_bytes() == b"22"
    info = facts(str(bench.fs / "m"), 0)
    assert (stat.S_IMODE(info["mode"]), info["mtime_ns"]) == (0o755, 5 * 10**9)


async def test_a_deep_tree_can_be_unpacked_and_removed(bench: Bench, jobs: Jobs) -> None:
    await bench.unpack(Tar().file("d/" * 2000 + "x", b"x").data)
    await jobs.call("minid.images.layers:remove_job", {"paths": [str(bench.fs)]})
    assert os.listdir(bench.layer) == ["layer.json"]


async def test_a_full_disk_is_an_error_that_says_so(bench: Bench) -> None:
    data = Tar().file("small", b"x").file("large", bytes(3 << 20)).data
    with pytest.raises(JobError, match="'large': No space left on device") as caught:
        await bench.unpack(data, target="tests.system.rootfs_jobs:unpack_to_small_disk_job")
    assert caught.value.errno == errno.ENOSPC


async def test_several_gzip_members_are_one_layer(bench: Bench) -> None:
    data = Tar().file("f", os.urandom(700_000)).data
    packed = b"".join(gzip.compress(data[at : at + 99_999]) for at in range(0, len(data), 99_999)) + bytes(
        100
    )
    await bench.unpack(packed)
    assert (bench.fs / "f").stat().st_size == 700_000


async def test_a_layer_of_zeros(bench: Bench) -> None:
    """512 MiB of zeros in 0.5 MiB: the reader sees them in chunks, and a sparse file system would not
    notice.
    """
    data = Tar().file("f", bytes(64 << 20)).data
    packed = gzip.compress(data, 1)
    await bench.unpack(packed)
    assert (bench.fs / "f").stat().st_size == 64 << 20


@pytest.mark.parametrize("damage", ["crc", "middle", "garbage"])
async def test_damaged_gzip(bench: Bench, damage: str) -> None:
    packed = bytearray(gzip.compress(Tar().file("f", os.urandom(300_000)).data, mtime=0))
    if damage == "crc":
        packed[-8] ^= 1
    elif damage == "middle":
        packed[150_000:150_010] = bytes(10)
    else:
        packed += b"garbage"
    with pytest.raises(JobError):
        await bench.unpack(bytes(packed))
