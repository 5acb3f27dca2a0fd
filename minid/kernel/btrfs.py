"""Btrfs subvolumes by ioctl (``linux/btrfs.h``). Raises OSError; needs CAP_SYS_ADMIN to delete one."""

import errno
import fcntl
import os
import struct

from minid.kernel.files import fs_type, remove_tree

SUPER_MAGIC = 0x9123683E  # linux/magic.h
FIRST_FREE_OBJECTID = 256  # the inode number of every subvolume's root

_SNAP_CREATE, _SUBVOL_CREATE, _SNAP_DESTROY = 0x50009401, 0x5000940E, 0x5000940F
_NAME_MAX = 4087


def is_btrfs(path: str) -> bool:
    """Whether ``path`` lies on a btrfs (statfs(2))."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return fs_type(fd) == SUPER_MAGIC
    finally:
        os.close(fd)


def is_subvolume(path: str) -> bool:
    """Whether the directory ``path`` (on a btrfs) is the root of a subvolume."""
    return os.lstat(path).st_ino == FIRST_FREE_OBJECTID


def create_subvolume(path: str) -> None:
    """Make ``path`` an empty subvolume."""
    _ioctl(_SUBVOL_CREATE, path, 0)


def snapshot(source: str, path: str) -> None:
    """Make ``path`` a writable snapshot of the subvolume ``source``."""
    fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _ioctl(_SNAP_CREATE, path, fd)
    finally:
        os.close(fd)


def delete_subvolume(path: str) -> None:
    """Delete the subvolume ``path`` with all that is in it; idempotent. Subvolumes inside it are emptied
    first.
    """
    try:
        _ioctl(_SNAP_DESTROY, path, 0)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EPERM, errno.EACCES):
            raise
        remove_tree(path)


def _ioctl(request: int, path: str, fd: int) -> None:
    parent, name = os.path.split(os.fsencode(path))
    if not name or len(name) > _NAME_MAX:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    directory = os.open(parent or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(directory, request, bytearray(struct.pack("=q4088s", fd, name)))
    except OSError as error:
        raise OSError(error.errno, f"btrfs subvolume: {os.strerror(error.errno or 0)}", path) from None
    finally:
        os.close(directory)
