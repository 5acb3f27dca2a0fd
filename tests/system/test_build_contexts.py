"""Contexts by real jobs: received, broken, hostile, abandoned; and what a COPY's digest depends on."""

import asyncio
import bz2
import dataclasses
import gzip
import hashlib
import io
import lzma
import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from minid.build.context import Context, empty, receive
from minid.build.copying import Copier, Copy, Source
from minid.build.patterns import Patterns
from minid.errors import InvalidParameter, MinidError, NotFound
from minid.images.rootfs import Rootfs
from minid.shim.client import Jobs
from tests.copy_rules import CONTEXT, tar_of
from tests.tars import Tar


@pytest.fixture(scope="module")
def jobs(privileged: None) -> Iterator[Jobs]:
    jobs = Jobs(("minid.images.layers", "minid.build.receive_jobs", "minid.build.copy_jobs"))
    yield jobs
    jobs.close()


@pytest.fixture
async def root(jobs: Jobs) -> AsyncIterator[Path]:
    await jobs.call("minid.images.layers:remove_job", {"paths": []})  # now the forkserver runs
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    before = descriptors()
    yield root
    left = [target for target in descriptors() if target not in before]
    assert not left, "descriptors were left open"
    shutil.rmtree(root)


def descriptors() -> list[str]:
    """The files and pipes that are open (sockets and so on are the event loop's and the forkserver's)."""
    targets = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue
    return [target for target in targets if target.startswith(("/memfd:", "pipe:", "/var/tmp"))]


async def pieces(data: bytes, size: int = 1 << 16) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


TREE = {
    "a": "f 644 0:0 aa",
    "d": "d 755 0:0",
    "d/b": "f 600 0:0 bb",
    "d/l": "l 0:0 ../a",
    "out": "l 0:0 ../../etc/passwd",
}


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress],
    ids=["plain", "gzip", "bzip2", "xz", "zstd"],
)
@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
async def test_received(root: Path, jobs: Jobs, compress: Callable[[bytes], bytes], size: int) -> None:
    with await receive(pieces(compress(tar_of(TREE)), size), root, jobs) as context:
        assert (context.entries, context.size_bytes) == (5, 4)
        assert await context.find("a") == b"aa"
        assert await context.find("/d/../d/b") == b"bb"
        assert await context.find("d/l") == b"aa"
        assert await context.find("nothing") is None
        assert await context.find("out") is None, "a link leads nowhere outside"
        with pytest.raises(InvalidParameter, match="not a file"):
            await context.find("d")
        with pytest.raises(InvalidParameter, match="at most 1 "):
            await context.find("a", 1)
    assert not list(root.iterdir())


LARGE = os.urandom(1 << 20) * 3 + b"end"


async def test_large_files(root: Path, jobs: Jobs) -> None:
    """Beyond what is read at once, at the limits, and one with holes."""
    sizes = [0, 1, 511, 512, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1, len(LARGE)]
    archive = Tar()
    for size in sizes:
        archive.file(f"f{size}", LARGE[:size])
    with await receive(pieces(archive.data), root, jobs) as context:
        for size in sizes:
            assert await context.find(f"f{size}", 1 << 30) == LARGE[:size]


async def test_sparse(root: Path, jobs: Jobs, tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.seek(50 << 20)
        file.write(b"in the middle")
        file.truncate(100 << 20)
    process = await asyncio.create_subprocess_exec(
        "tar", "-C", str(tmp_path), "--sparse", "-c", "sparse", stdout=asyncio.subprocess.PIPE
    )
    data, _ = await process.communicate()
    (root / "out").mkdir()
    with await receive(pieces(data), root, jobs) as context:
        assert os.fstat(context.fds[0]).st_blocks * 512 < 1 << 20
        await context.unpack(jobs, root / "out")
    assert (root / "out/sparse").stat().st_blocks * 512 < 1 << 20
    assert (
        hashlib.sha256((root / "out/sparse").read_bytes()).digest()
        == hashlib.sha256(sparse.read_bytes()).digest()
    )


WHOLE = tar_of({**TREE, "large": "f 644 0:0 " + 200_000 * "x"})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no files"),
        (bytes(10240), "no files"),
        (b"FROM scratch\n", "in the middle of a header"),
        (b"x" * 2048, "checksum is not a number"),
        (WHOLE[:1000], "ends in the middle"),
        (WHOLE[:-150_000], "ends in the middle"),
        (gzip.compress(WHOLE)[:-200], "gzip data ends too early"),
        (gzip.compress(WHOLE)[:-8] + bytes(8), "gzip data is damaged"),
        (zstandard.compress(WHOLE)[:-200] + bytes(200), "zstd data is damaged|ends in the middle"),
        (Tar().file("../../../../etc/evil", b"x").data, "leads out"),
        (Tar().hardlink("x", "/etc/passwd").data, "not in the archive"),
        (Tar().link("l", "/").add("l/../../x", b"Q").data, "leads out|unknown type"),
    ],
)
async def test_broken(root: Path, jobs: Jobs, data: bytes, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        await receive(pieces(data), root, jobs)
    assert not list(root.iterdir())


async def test_hostile_names_stay_inside(root: Path, jobs: Jobs) -> None:
    """Absolute names, links to the host's directories and names below them are the context's own."""
    archive = (
        Tar()
        .file("/abs/file", b"1")
        .link("host", "/etc")
        .file("host/evil", b"2")
        .link("up", "../" * 20 + "var")
        .file("up/x", b"3")
    )
    (root / "out").mkdir()
    with await receive(pieces(archive.data), root, jobs) as context:
        await context.unpack(jobs, root / "out")
    found = {
        os.path.relpath(os.path.join(directory, name), root / "out")
        for directory, _, names in os.walk(root / "out")
        for name in names
        if not os.path.islink(os.path.join(directory, name))
    }
    assert found == {"abs/file", "etc/evil", "var/x"}
    assert not Path("/etc/evil").exists()


async def test_a_client_that_goes_away(root: Path, jobs: Jobs) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield WHOLE[:100_000]
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await receive(broken(), root, jobs)
    started = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield WHOLE[:100_000]
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(receive(stalled(), root, jobs))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list(root.iterdir())


async def test_what_is_taken_out(root: Path, jobs: Jobs) -> None:
    with await receive(pieces(tar_of(TREE)), root, jobs) as context:
        await context.exclude(Patterns(["d", "!d/b"]))
        await context.remove("a")
        await context.remove("a")
        assert await context.find("a") is None
        assert await context.find("d/b") == b"bb"
        (root / "out").mkdir()
        await context.unpack(jobs, root / "out")
    assert sorted(os.listdir(root / "out")) == ["d", "out"]
    assert os.listdir(root / "out/d") == ["b"]


async def test_empty(root: Path, jobs: Jobs) -> None:
    with empty(root) as context:
        assert await context.find("Dockerfile") is None
        with pytest.raises(NotFound):
            await Copier(jobs).digest(Source(context=context), Copy(("a",), "/x"))


async def test_many_files_do_not_fill_the_memory(root: Path, jobs: Jobs) -> None:
    """Twenty thousand: received, digested and copied; the daemon itself keeps none of it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as opened:
        for number in range(20_000):
            entry = tarfile.TarInfo(f"d{number % 100}/f{number}")
            entry.size = 6
            opened.addfile(entry, io.BytesIO(b"%06d" % number))
    target = plain(root)
    copier = Copier(jobs)
    with await receive(pieces(archive.getvalue()), root, jobs) as context:
        source = Source(context=context)
        copy = Copy((".",), "/all/")
        first = await copier.digest(source, copy)
        await copier.copy(target, source, copy)
        assert context.records() is not context.records(), "a large listing stays on disk"
    copied = list((root / "target/all").rglob("f*"))
    assert len(copied) == 20_000
    assert all(path.read_bytes() == b"%06d" % int(path.name[1:]) for path in copied[::997])
    again = await copier.digest(Source(rootfs=target), Copy(("/all/.",), "/all/"))
    assert again == first, "the same files from a stage are the same to the cache"


def plain(root: Path) -> Rootfs:
    (root / "target").mkdir()
    return Rootfs("bind", source=str(root / "target"))


# -- digests


async def digest(
    root: Path, jobs: Jobs, tree: dict[str, str], mtime: int = 1_600_000_000, **options: object
) -> str:
    copy = dataclasses.replace(Copy((".",), "/x/"), **options)  # type: ignore[arg-type]
    with await receive(pieces(tar_of(tree, mtime)), root, jobs) as context:
        return await Copier(jobs).digest(Source(context=context), copy)


SAME = [
    {**CONTEXT, "a": "f 640 99:98 aa"},
    dict(sorted(CONTEXT.items(), key=lambda pair: (pair[0] in ("h2",), pair[0]))),
]
OTHER = [
    {**CONTEXT, "a": "f 640 0:0 ab"},
    {**CONTEXT, "a": "f 641 0:0 aa"},
    {**CONTEXT, "a": "f 640 0:0 aa "},
    {**CONTEXT, "a": "l 0:0 aa"},
    {**CONTEXT, "d": "d 751 0:0"},
    {**CONTEXT, "d/l": "l 0:0 y"},
    {**CONTEXT, "d/new": "d 755 0:0"},
    {**CONTEXT, "h2": "f 644 0:0 hh"},
    {path: line for path, line in CONTEXT.items() if path != "empty"},
]


async def test_digest_is_of_the_contents(root: Path, jobs: Jobs) -> None:
    first = await digest(root, jobs, CONTEXT)
    for tree in SAME:
        assert await digest(root, jobs, tree) == first
        assert await digest(root, jobs, tree, 1_700_000_000) == first, "times do not count"
    others = [await digest(root, jobs, tree) for tree in OTHER]
    assert len({first, *others}) == len(OTHER) + 1


async def test_digest_is_of_the_options(root: Path, jobs: Jobs) -> None:
    variants: list[dict[str, object]] = [
        {},
        {"destination": "/y/"},
        {"destination": "/x"},
        {"chown": "1"},
        {"chmod": "600"},
        {"sources": ("./d",)},
        {"sources": ("d", "a")},
        {"exclude": ("a",)},
        {"exclude": ("d/x",)},
        {"parents": True, "sources": ("d",)},
        {"parents": True, "sources": ("./d/./sub",)},
        {"inline": (("n", b"1"),)},
        {"inline": (("n", b"2"),)},
        {"inline": (("m", b"2"),)},
    ]
    digests = [await digest(root, jobs, CONTEXT, **options) for options in variants]
    assert len(set(digests)) == len(variants)
    assert await digest(root, jobs, CONTEXT, destination="x/") == digests[0], "relative to /"
    assert await digest(root, jobs, CONTEXT, destination="/y/../x/", workdir="/a") == digests[0]


async def test_only_what_is_copied_counts(root: Path, jobs: Jobs) -> None:
    one = await digest(root, jobs, CONTEXT, sources=("a",))
    assert await digest(root, jobs, {"a": CONTEXT["a"]}, sources=("a",)) == one
    excluded = await digest(root, jobs, CONTEXT, exclude=("wild-*",))
    assert await digest(root, jobs, {**CONTEXT, "wild-3": "f 644 0:0 w"}, exclude=("wild-*",)) == excluded


# -- the time that is not exceeded


async def test_epoch(root: Path, jobs: Jobs) -> None:
    target = plain(root)
    with await receive(pieces(tar_of(CONTEXT)), root, jobs) as context:
        copy = Copy((".",), "/p/q/", epoch_s=1_400_000_000)
        await Copier(jobs).copy(target, Source(context=context), copy)
    paths = list((root / "target/p").rglob("*"))
    assert {int(path.lstat().st_mtime) for path in [root / "target/p", *paths]} == {1_400_000_000}


async def test_a_failed_copy_is_told_with_its_words(root: Path, jobs: Jobs) -> None:
    target = plain(root)
    with await receive(pieces(tar_of(CONTEXT)), root, jobs) as context:
        for copy in (
            Copy(("a",), "/x", chmod="nonsense"),
            Copy(("a[",), "/x"),
            Copy(("a",), "/x", exclude=("[",)),
        ):
            with pytest.raises(MinidError):
                await Copier(jobs).copy(target, Source(context=context), copy)
            with pytest.raises(InvalidParameter):
                await Copier(jobs).digest(Source(context=context), copy)


def test_of_no_fd(root: Path) -> None:
    context = Context(os.open(root, os.O_TMPFILE | os.O_RDWR), (0, 0), entries=0, size_bytes=0)
    context.close()
    context.close()
