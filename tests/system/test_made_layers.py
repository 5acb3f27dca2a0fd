"""Layers made here: the same bytes by every driver and after a second writing, and unpacked to what they were made of."""

import asyncio
import dataclasses
import io
import os
import tarfile
from collections.abc import Sequence
from typing import Any

import pytest

from minid.errors import Failed
from minid.images.snapshots import Snapshots
from minid.layout import Layout
from minid.shim.client import Jobs
from tests.system.test_snapshots import (  # fixtures
    BASE,
    add,
    btrfs_root,
    driver,
    layout,
    look,
    snapshots,
)
from tests.tars import Tar

__all__ = ["btrfs_root", "driver", "layout", "snapshots"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MOMENT_S = 1_600_000_000
CONTAINER = "a" * 64


@pytest.fixture(scope="module")
def jobs(privileged: None) -> Any:
    jobs = Jobs(("minid.images.layers", "tests.system.rootfs_jobs"))
    yield jobs
    jobs.close()


async def change(jobs: Jobs, snapshots: Snapshots, layers: Sequence[str], script: str) -> None:
    """Run a shell script in a root file system of these layers, as a container would."""
    rootfs = await snapshots.create_rootfs(CONTAINER, layers)
    await jobs.call(
        "tests.system.rootfs_jobs:script_job", {"rootfs": dataclasses.asdict(rootfs), "script": script}
    )


async def written(snapshots: Snapshots, diff_id: str) -> bytes:
    """The layer's tar."""
    reading, writing = os.pipe()
    collected = bytearray()

    def read() -> None:
        while data := os.read(reading, 1 << 16):
            collected.extend(data)

    reader = asyncio.create_task(asyncio.to_thread(read))
    await asyncio.sleep(0)
    try:
        size_bytes = await snapshots.rewrite(diff_id, writing)
    finally:
        os.close(writing)
        await reader
        os.close(reading)
    assert len(collected) == size_bytes
    return bytes(collected)


SCRIPT = f"""
set -e
cd $ROOT
rm etc/gone
rm -r opaque && mkdir opaque && echo new > opaque/new
rm -r replaced && echo file > replaced
rm file-then-dir && mkdir file-then-dir
mkdir -p made/deep && ln -s /etc/passwd made/link
echo twice > made/one && ln made/one made/two
chmod 4755 made/one && chown 12:34 made/one
truncate -s 3M made/sparse
mkdir -p dev proc etc && : > etc/hosts
mkdir -p mounted/here
find etc opaque replaced file-then-dir made ! -name passwd -exec touch -h -d @{MOMENT_S} {{}} +
"""


def lasting(tree: dict[str, Any]) -> dict[str, Any]:
    """What a layer keeps: whole seconds, not the inode, nor how a file lies on the disk; no time of the root."""
    return {
        path: {key: value for key, value in facts.items() if key not in ("inode", "blocks", "mtime_ns")}
        | {"mtime_s": path and facts["mtime_ns"] // 1_000_000_000}
        for path, facts in tree.items()
    }


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


async def test_it_has_what_was_changed_and_nothing_else(snapshots: Snapshots, jobs: Jobs) -> None:
    base = await add(snapshots, BASE)
    await change(jobs, snapshots, [base], SCRIPT)
    made = await snapshots.adopt(CONTAINER, [base], mountpoints=["/mounted/here"])
    assert made is not None
    await snapshots.remove_rootfs(CONTAINER)
    data = await written(snapshots, made.diff_id)
    assert made.tar_bytes == len(data)
    assert set(names(data)) == {
        "etc",
        "etc/.wh.gone",
        "file-then-dir",
        "made",
        "made/deep",
        "made/link",
        "made/one",
        "made/sparse",
        "made/two",
        "opaque",
        "opaque/.wh.below",
        "opaque/new",
        "replaced",
    }
    again = await look(jobs, snapshots, [base, made.diff_id])
    assert again["opaque"] and "opaque/below" not in again and "etc/gone" not in again
    assert "mounted" not in again and "proc" not in again
    await snapshots.remove_rootfs("c" * 64)


async def test_the_same_bytes_whatever_the_driver(snapshots: Snapshots, jobs: Jobs) -> None:
    base = await add(snapshots, BASE)
    await change(jobs, snapshots, [base], SCRIPT)
    made = await snapshots.adopt(CONTAINER, [base], mountpoints=["/mounted/here"])
    assert made is not None
    await snapshots.remove_rootfs(CONTAINER)
    # by the rule in minid/images/layers/canonical.py; if it changes, layers made before can be written no more
    assert made.diff_id == "sha256:162abd1b010d4dad7e677dfb2c124fd71923e3d36e86f08f1f5226dbcd4be9c0"


async def test_unpacking_it_elsewhere_gives_the_same(snapshots: Snapshots, jobs: Jobs) -> None:
    base = await add(snapshots, BASE)
    await change(jobs, snapshots, [base], SCRIPT)
    made = await snapshots.adopt(CONTAINER, [base])
    assert made is not None
    await snapshots.remove_rootfs(CONTAINER)
    before = lasting(await look(jobs, snapshots, [base, made.diff_id]))
    await snapshots.remove_rootfs("c" * 64)
    data = await written(snapshots, made.diff_id)
    await snapshots.remove(made.diff_id)
    assert await add(snapshots, data) == made.diff_id
    assert lasting(await look(jobs, snapshots, [base, made.diff_id])) == before
    await snapshots.remove_rootfs("c" * 64)
    assert await written(snapshots, made.diff_id) == data


async def test_no_time_is_later_than_asked_for(snapshots: Snapshots, jobs: Jobs) -> None:
    base = await add(snapshots, BASE)
    ids = []
    for _ in range(2):
        await change(jobs, snapshots, [base], "cd $ROOT; mkdir d; echo x > d/f; ln -s f d/l; sleep 1.1")
        made = await snapshots.adopt(CONTAINER, [base], latest_s=MOMENT_S)
        assert made is not None
        await snapshots.remove_rootfs(CONTAINER)
        ids.append(made.diff_id)
    assert ids[0] == ids[1]
    with tarfile.open(fileobj=io.BytesIO(await written(snapshots, ids[0]))) as tar:
        assert {entry.mtime for entry in tar} == {MOMENT_S}


async def test_nothing_changed_is_no_layer(snapshots: Snapshots, jobs: Jobs) -> None:
    base = await add(snapshots, BASE)
    await change(jobs, snapshots, [base], "cd $ROOT; mkdir -p dev/pts proc sys mnt/a/b")
    assert await snapshots.adopt(CONTAINER, [base], mountpoints=["/mnt/a/b"]) is None
    await snapshots.remove_rootfs(CONTAINER)


async def test_a_layer_that_was_changed_on_disk_is_refused(
    snapshots: Snapshots, jobs: Jobs, layout: Layout, driver: str
) -> None:
    base = await add(snapshots, Tar().file("a", b"1").data)
    await change(jobs, snapshots, [base], "echo 1 > $ROOT/b")
    made = await snapshots.adopt(CONTAINER, [base])
    assert made is not None
    await snapshots.remove_rootfs(CONTAINER)
    hexes = made.diff_id.partition(":")[2]
    (layout.snapshots / driver / "layers" / hexes / "fs" / "b").write_text("2\n")
    with pytest.raises(Failed, match="has been changed on disk"):
        await written(snapshots, made.diff_id)
