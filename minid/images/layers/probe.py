"""What can a driver count on here? Found out by doing it, in a mount namespace that goes with the process."""

import errno
import os
import stat
from typing import Any

from minid.kernel import btrfs, mounts, syscall
from minid.kernel.files import remove_tree


def probe_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Try the driver ``driver`` in the empty directory ``directory``; returns ``{"reason": ""}`` if it works.

    A job: unshares its mount namespace. What it makes in the directory is removed again.
    """
    directory = request["directory"]
    try:
        _PROBES[request["driver"]](directory)
        return {"reason": ""}
    except OSError as error:
        path = f" ({error.filename})" if error.filename else ""
        return {"reason": f"{error.strerror or error}{path}"}
    finally:
        for name in os.listdir(directory):
            remove_tree(os.path.join(directory, name))


def _overlay(directory: str) -> None:
    """Mount an overlay of two layers and see that whiteouts, opaque directories and copy-up do what they
    should.
    """
    syscall.unshare(syscall.CLONE_NEWNS)
    mounts.set_propagation("/", syscall.MS_REC | syscall.MS_PRIVATE)
    base, top, upper, work, merged = (
        os.path.join(directory, name) for name in ("1", "2", "upper", "work", "merged")
    )
    for path in (base, top, upper, work, merged, base + "/opaque", top + "/opaque"):
        os.mkdir(path)
    for path in (base + "/opaque/below", base + "/hidden", base + "/shown"):
        with open(path, "w") as file:
            file.write("x")
    os.mknod(top + "/hidden", stat.S_IFCHR, os.makedev(0, 0))
    os.setxattr(top + "/opaque", "trusted.overlay.opaque", b"y")
    mounts.overlay([top, base], upper, work, merged)
    try:
        if sorted(os.listdir(merged)) != ["opaque", "shown"] or os.listdir(merged + "/opaque"):
            raise OSError(errno.EOPNOTSUPP, "overlayfs ignores whiteouts or opaque directories here")
        os.chmod(merged + "/shown", 0o600)
        os.unlink(merged + "/shown")
        if not stat.S_ISCHR(os.lstat(upper + "/shown").st_mode):
            raise OSError(errno.EOPNOTSUPP, "overlayfs makes no whiteouts here")
    finally:
        syscall.umount(merged, syscall.MNT_DETACH)


def _btrfs(directory: str) -> None:
    if not btrfs.is_btrfs(directory):
        raise OSError(errno.EOPNOTSUPP, "the data root is not on a btrfs")
    source, copy = os.path.join(directory, "a"), os.path.join(directory, "b")
    btrfs.create_subvolume(source)
    btrfs.snapshot(source, copy)
    btrfs.delete_subvolume(copy)
    btrfs.delete_subvolume(source)


def _vfs(directory: str) -> None:
    path = os.path.join(directory, "x")
    with open(path, "w"):
        pass
    os.chown(path, 1, 1)


_PROBES = {"overlay2": _overlay, "btrfs": _btrfs, "vfs": _vfs}
