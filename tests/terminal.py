"""A person at a terminal: runs a program on a pseudo terminal, types, waits for what it shows, resizes the window."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from types import TracebackType

EXPECT_TIMEOUT_S = 20


class Terminal:
    """A program on a pseudo terminal of its own, which is its controlling terminal (setsid(1) --ctty)."""

    def __init__(
        self, argv: list[str], environment: dict[str, str], *, rows: int = 24, columns: int = 80
    ) -> None:
        self.seen = ""  # everything that was shown and not yet matched
        self.transcript = ""
        self._master, slave = os.openpty()
        self.resize(rows, columns)
        try:
            self.process = subprocess.Popen(
                ["setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave, env=environment
            )
        finally:
            os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size; the kernel sends SIGWINCH to the program."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text: str | bytes) -> None:
        """Type; ``\\x03`` is Ctrl-C. No newline is added."""
        os.write(self._master, text.encode() if isinstance(text, str) else text)

    def expect(self, pattern: str, timeout_s: float = EXPECT_TIMEOUT_S) -> re.Match[str]:
        """Read until ``pattern`` is shown; what comes behind it stays for the next call."""
        deadline = time.monotonic() + timeout_s
        while True:
            if found := re.search(pattern, self.seen):
                self.seen = self.seen[found.end() :]
                return found
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"waited for {pattern!r}; the terminal shows:\n{self.transcript!r}")

    def wait(self, timeout_s: float = EXPECT_TIMEOUT_S) -> int:
        """Read to the end and return the program's exit status."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, timeout_s: float) -> bool:
        if timeout_s <= 0 or not select.select([self._master], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other end open any more
            return False
        text = data.decode(errors="replace")
        self.seen += text
        self.transcript += text
        return bool(data)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
