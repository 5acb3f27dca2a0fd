"""From fork to execve, with children that are this interpreter and programs of the host. No root needed."""

import errno
import gc
import os
import signal
import socket
from collections.abc import Callable

import pytest

from minid.kernel import clone
from minid.shim import messages
from minid.shim.launch import Launch, Stdio, make_pipes
from minid.shim.loop import Loop
from minid.shim.streams import Streams
from tests.unit.shim.pump import Log

Entry = Callable[[socket.socket, Stdio], None]


class Shim:
    """What of a shim a launch needs."""

    def __init__(self, *, held: bool = True, stdin: bool = False) -> None:
        self.loop = Loop()
        self.log = Log()
        self.streams = Streams(self.loop, self.log, stdin_once=False)
        self.launch = Launch(self.loop, self.streams, terminal=False, stdin=stdin, held=held, brother=False)
        self.told: list[str] = []
        self.launch.on_ready = lambda: self._tell("ready")
        self.launch.on_running = lambda: self._tell("running")
        self.launch.on_error = lambda message: self._tell(f"error {message['kind']}: {message['error']}")

    def _tell(self, what: str) -> None:
        self.told.append(what)
        self.loop.stop()

    def run(self) -> str:
        """Until the next thing is told; what."""
        self.loop._running = True
        self.loop.set_deadline("hangs", 10, lambda: self._tell("nothing"))
        self.loop.run()
        return self.told[-1]

    def reap(self) -> int:
        _, status = os.waitpid(self.launch.pid, 0)
        self.launch.settle()
        self.streams.drain_and_end()
        os.close(self.launch.pidfd)
        return os.waitstatus_to_exitcode(status)


def waiting_program(*command: str) -> Entry:
    def entry(channel: socket.socket, stdio: Stdio) -> None:
        messages.send(channel, {"ready": True})
        if messages.receive(channel)[0] is None:
            os._exit(77)
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        os.execvp(command[0], command)

    return entry


def test_ready_go_running_exit() -> None:
    shim = Shim()
    shim.launch.fork(waiting_program("sh", "-c", "echo out; echo err >&2; exit 3"), None)
    assert shim.run() == "ready"
    shim.launch.go()
    assert shim.run() == "running"
    assert shim.reap() == 3
    assert shim.log.data == {"stdout": b"out\n", "stderr": b"err\n"}


def test_an_error_is_told_once() -> None:
    def entry(channel: socket.socket, stdio: Stdio) -> None:
        messages.send(channel, {"error": "no such user", "kind": "UserError"})
        os._exit(1)

    shim = Shim()
    shim.launch.fork(entry, None)
    assert shim.run() == "error UserError: no such user"
    assert shim.reap() == 1
    assert len(shim.told) == 1


def test_a_child_that_dies_before_it_is_ready() -> None:
    shim = Shim()
    shim.launch.fork(lambda channel, stdio: os.kill(os.getpid(), signal.SIGKILL), None)
    assert "killed before its sandbox was ready" in shim.run()
    shim.reap()


def test_a_child_killed_while_it_waits_has_never_run() -> None:
    shim = Shim()
    shim.launch.fork(waiting_program("true"), None)
    assert shim.run() == "ready"
    shim.launch.kill()
    assert shim.run() == "error Killed: the process was killed before it could start"
    with pytest.raises(ProcessLookupError):
        shim.launch.go()
    assert shim.reap() == -signal.SIGKILL
    assert "running" not in shim.told


def test_settle_hears_what_was_said_before_the_end() -> None:
    """The end can be known before the channel has had its turn."""
    shim = Shim(held=False)

    def entry(channel: socket.socket, stdio: Stdio) -> None:
        messages.send(channel, {"ready": True})
        os._exit(0)

    shim.launch.fork(entry, None)
    os.waitid(os.P_PID, shim.launch.pid, os.WEXITED | os.WNOWAIT)
    assert shim.told == []
    shim.reap()
    assert shim.told == ["ready", "running"]


def test_settle_does_not_wait_for_others_who_hold_the_channel() -> None:
    shim = Shim(held=False)
    read, write = os.pipe()

    def entry(channel: socket.socket, stdio: Stdio) -> None:
        messages.send(channel, {"ready": True})
        if os.fork() == 0:  # stays behind with the channel open until the test ends
            os.close(write)
            os.read(read, 1)
        os._exit(0)

    shim.launch.fork(entry, None)
    assert shim.reap() == 0
    assert shim.told == ["ready", "running"]
    os.close(read)
    os.close(write)


def test_a_fork_that_fails_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(cgroup: str | None, mounts_of: int | None, *, brother: bool) -> clone.Child:
        raise OSError(errno.EAGAIN, "too many processes")

    monkeypatch.setattr(clone, "fork", refuse)
    shim = Shim(stdin=True)
    gc.collect()  # what an earlier test left to the collector is closed now, not in between
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="too many"):
        shim.launch.fork(waiting_program("true"), None)
    assert os.listdir("/proc/self/fd") == before
    assert shim.launch.pid == 0


def test_a_successful_run_leaves_nothing_open() -> None:
    shim = Shim(stdin=True)
    gc.collect()  # what an earlier test left to the collector is closed now, not in between
    before = os.listdir("/proc/self/fd")
    shim.launch.fork(waiting_program("true"), None)
    shim.run()
    shim.launch.go()
    shim.run()
    shim.reap()
    assert os.listdir("/proc/self/fd") == before


def test_pipes() -> None:
    assert make_pipes(terminal=True, stdin=True) is None
    pipes = make_pipes(terminal=False, stdin=False)
    assert pipes is not None and pipes.stdin is None
    assert os.read(pipes.child[0], 1) == b"", "without stdin it is /dev/null"
    os.write(pipes.child[1], b"1")
    os.write(pipes.child[2], b"2")
    assert (os.read(pipes.stdout, 1), os.read(pipes.stderr, 1)) == (b"1", b"2")
    for fd in (pipes.stdout, pipes.stderr, *pipes.child):
        assert not os.get_inheritable(fd)
        os.close(fd)
