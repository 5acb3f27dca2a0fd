"""Directories that a layer has only because something lies in them: what they should look like in a stack.

An archive may hold ``tmp/x`` without ``tmp/``. Unpacked on its own, as layers keyed by diff ID are, it gets
a ``tmp`` of mode 0755, which in an overlay would hide that /tmp is 1777 further down. The right attributes
depend on the image, so they go into one more layer, of empty directories, on top; it is made once an image,
where there is a difference.

    <repairs>/<digest of the diff IDs>/layers     the layers it was made for, base first
    <repairs>/<digest of the diff IDs>/fs/        the extra layer
"""

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from minid.images.snapshots.driver import LayerRecord
from minid.kernel import rootpath, syscall

_NO_LINKS = syscall.RESOLVE_BENEATH | syscall.RESOLVE_NO_SYMLINKS
_PLAIN = (0o755, 0, 0)


class Repairs:
    """The extra layers below ``root``; ``record`` finds a layer's record."""

    def __init__(self, root: Path, record: Callable[[Path], LayerRecord]) -> None:
        self._root = root
        self._record = record
        root.mkdir(mode=0o700, exist_ok=True)

    def find(self, layers: Sequence[Path]) -> Path | None:
        """The extra layer of an image with these layers (base first), if it needs one. Blocks (briefly)."""
        if not any(self._record(layer).implied for layer in layers):
            return None
        place = (
            self._root / hashlib.sha256("\n".join(layer.name for layer in layers).encode()).hexdigest()[:32]
        )
        if not place.exists():
            self._make(place, layers)
        return place / "fs" if (place / "fs").exists() else None

    def forget(self, layer: Path) -> None:
        """Remove the extra layers of images with ``layer``, which is going away."""
        for place in self._root.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if layer.name in (place / "layers").read_text().split():
                    shutil.rmtree(place)

    def clean(self) -> None:
        """Remove what an interrupted daemon has left aside."""
        for place in self._root.glob("*.aside"):
            shutil.rmtree(place)

    def _make(self, place: Path, layers: Sequence[Path]) -> None:
        aside = place.with_suffix(".aside")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        (aside / "layers").write_text("\n".join(layer.name for layer in layers))
        wanted = sorted({name for layer in layers for name in self._record(layer).implied})
        wanted = [name for name in wanted if self._differs(layers, name)]
        if wanted:
            fs = aside / "fs"
            fs.mkdir()
            root = rootpath.open_root(str(fs))
            try:
                for name in wanted:
                    self._copy(root, layers, name)
            finally:
                os.close(root)
        aside.rename(place)

    def _differs(self, layers: Sequence[Path], name: str) -> bool:
        """Whether the directory shows wrong attributes: implied where it is topmost, and special where it
        is told.
        """
        shows_implied, fd = self._told(layers, name)
        if fd is None:
            return False
        info = os.fstat(fd)
        special = (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) != _PLAIN or bool(os.listxattr(fd))
        os.close(fd)
        return shows_implied and special

    def _told(self, layers: Sequence[Path], name: str) -> tuple[bool, int | None]:
        """The topmost directory ``name`` with an entry of its own, and whether one without lies over it."""
        implied = False
        for layer in reversed(layers):
            fs = rootpath.open_root(str(layer / "fs"))
            try:
                fd = syscall.openat2(fs, name, os.O_RDONLY | os.O_DIRECTORY, 0, _NO_LINKS)
            except FileNotFoundError:
                continue
            except OSError:
                return implied, None  # something else (a whiteout) ends it
            finally:
                os.close(fs)
            record = self._record(layer)
            if name not in record.implied:
                return implied, fd
            implied = True
            ends = "trusted.overlay.opaque" in os.listxattr(fd)
            os.close(fd)
            if ends:
                break
        return implied, None

    def _copy(self, root: int, layers: Sequence[Path], name: str) -> None:
        done = ""
        for part in name.split("/"):
            done = f"{done}/{part}" if done else part
            if rootpath.find_in_root(root, done) is not None:
                continue
            target_path = rootpath.ensure_dir(root, done)
            target = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target_path)
            os.close(target_path)
            _, source = self._told(layers, done)
            if source is not None:
                info = os.fstat(source)
                os.fchown(target, info.st_uid, info.st_gid)
                os.fchmod(target, stat.S_IMODE(info.st_mode))
                for key in os.listxattr(source):
                    if not key.startswith("trusted.overlay."):
                        os.setxattr(target, key, os.getxattr(source, key))
                os.close(source)
            os.close(target)
