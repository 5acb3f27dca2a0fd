"""A container's shim: its parent and reaper, keeper of its streams, its log and its exit record. One
process a container.

It knows nothing of images or HTTP, and it lives on when the daemon stops or dies: a new one connects to its
socket. Requests (``op``,
each answered by a message with the same ``n``):

    adopt    be the shim of this container
    run      build the sandbox from bundle/config.json and task.json and report its pid; the program waits
    start    let the program run                              attach   serve a client (its connection comes
    along)
    exec     run another program in the sandbox               signal   to the container's first process
    resize   of the container's or an exec's terminal         state    what runs

and events for every connected daemon: ``exit``, ``exec-exit``, ``detach``. The exit is on disk
(``exit.json``) before it is told.
"""

import json
import os
import signal
import socket
import time
from typing import Any

from minid.kernel import namespaces, process, syscall
from minid.shim import child, messages, sandbox
from minid.shim.detach import Detacher, parse_keys
from minid.shim.launch import Launch
from minid.shim.logfile import LogFile, parse_options
from minid.shim.loop import READ, Loop
from minid.shim.streams import AttachedClient, Streams

FLUSH_S = 30.0  # how long clients have to take the last output after the container has ended
EXIT_CODES = {"CommandNotFound": 127, "CommandNotExecutable": 126}


def main(request: dict[str, Any], peer: socket.socket) -> int:
    """Be a shim, of whatever container ``peer`` will say; returns this process's exit status when all is
    done.

    ``request["ahead"]``: prepare what most containers need before it is known which one it will be.
    """
    os.setsid()
    process.set_name("minid-shim")
    process.set_title("minid: spare shim")
    process.set_subreaper(True)
    process.set_dumpable(False)
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)
    process.leave_session_keyring()
    os.umask(0)
    shim = Shim(peer, sandbox.prepare() if request["ahead"] else {})
    os.umask(0o077)
    try:
        shim.run()
    except Exception:
        import traceback  # only for this

        if shim.directory:
            with open(os.path.join(shim.directory, "shim-error.txt"), "w") as file:
                file.write(traceback.format_exc())
        return 1
    return 0


class _Exec:
    """A further program in the sandbox."""

    def __init__(self, launch: Launch, streams: Streams) -> None:
        self.launch = launch
        self.streams = streams
        self.exit_code: int | None = None


class Shim:
    """State of one container's process; every method runs on the loop."""

    def __init__(self, peer: socket.socket, prepared: sandbox.Prepared) -> None:
        self.directory = ""
        self._prepared = prepared
        self._socket_path = ""
        self._socket_identity: tuple[int, int, int] | None = None
        self._adopt_error = ""
        self._listener: socket.socket | None = None
        self._loop = Loop()
        self._daemons: list[socket.socket] = []
        self._execs: dict[str, _Exec] = {}
        self._task: dict[str, Any] = {}
        self._launch: Launch | None = None
        self._streams: Streams | None = None
        self._running = False
        self._wait_status: int | None = None
        self._answer_run: tuple[socket.socket, int] | None = None
        self._answer_start: tuple[socket.socket, int] | None = None
        self._add_daemon(peer)
        self._wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._loop.watch(self._wake_read, READ, self._on_child)

    def run(self) -> None:
        try:
            self._loop.run()
        finally:
            self._stop_listening()

    # -- daemons

    def _add_daemon(self, sock: socket.socket) -> None:
        self._daemons.append(sock)
        self._loop.watch(sock.fileno(), READ, lambda events: self._on_daemon(sock))

    def _on_connection(self, events: int) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:  # it has gone again, or there are no descriptors left
            return
        self._add_daemon(sock)

    def _stop_listening(self) -> None:
        """No daemon has to find us any more. By now the path may be that of the next run's shim."""
        if self._listener is None:
            return
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._listener = None
        try:
            if _identity(self._socket_path) == self._socket_identity:
                os.unlink(self._socket_path)
        except FileNotFoundError:
            pass

    def _on_daemon(self, sock: socket.socket) -> None:
        try:
            message, fds = messages.receive(sock)
        except (OSError, messages.MessageError):
            message, fds = None, []
        if message is None:
            self._loop.forget(sock.fileno())
            self._daemons.remove(sock)
            sock.close()
            if self._launch is None or (not self._running and self._wait_status is None):
                # nobody can start this container any more
                self._abandon()
            return
        try:
            answer = getattr(self, "_op_" + message["op"].replace("-", "_"))(message, fds, sock)
        except OSError as error:
            answer = {"error": str(error), "kind": type(error).__name__, "errno": error.errno}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}", "kind": type(error).__name__}
        finally:
            for fd in fds:  # which nobody has taken
                os.close(fd)
        if answer is not None:
            self._tell(sock, {**answer, "n": message["n"]})

    def _tell(self, sock: socket.socket, message: messages.Message) -> None:
        try:
            messages.send(sock, message)
        except OSError:
            pass  # its end of stream will be read next

    def _publish(self, event: messages.Message) -> None:
        for sock in self._daemons:
            self._tell(sock, event)

    def _abandon(self) -> None:
        if self._launch is not None and self._launch.pid:
            self._launch.kill()
        else:
            self._loop.stop()

    # -- requests

    def _op_adopt(self, message: messages.Message, fds: list[int], sock: socket.socket) -> None:
        """Become the shim of one container: listen for later daemons. Not answered; an error is that of
        ``run``.
        """
        self.directory = message["directory"]
        self._socket_path = message["socket"]
        process.set_title(f"minid: shim of {os.path.basename(self.directory)[:12]}")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            listener.bind(self._socket_path)  # 0700, by the umask
            listener.listen(4)
        except OSError as error:
            listener.close()
            self._adopt_error = f"cannot listen at {self._socket_path}: {error}"
            return
        self._listener = listener
        self._socket_identity = _identity(self._socket_path)
        self._loop.watch(listener.fileno(), READ, self._on_connection)

    def _op_run(self, message: messages.Message, fds: list[int], sock: socket.socket) -> None:
        if self._adopt_error:
            raise OSError(self._adopt_error)
        self._prepare_streams()
        assert self._streams is not None
        self._enter_pid_namespace()
        launch = self._launch = Launch(
            self._loop,
            self._streams,
            terminal=bool(self._task["terminal"]),
            stdin=bool(self._task["open_stdin"]),
            held=True,
        )
        launch.on_ready = self._on_ready
        launch.on_running = self._on_running
        launch.on_error = self._on_start_error
        self._answer_run = (sock, message["n"])
        prepared, self._prepared = self._prepared, {}
        bundle = os.path.join(self.directory, "bundle")
        launch.fork(
            lambda channel, stdio: child.start_container(channel, stdio, self._task, bundle, prepared),
            self._task["cgroup_fork"],
        )
        for fd in prepared.values():
            os.close(fd)

    def _prepare_streams(self) -> None:
        if self._streams is None:
            self._task = _read_json(self.directory, "task.json")
            log = self._task["log"]
            self._streams = Streams(
                self._loop,
                LogFile(log["path"], parse_options(log["config"]), log["attributes"])
                if log["path"]
                else None,
                stdin_once=bool(self._task["stdin_once"]),
            )
            self._streams.on_idle = self._maybe_stop
            self._streams.on_detach = lambda: self._publish({"event": "detach"})

    def _enter_pid_namespace(self) -> None:
        """Our children, and only they, live in the pid namespace we take here: the first is its pid 1,
        execs come later.
        """
        path = self._task["namespaces"].get("pid")
        if path:
            namespaces.enter_path(path, "pid")
        elif path == "":
            syscall.unshare(syscall.CLONE_NEWPID)

    def _on_ready(self) -> None:
        assert self._launch is not None and self._answer_run is not None
        sock, number = self._answer_run
        pid = self._launch.pid
        self._tell(sock, {"n": number, "pid": pid, "start_ticks": process.start_ticks(pid)})

    def _op_start(self, message: messages.Message, fds: list[int], sock: socket.socket) -> None:
        assert self._launch is not None
        self._answer_start = (sock, message["n"])
        self._launch.go()

    def _on_running(self) -> None:
        self._running = True
        if self._answer_start is not None:
            sock, number = self._answer_start
            self._tell(sock, {"n": number, "started_at_ns": time.time_ns()})
        self._maybe_finish()

    def _on_start_error(self, message: messages.Message) -> None:
        answer = self._answer_start or self._answer_run
        self._stop_listening()  # before anybody can try again
        if answer is not None:
            self._tell(answer[0], {**message, "n": answer[1]})
        self._loop.stop()

    def _op_attach(self, message: messages.Message, fds: list[int], sock: socket.socket) -> messages.Message:
        streams = self._streams
        if message.get("exec_id"):
            streams = self._exec(message["exec_id"]).streams
        elif streams is None:
            self._prepare_streams()
            streams = self._streams
        assert streams is not None
        streams.attach(*_client(message, fds))
        return {}

    def _op_exec(self, message: messages.Message, fds: list[int], sock: socket.socket) -> None:
        """fds: the request's body as a file, then perhaps a client's connection and its initial input."""
        if self._launch is None or self._wait_status is not None:
            raise OSError(3, "the container is not running")
        with open(fds.pop(0), "rb") as file:
            request = json.loads(file.read())
        request["namespaces"] = [kind for kind in self._task["namespaces"] if kind not in ("pid", "mount")]
        request["seccomp_flags"] = self._task["seccomp_flags"]
        exec_id = message["exec_id"]
        answered = False

        def answer(fields: messages.Message) -> None:
            nonlocal answered
            if not answered:
                answered = True
                self._tell(sock, {**fields, "n": message["n"]})

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
        streams.on_detach = lambda: self._publish({"event": "detach", "exec_id": exec_id})
        launch.on_running = lambda: answer({"pid": launch.pid})
        launch.on_error = on_error
        init = self._launch
        opened: list[int] = []  # of the host, which the child does not see
        try:
            if fds:
                streams.attach(*_client(message, fds))
            seccomp = None
            if request["seccomp"] and self._task["seccomp"]:
                seccomp = os.open(self._task["seccomp"], os.O_RDONLY | os.O_CLOEXEC)
                opened.append(seccomp)
            groups: list[int] = []
            # of the container, or a cgroup inside it that the daemon has made for this one
            cgroup = request.get("cgroup_fork", self._task["cgroup_fork"])
            for path in () if cgroup else request.get("cgroup_procs", self._task["cgroup_procs"]):
                groups.append(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
                opened.append(groups[-1])
            launch.fork(
                lambda channel, stdio: child.start_exec(channel, stdio, init.pidfd, seccomp, groups, request),
                cgroup,
                init.pidfd if "mount" in self._task["namespaces"] else None,
            )
        except (OSError, ValueError) as error:
            on_error({"error": str(error), "kind": type(error).__name__})
            self._finish_exec(exec_id)
        finally:
            for fd in opened:
                os.close(fd)

    def _exec(self, exec_id: str) -> "_Exec":
        running = self._execs.get(exec_id)
        if running is None:
            raise ProcessLookupError(3, "the exec's process has ended")
        return running

    def _op_signal(self, message: messages.Message, fds: list[int], sock: socket.socket) -> messages.Message:
        assert self._launch is not None
        if self._wait_status is not None:
            raise ProcessLookupError(3, "the container's process has ended")
        signal.pidfd_send_signal(self._launch.pidfd, message["signal"])
        return {}

    def _op_resize(self, message: messages.Message, fds: list[int], sock: socket.socket) -> messages.Message:
        streams = self._exec(message["exec_id"]).streams if message.get("exec_id") else self._streams
        assert streams is not None
        streams.resize(message["height"], message["width"])
        return {}

    def _op_state(self, message: messages.Message, fds: list[int], sock: socket.socket) -> messages.Message:
        return {
            "running": self._running and self._wait_status is None,
            "pid": self._launch.pid if self._launch else 0,
            "execs": {exec_id: running.launch.pid for exec_id, running in self._execs.items()},
        }

    # -- children

    def _on_child(self, events: int) -> None:
        try:
            os.read(self._wake_read, 512)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._launch is not None and pid == self._launch.pid:
                self._wait_status = status
                self._launch.settle()
                self._maybe_finish()
            for exec_id, running in tuple(self._execs.items()):
                if running.launch.pid == pid:
                    running.launch.settle()
                    if running.exit_code is None:
                        running.exit_code = _exit_code(status)
                    self._finish_exec(exec_id)

    def _finish_exec(self, exec_id: str) -> None:
        """When an exec has been reaped (or could not be forked): its exit code is told before its clients
        see the end of the stream and ask for it.
        """
        running = self._execs[exec_id]
        running.streams.drain_and_end()
        if running.launch.pid:
            os.close(running.launch.pidfd)
        self._publish({"event": "exec-exit", "exec_id": exec_id, "exit_code": running.exit_code})
        running.streams.on_idle = lambda: self._forget_exec(exec_id)
        running.streams.finish()
        if running.streams.idle:
            self._forget_exec(exec_id)

    def _forget_exec(self, exec_id: str) -> None:
        self._execs.pop(exec_id, None)
        self._maybe_stop()

    def _maybe_finish(self) -> None:
        """When the first process has run and been reaped: record the exit, tell it, hang up."""
        if self._wait_status is None or self._streams is None or not self._running:
            return
        self._running = False
        self._streams.drain_and_end()
        self._record_exit(self._wait_status)
        self._streams.finish()
        self._loop.set_deadline("flush", FLUSH_S, self._loop.stop)
        self._maybe_stop()

    def _maybe_stop(self) -> None:
        if (
            self._wait_status is not None
            and self._streams is not None
            and self._streams.idle
            and not self._execs
        ):
            self._loop.stop()

    def _record_exit(self, status: int) -> None:
        record = {
            "exit_code": _exit_code(status),
            "oom_killed": self._was_oom_killed(),
            "finished_at_ns": time.time_ns(),
        }
        aside = os.path.join(self.directory, "exit.json.aside")
        try:
            with open(aside, "w") as file:
                json.dump(record, file)
            os.rename(aside, os.path.join(self.directory, "exit.json"))
        except OSError:
            pass  # a full disk; the daemon that listens now is told all the same
        self._stop_listening()  # a daemon that comes from now on reads exit.json
        self._publish({"event": "exit", **record})

    def _was_oom_killed(self) -> bool:
        if not self._task.get("oom_file"):
            return False
        try:
            with open(self._task["oom_file"]) as file:
                counters = dict(line.split() for line in file if len(line.split()) == 2)
        except OSError:
            return False
        return int(counters.get("oom_kill", 0)) > 0


def _client(message: messages.Message, fds: list[int]) -> tuple[AttachedClient, bytes]:
    """fds: the connection, then perhaps a file with input that came with the request; they are taken out."""
    initial = b""
    if len(fds) > 1:
        with open(fds.pop(1), "rb") as file:
            initial = file.read()
    keys = message.get("detach_keys")
    detacher = Detacher(parse_keys(keys)) if keys else None
    sock = socket.socket(fileno=fds[0])
    fds.clear()
    return AttachedClient(
        sock, frozenset(message["wanted"]), framed=message["framed"], detacher=detacher
    ), initial


def _identity(path: str) -> tuple[int, int, int]:
    """What tells a file from another one that got its name and even its inode number."""
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _read_json(directory: str, name: str) -> dict[str, Any]:
    with open(os.path.join(directory, name), "rb") as file:
        result: dict[str, Any] = json.loads(file.read())
        return result


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
