"""Work in another network namespace without a fork (``setns(2)``, ``network_namespaces(7)``).

Only the calling thread enters it, and only for the moment that it takes to open sockets and files there:
both stay in that namespace when the thread has come back.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from minid.kernel import process, syscall

_OWN = "/proc/thread-self/ns/net"


def open_of(pid: int, start_ticks: int) -> int:
    """A descriptor of the network namespace of a process; ProcessLookupError when ``pid`` is not that
    process (any more).
    """
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(3, os.strerror(3), str(pid)) from None
    if start_ticks and process.start_ticks(pid) != start_ticks:
        os.close(fd)
        raise ProcessLookupError(3, os.strerror(3), str(pid))
    return fd


@contextmanager
def inside(fd: int) -> Iterator[None]:
    """The calling thread is in the namespace of ``fd`` for the body of the ``with``, which must be short
    and must not await.
    """
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscall.setns(fd, syscall.CLONE_NEWNET)
        try:
            yield
        finally:
            syscall.setns(own, syscall.CLONE_NEWNET)
    finally:
        os.close(own)


def close(fd: int) -> None:
    os.close(fd)
