"""What has been downloaded, kept for the next build: bounded, least recently used goes first.

<directory>/<key>         a context's contents and listing, as ``minid.build.context`` has them in a file without a name
<directory>/<key>.json    where the listing is, and what the source said (ETag and so on); without it there is nothing
"""

import contextlib
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from minid.build.context import Context

MAX_BYTES = 4 << 30


class Kept:
    """One a daemon; blocks for as long as a small file takes. ``directory`` is made."""

    def __init__(self, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in directory.glob("*.aside"):
            left.unlink()

    def find(self, *names: str) -> tuple[Context, dict[str, Any]] | None:
        """The context that is kept under these names (close it), and what was said about it."""
        path = self._path(names)
        try:
            about = json.loads(path.with_suffix(".json").read_bytes())
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ValueError):
            return None
        offset, length = about["listing"]
        if os.fstat(fd).st_size < offset + length:  # the power failed
            os.close(fd)
            return None
        os.utime(path.with_suffix(".json"))
        return Context(fd, (offset, length), entries=about["entries"], size_bytes=about["size_bytes"]), about

    def new_file(self) -> tuple[int, Path]:
        """An empty file to be filled, for ``add``; or to be removed."""
        path = self._directory / f"{secrets.token_hex(8)}.aside"
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), path

    def add(self, aside: Path, context: Context, about: dict[str, Any], *names: str) -> None:
        """Keep the file ``aside``, which has ``context``, under these names."""
        path = self._path(names)
        told = about | {
            "listing": context.listing,
            "entries": context.entries,
            "size_bytes": context.size_bytes,
        }
        with contextlib.suppress(FileNotFoundError):
            path.with_suffix(".json").unlink()
        os.rename(aside, path)
        description = aside.with_suffix(".json.aside")
        description.write_text(json.dumps(told))
        os.rename(description, path.with_suffix(".json"))
        self.shrink(self._max_bytes)

    def all(self) -> list[tuple[str, int, int, int]]:
        """What is kept: (key, bytes on disk, when it was made and last used, in nanoseconds since 1970)."""
        found = []
        for path in self._directory.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                data = path.with_suffix("").stat()
                found.append((path.stem, data.st_blocks * 512, data.st_mtime_ns, path.stat().st_mtime_ns))
        return found

    def remove(self, key: str) -> None:
        """Idempotent; who reads it goes on reading."""
        path = self._directory / key
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def shrink(self, max_bytes: int) -> int:
        """Remove what was longest not used until at most ``max_bytes`` are left; how many bytes went."""
        found = sorted((used_ns, size, key) for key, size, _, used_ns in self.all())
        total = sum(size for _, size, _ in found)
        gone = 0
        for _, size, key in found:
            if total - gone <= max_bytes:
                break
            self.remove(key)
            gone += size
        return gone

    def _path(self, names: tuple[str, ...]) -> Path:
        return self._directory / hashlib.sha256(json.dumps(names).encode()).hexdigest()
