"""Starting a process of the container: pipes, fork, and the conversation with the child until its program
runs.
"""

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
    make.
    """
    if terminal:
        return None
    input_read, input_write = os.pipe() if stdin else (os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), None)
    output_read, output_write = os.pipe()
    error_read, error_write = os.pipe()
    return Pipes(input_write, output_read, error_read, (input_read, output_write, error_write))


class Launch:
    """One child on its way to execve(2).

    ``on_ready`` is called when the sandbox stands and the child waits for ``go`` (an exec does not wait),
    ``on_running`` when the
    program runs, ``on_error`` with the child's message when it cannot.
    """

    def __init__(self, loop: Loop, streams: Streams, *, terminal: bool, stdin: bool) -> None:
        self._loop = loop
        self._streams = streams
        self._terminal = terminal
        self._stdin = stdin
        self._ready = False
        self._failed = False
        self.pid = 0
        self.pidfd = -1
        self.on_ready: Callable[[], None] = lambda: None
        self.on_running: Callable[[], None] = lambda: None
        self.on_error: Callable[[messages.Message], None] = lambda message: None

    def fork(self, entry: Entry, cgroup: str | None) -> None:
        """Fork; the child calls ``entry(channel, stdio)`` and never returns from it.

        ``cgroup``: the v2 cgroup it is born in, None where it has to join by itself.
        """
        pipes = make_pipes(terminal=self._terminal, stdin=self._stdin)
        ours, theirs = messages.pair()
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.pid = clone.fork(cgroup)
        if self.pid == 0:
            try:
                entry(theirs, pipes.child if pipes else (null, null, null))
            finally:
                os._exit(1)
        self.pidfd = os.pidfd_open(self.pid)
        theirs.close()
        os.close(null)
        if pipes is not None:
            for fd in pipes.child:
                os.close(fd)
            self._streams.open_pipes(pipes.stdin, pipes.stdout, pipes.stderr)
        self._channel = ours
        self._loop.watch(ours.fileno(), READ, self._on_channel)

    def go(self) -> None:
        """Let the waiting child become the user's program."""
        messages.send(self._channel, {"go": True})

    def kill(self) -> None:
        """SIGKILL for a child that has not been told to go."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def settle(self) -> None:
        """The child has been reaped: hear what it still had to say before its end is dealt with."""
        while self._channel.fileno() >= 0:
            self._on_channel(READ)

    def _on_channel(self, events: int) -> None:
        if not events & (READ | GONE):
            return
        try:
            message, fds = messages.receive(self._channel)
        except ConnectionResetError:  # killed with a message of ours unread
            message, fds = None, []
        if message is None:
            self._loop.forget(self._channel.fileno())
            self._channel.close()
            if self._failed:
                return
            if self._ready:
                self.on_running()
            else:
                self.on_error(
                    {"error": "the process was killed before its sandbox was ready", "kind": "Killed"}
                )
        elif "error" in message:
            self._failed = True
            self.on_error(message)
        else:
            self._ready = True
            if self._terminal:
                self._streams.open_terminal(fds[0])
            self.on_ready()
