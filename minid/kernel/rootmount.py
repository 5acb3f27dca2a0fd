"""A container's root file system, mounted where only this process sees it: for jobs that look into a
stopped one.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from minid.kernel import mounts, rootpath, syscall

# A directory that every machine has, and that nothing we work with lies below.
_PLACE = "/sys"


def mount_root(rootfs: Mapping[str, Any], *, scratch: bool = False) -> int:
    """Unshare the mount namespace and mount ``rootfs`` there; a descriptor (O_PATH) of its root.

    ``rootfs`` has the fields of ``minid.images.rootfs.Rootfs``. With ``scratch`` what is written to an
    overlay goes to memory, and its own upper directory is only read, so several such mounts may be at the
    same time. What is mounted goes with the process. Raises OSError.
    """
    syscall.unshare(syscall.CLONE_NEWNS)
    mounts.set_propagation("/", syscall.MS_REC | syscall.MS_PRIVATE)
    if rootfs["kind"] != "overlay":
        syscall.mount(rootfs["source"], _PLACE, None, syscall.MS_BIND)
        return rootpath.open_root(_PLACE)
    lower: Sequence[str] = rootfs["lower"]
    if not scratch:
        mounts.overlay(lower, rootfs["upper"], rootfs["work"], _PLACE)
        return rootpath.open_root(_PLACE)
    syscall.mount("tmpfs", _PLACE, "tmpfs")
    upper, work, root = (f"{_PLACE}/{name}" for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        os.mkdir(path)
    info = os.stat(rootfs["upper"])
    os.chown(upper, info.st_uid, info.st_gid)
    os.chmod(upper, info.st_mode & 0o7777)
    os.utime(upper, ns=(info.st_atime_ns, info.st_mtime_ns))
    mounts.overlay([rootfs["upper"], *lower], upper, work, root)
    return rootpath.open_root(root)


def bind(root: int, source: str, destination: str, *, read_only: bool) -> None:
    """Bind the file or directory ``source`` of the host at ``destination`` in ``root``, which is made if
    missing.
    """
    target = rootpath.ensure_mountpoint(root, destination, directory=os.path.isdir(source))
    try:
        syscall.mount(source, mounts.fd_path(target), None, syscall.MS_BIND | syscall.MS_REC)
    finally:
        os.close(target)
    if read_only:
        mounted = rootpath.open_in_root(root, destination)
        try:
            mounts.make_readonly(mounted, recursive=False)
        finally:
            os.close(mounted)


def enter(root: int) -> None:
    """chroot(2) into the directory ``root``; nothing outside can be named afterwards."""
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")
