"""Files in and out of containers, stopped and running, on every kind of root file system."""

import asyncio
import hashlib
import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from minid.containers import archive
from minid.containers.archive import PathStat, Place
from minid.containers.model import MountPoint
from minid.errors import InvalidParameter, NotFound
from minid.images.snapshots import Snapshots
from minid.layout import Layout
from minid.shim.client import Jobs
from tests import tars
from tests.tars import Tar

CONTAINER = "c" * 64
LAYER = (
    Tar()
    .dir("etc")
    .file("etc/passwd", b"root:x:0:0::/:/bin/sh\nweb:x:33:44::/:/bin/sh\n")
    .file("etc/group", b"root:x:0:\n")
    .dir("data", mode=0o2750, uid=33, gid=44)
    .file("data/file", b"hello", mode=0o640, uid=33, xattrs={"user.note": b"\xff\x00"})
    .hardlink("data/again", "data/file")
    .link("data/absolute", "/etc/passwd")
    .link("data/dangling", "../no/where")
    .link("data/out", "../../../../../../tmp")
    .link("link", "data")
    .add("data/null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    .add("data/pipe", tarfile.FIFOTYPE)
    .file("data/" + "n" * 200, b"long")
    .file(os.fsdecode(b"data/\xff\xfe"), b"odd")
    .dir("data/sub")
    .file("data/sub/x", b"x" * 200_000)
    .dir("vol")
    .data
)
ETC_PASSWD = len(b"root:x:0:0::/:/bin/sh\nweb:x:33:44::/:/bin/sh\n")


@pytest.fixture(scope="module")
def jobs(privileged: None) -> Iterator[Jobs]:
    jobs = Jobs(
        (
            "minid.images.layers",
            "minid.volumes.copyup",
            "minid.containers.archive_jobs",
            "tests.system.rootfs_jobs",
        )
    )
    yield jobs
    jobs.close()


@pytest.fixture
def root(privileged: None) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    yield root
    shutil.rmtree(root)


class World:
    """A container with a volume at /vol (read-only at /rovol)."""

    def __init__(self, jobs: Jobs, place: Place, volume: Path) -> None:
        self.jobs = jobs
        self.place = place
        self.volume = volume

    async def stat(self, path: str) -> PathStat:
        return await archive.stat_path(self.jobs, self.place, path)

    async def get(self, path: str) -> bytes:
        _, stream = await archive.get(self.jobs, self.place, path)
        return b"".join([piece async for piece in stream])

    async def names(self, path: str) -> list[str]:
        return read(await self.get(path)).getnames()

    async def put(self, path: str, data: bytes, **options: object) -> None:
        async def stream() -> AsyncIterator[bytes]:
            for at in range(0, len(data), 50_000):
                yield data[at : at + 50_000]

        await archive.put(self.jobs, self.place, path, stream(), **options)  # type: ignore[arg-type]


@pytest.fixture(params=["overlay2-stopped", "vfs-stopped", "overlay2-running", "overlay2-readonly"])
async def world(request: pytest.FixtureRequest, root: Path, jobs: Jobs) -> AsyncIterator[World]:
    driver, _, state = request.param.partition("-")
    layout = Layout(root / "data", root / "exec")
    for directory in (layout.data_root, layout.snapshots, layout.containers):
        directory.mkdir()
    snapshots = Snapshots(layout, driver, jobs)
    await snapshots.start()
    diff_id = "sha256:" + hashlib.sha256(LAYER).hexdigest()
    fd = tars.feed(LAYER)
    await snapshots.unpack(diff_id, "", fd)
    os.close(fd)
    rootfs = await snapshots.create_rootfs(CONTAINER, [diff_id])
    volume = root / "volume"
    volume.mkdir()
    (volume / "in-volume").write_text("v")
    mounts = (
        MountPoint(type="volume", source=str(volume), destination="/vol"),
        MountPoint(type="bind", source=str(volume), destination="/made/rovol", rw=False),
    )
    place = Place("web1", rootfs, mounts, readonly_rootfs=state == "readonly")
    if state == "running":
        ours, theirs = socket.socketpair()
        task = asyncio.ensure_future(
            jobs.call(
                "tests.system.rootfs_jobs:live_job",
                {
                    "rootfs": place.request("")["rootfs"],
                    "binds": [[str(volume), "/vol"], [str(volume), "/made/rovol"]],
                    "readonly": False,
                },
                [theirs.fileno()],
            )
        )
        await asyncio.sleep(0)
        theirs.close()
        _, fds, _, _ = await asyncio.to_thread(socket.recv_fds, ours, 1, 1)
        place = Place("web1", rootfs, mounts, namespace=fds[0])
        yield World(jobs, place, volume)
        os.close(fds[0])
        ours.close()
        await task
    else:
        yield World(jobs, place, volume)
    await snapshots.close()


def read(data: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape")


every_world = pytest.mark.parametrize(
    "world", ["overlay2-stopped", "vfs-stopped", "overlay2-running"], indirect=True
)
running = pytest.mark.parametrize("world", ["overlay2-running"], indirect=True)
stopped = pytest.mark.parametrize("world", ["overlay2-stopped"], indirect=True)
read_only = pytest.mark.parametrize("world", ["overlay2-readonly"], indirect=True)


@every_world
async def test_stat(world: World) -> None:
    assert await world.stat("/data/file") == PathStat("file", 5, stat.S_IFREG | 0o640, tars.MTIME * 10**9, "")
    assert (await world.stat("data/sub/")).name == "sub"
    assert (await world.stat("/")).name == "/"
    link = await world.stat("/link")
    assert stat.S_ISLNK(link.mode) and link.link_target == "/data"
    assert stat.S_ISDIR((await world.stat("/link/")).mode)
    dot = await world.stat("/link/.")
    assert stat.S_ISDIR(dot.mode) and dot.name == "."
    assert (await world.stat("/data/absolute")).link_target == "/etc/passwd"
    assert (await world.stat("/data/dangling")).link_target == "/no/where"
    assert (await world.stat("/data/out")).link_target == "/tmp"
    assert (await world.stat("../../etc/passwd")).size_bytes == ETC_PASSWD
    assert (await world.stat("/vol/in-volume")).size_bytes == 1
    assert (await world.stat("/made/rovol/in-volume")).size_bytes == 1


@every_world
async def test_what_is_not_there(world: World) -> None:
    for path in ("/nope", "/data/dangling/x", "data/dangling/."):
        with pytest.raises(NotFound, match=f"^Could not find the file {path} in container web1$"):
            await world.stat(path)
        with pytest.raises(NotFound):
            await world.get(path)
    with pytest.raises(NotFound, match="Could not find the file /nope/ in container web1"):
        await world.put("/nope/", Tar().file("x").data)
    with pytest.raises(InvalidParameter, match="not a directory"):
        await world.stat("/etc/passwd/")


@every_world
async def test_get_a_directory(world: World) -> None:
    data = await world.get("/data")
    members = {member.name: member for member in read(data)}
    assert sorted(members) == sorted(
        [
            "data",
            *(
                f"data/{name}"
                for name in (
                    "file",
                    "again",
                    "absolute",
                    "dangling",
                    "out",
                    "null",
                    "pipe",
                    "n" * 200,
                    "\udcff\udcfe",
                )
            ),
            "data/sub",
            "data/sub/x",
        ]
    )
    top, file = members["data"], members["data/again"]
    assert (top.type, top.mode, top.uid, top.gid, top.mtime) == (tarfile.DIRTYPE, 0o2750, 33, 44, tars.MTIME)
    assert (file.mode, file.uid, file.size) == (0o640, 33, 5)
    assert file.pax_headers["SCHILY.xattr.user.note"].encode("utf-8", "surrogateescape") == b"\xff\x00"
    assert members["data/file"].islnk() and members["data/file"].linkname == "data/again"
    assert members["data/absolute"].linkname == "/etc/passwd"
    assert (members["data/null"].type, members["data/null"].devmajor) == (tarfile.CHRTYPE, 1)
    assert members["data/pipe"].type == tarfile.FIFOTYPE
    extracted = read(data).extractfile("data/sub/x")
    assert extracted and extracted.read() == b"x" * 200_000


@every_world
async def test_names_in_the_archive_follow_the_path(world: World) -> None:
    assert await world.names("/data/file") == ["file"]
    assert await world.names("/data/sub/.") == [".", "./x"]
    assert await world.names("/link") == ["link"]
    assert await world.names("/link/sub") == ["sub", "sub/x"]
    assert read(await world.get("/link")).getmember("link").issym()
    assert "in-volume" in " ".join(await world.names("/vol"))
    names = await world.names("/")
    assert {"/etc", "/etc/passwd", "/data/sub/x", "/vol/in-volume", "/made/rovol/in-volume"} <= {
        "/" + name.lstrip("/") for name in names
    }


@running
async def test_the_whole_of_a_running_container_is_without_its_proc(world: World) -> None:
    names = {"/" + name.lstrip("/") for name in await world.names("/")}
    assert "/proc" in names and not any(name.startswith("/proc/") for name in names)
    assert (await world.stat("/proc/version")).size_bytes == 0


@running
async def test_put_into_a_tmpfs_of_a_running_container(world: World) -> None:
    await world.put("/run", Tar().file("x", b"12").data)
    assert (await world.stat("/run/x")).size_bytes == 2


@every_world
async def test_put(world: World) -> None:
    data = (
        Tar()
        .dir("./", mode=0o700)
        .dir("new", uid=5, gid=6, mode=0o1777)
        .file("new/file", b"1" * 300_000, uid=1000, gid=1000, mode=0o4755)
        .hardlink("new/hard", "new/file")
        .link("new/soft", "/etc/passwd")
        .file("sub/x", b"replaced")
        .file(".wh.file", b"an ordinary name")
        .data
    )
    await world.put("/link/", data)
    assert (await world.stat("/data/new")).mode == stat.S_IFDIR | 0o1777
    assert (await world.stat("/data/new/file")).mode == stat.S_IFREG | 0o4755
    members = {member.name: member for member in read(await world.get("/data/new"))}
    assert (members["new"].uid, members["new"].gid) == (5, 6)
    assert members["new/file"].uid == 1000 and members["new/hard"].islnk()
    assert (await world.stat("/data/sub/x")).size_bytes == len(b"replaced")
    assert (await world.stat("/data/.wh.file")).size_bytes == len(b"an ordinary name")
    assert (await world.stat("/data/file")).size_bytes == 5
    assert (await world.stat("/data")).mode == stat.S_IFDIR | 0o2750, "the directory itself stays as it is"


@every_world
async def test_put_into_a_volume(world: World) -> None:
    await world.put("/vol", Tar().file("x", b"12").data)
    assert (world.volume / "x").read_bytes() == b"12"


@stopped
async def test_put_into_a_read_only_volume(world: World) -> None:
    with pytest.raises(InvalidParameter, match="mounted volume is marked read-only"):
        await world.put("/made/rovol", Tar().file("x", b"12").data)
    assert not (world.volume / "x").exists()


@read_only
async def test_put_into_a_read_only_root(world: World) -> None:
    with pytest.raises(InvalidParameter, match="container rootfs is marked read-only"):
        await world.put("/etc", Tar().file("x", b"12").data)
    await world.put("/vol", Tar().file("x", b"12").data)
    assert (world.volume / "x").exists()


@every_world
async def test_put_onto_what_is_no_directory(world: World) -> None:
    for path in ("/etc/passwd", "/data/absolute"):
        with pytest.raises(InvalidParameter, match="extraction point is not a directory"):
            await world.put(path, Tar().file("x").data)


@every_world
async def test_no_overwrite_dir_non_dir(world: World) -> None:
    with pytest.raises(InvalidParameter, match=r"cannot overwrite directory .*sub.* with non-directory"):
        await world.put("/data", Tar().file("sub", b"x").data, no_overwrite_dir_non_dir=True)
    with pytest.raises(InvalidParameter, match=r"cannot overwrite non-directory .*file.* with directory"):
        await world.put("/data", Tar().dir("file").data, no_overwrite_dir_non_dir=True)
    await world.put("/data", Tar().dir("sub").file("file", b"123").data, no_overwrite_dir_non_dir=True)
    assert (await world.stat("/data/file")).size_bytes == 3
    await world.put("/data", Tar().file("sub", b"x").data)
    assert stat.S_ISREG((await world.stat("/data/sub")).mode)


@every_world
async def test_put_gives_it_to_the_containers_user(world: World) -> None:
    await world.put("/data", Tar().file("own", uid=7, gid=8).data, user="web")
    member = read(await world.get("/data/own")).getmember("own")
    assert (member.uid, member.gid) == (33, 44)
    with pytest.raises(InvalidParameter, match="unable to find user nobody"):
        await world.put("/data", Tar().file("own").data, user="nobody")


@every_world
async def test_a_hostile_archive_stays_in_the_container(world: World) -> None:
    """Links lead inside the container; names lead nowhere out of the directory."""
    with pytest.raises(InvalidParameter, match="leads out of the root directory"):
        await world.put("/data/sub", Tar().file("../escaped", b"x").data)
    mark = f"escaped-{os.getpid()}"
    await world.put("/data", Tar().link("l", "/../../../../tmp").file(f"l/{mark}", b"x").data)
    assert not os.path.exists(f"/tmp/{mark}")
    assert (await world.stat(f"/tmp/{mark}")).size_bytes == 1


@every_world
async def test_a_damaged_archive(world: World) -> None:
    with pytest.raises(InvalidParameter, match="Error processing tar file"):
        await world.put("/data", b"this is no tar archive" * 100)
    with pytest.raises(InvalidParameter, match="Error processing tar file"):
        await world.put("/data", Tar().file("x", b"x" * 9000).data[:5000])


@every_world
async def test_export_has_the_root_file_system_and_nothing_mounted_in_it(world: World) -> None:
    await world.put("/data", Tar().file("added", b"x").data)
    stream = await archive.export(world.jobs, world.place)
    names = read(b"".join([piece async for piece in stream])).getnames()
    assert {"etc/passwd", "data/added", "data/sub/x", "vol"} <= set(names)
    assert not any("in-volume" in name or name.startswith(("/", "./", "proc/")) for name in names)


@stopped
async def test_sparse_files_stay_sparse(world: World, tmp_path: Path) -> None:
    with open(tmp_path / "holes", "wb") as file:
        file.seek(40 << 20)
        file.write(b"end")
        file.truncate(90 << 20)
    archived = await asyncio.to_thread(
        gnu_tar, "-C", str(tmp_path), "--sparse", "--format=gnu", "-cf", "-", "holes"
    )
    await world.put("/data", archived)
    data = await world.get("/data/holes")
    assert len(data) < 1 << 20
    file = read(data).extractfile("holes")
    assert (
        file
        and hashlib.sha256(file.read()).digest() == hashlib.sha256((tmp_path / "holes").read_bytes()).digest()
    )


@stopped
async def test_reading_can_be_given_up(world: World) -> None:
    await world.put("/data", Tar().file("large", bytes(8 << 20)).data)
    _, stream = await archive.get(world.jobs, world.place, "/data/large")
    assert await anext(stream)
    await stream.aclose()
    assert [piece async for piece in stream] == []
    assert (await world.stat("/data/large")).size_bytes == 8 << 20


@stopped
async def test_looking_changes_nothing(world: World) -> None:
    upper = Path(world.place.rootfs.upper)
    await world.stat("/made/rovol/in-volume")
    await world.get("/")
    stream = await archive.export(world.jobs, world.place)
    assert [piece async for piece in stream]
    assert list(upper.iterdir()) == []


def gnu_tar(*arguments: str) -> bytes:
    return subprocess.run(["tar", *arguments], check=True, capture_output=True).stdout
