"""Throw-away root file systems: made of layers, for one step or to be read, and gone with the context.

They lie where those of containers lie; a directory there that no container has is removed at the daemon's start.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from minid.images.rootfs import Rootfs
from minid.images.snapshots import Snapshots
from minid.images.threads import settle
from minid.layout import Layout


@dataclass(frozen=True, slots=True)
class ScratchRootfs:
    id: str
    rootfs: Rootfs


class Scratch:
    """Makes them. One a daemon."""

    def __init__(self, layout: Layout, snapshots: Snapshots) -> None:
        self._layout = layout
        self._snapshots = snapshots

    @contextlib.asynccontextmanager
    async def rootfs(self, diff_ids: Sequence[str]) -> AsyncIterator[ScratchRootfs]:
        """A writable root file system of these layers, base first. The caller holds them."""
        rootfs_id = secrets.token_hex(32)
        try:
            yield ScratchRootfs(rootfs_id, await self._snapshots.create_rootfs(rootfs_id, diff_ids))
        finally:
            await settle(asyncio.ensure_future(self._remove(rootfs_id)))

    async def _remove(self, rootfs_id: str) -> None:
        await self._snapshots.remove_rootfs(rootfs_id)
        with contextlib.suppress(FileNotFoundError):
            self._layout.container(rootfs_id).rmdir()
