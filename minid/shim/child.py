"""The last steps of a process before the user's program: stdio, user, limits, privileges, execve.

The same for a container's first process and for an exec. The child talks to its shim over a packet socket:
an error is a message,
``{"ready": true}`` (with a terminal's master) says that the sandbox stands, and the end of the stream,
which execve(2)
causes because the socket is close-on-exec, says that the program runs.
"""

import errno
import fcntl
import json
import os
import signal
import socket
import stat
from typing import Any

from minid.kernel import capabilities, namespaces, process, seccomp_filter, syscall, terminal
from minid.shim import messages, sandbox, users

SYNC_FD = 3
PIDFD = 4
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
EXEC_FAILED = 255  # the program was found, and execve(2) refused it: as runc's init

Spec = dict[str, Any]


class StartError(Exception):
    """The user's program cannot be started; the message is Docker's, ``kind`` tells the daemon the exit
    code.
    """

    def __init__(self, message: str, kind: str = "StartError") -> None:
        super().__init__(message)
        self.kind = kind


def start_container(
    sync: socket.socket,
    stdio: tuple[int, int, int],
    task: dict[str, Any],
    bundle: str,
    prepared: sandbox.Prepared,
) -> None:
    """Run as the container's first process: build the sandbox, report, wait for the word, become the
    program.
    """
    kept = dict(zip(prepared, _take_descriptors(sync, stdio, *prepared.values()), strict=True))
    channel = socket.socket(fileno=SYNC_FD)
    with _Reporting(channel):
        process.set_pdeathsig(signal.SIGKILL)  # and once more when the user has changed
        os.setsid()
        os.umask(0)
        if not task["cgroup_fork"]:
            sandbox.join_cgroup(task["cgroup_procs"])
        with open(os.path.join(bundle, "config.json"), "rb") as file:
            spec = json.loads(file.read())
        seccomp = _seccomp_program(task["seccomp"])
        sandbox.enter_namespaces(spec, prepared=bool(prepared))
        sandbox.build(spec, task, bundle, kept)
        _report_ready(channel, spec["process"], console=True)
        message, _ = messages.receive(channel)
        if message is None:
            os._exit(1)
        _become(spec["process"], task, seccomp, channel, as_init=bool(task.get("init")))


def start_exec(
    sync: socket.socket,
    stdio: tuple[int, int, int],
    pidfd: int,
    seccomp_fd: int | None,
    cgroup_fds: list[int],
    request: dict[str, Any],
) -> None:
    """Run inside a running container, in whose mount namespace this process was born: join its cgroup and the
    other namespaces, become the program.

    ``cgroup_fds``: files that take "0" for the writer (cgroups(7)); ``seccomp_fd``: the compiled filter.
    """
    filters = [] if seccomp_fd is None else [seccomp_fd]
    kept = list(_take_descriptors(sync, stdio, pidfd, *filters, *cgroup_fds))
    channel = socket.socket(fileno=SYNC_FD)
    with _Reporting(channel):
        process.set_pdeathsig(signal.SIGKILL)
        os.setsid()
        os.umask(0)
        for fd in kept[1 + len(filters) :]:
            os.write(fd, b"0")
            os.close(fd)
        seccomp = b""
        if filters:
            with open(kept[1], "rb") as file:
                seccomp = file.read()
        namespaces.enter_process(PIDFD, request["namespaces"])
        os.close(PIDFD)
        _report_ready(channel, request["process"], console=False)
        _become(request["process"], request, seccomp, channel, as_init=False)


class _Reporting:
    """Any exception becomes a message to the shim and the end of this process."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        message: dict[str, Any] = {"error": str(error), "kind": type(error).__name__}
        if isinstance(error, OSError):
            where = f": {error.filename}" if error.filename else ""
            message = {"error": f"{error.strerror or error}{where}", "kind": "OSError", "errno": error.errno}
        elif isinstance(error, StartError):
            message["kind"] = error.kind
        try:
            messages.send(self._channel, message)
        finally:
            os._exit(1)


def _take_descriptors(sync: socket.socket, stdio: tuple[int, int, int], *kept: int) -> range:
    """Descriptors 0, 1, 2, the channel as 3, ``kept`` from 4 on (their new numbers are returned); all
    others are closed.
    """
    high = [_above(fd, 32) for fd in (*stdio, sync.fileno(), *kept)]
    for number, fd in enumerate(high):
        os.dup2(fd, number, inheritable=number < SYNC_FD)
    syscall.close_range(len(high))
    sync.detach()
    return range(SYNC_FD + 1, len(high))


def _above(fd: int, floor: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, floor)


def _report_ready(channel: socket.socket, spec: Spec, *, console: bool) -> None:
    if not spec.get("terminal"):
        messages.send(channel, {"ready": True})
        return
    master, slave, path = terminal.open_pair()
    size = spec.get("consoleSize") or {}
    if size.get("height") and size.get("width"):
        terminal.set_size(master, size["height"], size["width"])
    if console:
        sandbox.add_console(path)
    messages.send(channel, {"ready": True}, [master])
    os.close(master)
    terminal.make_controlling(slave)
    for number in range(3):
        os.dup2(slave, number, inheritable=True)
    os.close(slave)


def _seccomp_program(path: str) -> bytes:
    """The compiled filter, read while the host's files can be seen; nothing for an unconfined process."""
    if not path:
        return b""
    with open(path, "rb") as file:
        return file.read()


def _become(
    spec: Spec, task: dict[str, Any], seccomp: bytes, channel: socket.socket, *, as_init: bool
) -> None:
    user = users.resolve(
        task["user"],
        tuple(task.get("group_add", ())),
        passwd=_read_bounded("/etc/passwd"),
        group=_read_bounded("/etc/group"),
    )
    environment = dict(entry.partition("=")[::2] for entry in spec.get("env") or ())
    environment.setdefault("HOME", user.home or "/")
    for limit in spec.get("rlimits") or ():
        process.set_rlimit(limit["type"], limit["soft"], limit["hard"])
    if spec.get("oomScoreAdj") is not None:
        process.set_oom_score_adj(spec["oomScoreAdj"])
    if spec.get("terminal"):
        os.fchown(0, user.uid, -1)
    _enter_working_directory(spec["cwd"])
    _drop_privileges(spec, task, seccomp, user)
    program = _find_program(spec["args"][0], environment.get("PATH", DEFAULT_PATH))
    os.umask(0o022)
    if as_init:
        _run_below_init(channel)
    process.reset_signals()
    try:
        os.execve(program, spec["args"], environment)
    except OSError as error:
        os.write(2, f"exec {program}: {os.strerror(error.errno or 0).lower()}\n".encode())
        os._exit(EXEC_FAILED)


def _read_bounded(path: str) -> bytes:
    """At most ``users.LIMIT_BYTES`` + 1 of a regular file, nothing if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        chunks = []
        left = users.LIMIT_BYTES + 1
        while left > 0 and (data := os.read(fd, left)):
            chunks.append(data)
            left -= len(data)
        return b"".join(chunks)
    finally:
        os.close(fd)


def _enter_working_directory(path: str) -> None:
    """chdir(2); the kernel tells whether we are still inside the root (CVE-2024-21626)."""
    try:
        os.chdir(path)
    except OSError as error:
        kind = "CommandNotFound" if error.errno == errno.ENOENT else "CommandNotExecutable"
        text = f'chdir to cwd ("{path}") set in config.json failed: {_words(error)}'
        raise StartError(text, kind) from error
    if not os.getcwd().startswith("/"):
        raise StartError("current working directory is outside of container mount namespace root")


def _drop_privileges(spec: Spec, task: dict[str, Any], seccomp: bytes, user: users.User) -> None:
    """User, capabilities and seccomp in the order that capabilities(7) and seccomp(2) ask for."""
    chosen = spec.get("capabilities") or {}
    no_new_privileges = bool(spec.get("noNewPrivileges"))
    capabilities.clear_ambient()
    capabilities.limit_bounding(chosen.get("bounding", ()))
    if seccomp and not no_new_privileges:
        seccomp_filter.load(seccomp, task.get("seccomp_flags", 0))
    capabilities.set_keep_caps(True)
    os.setgroups(user.additional_gids)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    keeps = user.uid == 0
    capabilities.set_process(
        chosen.get("permitted", ()) if keeps else chosen.get("ambient", ()),
        chosen.get("effective", ()) if keeps else chosen.get("ambient", ()),
        chosen.get("inheritable", ()),
    )
    capabilities.raise_ambient(chosen.get("ambient", ()))
    process.set_pdeathsig(signal.SIGKILL)
    if no_new_privileges:
        process.set_no_new_privs()
        if seccomp:
            seccomp_filter.load(seccomp, task.get("seccomp_flags", 0))


def _find_program(name: str, path: str) -> str:
    """The file that ``name`` means, as Go's exec.LookPath and with its words, which the docker CLI reads
    the exit code from.
    """
    if "/" in name:
        try:
            _check_executable(name)
        except OSError as error:
            detail = "stat " + name + ": " if error.errno == errno.ENOENT else ""
            raise _start_error(name, error, detail) from error
        return name
    denied: OSError | None = None
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        try:
            _check_executable(candidate)
            return candidate
        except OSError as error:
            if error.errno == errno.EACCES and denied is None:
                denied = error
    if denied is not None:
        raise _start_error(name, denied, "")
    raise StartError(f'exec: "{name}": executable file not found in $PATH', "CommandNotFound")


def _check_executable(path: str) -> None:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)  # as runc says it
    if not os.access(path, os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _start_error(name: str, error: OSError, detail: str) -> StartError:
    found = error.errno not in (errno.ENOENT, errno.ENOTDIR)
    kind = "CommandNotExecutable" if found else "CommandNotFound"
    return StartError(f'exec: "{name}": {detail}{_words(error)}', kind)


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


def _run_below_init(channel: socket.socket) -> None:
    """``--init``: this process stays as pid 1, forwards signals and reaps; returns only in the child that
    will exec.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        if os.isatty(0):
            os.tcsetpgrp(0, os.getpid())
        process.set_pdeathsig(signal.SIGKILL)
        return
    channel.close()
    process.set_name("minid-init")
    process.set_title("minid-init")
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)
    while True:
        number = signal.sigwait(signal.valid_signals())
        if number != signal.SIGCHLD:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                pass
            continue
        _reap(child)


def _reap(child: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            os._exit(0)
        if pid == 0:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
