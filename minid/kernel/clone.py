"""clone(2) as Python and glibc can live with it: children that os.fork() cannot make. For processes with one thread.

Born into a cgroup v2 (``CLONE_INTO_CGROUP``): a process that moves itself by ``cgroup.procs`` takes a lock on all of
the machine's processes, and waits for an RCU grace period if nobody else has done so lately. Measured here, fork to
exit: 1.0 ms, with such a move 5.9 ms, with CLONE_INTO_CGROUP 1.5 ms. (On v1 the ``tasks`` file does without that
lock, see cgroups.v1.) Born as a brother (``CLONE_PARENT``): the child of our parent. Born with our descriptors
(``CLONE_FILES``): what one of both opens or closes, the other has opened or closed.
"""

import ctypes
import errno
import os
import signal
from ctypes import c_int, c_long, c_uint64, c_void_p
from typing import NamedTuple

from minid.kernel import namespaces
from minid.kernel.syscall import NR

_FILES, _PIDFD, _PARENT, _INTO_CGROUP = 0x400, 0x1000, 0x8000, 0x200000000
_CHILD_SETTID, _CHILD_CLEARTID = 0x01000000, 0x00200000
_PR_GET_TID_ADDRESS = 40

# PyDLL keeps the GIL during the call: the child must come out of it holding it.
_libc = ctypes.PyDLL(None, use_errno=True)
_clone3 = _libc["syscall"]
_clone3.restype = c_long
_clone3.argtypes = (c_long, c_void_p, c_long)
_clone = _libc["syscall"]
_clone.restype = c_long
_clone.argtypes = (c_long, c_long, c_void_p, c_void_p, c_void_p, c_void_p)
_before, _after_child, _after_parent = (
    getattr(ctypes.pythonapi, "PyOS_" + name)
    for name in ("BeforeFork", "AfterFork_Child", "AfterFork_Parent")
)
for _function in (_before, _after_child, _after_parent):
    _function.restype = None


class Child(NamedTuple):
    """``pid`` 0 in the child itself, where there is no ``pidfd``."""

    pid: int
    pidfd: int


class _CloneArguments(ctypes.Structure):
    _fields_ = [
        (name, c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


def _tid_address() -> int:
    """Where glibc keeps the thread's id: its own fork has the kernel write the child's there. 0 if not to be
    had.
    """
    address = c_void_p()
    if _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0:
        return 0
    return address.value or 0


# A fork has them at the same addresses, and what is made before it is memory that forks share.
_TID = _tid_address()
_SET_TID = _CHILD_SETTID | _CHILD_CLEARTID if _TID else 0
_pidfd = c_int(-1)
_PIDFD_ADDRESS = ctypes.addressof(_pidfd)


def fork(cgroup: str | None = None, mounts_of: int | None = None, *, brother: bool = False) -> Child:
    """Fork a child that is born in the cgroup v2 at directory ``cgroup`` and in the mount namespace (root and
    working directory too) of the process behind the pidfd ``mounts_of``; ``brother``: not as our child, but as our
    parent's.

    A process that is born into a pid namespace is seen there from its first moment: with ``mounts_of`` there is
    none in which its ``/proc/PID/root`` leads to the host.

    Where the kernel does not take the cgroup (before Linux 5.7, or a seccomp filter is in the way), the child moves
    itself. OSError: the cgroup is not there, may not be entered, or is full (EAGAIN); the process is gone (ESRCH).
    """
    directory = None if cgroup is None else os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        visit = None if mounts_of is None else namespaces.MountVisit(mounts_of)
        pid = -1
        try:
            flags = _PARENT if brother else 0
            pid = _fork(flags) if directory is None else _fork_into(directory, flags)
        finally:
            if visit is not None and pid != 0:
                visit.end()
        return Child(pid, _pidfd.value if pid else -1)
    finally:
        if directory is not None:
            os.close(directory)


def fork_sharing_descriptors() -> Child:
    """Fork a child whose table of descriptors is ours. Raises OSError."""
    pid = _fork(_FILES)
    return Child(pid, _pidfd.value if pid else -1)


def _fork(flags: int) -> int:
    flags |= _PIDFD | _SET_TID | signal.SIGCHLD  # (the signal of a brother is ours)
    # clone(2) § C library/kernel differences: x86-64 has the fourth and the fifth argument the other way round
    last = (_TID, 0) if NR["clone"] == 56 else (0, _TID)
    _before()
    pid: int = _clone(NR["clone"], flags, 0, _PIDFD_ADDRESS, *last)
    return _after(pid)


def _after(pid: int) -> int:
    if pid == 0:
        _after_child()
        return 0
    error = ctypes.get_errno()
    _after_parent()
    if pid < 0:
        raise OSError(error, f"clone: {os.strerror(error)}")
    return pid


def _fork_into(directory: int, flags: int) -> int:
    arguments = _CloneArguments(
        flags=_INTO_CGROUP | _PIDFD | _SET_TID | flags,
        pidfd=_PIDFD_ADDRESS,
        child_tid=_TID,
        exit_signal=0 if flags & _PARENT else signal.SIGCHLD,
        cgroup=directory,
    )
    size = ctypes.sizeof(arguments)
    _before()
    pid: int = _clone3(NR["clone3"], ctypes.addressof(arguments), size)
    try:
        return _after(pid)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.E2BIG, errno.EINVAL, errno.EPERM):
            raise
    return _fork_and_move(directory, flags)


def _fork_and_move(directory: int, flags: int) -> int:
    pid = _fork(flags)
    if pid == 0:
        try:
            fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
            os.write(fd, b"0")
            os.close(fd)
        except OSError:
            os._exit(1)
    return pid
