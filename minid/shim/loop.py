"""A shim's event loop: descriptors, callbacks, named deadlines. epoll(7) and nothing else."""

import os
import select
import time
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
EDGE = select.EPOLLET
GONE = select.EPOLLHUP | select.EPOLLERR

Callback = Callable[[int], None]


class Loop:
    """Callbacks get the epoll event bits. ``run`` returns after ``stop``."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, tuple[Callback, int]] = {}  # with the round in which it came
        self._round = 0
        self._running = True
        self._deadlines: dict[str, tuple[float, Callable[[], None]]] = {}
        self._quiet: tuple[float, Callable[[], None]] | None = None

    def watch(self, fd: int, events: int, callback: Callback) -> None:
        """Call ``callback`` when ``events`` happen on ``fd``; HUP and ERR are always reported."""
        known = self._callbacks.get(fd)
        if known is not None:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._callbacks[fd] = (callback, self._round if known is None else known[1])

    def forget(self, fd: int) -> None:
        """Idempotent; call it before closing ``fd``."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def set_deadline(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, ``seconds`` from now, unless ``name`` gets another deadline before."""
        self._deadlines[name] = (time.monotonic() + seconds, callback)

    def when_quiet(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever nothing has happened for ``seconds``."""
        self._quiet = (seconds, callback)
        self.set_deadline("quiet", seconds, callback)

    def stop(self) -> None:
        self._running = False

    def leave_at(self, number: int) -> None:
        """End, and make descriptor ``number`` ready when one of those that were watched is."""
        os.dup2(self._epoll.fileno(), number, inheritable=False)
        self._epoll.close()

    def run(self) -> None:
        while self._running:
            happened = self._epoll.poll(self._timeout_s())
            self._round += 1
            for fd, events in happened:
                callback, since = self._callbacks.get(fd, (None, 0))
                # A callback before may have closed this descriptor and got its number for something new.
                if callback is not None and since < self._round:
                    callback(events)
            if happened and self._quiet is not None:
                self.set_deadline("quiet", *self._quiet)
            now_s = time.monotonic()
            for name, (at_s, due) in tuple(self._deadlines.items()):
                if at_s <= now_s:
                    del self._deadlines[name]
                    due()

    def _timeout_s(self) -> float | None:
        if not self._deadlines:
            return None
        return max(0.0, min(at_s for at_s, _ in self._deadlines.values()) - time.monotonic())
