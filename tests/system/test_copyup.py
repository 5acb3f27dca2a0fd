"""A new volume gets what the image has where it is mounted."""

import dataclasses
import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from minid.images.snapshots import Snapshots
from minid.layout import Layout
from minid.shim.client import Jobs
from tests import tars
from tests.system.rootfs_jobs import facts
from tests.tars import Tar

CONTAINER = "c" * 64


@pytest.fixture
def root(privileged: None) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    yield root
    shutil.rmtree(root)


@pytest.fixture
async def copy_up(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[object]:
    layout = Layout(root / "data", root / "exec")
    for directory in (layout.data_root, layout.snapshots, layout.containers):
        directory.mkdir()
    jobs = Jobs(("minid.images.layers", "minid.volumes.copyup"))
    snapshots = Snapshots(layout, request.param, jobs)
    await snapshots.start()

    async def copy_up(layer: bytes, path: str, volume: Path) -> bool:
        diff_id = "sha256:" + hashlib.sha256(layer).hexdigest()
        fd = tars.feed(layer)
        await snapshots.unpack(diff_id, "", fd)
        os.close(fd)
        rootfs = await snapshots.create_rootfs(CONTAINER, [diff_id])
        try:
            answer = await jobs.call(
                "minid.volumes.copyup:copy_up_job",
                {"rootfs": dataclasses.asdict(rootfs), "path": path, "volume": str(volume)},
            )
        finally:
            await snapshots.remove_rootfs(CONTAINER)
        return bool(answer["copied"])

    yield copy_up
    await snapshots.close()
    jobs.close()


LAYER = (
    Tar()
    .dir("srv", mode=0o2770, uid=33, gid=44)
    .file("srv/file", b"data", mode=0o640, uid=33, xattrs={"user.x": b"1"})
    .hardlink("srv/again", "srv/file")
    .link("srv/link", "/etc/passwd")
    .add("srv/pipe", tarfile.FIFOTYPE)
    .dir("srv/sub", mode=0o500)
    .file("srv/sub/x", b"x")
    .link("outside", "/../../../../etc")
    .link("web", "srv")
    .dir("empty", mode=0o1777, uid=5)
    .file("plain", b"x")
    .data
)


@pytest.mark.parametrize("copy_up", ["overlay2", "vfs"], indirect=True)
async def test_copy_up(copy_up: object, root: Path) -> None:
    volume = root / "volume"
    volume.mkdir()
    assert await copy_up(LAYER, "/web/", volume)  # type: ignore[operator]
    assert sorted(os.listdir(volume)) == ["again", "file", "link", "pipe", "sub"]
    top, file = facts(str(volume), 0), facts(str(volume / "file"), 10)
    assert (top["mode"] & 0o7777, top["uid"], top["gid"]) == (0o2770, 33, 44)
    assert top["mtime_ns"] == tars.MTIME * 10**9
    assert (file["mode"] & 0o7777, file["uid"], file["xattrs"], file["links"]) == (
        0o640,
        33,
        {"user.x": "31"},
        2,
    )
    assert os.readlink(volume / "link") == "/etc/passwd"
    assert facts(str(volume / "sub"), 0)["mode"] & 0o777 == 0o500


@pytest.mark.parametrize("copy_up", ["overlay2"], indirect=True)
async def test_what_is_not_copied(copy_up: object, root: Path) -> None:
    volume = root / "volume"
    volume.mkdir()
    for path in ("/missing", "/plain", "/outside"):
        assert not await copy_up(LAYER, path, volume), path  # type: ignore[operator]
        assert os.listdir(volume) == []
    assert await copy_up(LAYER, "/empty", volume)  # type: ignore[operator]
    assert volume.stat().st_mode & 0o7777 == 0o1777 and volume.stat().st_uid == 5
    (volume / "mine").write_text("x")
    assert not await copy_up(LAYER, "/srv", volume)  # type: ignore[operator]
    assert os.listdir(volume) == ["mine"]
