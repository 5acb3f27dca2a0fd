"""One suite for all storage drivers: what goes in as layers comes out as a container's root file system."""

import asyncio
import dataclasses
import gzip
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from minid.errors import Failed, InvalidParameter, NotFound, Unsupported
from minid.images.snapshots import Snapshots
from minid.layout import Layout
from minid.shim.client import Jobs
from tests import tars
from tests.tars import Tar

PRELOAD = ("minid.images.layers", "tests.system.rootfs_jobs")


def diff_id(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="session")
def btrfs_root(privileged: None) -> Iterator[Path]:
    """A btrfs in an image file on a loop device; unmounted afterwards."""
    if "btrfs" not in Path("/proc/filesystems").read_text():
        pytest.skip("the kernel has no btrfs")
    if not Path("/dev/loop-control").exists() or shutil.which("mkfs.btrfs") is None:
        pytest.skip("no loop devices, or mkfs.btrfs (btrfs-progs) is not installed")
    base = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    image, mounted = base / "btrfs.img", base / "mnt"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(512 << 20)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
        shutil.rmtree(base)


@pytest.fixture(params=["overlay2", "vfs", "btrfs"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def layout(driver: str, request: pytest.FixtureRequest, privileged: None) -> Iterator[Layout]:
    parent = request.getfixturevalue("btrfs_root") if driver == "btrfs" else "/var/tmp"
    root = Path(tempfile.mkdtemp(prefix="mt-", dir=parent))
    layout = Layout(root / "data", root / "exec")
    for directory in (layout.data_root, layout.snapshots, layout.containers):
        directory.mkdir()
    yield layout
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def jobs(privileged: None) -> Iterator[Jobs]:
    jobs = Jobs(PRELOAD)
    yield jobs
    jobs.close()


@pytest.fixture
async def snapshots(layout: Layout, driver: str, jobs: Jobs) -> AsyncIterator[Snapshots]:
    snapshots = Snapshots(layout, driver, jobs)
    await snapshots.start()
    yield snapshots
    await snapshots.close()


async def add(snapshots: Snapshots, data: bytes, *, compress: Any = None, claim: str | None = None) -> str:
    name = claim or diff_id(data)
    fd = tars.feed(compress(data) if compress else data)
    try:
        unpacked = await snapshots.unpack(name, "application/vnd.oci.image.layer.v1.tar+gzip", fd)
    finally:
        os.close(fd)
    assert unpacked.diff_id == name
    return name


def gnu_tar(*arguments: str) -> bytes:
    return subprocess.run(["tar", *arguments], check=True, capture_output=True).stdout


async def look(
    jobs: Jobs,
    snapshots: Snapshots,
    layers: Sequence[str],
    container: str = "c" * 64,
    **request: Any,
) -> dict[str, Any]:
    """Mount the root file system in a job and describe each file in it, after the change ``write`` if any."""
    rootfs = await snapshots.create_rootfs(container, layers)
    assert rootfs == snapshots.rootfs(container, layers)
    answer = os.memfd_create("tree")
    try:
        await jobs.call(
            "tests.system.rootfs_jobs:describe_job",
            {"rootfs": dataclasses.asdict(rootfs), **request},
            [answer],
        )
        described: dict[str, Any] = json.loads(os.pread(answer, 1 << 24, 0))
        return described
    finally:
        os.close(answer)


BASE = (
    Tar()
    .dir("./", mode=0o751)
    .dir("tmp", mode=0o1777)
    .dir("etc")
    .file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n")
    .file("etc/gone", b"1")
    .dir("opaque")
    .file("opaque/below", b"x")
    .dir("replaced")
    .file("replaced/inside", b"x")
    .file("file-then-dir", b"x")
    .link("link", "etc/passwd")
    .data
)
UPPER = (
    Tar()
    .dir("etc")
    .file("etc/.wh.gone")
    .file("etc/added", b"new", mode=0o600, uid=1000, gid=1000)
    .dir("opaque")
    .file("opaque/.wh..wh..opq")
    .file("opaque/above", b"y")
    .file(".wh.replaced")
    .file("replaced", b"now a file")
    .dir("file-then-dir")
    .file("file-then-dir/x", b"x")
    .file("tmp/left-over", b"x")
    .data
)


async def test_layers_stack(snapshots: Snapshots, jobs: Jobs) -> None:
    layers = [await add(snapshots, BASE), await add(snapshots, UPPER, compress=gzip.compress)]
    tree = await look(jobs, snapshots, layers)
    assert sorted(tree) == [
        "",
        "etc",
        "etc/added",
        "etc/passwd",
        "file-then-dir",
        "file-then-dir/x",
        "link",
        "opaque",
        "opaque/above",
        "replaced",
        "tmp",
        "tmp/left-over",
    ]
    assert stat.S_IMODE(tree[""]["mode"]) == 0o751, "the root's mode is the one that a layer told"
    assert stat.S_IMODE(tree["tmp"]["mode"]) == 0o1777, "an implied directory hides no attributes"
    assert tree["replaced"]["data"] == b"now a file".hex()
    assert (tree["etc/added"]["uid"], stat.S_IMODE(tree["etc/added"]["mode"])) == (1000, 0o600)
    assert tree["link"]["target"] == "etc/passwd"
    assert tree["etc/passwd"]["mtime_ns"] == tars.MTIME * 10**9


async def test_every_kind_of_entry_survives(snapshots: Snapshots, jobs: Jobs) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    odd = os.fsdecode(b"na\xefve \xff")
    data = (
        Tar()
        .dir("d", mode=0o2750, uid=7, gid=8)
        .file("d/setuid", b"#!", mode=0o6755, uid=1, gid=2)
        .file("d/capable", b"x", xattrs={"security.capability": capability, "user.note": b"\x00\xff"})
        .hardlink("d/again", "d/capable")
        .link("d/dangling", "/no/where", uid=5, gid=6)
        .hardlink("d/link-to-link", "d/dangling")
        .add("d/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
        .add("d/disk", tarfile.BLKTYPE, devmajor=7, devminor=200, mode=0o660, gid=6)
        .add("d/pipe", tarfile.FIFOTYPE, mode=0o622)
        .file(odd, b"odd", mtime=1_500_000_000.123456789)
        .file("n" * 255, b"long name")
        .file("/".join(["p" * 100] * 5), b"long path")
        .file("old", b"", mtime=-12345)
        .dir("d/ro", mode=0o500)
        .file("d/ro/x", b"")
        .data
    )
    layer = await add(snapshots, data, compress=zstandard.compress)
    tree = await look(jobs, snapshots, [layer])
    modes = {name: (info["mode"], info["uid"], info["gid"]) for name, info in tree.items()}
    assert modes["d"] == (stat.S_IFDIR | 0o2750, 7, 8)
    assert modes["d/setuid"] == (stat.S_IFREG | 0o6755, 1, 2)
    assert modes["d/null"] == (stat.S_IFCHR | 0o666, 0, 0) and tree["d/null"]["device"] == [1, 3]
    assert modes["d/disk"] == (stat.S_IFBLK | 0o660, 0, 6) and tree["d/disk"]["device"] == [7, 200]
    assert modes["d/pipe"] == (stat.S_IFIFO | 0o622, 0, 0)
    assert modes["d/dangling"][1:] == (5, 6) and tree["d/dangling"]["target"] == "/no/where"
    assert modes["d/ro/x"] == (stat.S_IFREG | 0o644, 0, 0), "a setgid directory above it changes nothing"
    assert tree["d/capable"]["xattrs"] == {"security.capability": capability.hex(), "user.note": "00ff"}
    assert tree["d/capable"]["inode"] == tree["d/again"]["inode"] and tree["d/again"]["links"] == 2
    assert tree["d/dangling"]["inode"] == tree["d/link-to-link"]["inode"]
    assert tree[odd]["mtime_ns"] // 1000 == 1_500_000_000_123456
    assert tree["n" * 255]["data"] == b"long name".hex()
    assert tree["/".join(["p" * 100] * 5)]["data"] == b"long path".hex()
    assert tree["old"]["mtime_ns"] == -12345 * 10**9
    assert all(
        info["mtime_ns"] == tars.MTIME * 10**9
        for name, info in tree.items()
        if name in ("d", "d/ro", "d/pipe", "d/null")
    )


async def test_sparse_files_stay_sparse(snapshots: Snapshots, jobs: Jobs, tmp_path: Path) -> None:
    size = 64 << 20
    with open(tmp_path / "holes", "wb") as file:
        file.write(b"start")
        file.seek(20 << 20)
        file.write(b"middle")
        file.truncate(size)
    for arguments in (
        ["--format=gnu"],
        *(["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")),
    ):
        archive = await asyncio.to_thread(
            gnu_tar, "-C", str(tmp_path), "--sparse", *arguments, "-cf", "-", "holes"
        )
        assert len(archive) < 1 << 20
        layer = await add(snapshots, archive)
        assert snapshots.get(layer).size_bytes == size
        tree = await look(jobs, snapshots, [layer], data_limit=0)
        holes = tree["holes"]
        assert (holes["size"], holes["blocks"] * 512 < 1 << 20) == (size, True), arguments
        assert holes["sha256"] == hashlib.sha256((tmp_path / "holes").read_bytes()).hexdigest(), arguments
        await snapshots.remove_rootfs("c" * 64)


async def test_containers_share_layers_but_not_changes(snapshots: Snapshots, jobs: Jobs) -> None:
    layers = [await add(snapshots, BASE)]
    mine = await look(jobs, snapshots, layers, "a" * 64, write={"etc/passwd": "changed"})
    theirs = await look(jobs, snapshots, layers, "b" * 64)
    assert mine["etc/passwd"]["data"] == b"changed".hex()
    assert theirs["etc/passwd"]["data"].startswith(b"root:x".hex())


async def test_an_image_without_layers(snapshots: Snapshots, jobs: Jobs) -> None:
    tree = await look(jobs, snapshots, [], write={"x": "y"})
    assert sorted(tree) == ["", "x"]
    assert tree[""]["mode"] == stat.S_IFDIR | 0o755


async def test_changes_and_sizes(snapshots: Snapshots, jobs: Jobs) -> None:
    layers = [await add(snapshots, BASE), await add(snapshots, UPPER)]
    container = "c" * 64
    await look(jobs, snapshots, layers, container)
    assert await snapshots.changes(container, layers) == []
    image = snapshots.get(layers[0]).size_bytes + snapshots.get(layers[1]).size_bytes
    assert await snapshots.sizes(container, layers) == (0, image)
    await jobs.call(
        "tests.system.rootfs_jobs:describe_job",
        {
            "rootfs": dataclasses.asdict(snapshots.rootfs(container, layers)),
            "write": {"etc/passwd": "12345", "new/dir/file": "1234567", "proc/": ""},
            "delete": ["opaque/above", "replaced"],
        },
        [os.memfd_create("x")],
    )
    assert await snapshots.changes(container, layers) == [
        ("/etc", 0),
        ("/etc/passwd", 0),
        ("/new", 1),
        ("/new/dir", 1),
        ("/new/dir/file", 1),
        ("/opaque", 0),
        ("/opaque/above", 2),
        ("/replaced", 2),
    ]
    assert await snapshots.sizes(container, layers) == (12, image + 12)


async def test_a_wrong_digest_leaves_nothing(snapshots: Snapshots, layout: Layout, driver: str) -> None:
    with pytest.raises(Failed, match="contents have the digest"):
        await add(snapshots, BASE, claim="sha256:" + "0" * 64)
    await snapshots.close()
    assert snapshots.all() == []
    assert os.listdir(layout.snapshots / driver / "aside") == []


@pytest.mark.parametrize("compress", [None, gzip.compress, zstandard.compress])
async def test_a_truncated_stream_leaves_nothing(
    snapshots: Snapshots, layout: Layout, driver: str, compress: Any
) -> None:
    def cut(data: bytes) -> bytes:
        packed: bytes = compress(data) if compress else data
        return packed[: len(packed) // 2]

    with pytest.raises(Failed, match=r"layer .*can't be unpacked"):
        await add(snapshots, BASE, compress=cut, claim=diff_id(BASE))
    await snapshots.close()
    assert snapshots.all() == []
    assert os.listdir(layout.snapshots / driver / "aside") == []


async def test_a_cancelled_pull_leaves_nothing(snapshots: Snapshots, layout: Layout, driver: str) -> None:
    reading, writing = os.pipe()
    os.write(writing, BASE[:2000])
    task = asyncio.ensure_future(snapshots.unpack(diff_id(BASE), "", reading))
    aside = layout.snapshots / driver / "aside"
    while not any(aside.glob("*/layer.json")):  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    os.close(writing)
    os.close(reading)
    await snapshots.close()
    assert snapshots.all() == [] and os.listdir(aside) == []


async def test_two_pulls_of_one_layer(snapshots: Snapshots, layout: Layout, driver: str) -> None:
    first, second = await asyncio.gather(add(snapshots, BASE), add(snapshots, BASE))
    assert first == second and snapshots.all() == [first]
    await snapshots.close()
    assert os.listdir(layout.snapshots / driver / "aside") == []


async def test_removing(snapshots: Snapshots, layout: Layout, driver: str, jobs: Jobs) -> None:
    layers = [await add(snapshots, BASE), await add(snapshots, UPPER)]
    await look(jobs, snapshots, layers)
    for _ in range(2):
        await snapshots.remove_rootfs("c" * 64)
    assert os.listdir(layout.container("c" * 64)) == []
    for layer in layers:
        await snapshots.remove(layer)
        await snapshots.remove(layer)
        assert not snapshots.has(layer)
    left = [
        path
        for path in layout.snapshots.rglob("*")
        if path.name not in ("aside", "layers", "l", "repairs", "chains")
    ]
    assert left in (
        [layout.snapshots / driver],
        [layout.snapshots / driver, layout.snapshots / driver / "empty"],
    )
    with pytest.raises(NotFound, match="pull the image again"):
        await snapshots.create_rootfs("d" * 64, layers)


async def test_start_removes_what_was_left_aside(
    snapshots: Snapshots, layout: Layout, driver: str, jobs: Jobs
) -> None:
    layer = await add(snapshots, BASE)
    left = layout.snapshots / driver / "aside/0123"
    (left / "fs/a/b").mkdir(parents=True)
    again = Snapshots(layout, None, jobs)
    await again.start()
    assert not left.exists()
    assert again.driver_name == driver, "the driver that has layers here is the one to go on with"
    assert again.all() == [layer] and again.has(layer)
    assert again.get(layer).size_bytes == snapshots.get(layer).size_bytes


async def test_host_mounts_stay_as_they_are(snapshots: Snapshots, jobs: Jobs) -> None:
    before = Path("/proc/self/mounts").read_text()
    await look(jobs, snapshots, [await add(snapshots, BASE)])
    assert Path("/proc/self/mounts").read_text() == before


@pytest.mark.parametrize("driver", ["overlay2"])
class TestChoice:
    async def test_a_name_that_nobody_knows(self, layout: Layout, jobs: Jobs) -> None:
        with pytest.raises(InvalidParameter, match="aufs is unknown: use one of overlay2, btrfs, vfs"):
            Snapshots(layout, "aufs", jobs)

    async def test_a_driver_that_does_not_work_here(self, layout: Layout, jobs: Jobs) -> None:
        with pytest.raises(Unsupported, match="btrfs: the data root is not on a btrfs"):
            await Snapshots(layout, "btrfs", jobs).start()

    async def test_the_first_that_works(self, layout: Layout, jobs: Jobs) -> None:
        snapshots = Snapshots(layout, None, jobs)
        await snapshots.start()
        assert snapshots.driver_name == "overlay2"

    async def test_many_layers(self, layout: Layout, jobs: Jobs) -> None:
        snapshots = Snapshots(layout, "overlay2", jobs)
        await snapshots.start()
        layers = [await add(snapshots, Tar().file(f"f{number}", b"x").data) for number in range(60)]
        tree = await look(jobs, snapshots, layers)
        assert len(tree) == 61
        rootfs = snapshots.rootfs("c" * 64, layers)
        assert max(map(len, rootfs.lower)) < len(str(layout.snapshots)) + 12, "short enough for mount(2)"
