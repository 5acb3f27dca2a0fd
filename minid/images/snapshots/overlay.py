"""overlay2: layers stay as they are, the kernel stacks them (Documentation/filesystems/overlayfs.rst).

<snapshots>/l/<8 letters>                links to the layers' fs, since mount(2) has one page for its options
<snapshots>/overlay2/empty/              the lower directory of an image without layers
<snapshots>/overlay2/repairs/            see ``minid.images.snapshots.repairs``
<container>/rw/, <container>/work/       upper and work directory
"""

import asyncio
import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from minid.images.rootfs import Rootfs
from minid.images.snapshots.driver import Jobs, LayerRecord
from minid.images.snapshots.repairs import Repairs
from minid.kernel.files import remove_tree

LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


class Overlay:
    """See ``Driver``. Mounting is the shim's business: nothing here touches the mount table."""

    name = "overlay2"
    style = "overlay"

    def __init__(self, snapshots: Path, jobs: Jobs, record: Callable[[Path], LayerRecord]) -> None:
        self._jobs = jobs
        self._record = record
        self._links = snapshots / "l"
        self._empty = snapshots / self.name / "empty"
        self._links.mkdir(mode=0o700, exist_ok=True)
        self._empty.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._repairs = Repairs(snapshots / self.name / "repairs", record)
        self._repairs.clean()
        self._repairing = asyncio.Lock()
        self._short: dict[Path, str] = {}

    def make_layer_root(self, path: Path) -> None:
        path.mkdir(mode=0o755)

    def rootfs(self, directory: Path, layers: Sequence[Path]) -> Rootfs:
        # overlayfs takes no directory twice; of a layer that is there twice, the upper one hides all of the lower
        lower = list(dict.fromkeys(self._link(layer) for layer in reversed(layers)))
        repair = self._repairs.find(layers)
        if repair is not None:
            lower.insert(0, str(repair))
        return Rootfs(
            kind="overlay",
            lower=tuple(lower) or (str(self._empty),),
            upper=str(directory / "rw"),
            work=str(directory / "work"),
        )

    async def create_rootfs(self, directory: Path, layers: Sequence[Path]) -> Rootfs:
        if any(self._record(layer).implied for layer in layers):
            async with self._repairing:
                await asyncio.to_thread(self._repairs.find, layers)
        mode, uid, gid = self._root_attributes(layers)
        upper = directory / "rw"
        with contextlib.suppress(FileExistsError):
            upper.mkdir(mode=0o755)
        os.chown(upper, uid, gid)
        os.chmod(upper, mode)
        with contextlib.suppress(FileExistsError):
            (directory / "work").mkdir(mode=0o700)
        return self.rootfs(directory, layers)

    async def remove_rootfs(self, directory: Path) -> None:
        paths = [str(directory / name) for name in ("rw", "work") if (directory / name).exists()]
        if _is_small(directory / "rw"):  # the usual case of a short run: quicker than any thread
            for path in paths:
                remove_tree(path)
        else:
            for path in paths:
                await asyncio.to_thread(remove_tree, path)

    async def remove_layer(self, layer: Path, aside: Path) -> None:
        self._short.pop(layer, None)
        self._repairs.forget(layer)
        with contextlib.suppress(FileNotFoundError):
            (self._links / os.readlink(aside / "link")).unlink(missing_ok=True)
        await self._jobs.call("minid.images.layers:remove_job", {"paths": [str(aside)]})

    def _link(self, layer: Path) -> str:
        """The layer's short path; ``<layer>/link`` remembers it, so that it can be taken away with the
        layer.
        """
        known = self._short.get(layer)
        if known is None:
            try:
                name = os.readlink(layer / "link")
            except FileNotFoundError:
                name = "".join(secrets.choice(LETTERS) for _ in range(8))
                os.symlink(name, layer / "link")
            with contextlib.suppress(FileExistsError):
                os.symlink(os.path.relpath(layer / "fs", self._links), self._links / name)
            known = self._short[layer] = str(self._links / name)
        return known

    def _root_attributes(self, layers: Sequence[Path]) -> tuple[int, int, int]:
        """Mode, uid and gid of ``/``: of the topmost layer that tells them, since the upper directory's
        show.
        """
        for layer in reversed(layers):
            if self._record(layer).root_entry:
                info = os.stat(layer / "fs")
                return stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
        return 0o755, 0, 0


def _is_small(directory: Path, limit: int = 64) -> bool:
    """Whether at most ``limit`` entries are in the tree, without looking at more."""
    seen = 0
    waiting = [str(directory)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen > limit:
                        return False
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except FileNotFoundError:
            continue
    return True
