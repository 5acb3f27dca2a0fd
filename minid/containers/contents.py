"""What lies inside a container's file system: sizes, changes, copying in and out, export."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator

from minid.containers import archive
from minid.containers.archive import PathStat, Place
from minid.containers.model import Container
from minid.images.feeding import feed
from minid.images.snapshots import Snapshots
from minid.kernel import process
from minid.shim.client import Jobs

__all__ = ["Contents", "PathStat"]


class Contents:
    """Works on running containers (in their mount namespace) and on stopped ones (in one of a job's own)."""

    def __init__(self, snapshots: Snapshots, jobs: Jobs) -> None:
        self._snapshots = snapshots
        self._jobs = jobs

    async def size(self, container: Container) -> tuple[int, int]:
        """Bytes of the container's own files, and with the image's."""
        return await self._snapshots.sizes(container.id, container.diff_ids)

    async def changes(self, container: Container) -> list[tuple[str, int]]:
        """Absolute paths, sorted, each 0 modified, 1 added or 2 deleted."""
        return await self._snapshots.changes(container.id, container.diff_ids)

    async def write_changes(self, container: Container, out: int) -> bool:
        """As a layer's tar to the pipe ``out``; False when there are none."""
        return await self._snapshots.write_changes(container.id, container.diff_ids, out)

    async def write_all(self, container: Container, out: int) -> bool:
        """The whole root file system, as ``export``, to the pipe ``out``; true."""
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await feed(out, await self.export(container), never)
        return True

    async def stat(self, container: Container, path: str) -> PathStat:
        """Raises as ``archive.stat_path``."""
        with self._place(container) as place:
            return await archive.stat_path(self._jobs, place, path)

    async def get(self, container: Container, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        """Raises as ``archive.get``."""
        with self._place(container) as place:
            return await archive.get(self._jobs, place, path)

    async def put(
        self,
        container: Container,
        path: str,
        stream: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool,
        copy_uidgid: bool,
    ) -> None:
        """Raises as ``archive.put``. A stopped container must not be started meanwhile."""
        user = container.config.user if copy_uidgid else ""
        with self._place(container) as place:
            await archive.put(
                self._jobs, place, path, stream, user=user, no_overwrite_dir_non_dir=no_overwrite_dir_non_dir
            )

    async def export(self, container: Container) -> AsyncIterator[bytes]:
        """The root file system without volumes."""
        with self._place(container) as place:
            return await archive.export(self._jobs, place)

    @contextlib.contextmanager
    def _place(self, container: Container) -> Iterator[Place]:
        namespace = _mount_namespace(container.state.pid, container.state.pid_start_ticks)
        try:
            yield Place(
                name=container.name,
                rootfs=self._snapshots.rootfs(container.id, container.diff_ids),
                mounts=container.mounts,
                namespace=namespace,
                readonly_rootfs=container.host_config.readonly_rootfs,
            )
        finally:
            if namespace is not None:
                os.close(namespace)


def _mount_namespace(pid: int, start_ticks: int) -> int | None:
    """A descriptor of the process's mount namespace, None if there is no such process (any more)."""
    if not pid:
        return None
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    if process.exists(pid, start_ticks):  # looked at after the open: the descriptor is that process's
        return namespace
    os.close(namespace)
    return None
