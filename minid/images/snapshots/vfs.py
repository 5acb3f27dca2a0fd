"""vfs: every container gets a copy of its image's files, with shared blocks where the file system has
reflinks.

Works anywhere, and costs the image's size per container elsewhere. The copy is ``<container>/rootfs``.
"""

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from minid.images.rootfs import Rootfs
from minid.images.snapshots.driver import Jobs, LayerRecord


class Vfs:
    """See ``Driver``."""

    name = "vfs"
    style = "list"

    def __init__(self, snapshots: Path, jobs: Jobs, record: Callable[[Path], LayerRecord]) -> None:
        self._jobs = jobs
        self._aside = snapshots / self.name / "aside"

    def make_layer_root(self, path: Path) -> None:
        path.mkdir(mode=0o755)

    def rootfs(self, directory: Path, layers: Sequence[Path]) -> Rootfs:
        return Rootfs(kind="bind", source=str(directory / "rootfs"))

    async def create_rootfs(self, directory: Path, layers: Sequence[Path]) -> Rootfs:
        aside = self._aside / secrets.token_hex(8)
        aside.mkdir(mode=0o755)
        try:
            await self._jobs.call(
                "minid.images.layers:merge_job",
                {"layers": [str(layer) for layer in layers], "target": str(aside), "sync": False},
            )
            os.rename(aside, directory / "rootfs")
        except BaseException:
            await self._remove(aside)
            raise
        return self.rootfs(directory, layers)

    async def remove_rootfs(self, directory: Path) -> None:
        if (directory / "rootfs").exists():
            await self._remove(directory / "rootfs")

    async def remove_layer(self, layer: Path, aside: Path) -> None:
        await self._remove(aside)

    async def _remove(self, path: Path) -> None:
        await self._jobs.call("minid.images.layers:remove_job", {"paths": [str(path)]})
