"""The system clock: whether somebody keeps it right, ``adjtimex(2)``."""

import ctypes

from minid.kernel.syscall import libc

_TIME_ERROR = 5
_TIMEX_BYTES = 512  # struct timex has 208


def find_synchronized() -> bool | None:
    """What the kernel says; None if it cannot be asked. Changes nothing (``modes`` is 0)."""
    timex = (ctypes.c_byte * _TIMEX_BYTES)()
    state = libc.adjtimex(timex)
    return None if state < 0 else state != _TIME_ERROR
