"""Starting a process of the container: pipes, fork, and the conversation with the process until its program
runs. The process is a child of the keeper, as we are.
"""

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple

from minid.kernel import clone
from minid.shim import messages
from minid.shim.loop import GONE, READ, Loop
from minid.shim.streams import Streams

Stdio = tuple[int, int, int]
Entry = Callable[[socket.socket, Stdio], None]


class Pipes(NamedTuple):
    """Our ends and the child's; ``stdin`` None means that the child reads /dev/null."""

    stdin: int | None
    stdout: int
    stderr: int
    child: Stdio


def make_pipes(*, terminal: bool, stdin: bool) -> Pipes | None:
    """Pipes for a process without a terminal; with one, the child opens it itself and there is nothing to
    make. Raises OSError, with nothing left open.
    """
    if terminal:
        return None
    made: list[int] = []
    try:
        made += os.pipe() if stdin else (os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC),)
        made += os.pipe()
        made += os.pipe()
    except OSError:
        for fd in made:
            os.close(fd)
        raise
    output_read, output_write, error_read, error_write = made[-4:]
    return Pipes(made[1] if stdin else None, output_read, error_read, (made[0], output_write, error_write))


class Launch:
    """One child on its way to execve(2).

    ``on_ready`` is called when the sandbox stands (``held``: the child then waits for ``go``), ``on_running``
    when the program runs, ``on_error`` with the child's message when it cannot.
    """

    def __init__(
        self,
        loop: Loop,
        streams: Streams,
        *,
        terminal: bool,
        stdin: bool,
        held: bool,
        brother: bool = True,  # tests have no keeper
    ) -> None:
        self._brother = brother
        self._loop = loop
        self._streams = streams
        self._terminal = terminal
        self._stdin = stdin
        self._held = held
        self._ready = False
        self._failed = False
        self.pid = 0  # 0: there is no child
        self.pidfd = -1
        self._channel: socket.socket | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_running: Callable[[], None] = lambda: None
        self.on_error: Callable[[messages.Message], None] = lambda message: None

    @classmethod
    def resume(cls, loop: Loop, streams: Streams, pid: int, pidfd: int) -> "Launch":
        """One whose program runs."""
        launch = cls(loop, streams, terminal=False, stdin=False, held=False)
        launch.pid, launch.pidfd = pid, pidfd
        return launch

    def fork(self, entry: Entry, cgroup: str | None, mounts_of: int | None = None) -> None:
        """Fork; the child calls ``entry(channel, stdio)`` and never returns from it.

        ``cgroup``: the v2 cgroup it is born in, None where it has to join by itself; ``mounts_of``: a pidfd
        of the process in whose mount namespace it is born. Raises OSError, with nothing left open.
        """
        pipes = make_pipes(terminal=self._terminal, stdin=self._stdin)
        kept = [] if pipes is None else [fd for fd in pipes[:3] if fd is not None]
        given = [] if pipes is None else list(pipes.child)
        ends: list[socket.socket] = []
        try:
            ends += messages.pair()
            ours, theirs = ends
            if pipes is None:
                given.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
            pid, pidfd = clone.fork(cgroup, mounts_of, brother=self._brother)
            if pid == 0:
                try:
                    entry(theirs, pipes.child if pipes else (given[0], given[0], given[0]))
                finally:
                    os._exit(1)
        except OSError:
            for fd in kept:
                os.close(fd)
            for end in ends:
                end.close()
            raise
        finally:
            for fd in given:
                os.close(fd)
        self.pid, self.pidfd = pid, pidfd
        theirs.close()
        if pipes is not None:
            self._streams.open_pipes(pipes.stdin, pipes.stdout, pipes.stderr)
        ours.setblocking(False)
        self._channel = ours
        self._loop.watch(ours.fileno(), READ, self._on_channel)

    def go(self) -> None:
        """Let the waiting child become the user's program. Raises OSError when it is gone."""
        if self._channel is None:
            raise ProcessLookupError(errno.ESRCH, "the process was killed before it could start")
        messages.send(self._channel, {"go": True})
        self._held = False

    def kill(self) -> None:
        """SIGKILL for a child that has not been told to go."""
        with contextlib.suppress(ProcessLookupError):  # the keeper has reaped it, and we shall hear of it
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def settle(self) -> None:
        """The process has been reaped: hear what it still had to say before its end is dealt with."""
        while self._channel is not None:
            if not self._hear(self._channel):
                self._hung_up(self._channel)

    def _on_channel(self, events: int) -> None:
        if events & (READ | GONE) and self._channel is not None:
            self._hear(self._channel)

    def _hear(self, channel: socket.socket) -> bool:
        """Deal with one message; False when there was none (yet)."""
        try:
            message, fds = messages.receive(channel)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # killed with a message of ours unread
            message, fds = None, []
        if message is None:
            self._hung_up(channel)
        elif "error" in message:
            self._failed = True
            self.on_error(message)
        else:
            self._ready = True
            if self._terminal:
                self._streams.open_terminal(fds[0])
            self.on_ready()
        return True

    def _hung_up(self, channel: socket.socket) -> None:
        self._loop.forget(channel.fileno())
        channel.close()
        self._channel = None
        if not self._failed:
            if self._ready and not self._held:
                self.on_running()
            else:
                missing = "it could start" if self._ready else "its sandbox was ready"
                self.on_error({"error": f"the process was killed before {missing}", "kind": "Killed"})
