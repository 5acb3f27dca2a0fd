"""Being woken when something changes in a container's log directory: one inotify instance for all
followers.
"""

import asyncio
from types import TracebackType
from typing import Self

from minid.kernel import inotify

_MASK = (
    inotify.IN_MODIFY
    | inotify.IN_CREATE
    | inotify.IN_MOVED_TO
    | inotify.IN_DELETE_SELF
    | inotify.IN_MOVE_SELF
    | inotify.IN_ONLYDIR
)


class Watch:
    """A follower's interest in one directory; ``changed`` is set at every change and cleared by the
    follower.
    """

    def __init__(self, watcher: "LogWatcher", directory: str) -> None:
        self.changed = asyncio.Event()
        self._watcher = watcher
        self._directory = directory
        self._number = -1

    def __enter__(self) -> Self:
        self._number = self._watcher.enter(self, self._directory)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watcher.leave(self, self._number)


class LogWatcher:
    """One per event loop. The inotify instance exists only while somebody watches."""

    def __init__(self) -> None:
        self._inotify: inotify.Inotify | None = None
        self._watches: dict[int, set[Watch]] = {}

    def watch(self, directory: str) -> Watch:
        """A context manager; entering it raises OSError when the directory or an inotify instance is not
        to be had.
        """
        return Watch(self, directory)

    def enter(self, watch: Watch, directory: str) -> int:
        if self._inotify is None:
            self._inotify = inotify.Inotify()
            asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._wake)
        try:
            number = self._inotify.add_watch(directory, _MASK)
        except OSError:
            self._close_unused()
            raise
        self._watches.setdefault(number, set()).add(watch)
        return number

    def leave(self, watch: Watch, number: int) -> None:
        watches = self._watches.get(number, set())
        watches.discard(watch)
        if not watches:
            self._watches.pop(number, None)
            if self._inotify is not None:
                self._inotify.remove_watch(number)
        self._close_unused()

    def _close_unused(self) -> None:
        if not self._watches and self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def _wake(self) -> None:
        if self._inotify is None:
            return
        for event in self._inotify.read():
            # After an overflow nobody knows what was missed, so everybody looks.
            woken = self._watches.values() if event.watch < 0 else (self._watches.get(event.watch, set()),)
            for watches in woken:
                for watch in watches:
                    watch.changed.set()
