"""The verbs that do one thing to each container named: stop, restart, kill, rm, pause, unpause, wait, rename."""

from __future__ import annotations

from minictl.engine import Engine, segment
from minictl.errors import ApiError, ConnectError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def each(
    engine: Engine,
    method: str,
    verb: str,
    names: list[str],
    query: dict[str, Any] | None = None,
    *,
    forgiving: bool = False,
) -> int:
    """Asks for `verb` of every container at once, prints the name of each that has done it.

    Raises Failure with all complaints together, status 1, as the docker CLI does; with `forgiving` it is
    status 0 when all that is wrong is that they don't exist.
    """
    problems = []
    missing = 0
    sent = []
    for name in names:
        path = f"/containers/{segment(name.strip())}{verb}"
        sent.append((name, path, engine.send(method, path, query)))
    for name, path, connection in sent:
        try:
            try:
                response = engine.receive(connection, method)
            except ApiError as error:
                if not engine.accepts_older(error):
                    raise
                response = engine.request(method, path, query)
            response.read()
            engine.release(response)
            print(name)
        except (ApiError, ConnectError) as error:
            problems.append(error.message)
            missing += isinstance(error, ApiError) and error.http_status == 404
    if problems:
        raise Failure("\n".join(problems), 0 if forgiving and missing == len(problems) else 1)
    return 0


def stop(options: Options, arguments: list[str], engine: Engine) -> int:
    return each(engine, "POST", "/stop", arguments, _ending(options))


def restart(options: Options, arguments: list[str], engine: Engine) -> int:
    return each(engine, "POST", "/restart", arguments, _ending(options))


def kill(options: Options, arguments: list[str], engine: Engine) -> int:
    return each(engine, "POST", "/kill", arguments, {"signal": options["signal"]})


def remove(options: Options, arguments: list[str], engine: Engine) -> int:
    query = {
        name: True for name, flag in (("force", "force"), ("v", "volumes"), ("link", "link")) if options[flag]
    }
    names = [name.strip("/") for name in arguments]
    return each(engine, "DELETE", "", names, query, forgiving=options["force"])


def pause(options: Options, arguments: list[str], engine: Engine) -> int:
    return each(engine, "POST", "/pause", arguments)


def unpause(options: Options, arguments: list[str], engine: Engine) -> int:
    return each(engine, "POST", "/unpause", arguments)


def wait(options: Options, arguments: list[str], engine: Engine) -> int:
    problems = []
    for name in arguments:
        try:
            answer = engine.call("POST", f"/containers/{segment(name)}/wait")
            print(answer["StatusCode"], flush=True)
        except (ApiError, ConnectError) as error:
            problems.append(error.message)
    if problems:
        raise Failure("\n".join(problems))
    return 0


def rename(options: Options, arguments: list[str], engine: Engine) -> int:
    old, new = arguments
    try:
        engine.call("POST", f"/containers/{segment(old)}/rename", {"name": new})
    except ApiError as error:
        raise Failure(f"{error.message}\nError: failed to rename container named {old}") from None
    return 0


def _ending(options: Options) -> dict[str, Any]:
    return {"signal": options["signal"], "t": options["timeout"] if options.given("timeout") else None}


_ENDING_FLAGS = (
    ("signal", "s", "string", "Signal to send to the container"),
    ("timeout", "t", "int", "Seconds to wait before it is killed"),
)
_MANY = "CONTAINER [CONTAINER...]"

STOP = Command(
    "stop", f"[OPTIONS] {_MANY}", "Stop one or more running containers", stop, _ENDING_FLAGS, 1,
    renamed={"time": "timeout"},
)  # fmt: skip
RESTART = Command(
    "restart", f"[OPTIONS] {_MANY}", "Restart one or more containers", restart, _ENDING_FLAGS, 1,
    renamed={"time": "timeout"},
)  # fmt: skip
KILL = Command(
    "kill", f"[OPTIONS] {_MANY}", "Kill one or more running containers", kill, _ENDING_FLAGS[:1], 1
)
RM = Command(
    "rm",
    f"[OPTIONS] {_MANY}",
    "Remove one or more containers",
    remove,
    (
        ("force", "f", "bool", "Kill a running container first"),
        ("link", "l", "bool", "Remove the link of that name, not the container"),
        ("volumes", "v", "bool", "Remove its anonymous volumes too"),
    ),
    1,
)
PAUSE = Command("pause", _MANY, "Pause all processes of one or more containers", pause, (), 1)
UNPAUSE = Command("unpause", _MANY, "Let the processes of one or more containers go on", unpause, (), 1)
WAIT = Command("wait", _MANY, "Wait until containers stop, and print their exit codes", wait, (), 1)
RENAME = Command("rename", "CONTAINER NEW_NAME", "Rename a container", rename, (), 2, 2)
