"""Namespaces by their OCI names (``runtime-spec config-linux.md § Namespaces``)."""

import os
from collections.abc import Collection

from minid.kernel import syscall

FLAGS = {
    "mount": syscall.CLONE_NEWNS,
    "uts": syscall.CLONE_NEWUTS,
    "ipc": syscall.CLONE_NEWIPC,
    "network": syscall.CLONE_NEWNET,
    "pid": syscall.CLONE_NEWPID,
    "cgroup": syscall.CLONE_NEWCGROUP,
    "user": syscall.CLONE_NEWUSER,
}
FILES = {"mount": "mnt", "network": "net"}


def flags(kinds: Collection[str]) -> int:
    """The ``CLONE_NEW*`` bits of several namespaces."""
    result = 0
    for kind in kinds:
        result |= FLAGS[kind]
    return result


def enter_path(path: str, kind: str) -> None:
    """setns(2) into the namespace file at ``path``; raises OSError when it is none of that kind."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscall.setns(fd, FLAGS[kind])
    finally:
        os.close(fd)


def enter_process(pidfd: int, kinds: Collection[str]) -> None:
    """setns(2) into several namespaces (or none) of a process at once (Linux 5.8)."""
    if not kinds:
        return
    syscall.setns(pidfd, flags(kinds))


class MountVisit:
    """This process (one thread) in the mount namespace and root of the process behind ``pidfd``, until ``end``.

    Afterwards its root and working directory are ``/`` of its own mount namespace (setns(2)).
    """

    def __init__(self, pidfd: int) -> None:
        self._own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscall.setns(pidfd, syscall.CLONE_NEWNS)
        except OSError:
            os.close(self._own)
            raise

    def end(self) -> None:
        """Come back."""
        syscall.setns(self._own, syscall.CLONE_NEWNS)
        os.close(self._own)
