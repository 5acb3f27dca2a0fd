"""A container's shim, as its worker sees it: the container's start, its streams, its log, its end.

It knows nothing of images or HTTP, and it lives on when the daemon stops or dies: a new one connects to its
socket. Requests (``op``, each answered by a message with the same ``n``):

    adopt    be the shim of this container
    run      build the sandbox from bundle/config.json and task.json and report its pid; the program waits
    start    let the program run
    attach   serve a client (its connection comes along)
    exec     run another program in the sandbox
    signal   to the container's first process
    resize   of the container's or an exec's terminal
    state    what runs

and events for every connected daemon: ``exit``, ``exec-exit``, ``detach``. The exit is on disk
(``exit.json``) before it is told.
"""

import errno
import json
import os
import signal
import socket
import time
from typing import Any

from minid.kernel import namespaces, process, syscall
from minid.shim import child, clients, exitrecord, messages, sandbox
from minid.shim.daemons import Daemons
from minid.shim.execs import Execs
from minid.shim.launch import Launch
from minid.shim.logfile import LogFile, parse_options
from minid.shim.loop import READ, Loop
from minid.shim.streams import Streams

FLUSH_S = 30.0  # how long clients have to take the last output after the container has ended
REST_S = 1.0  # without anything to do
# What of task.json is needed once the container runs.
_KEPT = (
    "namespaces",
    "stdin_once",
    "log",
    "seccomp",
    "seccomp_flags",
    "cgroup_fork",
    "cgroup_procs",
    "oom_file",
)


class Shim:
    """State of one container's worker; every method runs on the loop."""

    def __init__(self, news: int) -> None:
        self.directory = ""
        self._news = news
        self._say = -1
        self._prepared: sandbox.Prepared = {}
        self._adopt_error = ""
        self._loop = Loop()
        self._daemons = Daemons(self._loop, self._on_request, self._on_daemon_gone)
        self._execs = Execs(self._loop, self._daemons, self._maybe_stop)
        self._task: dict[str, Any] = {}
        self._launch: Launch | None = None
        self._log: LogFile | None = None
        self._streams: Streams | None = None
        self._running = False
        self._resting = False
        self._children_inside = False  # in the container's pid namespace
        self._wait_status: int | None = None
        self._answer_run: tuple[socket.socket, int] | None = None
        self._answer_start: tuple[socket.socket, int] | None = None
        self._loop.watch(news, READ, self._on_news)
        self._loop.when_quiet(REST_S, self._maybe_rest)

    @classmethod
    def begin(cls, peer: socket.socket, news: int, prepared: sandbox.Prepared, say: int) -> "Shim":
        """Of the container that the daemon at ``peer`` will name; ``news``: where the keeper tells who has ended,
        ``say``: where it hears its title.
        """
        shim = cls(news)
        shim._prepared = prepared
        shim._say = say
        shim._daemons.add(peer)
        return shim

    @classmethod
    def resume(cls, notes: dict[str, Any], news: int) -> "Shim":
        """As it was when ``run`` returned ``notes``."""
        shim = cls(news)
        shim.directory = notes["directory"]
        process.set_title(shim._title("worker"))
        shim._task = notes["task"]
        shim._running = True
        shim._make_streams(notes["log"])
        assert shim._streams is not None
        shim._streams.resume(notes["streams"])
        shim._launch = Launch.resume(shim._loop, shim._streams, notes["pid"], notes["pidfd"])
        shim._daemons.resume(notes["daemons"])
        return shim

    def run(self) -> dict[str, Any] | None:
        """Until the container has ended, or nothing happens any more: then with notes for ``resume``."""
        try:
            self._loop.run()
        finally:
            if not self._resting:
                self._daemons.stop_listening()
        return self._notes() if self._resting else None

    def leave_at(self, number: int) -> None:
        """Make descriptor ``number`` ready when there is something to do."""
        assert self._launch is not None
        self._loop.watch(self._launch.pidfd, READ, lambda events: None)
        self._loop.leave_at(number)

    # -- rest

    def _maybe_rest(self) -> None:
        """(Where processes of the container are not in a pid namespace of its own, orphans become the keeper's, and
        somebody has to see them end.)
        """
        alone = self._running and not self._execs and "pid" in self._task["namespaces"]
        if alone and self._streams is not None and self._streams.quiet:
            self._resting = True
            self._loop.stop()

    def _notes(self) -> dict[str, Any]:
        assert self._launch is not None and self._streams is not None
        return {
            "directory": self.directory,
            "task": {name: self._task[name] for name in _KEPT},
            "pid": self._launch.pid,
            "pidfd": self._launch.pidfd,
            "log": None if self._log is None else self._log.notes(),
            "streams": self._streams.notes(),
            "daemons": self._daemons.notes(),
        }

    # -- requests

    def _on_request(
        self, message: messages.Message, fds: list[int], connection: socket.socket
    ) -> messages.Message | None:
        answer: messages.Message | None = getattr(self, "_op_" + message["op"])(message, fds, connection)
        return answer

    def _on_daemon_gone(self) -> None:
        """Nobody can start this container any more, if it does not run."""
        if self._launch is not None and (self._running or self._wait_status is not None):
            return
        if self._launch is not None and self._launch.pid:
            self._launch.kill()
        else:
            self._loop.stop()

    def _op_adopt(self, message: messages.Message, fds: list[int], connection: socket.socket) -> None:
        """Become the shim of one container: listen for later daemons. Not answered; an error is that of ``run``."""
        self.directory = message["directory"]
        process.set_title(self._title("worker"))
        os.write(self._say, self._title("shim").encode())
        try:
            self._daemons.listen(message["socket"])
        except OSError as error:
            self._adopt_error = f"cannot listen at {message['socket']}: {error}"

    def _title(self, role: str) -> str:
        return f"minid: {role} of {os.path.basename(self.directory)[:12]}"

    def _op_run(self, message: messages.Message, fds: list[int], connection: socket.socket) -> None:
        if self._adopt_error:
            raise OSError(self._adopt_error)
        streams = self._prepare_streams()
        self._enter_pid_namespace()
        launch = self._launch = Launch(
            self._loop,
            streams,
            terminal=bool(self._task["terminal"]),
            stdin=bool(self._task["open_stdin"]),
            held=True,
        )
        launch.on_ready = self._on_ready
        launch.on_running = self._on_running
        launch.on_error = self._on_start_error
        self._answer_run = (connection, message["n"])
        prepared, self._prepared = self._prepared, {}
        bundle = os.path.join(self.directory, "bundle")
        launch.fork(
            lambda channel, stdio: child.start_container(channel, stdio, self._task, bundle, prepared),
            self._task["cgroup_fork"],
        )
        for fd in prepared.values():
            os.close(fd)

    def _prepare_streams(self) -> Streams:
        if self._streams is None:
            with open(os.path.join(self.directory, "task.json"), "rb") as file:
                self._task = json.loads(file.read())
            return self._make_streams(None)
        return self._streams

    def _make_streams(self, log_notes: dict[str, Any] | None) -> Streams:
        log = self._task["log"]
        if log["path"]:
            self._log = LogFile(log["path"], parse_options(log["config"]), log["attributes"], log_notes)
        self._streams = Streams(self._loop, self._log, stdin_once=bool(self._task["stdin_once"]))
        self._streams.on_idle = self._maybe_stop
        self._streams.on_detach = lambda: self._daemons.publish({"event": "detach"})
        return self._streams

    def _enter_pid_namespace(self) -> None:
        """What we fork, and only that, lives in the pid namespace we take here: the container's first process is its
        pid 1, execs come later.
        """
        if self._children_inside:
            return
        path = self._task["namespaces"].get("pid")
        if path is not None and self._launch is not None:
            syscall.setns(self._launch.pidfd, syscall.CLONE_NEWPID)
        elif path:
            namespaces.enter_path(path, "pid")
        elif path == "":
            syscall.unshare(syscall.CLONE_NEWPID)
        self._children_inside = True

    def _on_ready(self) -> None:
        assert self._launch is not None and self._answer_run is not None
        connection, number = self._answer_run
        pid = self._launch.pid
        try:
            ticks = process.start_ticks(pid)
        except ProcessLookupError:  # killed and reaped since then: its channel says so next
            return
        self._daemons.tell(connection, {"n": number, "pid": pid, "start_ticks": ticks})

    def _op_start(self, message: messages.Message, fds: list[int], connection: socket.socket) -> None:
        assert self._launch is not None
        self._answer_start = (connection, message["n"])
        self._launch.go()

    def _on_running(self) -> None:
        self._running = True
        if self._answer_start is not None:
            connection, number = self._answer_start
            self._daemons.tell(connection, {"n": number, "started_at_ns": time.time_ns()})
        self._maybe_finish()

    def _on_start_error(self, message: messages.Message) -> None:
        answer = self._answer_start or self._answer_run
        self._daemons.stop_listening()  # before anybody can try again
        if answer is not None:
            self._daemons.tell(answer[0], {**message, "n": answer[1]})
        self._loop.stop()

    def _op_attach(
        self, message: messages.Message, fds: list[int], connection: socket.socket
    ) -> messages.Message:
        exec_id = message.get("exec_id")
        streams = self._execs.streams(exec_id) if exec_id else self._prepare_streams()
        streams.attach(*clients.receive(message, fds))
        return {}

    def _op_exec(self, message: messages.Message, fds: list[int], connection: socket.socket) -> None:
        if self._launch is None or self._wait_status is not None:
            raise OSError(errno.ESRCH, "the container is not running")
        self._enter_pid_namespace()
        self._execs.start(message, fds, connection, self._task, self._launch)

    def _op_signal(
        self, message: messages.Message, fds: list[int], connection: socket.socket
    ) -> messages.Message:
        assert self._launch is not None
        if self._wait_status is not None:
            raise ProcessLookupError(errno.ESRCH, "the container's process has ended")
        signal.pidfd_send_signal(self._launch.pidfd, message["signal"])
        return {}

    def _op_resize(
        self, message: messages.Message, fds: list[int], connection: socket.socket
    ) -> messages.Message:
        streams = self._execs.streams(message["exec_id"]) if message.get("exec_id") else self._streams
        assert streams is not None
        streams.resize(message["height"], message["width"])
        return {}

    def _op_state(
        self, message: messages.Message, fds: list[int], connection: socket.socket
    ) -> messages.Message:
        return {
            "running": self._running and self._wait_status is None,
            "pid": self._launch.pid if self._launch else 0,
            "execs": self._execs.pids(),
        }

    # -- the end

    def _on_news(self, events: int) -> None:
        """The keeper has reaped: a line ``pid status`` each."""
        for line in os.read(
            self._news, 4096
        ).splitlines():  # (whole ones: they are written at once and short)
            pid, status = (int(word) for word in line.split())
            if self._launch is not None and pid == self._launch.pid and self._wait_status is None:
                self._wait_status = status
                self._launch.settle()
                self._maybe_finish()
            else:
                self._execs.reaped(pid, status)

    def _maybe_finish(self) -> None:
        """When the first process has run and been reaped: record the exit, tell it, hang up."""
        if self._wait_status is None or self._streams is None or not self._running:
            return
        self._running = False
        self._streams.drain_and_end()
        record = exitrecord.make(self._wait_status, self._task.get("oom_file", ""))
        exitrecord.write(self.directory, record)
        self._daemons.stop_listening()  # a daemon that comes from now on reads exit.json
        self._daemons.publish({"event": "exit", **record})
        self._streams.finish()
        self._loop.set_deadline("flush", FLUSH_S, self._loop.stop)
        self._maybe_stop()

    def _maybe_stop(self) -> None:
        ended = self._wait_status is not None and self._streams is not None and self._streams.idle
        if ended and not self._execs:
            self._loop.stop()
