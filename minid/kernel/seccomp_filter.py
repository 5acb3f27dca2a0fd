"""Putting a compiled seccomp filter into force: the part that runs in the container's first process (``seccomp(2)``).

Without ``no_new_privs`` the filter has to be loaded while CAP_SYS_ADMIN is effective, so before capabilities are given
up; with it, last of all, so that the calls that get there need not be allowed.
"""

import ctypes

from minid.kernel.syscall import call

SET_MODE_FILTER = 1


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def load(program: bytes, flags: int = 0) -> None:
    """SECCOMP_SET_MODE_FILTER for the calling thread and what it executes; cannot be undone.

    EACCES: neither CAP_SYS_ADMIN nor no_new_privs (see above for the order). EINVAL: not a valid program, or a flag
    that this kernel does not know.
    """
    call("seccomp", SET_MODE_FILTER, flags, ctypes.byref(_Program(len(program) // 8, program)))
