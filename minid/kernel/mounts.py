"""Mounts as a sandbox needs them: overlay, file systems, binds, and changing what is mounted.

Targets are descriptors wherever a container could have a say in the path: mount(2) is given
``/proc/self/fd/N``,
which names the very directory that ``rootpath`` resolved.
"""

import errno
import os
from collections.abc import Sequence

from minid.kernel import syscall
from minid.kernel.syscall import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_UNBINDABLE,
)

# mount(8) options that are flags of mount(2): name → (flag, sets it)
FLAGS: dict[str, tuple[int, bool]] = {
    "ro": (MS_RDONLY, True),
    "rw": (MS_RDONLY, False),
    "nosuid": (MS_NOSUID, True),
    "suid": (MS_NOSUID, False),
    "nodev": (MS_NODEV, True),
    "dev": (MS_NODEV, False),
    "noexec": (MS_NOEXEC, True),
    "exec": (MS_NOEXEC, False),
    "noatime": (MS_NOATIME, True),
    "atime": (MS_NOATIME, False),
    "relatime": (MS_RELATIME, True),
    "norelatime": (MS_RELATIME, False),
    "strictatime": (MS_STRICTATIME, True),
    "nostrictatime": (MS_STRICTATIME, False),
    "bind": (MS_BIND, True),
    "rbind": (MS_BIND | MS_REC, True),
}
PROPAGATION = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}
# Flags that a bind mount inherits and a remount must repeat (statvfs(3) f_flag has the same bits for these).
_KEPT = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_RELATIME


def fd_path(fd: int) -> str:
    """The path through which mount(2) reaches the object behind ``fd``."""
    return f"/proc/self/fd/{fd}"


def parse_options(options: Sequence[str]) -> tuple[int, list[int], str]:
    """mount(8) options → mount(2) flags, propagation flags in order, and what is left as file system data."""
    flags, propagation, data = 0, [], []
    for option in options:
        if option in FLAGS:
            flag, on = FLAGS[option]
            flags = flags | flag if on else flags & ~flag
        elif option in PROPAGATION:
            propagation.append(PROPAGATION[option])
        elif option:
            data.append(option)
    return flags, propagation, ",".join(data)


def set_propagation(target: str, flags: int) -> None:
    """mount(2) with only propagation flags."""
    syscall.mount(None, target, None, flags)


def overlay(lower: Sequence[str], upper: str, work: str, target: str) -> None:
    """Mount an overlay; ``lower`` topmost first. fsconfig(2) takes the layers one by one (Linux 6.5), so
    their number
    is not limited by the page that mount(2) has for its options; older kernels get mount(2). Read-only
    without ``upper``."""
    try:
        _overlay_by_fsconfig(lower, upper, work, target)
        return
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
    escaped = ":".join(path.replace(":", "\\:") for path in lower)
    options = f"lowerdir={escaped}" + (f",upperdir={upper},workdir={work}" if upper else "")
    if len(os.fsencode(options)) >= os.sysconf("SC_PAGE_SIZE"):
        raise OSError(
            errno.E2BIG,
            f"mount overlay: {len(lower)} layers are more than this kernel can take in one mount",
            target,
        )
    syscall.mount("overlay", target, "overlay", 0, options)


def _overlay_by_fsconfig(lower: Sequence[str], upper: str, work: str, target: str) -> None:
    fs = syscall.call("fsopen", b"overlay", syscall.FSOPEN_CLOEXEC, path=target)
    try:
        for key, value in [*(("lowerdir+", path) for path in lower), ("upperdir", upper), ("workdir", work)]:
            if value:
                syscall.call(
                    "fsconfig",
                    fs,
                    syscall.FSCONFIG_SET_STRING,
                    key.encode(),
                    os.fsencode(value),
                    0,
                    path=value,
                )
        syscall.call("fsconfig", fs, syscall.FSCONFIG_CMD_CREATE, None, None, 0, path=target)
        mounted = syscall.call("fsmount", fs, syscall.FSMOUNT_CLOEXEC, 0, path=target)
    finally:
        os.close(fs)
    try:
        syscall.move_mount(mounted, target)
    finally:
        os.close(mounted)


# mount(2) flag → attribute of fsmount(2)
_ATTRIBUTES = {
    MS_RDONLY: syscall.MOUNT_ATTR_RDONLY,
    MS_NOSUID: syscall.MOUNT_ATTR_NOSUID,
    MS_NODEV: syscall.MOUNT_ATTR_NODEV,
    MS_NOEXEC: syscall.MOUNT_ATTR_NOEXEC,
    MS_NOATIME: syscall.MOUNT_ATTR_NOATIME,
    MS_STRICTATIME: syscall.MOUNT_ATTR_STRICTATIME,
}


def detached(fstype: str, source: str, options: Sequence[str]) -> int:
    """A file system mounted nowhere yet, as a descriptor: fsopen(2), fsconfig(2), fsmount(2). ``options``:
    mount(8)'s.
    """
    flags, _, data = parse_options(options)
    fs = syscall.call("fsopen", fstype.encode(), syscall.FSOPEN_CLOEXEC, path=fstype)
    try:
        for option in [f"source={source}", *filter(None, data.split(","))]:
            key, separator, value = option.partition("=")
            command = syscall.FSCONFIG_SET_STRING if separator else syscall.FSCONFIG_SET_FLAG
            text = os.fsencode(value) if separator else None
            syscall.call("fsconfig", fs, command, key.encode(), text, 0, path=option)
        syscall.call("fsconfig", fs, syscall.FSCONFIG_CMD_CREATE, None, None, 0, path=fstype)
        attributes = 0
        for flag, attribute in _ATTRIBUTES.items():
            attributes |= attribute if flags & flag else 0
        return syscall.call("fsmount", fs, syscall.FSMOUNT_CLOEXEC, attributes, path=fstype)
    finally:
        os.close(fs)


def clone_tree(path: str, *, recursive: bool) -> int:
    """A detached clone of what is mounted at ``path``: open_tree(2), Linux 5.2."""
    flags = syscall.OPEN_TREE_CLONE | syscall.OPEN_TREE_CLOEXEC
    return syscall.open_tree(path, flags | (AT_RECURSIVE if recursive else 0))


def clone_from_process(pid: int, path: str) -> int:
    """``clone_tree`` of a mount that only process ``pid`` sees, at ``path`` in its root.

    The calling process (one thread) visits the other's mount namespace and comes back; its root and working
    directory
    are then ``/`` of its own namespace (setns(2)).
    """
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscall.setns(other, syscall.CLONE_NEWNS)
        try:
            return clone_tree(path, recursive=True)
        finally:
            syscall.setns(own, syscall.CLONE_NEWNS)
    finally:
        os.close(other)
        os.close(own)


def remount_bind(target: str, flags: int) -> None:
    """Set the per-mount flags of the mount at ``target``, keeping those that it may not lose."""
    kept = os.statvfs(target).f_flag & (_KEPT | MS_RDONLY)
    syscall.mount(None, target, None, MS_REMOUNT | MS_BIND | flags | kept)


def make_readonly(fd: int, *, recursive: bool) -> None:
    """Make the mount at ``fd`` (O_PATH) read-only; with ``recursive`` also those below it, where the kernel
    can
    (mount_setattr(2), Linux 5.12)."""
    if recursive:
        try:
            syscall.mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, set_=syscall.MOUNT_ATTR_RDONLY)
            return
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
    remount_bind(fd_path(fd), MS_RDONLY)
