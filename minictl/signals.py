"""Signals as readable bytes, and their names.

Python's `signal` module wraps C's numbers in enums (4 ms to import); `_signal` behind it is all that is
needed here.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

# Never caught: KILL and STOP can't be, CHLD, PIPE and URG tell this process about its own affairs, TTIN and TTOU
# stop it when it is in the background, SEGV and its kind must be able to end it.
_LEFT_ALONE = (
    "KILL",
    "STOP",
    "CHLD",
    "CLD",
    "PIPE",
    "URG",
    "TTIN",
    "TTOU",
    "SEGV",
    "BUS",
    "FPE",
    "ILL",
    "WINCH",
)

NUMBERS: dict[str, int] = {
    name[3:]: number
    for name, number in vars(_signal).items()
    if name.startswith("SIG")
    and name[3:].isalnum()
    and name not in ("SIGRTMIN", "SIGRTMAX", "SIGPOLL", "SIGCLD")
}
WINCH = NUMBERS["WINCH"]


def name_of(number: int) -> str:
    """`INT` for 2; the number itself where it has no name (real-time signals)."""
    for name, value in NUMBERS.items():
        if value == number:
            return name
    return str(number)


class SignalPipe:
    """Catches signals and lets poll see them: `fd` is readable when `taken` has something to give."""

    __slots__ = ("_old", "_write_fd", "fd")

    def __init__(self, *, proxy: bool, resize: bool, ending: bool = False) -> None:
        """`proxy`: all that may be passed on to a container; `resize`: SIGWINCH; `ending`: those that ask to end."""
        self.fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old: dict[int, object] = {}
        names: list[str] = []
        if proxy:
            names = [name for name in NUMBERS if name not in _LEFT_ALONE]
        elif ending:
            names = ["INT", "TERM", "HUP", "QUIT"]
        if resize:
            names.append("WINCH")
        _signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for name in names:
            try:
                old = _signal.signal(NUMBERS[name], _noted)
            except (OSError, ValueError):
                continue
            if old == _signal.SIG_IGN and name == "HUP":  # nohup(1) meant it
                _signal.signal(NUMBERS[name], _signal.SIG_IGN)
                continue
            self._old[NUMBERS[name]] = old

    def taken(self) -> list[int]:
        """The signals that have come since last asked."""
        try:
            return list(os.read(self.fd, 512))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Puts the handlers back as they were."""
        _signal.set_wakeup_fd(-1)
        for number, old in self._old.items():
            _signal.signal(number, _signal.SIG_DFL if old is None else old)
        self._old = {}
        os.close(self.fd)
        os.close(self._write_fd)


def die_of(number: int) -> None:
    """Ends the process by `number`, as if it had never been caught."""
    _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _noted(number: int, frame: object) -> None:
    """The C handler has already written the number to the pipe."""
