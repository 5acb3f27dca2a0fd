"""btrfs: a stack of layers is a subvolume, made once an image; a container's root file system is a snapshot
of it.

    <snapshots>/btrfs/layers/<hex>/fs     a subvolume: the layer's own files
    <snapshots>/btrfs/chains/<digest>/    ``layers`` (the names, base first) and the subvolume ``fs``: all
    of them merged <container>/rootfs                    a snapshot of the chain's fs

Merging copies with reflinks: it costs metadata only.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from minid.images.rootfs import Rootfs
from minid.images.snapshots.driver import Jobs, LayerRecord
from minid.kernel import btrfs


class Btrfs:
    """See ``Driver``."""

    name = "btrfs"
    style = "list"

    def __init__(self, snapshots: Path, jobs: Jobs, record: Callable[[Path], LayerRecord]) -> None:
        self._jobs = jobs
        self._aside = snapshots / self.name / "aside"
        self._chains = snapshots / self.name / "chains"
        self._chains.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = asyncio.Lock()

    def make_layer_root(self, path: Path) -> None:
        btrfs.create_subvolume(str(path))
        os.chmod(path, 0o755)

    def rootfs(self, directory: Path, layers: Sequence[Path]) -> Rootfs:
        return Rootfs(kind="bind", source=str(directory / "rootfs"))

    async def create_rootfs(self, directory: Path, layers: Sequence[Path]) -> Rootfs:
        async with self._lock:
            chain = await self._ensure_chain(layers)
        await asyncio.to_thread(btrfs.snapshot, str(chain / "fs"), str(directory / "rootfs"))
        return self.rootfs(directory, layers)

    async def remove_rootfs(self, directory: Path) -> None:
        if (directory / "rootfs").exists():
            await asyncio.to_thread(btrfs.delete_subvolume, str(directory / "rootfs"))

    async def remove_layer(self, layer: Path, aside: Path) -> None:
        async with self._lock:
            for chain in self._chains.iterdir():
                if layer.name in (chain / "layers").read_text().split():
                    gone = self._aside / secrets.token_hex(8)
                    chain.rename(gone)
                    await self._remove(gone)
        await self._remove(aside)

    async def _ensure_chain(self, layers: Sequence[Path]) -> Path:
        names = "\n".join(layer.name for layer in layers)
        chain = self._chains / hashlib.sha256(names.encode()).hexdigest()
        if chain.exists():
            return chain
        aside = self._aside / secrets.token_hex(8)
        aside.mkdir(mode=0o700)
        try:
            (aside / "layers").write_text(names)
            rest = [str(layers[-1])] if layers else []
            if len(layers) > 1:
                below = await self._ensure_chain(layers[:-1])
                await asyncio.to_thread(btrfs.snapshot, str(below / "fs"), str(aside / "fs"))
            else:
                await asyncio.to_thread(self.make_layer_root, aside / "fs")
            await self._jobs.call(
                "minid.images.layers:merge_job", {"layers": rest, "target": str(aside / "fs"), "sync": True}
            )
            aside.rename(chain)
        except BaseException:
            await self._remove(aside)
            raise
        return chain

    async def _remove(self, directory: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(btrfs.delete_subvolume, str(directory / "fs"))
        await self._jobs.call("minid.images.layers:remove_job", {"paths": [str(directory)]})
