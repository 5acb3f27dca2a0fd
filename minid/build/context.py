"""What a build copies from: a tree of files received from a client, fetched from a URL or cloned by git.

A context is not unpacked. While its tar comes in, a job writes the contents of the files one behind the other into a
file without a name, and behind them a *listing* of the tree (``minid.build.listing``) with each file's digest. So
there is no path that a hostile archive could lead astray, COPY's cache key needs no file read again, and when the build
(or the daemon) ends the kernel has taken everything away.
"""

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from minid.build import listing
from minid.build.listing import Record
from minid.build.patterns import Patterns
from minid.errors import Failed, InvalidParameter
from minid.images.feeding import feed
from minid.images.layers.tar import TarError
from minid.kernel.files import grow_pipe
from minid.shim.client import JobError

_JOBS = "minid.build.receive_jobs"
_KEPT_ENTRIES = 5000  # a listing of at most so many is kept in memory once it was needed


class Jobs(Protocol):
    """Runs a function in a forked process (``minid.shim.client.Jobs``)."""

    def call(
        self, target: str, request: Mapping[str, Any], fds: Sequence[int] = ()
    ) -> Awaitable[dict[str, Any]]: ...


class Context:
    """A tree of files to copy from. A context manager; ``close`` gives back the disk space.

    ``fds`` are for jobs: the contents' file first, and last the one that has the listing at ``listing`` (offset,
    length), which may be the same. ``entries`` and ``size_bytes`` count what was received.
    """

    def __init__(self, fd: int, place: tuple[int, int], *, entries: int, size_bytes: int) -> None:
        self.fds = [fd]
        self.listing = place
        self.entries = entries
        self.size_bytes = size_bytes
        self._root: Record | None = None

    async def find(self, path: str, limit_bytes: int = 1 << 20) -> bytes | None:
        """The file ``path`` (links followed inside the context), or None: for the Dockerfile and .dockerignore.

        InvalidParameter if it is larger than ``limit_bytes`` or no file.
        """
        return await asyncio.to_thread(self._find, path, limit_bytes)

    async def exclude(self, patterns: Patterns) -> None:
        """Take out every file that the patterns of a .dockerignore match."""
        await asyncio.to_thread(self._change, lambda root: listing.prune(root, patterns))

    async def remove(self, path: str) -> None:
        """Take out one file; idempotent. (The Dockerfile, if .dockerignore excludes it.)"""
        await asyncio.to_thread(
            self._change, lambda root: listing.take_out(root, listing.follow("/" + path, lambda _: None))
        )

    async def unpack(self, jobs: Jobs, directory: Path) -> None:
        """Make the tree as files in the empty ``directory``: for ``RUN --mount=type=bind``. Raises Failed."""
        request = {"directory": str(directory), "listing": list(self.listing)}
        try:
            await jobs.call("minid.build.copy_jobs:unpack_job", request, self.fds)
        except JobError as error:
            raise Failed(f"the build context can't be unpacked: {error}") from error

    def records(self) -> Record:
        """The root of the listing, which is not to be changed. Reads it, and blocks."""
        if self._root is not None:
            return self._root
        offset, length = self.listing
        root = listing.load(_read(self.fds[-1], offset, length))
        if self.entries <= _KEPT_ENTRIES:
            self._root = root
        return root

    def _find(self, path: str, limit_bytes: int) -> bytes | None:
        root = self.records()
        try:
            real = listing.follow("/" + path, lambda each: listing.find(root, each))
        except TarError as error:
            raise InvalidParameter(str(error)) from None
        node = listing.find(root, real)
        if node is None:
            return None
        if node.kind != listing.FILE:
            raise InvalidParameter(f"{path} is not a file")
        if node.size > limit_bytes:
            raise InvalidParameter(f"{path} has {node.size} bytes; at most {limit_bytes} are allowed")
        return _read(self.fds[0], node.offset, node.size)

    def _change(self, change: Callable[[Record], None]) -> None:
        offset, length = self.listing
        root = listing.load(_read(self.fds[-1], offset, length))
        change(root)
        data = listing.dump(root)
        fd = os.memfd_create("listing", os.MFD_CLOEXEC)  # the contents' file may be another context's too
        self.fds.append(fd)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        self.listing = (0, len(data))
        for unused in self.fds[1:-1]:
            os.close(unused)
        del self.fds[1:-1]
        self._root = root if self.entries <= _KEPT_ENTRIES else None

    def close(self) -> None:
        """Idempotent."""
        while self.fds:
            os.close(self.fds.pop())

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


async def receive(stream: AsyncIterator[bytes], directory: Path, jobs: Jobs) -> Context:
    """The context whose tar (plain or gzip, bzip2, xz, zstd) ``stream`` brings; its space is taken in ``directory``'s
    file system. Raises InvalidParameter for an empty or broken archive, Failed (disk full); nothing stays then.
    """
    fd = nameless_file(directory)
    try:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        grow_pipe(writing)
        job = asyncio.ensure_future(jobs.call(f"{_JOBS}:receive_job", {}, [reading, fd]))
        try:
            await asyncio.sleep(0)  # the request takes its own copies of the descriptors when it is sent
            os.close(reading)
            reading = -1
            try:
                await feed(writing, stream, job)
            finally:
                os.close(writing)
            result = await job
        finally:
            if reading >= 0:
                os.close(reading)
            job.cancel()
            job.add_done_callback(lambda done: done.cancelled() or done.exception())
    except JobError as error:
        os.close(fd)
        raise _translated(error) from error
    except BaseException:
        os.close(fd)
        raise
    offset, length = result["listing"]
    return Context(fd, (offset, length), entries=result["entries"], size_bytes=result["size_bytes"])


def empty(directory: Path) -> Context:
    """A context with nothing in it (``docker build - < Dockerfile``)."""
    fd = nameless_file(directory)
    data = listing.Builder().dump()
    os.write(fd, data)
    return Context(fd, (0, len(data)), entries=0, size_bytes=0)


def nameless_file(directory: Path) -> int:
    """An empty file in ``directory``'s file system that is gone when it is closed (open(2), O_TMPFILE)."""
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT) or not directory.is_dir():
            raise
    path = directory / f".{secrets.token_hex(8)}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return fd


def _read(fd: int, offset: int, length: int) -> bytes:
    pieces = []
    while length and (piece := os.pread(fd, length, offset)):
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return b"".join(pieces)


def _translated(error: JobError) -> Exception:
    if error.kind in ("TarError", "EmptyArchive"):
        return InvalidParameter(f"the build context can't be read: {error}")
    return Failed(f"the build context can't be stored: {error}")
