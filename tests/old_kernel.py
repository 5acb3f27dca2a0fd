"""A program that runs another one as if the kernel were older: ``python -m tests.old_kernel COMMAND…``.

Linux 5.10 ends with system call 440 (process_madvise), so mount_setattr, landlock and all that came after give ENOSYS; its
overlayfs does not know ``lowerdir+``: fsconfig(2) gives EINVAL (for every file system: stricter than 5.10). Inherited.
"""

import ctypes
import errno
import os
import struct
import sys

LAST_OF_5_10 = 440
FSCONFIG = 431
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
LOAD, JUMP_EQUAL, JUMP_ABOVE, RETURN = 0x20, 0x15, 0x25, 0x06  # linux/filter.h
ALLOW, ERRNO = 0x7FFF0000, 0x50000
X32 = 0x40000000


def install() -> None:
    """Put the filter into force for this process and what it becomes; needs CAP_SYS_ADMIN. OSError."""
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (LOAD, 0, 0, 0),  # the number of the call
            (JUMP_EQUAL, 3, 0, FSCONFIG),
            (JUMP_ABOVE, 1, 0, X32),
            (JUMP_ABOVE, 2, 0, LAST_OF_5_10),
            (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, ERRNO | errno.EINVAL),
            (RETURN, 0, 0, ERRNO | errno.ENOSYS),
        )
    )
    buffer = ctypes.create_string_buffer(program)
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, fprog, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


if __name__ == "__main__":
    install()
    os.execvp(sys.argv[1], sys.argv[1:])
