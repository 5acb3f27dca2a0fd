"""A local file or tree as a tar stream, for `cp` into a container."""

from __future__ import annotations

import os
import stat
import tarfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_READ_BYTES = 256 * 1024
_BLOCK = 512


def tar_stream(path: str, name: str) -> Iterator[bytes]:
    """The tree at `path`, whose root is called `name` in the archive; owners, modes, times, hard links,
    capabilities.

    Symbolic links stay links. Raises OSError for what can't be read.
    """
    linked: dict[tuple[int, int], str] = {}
    yield from _entry(path, name, linked)
    yield b"\0" * (2 * _BLOCK)


def _entry(path: str, name: str, linked: dict[tuple[int, int], str]) -> Iterator[bytes]:
    status = os.lstat(path)
    mode = status.st_mode
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(mode)
    info.uid, info.gid = status.st_uid, status.st_gid
    info.mtime = int(status.st_mtime)
    if stat.S_ISDIR(mode):
        info.type = tarfile.DIRTYPE
        info.name = name.rstrip("/") + "/"
    elif stat.S_ISLNK(mode):
        info.type = tarfile.SYMTYPE
        info.linkname = os.readlink(path)
    elif stat.S_ISREG(mode):
        first = linked.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            info.type = tarfile.LNKTYPE
            info.linkname = first
        else:
            info.size = status.st_size
    elif stat.S_ISFIFO(mode):
        info.type = tarfile.FIFOTYPE
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        info.type = tarfile.CHRTYPE if stat.S_ISCHR(mode) else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    else:  # a socket can't be archived
        return
    if info.isreg():
        try:
            value = os.getxattr(path, "security.capability", follow_symlinks=False)
            info.pax_headers = {"SCHILY.xattr.security.capability": value.decode("utf-8", "surrogateescape")}
        except OSError:
            pass
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    if info.isreg() and info.size:
        yield from _content(path, info.size)
    if info.isdir():
        for child in sorted(os.listdir(path)):
            yield from _entry(os.path.join(path, child), f"{info.name}{child}", linked)


def _content(path: str, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes and the padding, even when the file changes meanwhile."""
    left = size
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        while left:
            data = os.read(fd, min(left, _READ_BYTES))
            if not data:
                break
            left -= len(data)
            yield data
    finally:
        os.close(fd)
    yield b"\0" * (left + -size % _BLOCK)
