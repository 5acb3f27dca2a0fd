"""A container's root file system, mounted where only this process sees it: for jobs that look into a
stopped one.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from minid.kernel import mounts, rootpath, syscall

# A directory that every machine has, and that nothing we work with lies below.
_PLACE = "/sys"


def mount_root(rootfs: Mapping[str, Any], *, read_only: bool = False) -> int:
    """Unshare the mount namespace and mount ``rootfs`` there; a descriptor (O_PATH) of its root.

    ``rootfs`` has the fields of ``minid.images.rootfs.Rootfs``. An overlay is mounted without its work
    directory if ``read_only``, so that several may be at the same time. What is mounted goes with the
    process. Raises OSError.
    """
    syscall.unshare(syscall.CLONE_NEWNS)
    mounts.set_propagation("/", syscall.MS_REC | syscall.MS_PRIVATE)
    if rootfs["kind"] == "overlay":
        lower: Sequence[str] = rootfs["lower"]
        if read_only:
            mounts.overlay([rootfs["upper"], *lower], "", "", _PLACE)
        else:
            mounts.overlay(lower, rootfs["upper"], rootfs["work"], _PLACE)
    else:
        syscall.mount(rootfs["source"], _PLACE, None, syscall.MS_BIND)
        if read_only:
            mounts.remount_bind(_PLACE, syscall.MS_RDONLY)
    return rootpath.open_root(_PLACE)


def enter(root: int) -> None:
    """chroot(2) into the directory ``root``; nothing outside can be named afterwards."""
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")
