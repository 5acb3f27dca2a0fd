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
    _own_namespace()
    if rootfs["kind"] != "overlay" or not scratch:
        _mount(rootfs, _PLACE, read_only=False)
        return rootpath.open_root(_PLACE)
    lower: Sequence[str] = rootfs["lower"]
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


def mount_with_source(target: Mapping[str, Any], source: Mapping[str, Any]) -> tuple[int, int]:
    """As ``mount_root`` of ``target``, and ``source`` beside it, read-only; a descriptor of each root.

    ``source`` may be mounted elsewhere as long as nobody writes to it there. Raises OSError.
    """
    _own_namespace()
    syscall.mount("tmpfs", _PLACE, "tmpfs")
    places = [f"{_PLACE}/{name}" for name in ("target", "source")]
    for place in places:
        os.mkdir(place)
    _mount(target, places[0], read_only=False)
    _mount(source, places[1], read_only=True)
    return rootpath.open_root(places[0]), rootpath.open_root(places[1])


def mount_to_read(source: Mapping[str, Any]) -> int:
    """``source`` as in ``mount_with_source``, alone."""
    _own_namespace()
    syscall.mount("tmpfs", _PLACE, "tmpfs")
    place = f"{_PLACE}/source"
    os.mkdir(place)
    _mount(source, place, read_only=True)
    return rootpath.open_root(place)


def _own_namespace() -> None:
    syscall.unshare(syscall.CLONE_NEWNS)
    mounts.set_propagation("/", syscall.MS_REC | syscall.MS_PRIVATE)


def _mount(rootfs: Mapping[str, Any], place: str, *, read_only: bool) -> None:
    if rootfs["kind"] != "overlay":
        syscall.mount(rootfs["source"], place, None, syscall.MS_BIND)
        if read_only:
            mounts.remount_bind(place, syscall.MS_RDONLY)
    elif not read_only:
        mounts.overlay(rootfs["lower"], rootfs["upper"], rootfs["work"], place)
    else:
        layers = [path for path in (rootfs["upper"], *rootfs["lower"]) if path]
        if len(layers) == 1:  # overlayfs wants two of them where nothing is to be written
            layers.append(f"{place}-below")
            os.mkdir(layers[1])
        mounts.overlay(layers, "", "", place)


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
