"""The user's terminal: its size, raw mode and the way back, and the keys that detach from a container."""

from __future__ import annotations

import os

from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minictl.flags import Options

DEFAULT_DETACH_KEYS = b"\x10\x11"  # ctrl-p,ctrl-q


def is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def size(fd: int = 1) -> tuple[int, int]:
    """(height, width) in characters, (0, 0) where `fd` is no terminal."""
    try:
        width, height = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return height, width


class RawMode:
    """Raw mode of the terminal `fd` from `enter` to `leave`; `leave` may be called at any time, any number of times."""

    __slots__ = ("_fd", "_saved")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[Any] | None = None

    def enter(self) -> None:
        if not is_terminal(self._fd):
            return
        import termios

        self._saved = termios.tcgetattr(self._fd)
        raw = termios.tcgetattr(self._fd)
        raw[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        raw[1] &= ~termios.OPOST
        raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN] = 1
        raw[6][termios.VTIME] = 0
        termios.tcsetattr(self._fd, termios.TCSANOW, raw)

    def leave(self) -> None:
        if self._saved is None:
            return
        import termios

        saved, self._saved = self._saved, None
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, saved)
        except (OSError, termios.error):  # the terminal has gone
            pass


class DetachKeys:
    """Finds the detach sequence in what the user types; what may be its beginning is held back until it is not."""

    __slots__ = ("_held", "_keys")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def filter(self, data: bytes) -> tuple[bytes, bool]:
        """(what goes on to the container, whether the sequence is complete: the user wants to detach)."""
        keys = self._keys
        if not keys or (not self._held and keys[0] not in data):
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == keys[self._held]:
                self._held += 1
                if self._held == len(keys):
                    self._held = 0
                    return bytes(passed), True
                continue
            passed += keys[: self._held]
            self._held = 1 if byte == keys[0] else 0
            if not self._held:
                passed.append(byte)
        return bytes(passed), False


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q`, `a,ctrl-@` as bytes; "" gives the default. Raises Failure for a key that is not one."""
    if not text:
        return DEFAULT_DETACH_KEYS
    keys = bytearray()
    for key in text.split(","):
        letter = key[5:6] if key.lower().startswith("ctrl-") and len(key) == 6 else ""
        if len(key) == 1 and key.isascii():
            keys.append(ord(key))
        elif letter and (letter.isascii() and (letter.isalpha() or letter in "@[\\]^_")):
            keys.append(ord(letter.upper()) & 0x1F)
        else:
            raise Failure(f"invalid detach keys ({text}): Unknown character: '{key}'")
    return bytes(keys)


def detach_keys(options: Options, tty: bool) -> str:
    """--detach-keys, else config.json's detachKeys; they matter with a terminal only."""
    if options["detach-keys"] or not tty:
        return str(options["detach-keys"])
    from minictl import config

    return str(config.load().get("detachKeys", ""))
