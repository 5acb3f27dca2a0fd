"""System calls that Python 3.11 does not offer, through libc's ``syscall(2)``. Raises OSError with the
call's name and path.

Only x86-64 and aarch64 numbers differ for old calls; everything since Linux 5.1 has one number everywhere.
"""

import ctypes
import os
from ctypes import c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p

libc = ctypes.CDLL(None, use_errno=True)
_syscall = libc.syscall
_syscall.restype = c_long

_OLD = {
    "x86_64": {"clone": 56, "pivot_root": 155, "keyctl": 250, "seccomp": 317, "bpf": 321, "execveat": 322},
    "aarch64": {"clone": 220, "pivot_root": 41, "keyctl": 219, "seccomp": 277, "bpf": 280, "execveat": 281},
}
_MACHINE = os.uname().machine
NR = _OLD.get(_MACHINE, _OLD["x86_64"]) | {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# mount(2)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_MOVE, MS_REC, MS_SILENT = 4096, 8192, 16384, 32768
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MS_NOATIME, MS_RELATIME, MS_STRICTATIME = 1024, 1 << 21, 1 << 24
MNT_DETACH = 2

# unshare(2), setns(2)
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

# open_tree(2), move_mount(2), mount_setattr(2)
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 4, 0x40
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME = 0x10, 0x20
FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC = 1, 1
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6

# openat2(2)
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 1, 2, 4
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 8, 16


def fail(call: str, path: object = None) -> OSError:
    """The OSError for the errno that ctypes saved: ``[Errno 2] mount: No such file or directory: '/x'``."""
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}", None if path is None else str(path))


def call(name: str, *arguments: object, path: object = None) -> int:
    """``syscall(NR[name], …)``; arguments are ctypes values, ints or bytes. Returns the result, raises
    OSError on -1.
    """
    converted = [c_long(a) if isinstance(a, int) else a for a in arguments]
    result = _syscall(c_long(NR[name]), *converted)
    if result < 0:
        raise fail(name, path)
    return int(result)


_mount = libc.mount
_mount.argtypes = (c_char_p, c_char_p, c_char_p, c_ulong, c_void_p)
_umount2 = libc.umount2
_umount2.argtypes = (c_char_p, c_int)
_unshare = libc.unshare
_unshare.argtypes = (c_int,)
_setns = libc.setns
_setns.argtypes = (c_int, c_int)


def mount(
    source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None
) -> None:
    """mount(2). Strings may hold surrogate escapes (``os.fsencode``)."""

    def raw(text: str | None) -> bytes | None:
        return None if text is None else os.fsencode(text)

    if _mount(raw(source), os.fsencode(target), raw(fstype), flags, raw(data)) != 0:
        raise fail(f"mount {fstype or source or ''}".strip(), target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    if _umount2(os.fsencode(target), flags) != 0:
        raise fail("umount", target)


def unshare(flags: int) -> None:
    """unshare(2)."""
    if _unshare(flags) != 0:
        raise fail("unshare")


def setns(fd: int, kind: int = 0) -> None:
    """setns(2); ``fd`` a namespace file or (Linux 5.8) a pidfd with several ``CLONE_NEW*`` in ``kind``."""
    if _setns(fd, kind) != 0:
        raise fail("setns")


def pivot_root(new: str, put_old: str) -> None:
    """pivot_root(2)."""
    call("pivot_root", os.fsencode(new), os.fsencode(put_old), path=new)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """close_range(2), Linux 5.9."""
    if _syscall(c_long(NR["close_range"]), c_uint(first), c_uint(last), c_uint(flags)) < 0:
        raise fail("close_range")


def open_tree(path: str, flags: int, dirfd: int = AT_FDCWD) -> int:
    """open_tree(2), Linux 5.2: a descriptor of (a clone of) the mount at ``path``."""
    return call("open_tree", dirfd, os.fsencode(path), flags, path=path)


def move_mount(
    from_fd: int, target: str, to_fd: int = AT_FDCWD, flags: int = MOVE_MOUNT_F_EMPTY_PATH
) -> None:
    """move_mount(2): attach the detached mount ``from_fd`` at ``target`` (below ``to_fd``)."""
    call("move_mount", from_fd, b"", to_fd, os.fsencode(target), flags, path=target)


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def mount_setattr(
    fd: int, path: str, flags: int, set_: int = 0, clear: int = 0, propagation: int = 0
) -> None:
    """mount_setattr(2), Linux 5.12."""
    attr = _MountAttr(set_, clear, propagation, 0)
    call("mount_setattr", fd, os.fsencode(path), flags, ctypes.byref(attr), ctypes.sizeof(attr), path=path)


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def openat2(dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), Linux 5.6. EAGAIN (a rename raced with ``..``) is retried a few times."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(16):
        try:
            return call("openat2", dirfd, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how), path=path)
        except BlockingIOError:
            if attempt == 15:
                raise
    raise AssertionError
