"""Two trees of files that should be the same: an unpacked layer, and what its blob comes to when it is unpacked again.

Compared are names, kinds, modes, owners, device numbers, links, sizes, contents, extended attributes, and the times of
all but directories (some have none in the archive) and whiteouts. Nothing is followed.
"""

import os
import stat
from typing import Any

from minid.kernel.trees import OPEN_DIR

TOLD_MAX = 20
READ_BYTES = 1 << 20
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def compare_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Compare the trees ``found`` and ``expected``: ``count`` of the differences, and the first of them in words."""
    comparison = Comparison()
    comparison.compare(os.open(request["found"], OPEN_DIR), os.open(request["expected"], OPEN_DIR), "")
    return {"count": comparison.count, "differences": comparison.told}


class Comparison:
    """``count`` of the differences; ``told`` has the first ``TOLD_MAX``, each a path and what is wrong with it."""

    def __init__(self) -> None:
        self.count = 0
        self.told: list[str] = []

    def compare(self, found: int, expected: int, path: str) -> None:
        """The directories behind two descriptors, which are closed."""
        try:
            names = (set(os.listdir(found)), set(os.listdir(expected)))
            for name in sorted(names[0] | names[1], key=os.fsencode):
                here = f"{path}/{name}"
                if name not in names[0]:
                    self._tell(here, "is missing")
                elif name not in names[1]:
                    self._tell(here, "is not in the layer")
                else:
                    self._entry(found, expected, name, here)
        finally:
            os.close(found)
            os.close(expected)

    def _entry(self, found: int, expected: int, name: str, path: str) -> None:
        try:
            left = os.stat(name, dir_fd=found, follow_symlinks=False)
            right = os.stat(name, dir_fd=expected, follow_symlinks=False)
            wrong = _attributes(left, right)
            if not wrong and stat.S_ISLNK(left.st_mode):
                same = os.readlink(name, dir_fd=found) == os.readlink(name, dir_fd=expected)
                wrong = "" if same else "leads elsewhere"
            if wrong:
                self._tell(path, wrong)
            elif stat.S_ISDIR(left.st_mode):
                self._directory(found, expected, name, path)
            elif stat.S_ISREG(left.st_mode):
                self._file(found, expected, name, path)
        except OSError as error:
            self._tell(path, f"cannot be read: {error.strerror}")

    def _directory(self, found: int, expected: int, name: str, path: str) -> None:
        left = os.open(name, OPEN_DIR, dir_fd=found)
        right = os.open(name, OPEN_DIR, dir_fd=expected)
        if _xattrs(left) != _xattrs(right):
            self._tell(path, "has other extended attributes")
        self.compare(left, right, path)

    def _file(self, found: int, expected: int, name: str, path: str) -> None:
        left = os.open(name, _OPEN_FILE, dir_fd=found)
        try:
            right = os.open(name, _OPEN_FILE, dir_fd=expected)
            try:
                if _xattrs(left) != _xattrs(right):
                    self._tell(path, "has other extended attributes")
                elif not _same_bytes(left, right):
                    self._tell(path, "has another content")
            finally:
                os.close(right)
        finally:
            os.close(left)

    def _tell(self, path: str, what: str) -> None:
        self.count += 1
        if len(self.told) < TOLD_MAX:
            self.told.append(f"{os.fsencode(path).decode('utf-8', 'replace')} {what}")


def _attributes(left: os.stat_result, right: os.stat_result) -> str:
    kind = stat.S_IFMT(left.st_mode)
    if kind != stat.S_IFMT(right.st_mode):
        return "is of another kind"
    if left.st_mode != right.st_mode:
        return f"has the mode {stat.S_IMODE(left.st_mode):o}, not {stat.S_IMODE(right.st_mode):o}"
    if (left.st_uid, left.st_gid) != (right.st_uid, right.st_gid):
        return f"is owned by {left.st_uid}:{left.st_gid}, not {right.st_uid}:{right.st_gid}"
    if kind in (stat.S_IFCHR, stat.S_IFBLK) and left.st_rdev != right.st_rdev:
        return "is another device"
    if kind == stat.S_IFDIR:
        return ""
    if kind == stat.S_IFREG and left.st_size != right.st_size:
        return f"has {left.st_size} bytes, not {right.st_size}"
    whiteout = kind == stat.S_IFCHR and left.st_rdev == 0
    if left.st_mtime_ns != right.st_mtime_ns and not whiteout:
        return "has another modification time"
    return "" if left.st_nlink == right.st_nlink or whiteout else "has another number of names"


def _same_bytes(left: int, right: int) -> bool:
    offset = 0
    while piece := os.pread(left, READ_BYTES, offset):
        if piece != os.pread(right, len(piece), offset):
            return False
        offset += len(piece)
    return True


def _xattrs(fd: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}
    except OSError:
        return {}
