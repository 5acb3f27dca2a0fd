"""inotify(7): being told that a file or directory has changed. Raises OSError with the call's name and
path.
"""

import os
import struct
from dataclasses import dataclass
from typing import Self

from minid.kernel.syscall import fail, libc

IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO = 0x2, 0x40, 0x80
IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 0x100, 0x200, 0x400, 0x800
IN_Q_OVERFLOW, IN_IGNORED = 0x4000, 0x8000
IN_ONLYDIR, IN_MASK_ADD = 0x1000000, 0x20000000

_HEADER = struct.Struct("iIII")
# Room for many events: one needs at most the header, a name of NAME_MAX bytes and its null.
_BUFFER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Event:
    """``watch`` is -1 when the queue overflowed (``IN_Q_OVERFLOW``); ``name`` "" for the watched thing
    itself.
    """

    watch: int
    mask: int
    cookie: int
    name: str


class Inotify:
    """One inotify instance; ``fileno()`` becomes readable when there are events."""

    def __init__(self) -> None:
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise fail("inotify_init1")

    def fileno(self) -> int:
        return int(self._fd)

    def add_watch(self, path: str, mask: int) -> int:
        """inotify_add_watch(2): the watch's number; adding the same file again gives the same one."""
        watch = libc.inotify_add_watch(self._fd, os.fsencode(path), mask)
        if watch < 0:
            raise fail("inotify_add_watch", path)
        return int(watch)

    def remove_watch(self, watch: int) -> None:
        """inotify_rm_watch(2); a watch that is already gone (its directory was removed) is fine."""
        libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> list[Event]:
        """The events that wait, none if there are none."""
        try:
            data = os.read(self._fd, _BUFFER_BYTES)
        except BlockingIOError:
            return []
        events = []
        position = 0
        while position < len(data):
            watch, mask, cookie, length = _HEADER.unpack_from(data, position)
            position += _HEADER.size
            name = os.fsdecode(data[position : position + length].rstrip(b"\0"))
            position += length
            events.append(Event(watch, mask, cookie, name))
        return events

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
