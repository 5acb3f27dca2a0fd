"""Execs: further programs in the sandbox, by the ids that the daemon gave them."""

import errno
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from minid.shim import child, clients, exitrecord, messages
from minid.shim.daemons import Daemons
from minid.shim.launch import Launch
from minid.shim.loop import Loop
from minid.shim.streams import Streams

EXIT_CODES = {"CommandNotFound": 127, "CommandNotExecutable": 126}


class _Exec:
    def __init__(self, launch: Launch, streams: Streams) -> None:
        self.launch = launch
        self.streams = streams
        self.exit_code: int | None = None


class Execs:
    """Those that run, or whose clients still have output to take; ``on_forgotten`` is called after each."""

    def __init__(self, loop: Loop, daemons: Daemons, on_forgotten: Callable[[], None]) -> None:
        self._loop = loop
        self._daemons = daemons
        self._on_forgotten = on_forgotten
        self._execs: dict[str, _Exec] = {}

    def __len__(self) -> int:
        return len(self._execs)

    def pids(self) -> dict[str, int]:
        return {exec_id: running.launch.pid for exec_id, running in self._execs.items()}

    def streams(self, exec_id: str) -> Streams:
        """Raises ProcessLookupError."""
        running = self._execs.get(exec_id)
        if running is None:
            raise ProcessLookupError(errno.ESRCH, "the exec's process has ended")
        return running.streams

    def start(
        self,
        message: messages.Message,
        fds: list[int],
        connection: socket.socket,
        task: dict[str, Any],
        init: Launch,
    ) -> None:
        """Start one beside ``init``; the answer is told when its program runs or cannot.

        fds: the request's body as a file, then perhaps a client's connection and its initial input.
        """
        with open(fds.pop(0), "rb") as file:
            request = json.loads(file.read())
        request["namespaces"] = [kind for kind in task["namespaces"] if kind not in ("pid", "mount")]
        request["seccomp_flags"] = task["seccomp_flags"]
        exec_id = message["exec_id"]
        answered = False

        def answer(fields: messages.Message) -> None:
            nonlocal answered
            if not answered:
                answered = True
                self._daemons.tell(connection, {**fields, "n": message["n"]})

        def on_error(error: messages.Message) -> None:
            # the connection may already be upgraded: as dockerd does, the words go to the client's stdout
            running.exit_code = EXIT_CODES.get(error["kind"], 126)
            text = f"OCI runtime exec failed: exec failed: {error['error']}"
            streams.tell_clients((text + "\r\n").encode())
            answer({"error": text, "kind": error["kind"], "exit_code": running.exit_code})

        streams = Streams(self._loop, None, stdin_once=True)
        launch = Launch(
            self._loop,
            streams,
            terminal=bool(request["process"].get("terminal")),
            stdin=bool(request["open_stdin"]),
            held=False,
        )
        running = self._execs[exec_id] = _Exec(launch, streams)
        streams.on_detach = lambda: self._daemons.publish({"event": "detach", "exec_id": exec_id})
        launch.on_running = lambda: answer({"pid": launch.pid})
        launch.on_error = on_error
        opened: list[int] = []  # of the host, which the child does not see
        try:
            if fds:
                streams.attach(*clients.receive(message, fds))
            seccomp = None
            if request["seccomp"] and task["seccomp"]:
                seccomp = os.open(task["seccomp"], os.O_RDONLY | os.O_CLOEXEC)
                opened.append(seccomp)
            groups: list[int] = []
            # of the container, or a cgroup inside it that the daemon has made for this one
            cgroup = request.get("cgroup_fork", task["cgroup_fork"])
            for path in () if cgroup else request.get("cgroup_procs", task["cgroup_procs"]):
                groups.append(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
                opened.append(groups[-1])
            launch.fork(
                lambda channel, stdio: child.start_exec(channel, stdio, init.pidfd, seccomp, groups, request),
                cgroup,
                init.pidfd if "mount" in task["namespaces"] else None,
            )
        except (OSError, ValueError) as error:
            on_error({"error": str(error), "kind": type(error).__name__})
            self._finish(exec_id)
        finally:
            for fd in opened:
                os.close(fd)

    def reaped(self, pid: int, status: int) -> None:
        """A process has ended and been waited for; it may be one of ours."""
        for exec_id, running in self._execs.items():
            if running.launch.pid == pid:
                running.launch.settle()
                if running.exit_code is None:
                    running.exit_code = exitrecord.exit_code(status)
                running.launch.pid = 0  # the number may be another's from now on
                self._finish(exec_id)
                return

    def _finish(self, exec_id: str) -> None:
        """When an exec has been reaped (or could not be forked): its exit code is told before its clients
        see the end of the stream and ask for it.
        """
        running = self._execs[exec_id]
        running.streams.drain_and_end()
        if running.launch.pidfd >= 0:
            os.close(running.launch.pidfd)
        self._daemons.publish({"event": "exec-exit", "exec_id": exec_id, "exit_code": running.exit_code})
        running.streams.on_idle = lambda: self._forget(exec_id)
        running.streams.finish()
        if running.streams.idle:
            self._forget(exec_id)

    def _forget(self, exec_id: str) -> None:
        self._execs.pop(exec_id, None)
        self._on_forgotten()
