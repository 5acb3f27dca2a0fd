"""What Python's os module lacks for files: reflinks, syncfs(2), removing trees of any depth. Raises
OSError.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Iterator

from minid.kernel import syscall

FICLONE = 0x40049409  # ioctl_ficlone(2)
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602  # ioctl_iflags(2)
FS_TOPDIR_FL = 0x20000  # chattr(1) +T
F_SETPIPE_SZ = 1031  # fcntl(2)
SYNC_FILE_RANGE_WRITE = 2  # sync_file_range(2)

_NOFOLLOW_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_DEPTH = 32


def syncfs(fd: int) -> None:
    """syncfs(2): everything written so far to the file system of ``fd`` is on the disk when this returns."""
    if syscall.libc.syncfs(fd) != 0:
        raise syscall.fail("syncfs")


def fs_type(fd: int) -> int:
    """The magic number of the file system that ``fd`` is on (fstatfs(2), linux/magic.h)."""
    buffer = bytearray(256)
    data = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    if syscall.libc.fstatfs(fd, data) != 0:
        raise syscall.fail("fstatfs")
    return int.from_bytes(buffer[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF


def fsync_dir(path: str) -> None:
    """Make the names in the directory ``path`` durable (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def spread_children(path: str) -> None:
    """Have ext4 put each directory that is made in ``path`` into block groups of its own (``chattr(1)`` +T).

    Without it all of them go where ``path`` is, and there making files gets many times slower once thousands have been
    removed within the last minutes (``recently_deleted`` in fs/ext4/ialloc.c). Does nothing on other file systems.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = bytearray(8)
        fcntl.ioctl(fd, FS_IOC_GETFLAGS, flags)
        wanted = int.from_bytes(flags[:4], sys.byteorder) | FS_TOPDIR_FL
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, wanted.to_bytes(4, sys.byteorder) + bytes(4))
    except OSError as error:
        if error.errno not in (
            errno.ENOTTY,
            errno.EOPNOTSUPP,
            errno.EINVAL,
            errno.ENOSYS,
            errno.EPERM,
            errno.EACCES,
        ):
            raise
    finally:
        os.close(fd)


def grow_pipe(fd: int, size_bytes: int = 1 << 20) -> None:
    """Give a pipe a larger buffer where that is allowed; otherwise (or for another kind of file) do
    nothing.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, F_SETPIPE_SZ, size_bytes)


def clone_data(source: int, target: int, size_bytes: int) -> None:
    """Give the empty file ``target`` the ``size_bytes`` of ``source``: shared blocks if possible, else
    copied.

    Holes stay holes. Tries ``ioctl_ficlone(2)``, then ``copy_file_range(2)`` piece by piece, then read and
    write.
    """
    try:
        fcntl.ioctl(target, FICLONE, source)
        return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM):
            raise
    os.ftruncate(target, size_bytes)
    for start, end in data_pieces(source, size_bytes):
        _copy_piece(source, target, start, end)


def data_pieces(fd: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """The ``(start, end)`` of what is not a hole, in order (``lseek(2)``). Moves the file's offset."""
    at = 0
    while at < size_bytes:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size_bytes)
        if start >= end:
            return
        yield start, end
        at = end


def _copy_piece(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        try:
            count = os.copy_file_range(source, target, end - start, start, start)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM):
                raise
            count = os.pwrite(target, os.pread(source, min(end - start, 1 << 20), start), start)
        if count == 0:
            return
        start += count


def remove_tree(name: str | bytes, dirfd: int | None = None) -> None:
    """Remove the file or directory ``name`` (relative to ``dirfd``), whatever is below it; idempotent.

    Follows no symlink and takes trees of any depth: what lies deeper than 32 levels is moved up first, so
    neither the stack nor the descriptors grow with the depth. Mounts below make it fail with EBUSY.
    """
    try:
        os.unlink(name, dir_fd=dirfd)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(name, _NOFOLLOW_DIR, dir_fd=dirfd)
        try:
            while _empty(fd, fd, 0):
                pass
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=dirfd)


def _empty(fd: int, top: int, depth: int) -> int:
    """Remove what is in ``fd``; returns how many directories it moved up into ``top`` instead."""
    moved = 0
    with os.scandir(fd) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=fd)
                continue
            if depth >= _MAX_DEPTH:
                os.rename(entry.name, f".minid-{depth}-{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top)
                moved += 1
                continue
            inner = os.open(entry.name, _NOFOLLOW_DIR, dir_fd=fd)
            try:
                moved += _empty(inner, top, depth + 1)
            finally:
                os.close(inner)
            os.rmdir(entry.name, dir_fd=fd)
    return moved
