"""Memory that the process has freed and the C library has kept."""

import ctypes

_libc = ctypes.CDLL(None)


def trim() -> None:
    """Give back to the kernel what is free in all arenas (``malloc_trim(3)``); takes a few milliseconds.

    Does nothing where the C library has no such function (musl).
    """
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
