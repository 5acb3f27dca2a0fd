"""The blob store: content-addressed files, exactly as a registry sent them or a build made them.

    <blobs>/<algorithm>/<hex>     whole and verified, never changed again
    <blobs>/partial/<hex>         a download under way or interrupted; the next pull goes on where it ends
    <blobs>/partial/*.aside       a small blob on its way to its place, or one on its way out

A blob appears whole: written aside, then renamed; ``durability`` sees to it that the disk has it, and what happens when
the power fails before. Everything here blocks; callers on the event loop use threads for what is large.
"""

import contextlib
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from minid.errors import Failed, NotFound
from minid.images.digest import ALGORITHMS, digest_of, is_digest, parse_digest, short

PARTIAL_KEEP_S = 7 * 24 * 3600
PARTIAL_TOTAL_MAX_BYTES = 20 << 30
READ_BYTES = 1 << 20


log = logging.getLogger(__name__)


class DigestMismatch(Failed):
    """Bytes that are not what their digest or their size says; ``resumed`` if an earlier try left some of them."""

    resumed = False


class ContentStore:
    """The blobs below ``root`` (created, 0700). One a daemon."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partial = root / "partial"
        self._suspects: set[str] = set()  # found to be damaged, and still there
        for directory in (root, self._partial, root / "sha256"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be. ``InvalidParameter`` if ``digest`` is none."""
        algorithm, encoded = parse_digest(digest)
        return self._root / algorithm / encoded

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def size(self, digest: str) -> int | None:
        """The size in bytes of a blob that is there, else None."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, digest: str) -> int:
        """A read-only descriptor of the blob (close it). ``NotFound`` when it is not there."""
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"blob {digest} is not in the store") from None

    def read(self, digest: str, size_max: int) -> bytes:
        """A whole small blob, verified again. ``NotFound``; ``DigestMismatch`` if the disk has changed it."""
        with os.fdopen(self.open(digest), "rb") as file:
            data = file.read(size_max + 1)
        if len(data) > size_max:
            raise DigestMismatch(f"blob {digest} has more than {size_max} bytes")
        if digest_of(data, parse_digest(digest)[0]) != digest:
            raise self.damaged(digest)
        return data

    def check(self, digest: str) -> bool | None:
        """Read all of the blob: whether it is what its digest says; None if it is not there. Blocks for long."""
        algorithm, expected = parse_digest(digest)
        try:
            with os.fdopen(self.open(digest), "rb") as file:
                actual = hashlib.file_digest(file, algorithm).hexdigest()
        except NotFound:
            return None
        except OSError:  # a bad sector
            actual = ""
        if actual != expected:
            self._suspects.add(digest)
            return False
        self._suspects.discard(digest)
        return True

    def is_sound(self, digest: str, size_bytes: int) -> bool:
        """Whether the blob is there, has its size, and nobody has found it damaged."""
        return self.size(digest) == size_bytes and digest not in self._suspects

    def damaged(self, digest: str) -> DigestMismatch:
        """The error for a blob that turned out not to be what its digest says; from now on it is not ``is_sound``."""
        self._suspects.add(digest)
        log.error("a blob has been changed on disk", extra={"digest": digest, "path": str(self.path(digest))})
        return DigestMismatch(
            f"blob {digest} has been changed on disk: pull the image again, or run minictl image verify --repair"
        )

    def put(self, data: bytes, digest: str = "") -> str:
        """Store a small blob and return its digest; ``DigestMismatch`` if it is not ``digest``."""
        actual = digest_of(data, parse_digest(digest)[0] if digest else "sha256")
        if digest and actual != digest:
            raise DigestMismatch(f"content does not have the digest {digest}, but {actual}")
        if self.has(actual):
            return actual
        aside = self._partial / f"{secrets.token_hex(8)}.aside"
        try:
            fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _write_all(fd, data)
            finally:
                os.close(fd)
            self._rename(aside, actual)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        return actual

    @property
    def asides(self) -> Path:
        """Where a job may write files named ``….aside``, for ``adopt``; a crash leaves them to ``clean``."""
        return self._partial

    def adopt(self, aside: Path, digest: str) -> None:
        """Make a file of ``asides``, which the caller has verified, the blob ``digest``."""
        self._rename(aside, digest)

    def partial(self, digest: str, size_bytes: int) -> "Partial":
        """Open (or begin) the unfinished blob; one user at a time. Blocks only for ``open(2)``."""
        return Partial(self, self._partial / parse_digest(digest)[1], digest, size_bytes)

    def remove(self, digest: str) -> int:
        """Remove a blob and what there is of it unfinished. Idempotent; returns the bytes freed."""
        return sum(unlink(path) for path in self.retire(digest))

    def retire(self, digest: str) -> list[Path]:
        """Take a blob, and what there is of it unfinished, out of the store at once; ``unlink`` what is returned."""
        self._suspects.discard(digest)
        retired: list[Path] = []
        for path in (self.path(digest), self._partial / parse_digest(digest)[1]):
            aside = self._partial / f"{secrets.token_hex(8)}.aside"
            with contextlib.suppress(FileNotFoundError):
                path.rename(aside)
                retired.append(aside)
        return retired

    def digests(self) -> Iterator[str]:
        """All blobs that are there."""
        for algorithm in ALGORITHMS:
            with contextlib.suppress(FileNotFoundError):
                for path in (self._root / algorithm).iterdir():
                    digest = f"{algorithm}:{path.name}"
                    if is_digest(digest):
                        yield digest

    def sizes(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """All blobs that are there: digest, size in bytes, time of the last change in nanoseconds."""
        for digest in self.digests():
            with contextlib.suppress(FileNotFoundError):
                status = self.path(digest).stat()
                yield digest, (status.st_size, status.st_mtime_ns)

    def partial_sizes(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """As ``sizes``, of the unfinished downloads by their hex names."""
        for name in self.partials():
            with contextlib.suppress(FileNotFoundError):
                status = (self._partial / name).stat()
                yield name, (status.st_size, status.st_mtime_ns)

    def partials(self) -> list[str]:
        """The hex names of the unfinished downloads."""
        return sorted(path.name for path in self._partial.iterdir() if not path.suffix)

    def clean(
        self, *, keep_s: float = PARTIAL_KEEP_S, total_max_bytes: int = PARTIAL_TOTAL_MAX_BYTES
    ) -> None:
        """At start: remove what a crash left aside, and unfinished downloads, old or together too big."""
        kept: list[tuple[float, int, Path]] = []
        for path in self._partial.iterdir():
            status = path.lstat()
            if path.suffix or status.st_size == 0 or time.time() - status.st_mtime > keep_s:
                path.unlink(missing_ok=True)
            else:
                kept.append((status.st_mtime, status.st_size, path))
        total = 0
        for _, size, path in sorted(kept, reverse=True):
            total += size
            if total > total_max_bytes:
                path.unlink(missing_ok=True)

    def _rename(self, aside: Path, digest: str) -> None:
        target = self.path(digest)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        aside.rename(target)


class Partial:
    """An unfinished blob: ``replay`` what is there, ``write`` the rest, ``verify``, ``publish``.

    ``offset`` is how many bytes have been hashed. ``close`` keeps the file for later, ``discard`` removes
    it; after ``publish`` both do nothing.
    """

    def __init__(self, store: ContentStore, path: Path, digest: str, size_bytes: int) -> None:
        self._store = store
        self._path = path
        self.digest = digest
        self.size_bytes = size_bytes
        self.offset = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.present_bytes = os.fstat(self._fd).st_size
        if self.present_bytes > size_bytes:
            os.ftruncate(self._fd, 0)
            self.present_bytes = 0
        self._hash = hashlib.new(parse_digest(digest)[0])

    def replay(self, sink: Callable[[bytes], None]) -> None:
        """Hash the bytes of earlier tries and give them to ``sink``, in order."""
        while self.offset < self.present_bytes:
            chunk = os.pread(self._fd, min(READ_BYTES, self.present_bytes - self.offset), self.offset)
            if not chunk:
                break
            self._hash.update(chunk)
            self.offset += len(chunk)
            sink(chunk)
        os.lseek(self._fd, self.offset, os.SEEK_SET)

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``. ``DigestMismatch`` when that is more than the blob has."""
        if self.offset + len(chunk) > self.size_bytes:
            raise DigestMismatch(
                f"blob {short(self.digest)} is longer than the {self.size_bytes} bytes that its manifest says"
            )
        self._hash.update(chunk)
        _write_all(self._fd, chunk)
        self.offset += len(chunk)

    def verify(self) -> None:
        """``DigestMismatch`` unless size and digest are right."""
        if self.offset != self.size_bytes:
            raise DigestMismatch(
                f"blob {short(self.digest)} ended after {self.offset} of {self.size_bytes} bytes (truncated)"
            )
        actual = f"{self.digest.partition(':')[0]}:{self._hash.hexdigest()}"
        if actual != self.digest:
            error = DigestMismatch(
                f"blob {self.digest} was received with another content, of digest {actual}"
            )
            error.resumed = self.present_bytes > 0
            raise error

    def publish(self) -> None:
        """Make the verified blob appear in the store."""
        os.close(self._fd)
        self._fd = -1
        self._store._rename(self._path, self.digest)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self.offset == 0 and self.present_bytes == 0:
                self._path.unlink(missing_ok=True)

    def discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._path.unlink(missing_ok=True)


def unlink(path: Path) -> int:
    """Remove what ``retire`` returned, and return its size. May take a while: a large file's blocks are freed."""
    size_bytes = path.stat().st_size
    path.unlink()
    return size_bytes


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])
