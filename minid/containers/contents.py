"""What lies inside a container's file system: sizes, changes, copying in and out, export."""

from collections.abc import AsyncIterator
from typing import Any

from minid.containers.model import Container
from minid.errors import Unsupported
from minid.images.snapshots import Snapshots
from minid.shim.client import Jobs

PathStat = Any


class Contents:
    """Works on running containers (in their mount namespace) and on stopped ones (in one of a job's own)."""

    def __init__(self, snapshots: Snapshots, jobs: Jobs) -> None:
        self._snapshots = snapshots
        self._jobs = jobs

    async def size(self, container: Container) -> tuple[int, int]:
        return await self._snapshots.sizes(container.id, container.diff_ids)

    async def changes(self, container: Container) -> list[tuple[str, int]]:
        raise Unsupported("diff is not there yet")

    async def stat(self, container: Container, path: str) -> PathStat:
        raise Unsupported("cp is not there yet")

    async def get(self, container: Container, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        raise Unsupported("cp is not there yet")

    async def put(
        self,
        container: Container,
        path: str,
        stream: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool,
        copy_uidgid: bool,
    ) -> None:
        raise Unsupported("cp is not there yet")

    async def export(self, container: Container) -> AsyncIterator[bytes]:
        raise Unsupported("export is not there yet")
