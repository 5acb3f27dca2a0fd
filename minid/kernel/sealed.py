"""An interpreter that no container can write to, to start the forkserver from.

A process inside a container may reach the program it was started from through ``/proc/PID/exe``
(CVE-2019-5736). A
descriptor of a detached, read-only clone of the mount is enough to close that door: the magic link leads to
that mount
and opening it for writing gives EROFS. Linux before 5.12 has no mount_setattr(2): there it is a sealed memfd.
"""

import errno
import fcntl
import os

from minid.kernel import syscall


def open_executable(path: str) -> int:
    """A descriptor from which ``execve("/proc/self/fd/N")`` runs ``path``, and through which nobody can
    change it.
    """
    try:
        fd = syscall.open_tree(path, syscall.OPEN_TREE_CLONE | syscall.OPEN_TREE_CLOEXEC)
        syscall.mount_setattr(fd, "", syscall.AT_EMPTY_PATH, set_=syscall.MOUNT_ATTR_RDONLY)
        return fd
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            raise
    return _sealed_copy(path)


def _sealed_copy(path: str) -> int:
    memfd = os.memfd_create("minid-python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(path, "rb") as source:
        while os.sendfile(memfd, source.fileno(), None, 1 << 24):
            pass
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, seals)
    return memfd
