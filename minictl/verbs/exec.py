"""exec: one more process in a running container."""

from __future__ import annotations

from minictl import signals, streams, terminal
from minictl.engine import Engine, segment
from minictl.environment import environment, read_lines_file
from minictl.errors import ApiError, ConnectError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def execute(options: Options, arguments: list[str], engine: Engine) -> int:
    detached, tty = options["detach"], options["tty"]
    stdin = options["interactive"] and not detached
    path = f"/containers/{segment(arguments[0])}"
    if tty and stdin and not terminal.is_terminal(0):
        engine.call("GET", f"{path}/json")  # that there is no such container is the more important news
        raise Failure("the input device is not a TTY")
    keys = terminal.detach_keys(options, tty)
    body = _body(options, arguments[1:], stdin, keys)
    exec_id = engine.call("POST", f"{path}/exec", None, body)["Id"]
    start: dict[str, Any] = {"Detach": detached, "Tty": tty}
    size = terminal.size() if tty else (0, 0)
    if all(size):
        start["ConsoleSize"] = size
    if detached:
        engine.call("POST", f"/exec/{exec_id}/start", None, start)
        return 0
    return _run(engine, exec_id, start, stdin, terminal.parse_detach_keys(keys))


def _run(engine: Engine, exec_id: str, start: dict[str, Any], stdin: bool, keys: bytes) -> int:
    tty = start["Tty"]

    def resize() -> None:
        height, width = terminal.size()
        if height and width:
            try:
                engine.call("POST", f"/exec/{exec_id}/resize", {"h": height, "w": width})
            except (ApiError, ConnectError):  # it has just ended
                pass

    def on_signal(number: int) -> None:
        if number == signals.WINCH:
            resize()
            return
        session.restore()
        signals.die_of(number)

    connection = engine.upgrade(f"/exec/{exec_id}/start", None, start)
    engine.receive(connection, "POST")
    pipe = signals.SignalPipe(proxy=False, resize=terminal.is_terminal(1), ending=True) if tty else None
    session = streams.Session(
        connection, tty=tty, stdin=stdin, detach_keys=keys, signals=pipe, on_signal=on_signal
    )
    try:
        if tty:
            resize()
        session.run()
    finally:
        session.restore()
        if pipe:
            pipe.close()
    if session.detached:
        raise Failure("read escape sequence")
    try:
        return int(engine.call("GET", f"/exec/{exec_id}/json")["ExitCode"] or 0)
    except ConnectError:  # the daemon has died meanwhile
        return 255


def _body(options: Options, command: list[str], stdin: bool, keys: str) -> dict[str, Any]:
    entries: list[str] = []
    for path in options["env-file"]:
        entries += read_lines_file(path, status=1)
    body = {
        "User": options["user"],
        "Privileged": options["privileged"],
        "Tty": options["tty"],
        "AttachStdin": stdin,
        "AttachStderr": not options["detach"],
        "AttachStdout": not options["detach"],
        "DetachKeys": keys,
        "Env": environment(entries + options["env"]) or None,
        "WorkingDir": options["workdir"],
        "Cmd": command,
    }
    size = terminal.size() if options["tty"] else (0, 0)
    if all(size):
        body["ConsoleSize"] = size
    return body


EXEC = Command(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    execute,
    (
        ("detach", "d", "bool", "Run the command in the background"),
        ("detach-keys", "", "string", "Keys that detach from the command (ctrl-p,ctrl-q)"),
        ("env", "e", "list", "Set environment variables (NAME=value, or NAME to pass your own)"),
        ("env-file", "", "list", "Read environment variables from a file"),
        ("interactive", "i", "bool", "Keep STDIN open even if not attached"),
        ("privileged", "", "bool", "Give all capabilities to the command"),
        ("tty", "t", "bool", "Allocate a pseudo-terminal"),
        ("user", "u", "string", "User name or UID, and group (name|uid[:group|gid])"),
        ("workdir", "w", "string", "Working directory inside the container"),
    ),
    2,
    interspersed=False,
)
