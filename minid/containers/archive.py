"""Files in and out of a container, running or stopped: ``docker cp`` and ``export`` as the daemon does them.

The work is done by the jobs in ``archive_jobs``; here are the pipes to them, and Docker's errors.
``Engine API v1.44 GET, HEAD, PUT /containers/{id}/archive, GET /containers/{id}/export``.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from minid.containers.model import MountPoint
from minid.errors import Failed, InvalidParameter, MinidError, NotFound
from minid.images.feeding import feed
from minid.images.rootfs import Rootfs
from minid.kernel.files import grow_pipe
from minid.shim.client import JobError

CHUNK = 256 * 1024
_JOBS = "minid.containers.archive_jobs"


class Runner(Protocol):
    """Runs a function in a forked process (``minid.shim.client.Jobs``)."""

    def call(
        self, target: str, request: Mapping[str, Any], fds: Sequence[int] = ()
    ) -> Awaitable[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class PathStat:
    """``mode`` is lstat(2)'s; ``link_target`` is where a symlink leads in the end, "" for anything else."""

    name: str
    size_bytes: int
    mode: int
    mtime_ns: int
    link_target: str


@dataclass(frozen=True, slots=True)
class Place:
    """A container's file system. ``namespace`` is its mount namespace while it runs, else None.

    ``name`` is for messages. ``mounts`` are its volumes and binds.
    """

    name: str
    rootfs: Rootfs
    mounts: tuple[MountPoint, ...] = ()
    namespace: int | None = None
    readonly_rootfs: bool = False

    def request(self, path: str) -> dict[str, Any]:
        return {
            "running": self.namespace is not None,
            "rootfs": asdict(self.rootfs),
            "mounts": [
                {"source": mount.source, "destination": mount.destination, "rw": mount.rw}
                for mount in sorted(self.mounts, key=lambda mount: mount.destination.count("/"))
                if mount.type in ("bind", "volume") and os.path.exists(mount.source)
            ],
            "path": path,
        }

    @property
    def fds(self) -> list[int]:
        return [] if self.namespace is None else [self.namespace]


async def stat_path(jobs: Runner, place: Place, path: str) -> PathStat:
    """What ``path`` is. Raises NotFound, InvalidParameter, Failed."""
    try:
        return PathStat(**await jobs.call(f"{_JOBS}:stat_job", place.request(path), place.fds))
    except JobError as error:
        raise translated(error, place, path) from error


async def get(jobs: Runner, place: Place, path: str) -> "tuple[PathStat, TarStream]":
    """``path`` and all below it as a tar stream. Raises as ``stat_path``, and while it is read Failed."""
    found = await stat_path(jobs, place, path)
    return found, await TarStream.start(jobs, f"{_JOBS}:get_job", place, path)


async def export(jobs: Runner, place: Place) -> "TarStream":
    """The whole root file system as a tar stream, without volumes."""
    return await TarStream.start(jobs, f"{_JOBS}:export_job", place, "/")


async def put(
    jobs: Runner,
    place: Place,
    path: str,
    stream: AsyncIterator[bytes],
    *,
    user: str = "",
    no_overwrite_dir_non_dir: bool = False,
) -> None:
    """Unpack the tar stream (compressed or not) into the directory ``path``; ``user`` then owns what is made.

    Raises NotFound, InvalidParameter (no directory, read-only, a damaged archive), Failed.
    """
    request = place.request(path) | {
        "user": user,
        "keep_kind": no_overwrite_dir_non_dir,
        "readonly_rootfs": place.readonly_rootfs,
    }
    reading, writing = os.pipe2(os.O_CLOEXEC)
    grow_pipe(writing)
    job = asyncio.ensure_future(jobs.call(f"{_JOBS}:put_job", request, [*place.fds, reading]))
    try:
        await asyncio.sleep(0)  # the request takes its own copies of the descriptors when it is sent
        try:
            await feed(writing, stream, job)
        finally:
            os.close(writing)
        await job
    except JobError as error:
        raise translated(error, place, path) from error
    finally:
        os.close(reading)
        _abandon(job)


class TarStream:
    """The pieces of an archive as a job writes them; ends the job when it is closed or forgotten."""

    def __init__(self, reading: int, job: "asyncio.Future[dict[str, Any]]", place: Place, path: str) -> None:
        self._reading = reading
        self._job = job
        self._place = place
        self._path = path
        self._ready = asyncio.Event()

    @classmethod
    async def start(cls, jobs: Runner, target: str, place: Place, path: str) -> "TarStream":
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        job = asyncio.ensure_future(jobs.call(target, place.request(path), [*place.fds, writing]))
        try:
            await asyncio.sleep(0)  # now the request is sent, with copies of the descriptors
        finally:
            os.close(writing)
        return cls(reading, job, place, path)

    def __aiter__(self) -> "TarStream":
        return self

    async def __anext__(self) -> bytes:
        if self._reading < 0:
            raise StopAsyncIteration
        while True:
            try:
                data = os.read(self._reading, CHUNK)
            except BlockingIOError:
                await self._readable()
                continue
            if data:
                return data
            try:
                await self._job
            except JobError as error:
                raise translated(error, self._place, self._path) from error
            finally:
                self.close()
            raise StopAsyncIteration

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready.clear()
        loop.add_reader(self._reading, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            loop.remove_reader(self._reading)

    def close(self) -> None:
        """Idempotent."""
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1
            _abandon(self._job)

    async def aclose(self) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _abandon(job: "asyncio.Future[dict[str, Any]]") -> None:
    """Nobody waits for it any more; what it raises is of no interest."""
    job.cancel()
    job.add_done_callback(lambda done: done.cancelled() or done.exception())


def translated(error: JobError, place: Place, path: str) -> MinidError:
    """Docker's error for what went wrong in a job."""
    if error.kind == "FileNotFoundError":
        return NotFound(f"Could not find the file {path} in container {place.name}")
    if error.kind in ("NotADestination", "UserError"):
        return InvalidParameter(str(error))
    if error.kind == "NotADirectoryError":
        return InvalidParameter(f"{path} in container {place.name} is not a directory")
    if error.kind == "TarError":
        return InvalidParameter(f"Error processing tar file: {error}")
    where = f" ({error.path})" if error.path else ""
    return Failed(f"{path} in container {place.name}: {error}{where}")
