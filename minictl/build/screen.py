"""A build on a terminal: what has ended scrolls away above, what runs is redrawn in place with its last lines.

Nothing is drawn that is wider than the terminal or that a program's output could move the cursor with.
"""

from __future__ import annotations

import os
import time

from minictl import terminal
from minictl.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl.build.steps import Step

_REDRAW_S = 0.1
_WINDOW_LINES = 6
_NO_COLOR, _BLUE, _RED, _FAINT = "", "\x1b[34m", "\x1b[31m", "\x1b[2m"


class Screen:
    """Draws on the terminal `fd`. Steps that have ended, with none before them that runs, are drawn once, for good."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._steps: list[Step] = []  # those not yet drawn for good
        self._drawn: list[int] = []  # widths of the lines that are redrawn
        self._began_s = time.monotonic()
        self._next_s = 0.0
        self._ended = 0
        self._count = 0
        self._colors = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def changed(self, step: Step) -> None:
        if step not in self._steps:
            self._steps.append(step)
            self._count += 1
        if step.ended:
            self._ended += 1

    def printed(self, step: Step, line: str) -> None:
        pass

    def streamed(self, text: str) -> None:
        self._erase()
        write_all(self._fd, text.encode("utf-8", "replace"))

    def flush(self) -> None:
        pass  # `tick` draws when it is time

    def tick(self) -> float | None:
        """Redraws ten times a second, however often steps change."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _REDRAW_S
            self._draw()
        return self._next_s - now_s if self._steps else None

    def close(self) -> None:
        """The last state stays on the screen."""
        self._draw(last=True)
        self._drawn = []

    def _draw(self, *, last: bool = False) -> None:
        height, width = terminal.size(self._fd)
        height, width = height or 24, width or 80
        done: list[str] = []
        while self._steps and (last or self._steps[0].ended):
            done.append(self._line(self._steps.pop(0), width))
        live = self._live(height, width) if self._steps else []
        # Line by line: a terminal that is cleared from its top (tmux) would keep each drawing in its history.
        text = self._upwards(width) + "".join(f"{line}\x1b[K\n" for line in done + live)
        if self._drawn:
            text += "\x1b[J"
        self._drawn = [columns(printable(line)) for line in live]
        if text:
            write_all(self._fd, text.encode("utf-8", "replace"))

    def _live(self, height: int, width: int) -> list[str]:
        """The part that is redrawn: at most as high as the terminal, what runs before what has ended."""
        seconds = time.monotonic() - self._began_s
        head = fitting(f"[+] Building {seconds:.1f}s ({self._ended}/{self._count})", width)
        steps = self._steps
        room = max(height - 2, 1)
        if len(steps) > room:
            running = [step for step in steps if not step.ended][:room]
            steps = [step for step in steps if step in running]
        running = [step for step in steps if not step.ended]
        window = min(_WINDOW_LINES, (room - len(steps)) // len(running)) if running else 0
        lines = [head]
        for step in steps:
            lines.append(self._line(step, width))
            if not step.ended and window > 0:
                lines += [self._log_line(line, width) for line in step.log[-window:]]
        return lines

    def _line(self, step: Step, width: int) -> str:
        took = "" if step.state == "cached" else f"{step.elapsed_s:.1f}s"
        marks = {"cached": "CACHED ", "failed": "ERROR ", "canceled": "CANCELED "}
        details = f" {step.details}" if step.details else ""
        text = fitting(f" => {marks.get(step.state, '')}{step.title}{details}", width - len(took) - 2)
        line = f"{text}{' ' * (width - columns(text) - len(took) - 1)}{took}"
        color = _RED if step.state == "failed" else _BLUE if step.ended else _NO_COLOR
        return self._colored(line, color)

    def _log_line(self, line: str, width: int) -> str:
        return self._colored(fitting(f" => => # {line}", width - 1), _FAINT)

    def _colored(self, text: str, color: str) -> str:
        return f"{color}{text}\x1b[0m" if color and self._colors else text

    def _erase(self) -> None:
        if self._drawn:
            write_all(self._fd, f"{self._upwards(terminal.size(self._fd)[1] or 80)}\x1b[J".encode())
        self._drawn = []

    def _upwards(self, width: int) -> str:
        """To where the last drawing began; in a terminal that became narrower a line fills several rows."""
        rows = sum(max(1, -(-drawn // width)) for drawn in self._drawn)
        return f"\x1b[{rows}A\r" if rows else ""


def fitting(text: str, width: int) -> str:
    """`text` on one line of at most `width` columns."""
    text = printable(text.expandtabs(4))
    if columns(text) <= width:
        return text
    kept = 0
    used = 1  # the mark
    while kept < len(text) and used + columns(text[kept]) <= width:
        used += columns(text[kept])
        kept += 1
    return text[:kept] + "…"


def columns(text: str) -> int:
    """How wide a terminal shows `text` (East Asian wide characters are two columns, combining ones none)."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def printable(text: str) -> str:
    """`text` without escape sequences and other characters that have no width."""
    if text.isprintable():
        return text
    kept = []
    index = 0
    while index < len(text):
        letter = text[index]
        index += 1
        if letter == "\x1b":
            index = _after_escape(text, index)
        elif letter.isprintable():
            kept.append(letter)
    return "".join(kept)


def _after_escape(text: str, index: int) -> int:
    """Where the escape sequence ends that began before `index` (ECMA-48: CSI, OSC, or two characters)."""
    kind = text[index : index + 1]
    index += 1
    if kind == "[":
        while index < len(text) and not "@" <= text[index] <= "~":
            index += 1
        return index + 1
    if kind == "]":
        while index < len(text) and text[index] not in "\a\x1b":
            index += 1
        return index + (2 if text[index : index + 1] == "\x1b" else 1)
    return index
