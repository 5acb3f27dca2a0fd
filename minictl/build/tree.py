"""A directory as the tar stream of a build context: sorted, owned by 0:0, and the same for the same files."""

from __future__ import annotations

import os
import stat

from minictl.build import header
from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minictl.build.ignore import Matches, Patterns

_PART_BYTES = 256 * 1024
_ZEROS = b"\0" * header.BLOCK
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class Tree:
    """What of the directory `top` is sent: all but what `patterns` ignore.

    `kept` (relative paths) are sent in any case; `replaced` is not sent, because the caller sends another one of that
    name. `stream` may be used once; `entries` and `skipped` (sockets, which no archive can hold) tell of it afterwards.
    """

    def __init__(
        self, top: str, patterns: Patterns, kept: frozenset[str] = frozenset(), replaced: str = ""
    ) -> None:
        self._top = os.fsencode(top)
        self._patterns = patterns
        self._kept = frozenset(os.fsencode(path) for path in kept)
        self._replaced = os.fsencode(replaced)
        self._above_kept = frozenset(
            b"/".join(parts[:n])
            for parts in (path.split(b"/") for path in self._kept)
            for n in range(1, len(parts))
        )
        self._waiting: list[tuple[bytes, os.stat_result]] = []
        self._linked: dict[tuple[int, int], bytes] = {}
        self._parts: list[bytes] = []
        self._part_bytes = 0
        self.entries = 0
        self.skipped: list[str] = []

    def stream(self, end: bytes = header.END) -> Iterator[bytes]:
        """The archive in pieces of about 256 KiB, `end` last. Raises Failure for what can't be read."""
        yield from self._directory(b"", ())
        self._parts.append(end)
        yield self._taken()

    def _directory(self, path: bytes, above: Matches) -> Iterator[bytes]:
        """The entries below `path`, which is "" or ends with "/"."""
        try:
            with os.scandir(self._top + b"/" + path) as found:
                entries = sorted(found, key=_name_of)
        except OSError as error:
            raise _unreadable((self._top + b"/" + path).rstrip(b"/"), error) from None
        for entry in entries:
            name = path + entry.name
            if name == self._replaced:
                continue
            matches: Matches = ()
            ignored = False
            if self._patterns:
                ignored, matches = self._patterns.ignored(os.fsdecode(name), above)
                ignored = ignored and name not in self._kept
            try:
                directory = entry.is_dir(follow_symlinks=False)
                if ignored and not (directory and self._walked(name)):
                    continue
                if directory:
                    self._waiting.append((name, entry.stat(follow_symlinks=False)))
                    if not ignored:
                        self._send_directories()
                    yield from self._directory(name + b"/", matches)
                    if ignored and self._waiting:  # nothing in it was sent, so it is still the last
                        self._waiting.pop()
                    continue
                self._send_directories()
                if entry.is_file(follow_symlinks=False):
                    yield from self._file(entry.path, name)
                else:
                    self._special(entry, name)
            except OSError as error:
                raise _unreadable(entry.path, error) from None
            if self._part_bytes >= _PART_BYTES:
                yield self._taken()

    def _walked(self, name: bytes) -> bool:
        return name in self._above_kept or self._patterns.may_bring_back(os.fsdecode(name))

    def _send_directories(self) -> None:
        """Ignored directories are sent when something in them is: what is brought back has its parents."""
        for name, status in self._waiting:
            mode = stat.S_IMODE(status.st_mode)
            self._add(header.head(name + b"/", header.DIRECTORY, mode, _seconds(status)))
        self._waiting.clear()

    def _special(self, entry: os.DirEntry[bytes], name: bytes) -> None:
        status = entry.stat(follow_symlinks=False)
        mode, mtime = stat.S_IMODE(status.st_mode), _seconds(status)
        if stat.S_ISLNK(status.st_mode):
            self._add(header.head(name, header.SYMLINK, mode, mtime, 0, os.readlink(entry.path)))
        elif stat.S_ISFIFO(status.st_mode):
            self._add(header.head(name, header.FIFO, mode, mtime))
        elif stat.S_ISSOCK(status.st_mode):
            self.skipped.append(os.fsdecode(name))
        else:
            kind = header.CHARACTER if stat.S_ISCHR(status.st_mode) else header.BLOCK_DEVICE
            device = os.major(status.st_rdev), os.minor(status.st_rdev)
            self._add(header.head(name, kind, mode, mtime, device=device))

    def _file(self, path: bytes, name: bytes) -> Iterator[bytes]:
        fd = os.open(path, _OPEN)
        try:
            status = os.fstat(fd)
            mode, size = stat.S_IMODE(status.st_mode), status.st_size
            if status.st_nlink > 1:
                first = self._linked.setdefault((status.st_dev, status.st_ino), name)
                if first != name:
                    self._add(header.head(name, header.LINK, mode, _seconds(status), 0, first))
                    return
            try:
                capability = os.getxattr(fd, "security.capability")
            except OSError:  # it has none
                capability = b""
            self._add(header.head(name, header.FILE, mode, _seconds(status), size, capability=capability))
            left = size
            while left:
                data = os.read(fd, min(left, _PART_BYTES))
                if not data:
                    raise Failure(f"{os.fsdecode(path)} became shorter while it was being sent: try again")
                left -= len(data)
                self._parts.append(data)
                self._part_bytes += len(data)
                if left and self._part_bytes >= _PART_BYTES:
                    yield self._taken()
            if size % header.BLOCK:
                self._parts.append(_ZEROS[size % header.BLOCK :])
        finally:
            os.close(fd)

    def _add(self, head: bytes) -> None:
        self._parts.append(head)
        self._part_bytes += header.BLOCK
        self.entries += 1

    def _taken(self) -> bytes:
        data = b"".join(self._parts)
        self._parts = []
        self._part_bytes = 0
        return data


def _name_of(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name


def _seconds(status: os.stat_result) -> int:
    return status.st_mtime_ns // 1_000_000_000


def _unreadable(path: bytes, error: OSError) -> Failure:
    reason = (error.strerror or str(error)).lower()
    return Failure(f"error checking context: can't read {os.fsdecode(path)}: {reason}")
