"""start and attach: a container that exists already."""

from __future__ import annotations

import sys

from minictl import attached, terminal
from minictl.engine import Engine, segment
from minictl.errors import ApiError, ConnectError, Failure
from minictl.flags import Command, Options
from minictl.terminal import detach_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def start(options: Options, arguments: list[str], engine: Engine) -> int:
    if not options["attach"] and not options["interactive"]:
        return _start_all(arguments, engine)
    if len(arguments) > 1:
        raise Failure("you cannot start and attach multiple containers at once")
    container = engine.call("GET", f"/containers/{segment(arguments[0])}/json")
    tty = container["Config"]["Tty"]
    stdin = options["interactive"] and container["Config"]["OpenStdin"]
    if tty and stdin and not terminal.is_terminal(0):
        raise Failure("the input device is not a TTY")
    automatic = (container.get("HostConfig") or {}).get("AutoRemove")
    link = attached.Attached(engine, container["Id"], tty=tty, proxy=not tty)
    try:
        link.open(
            stdin=stdin,
            stdout=True,
            stderr=True,
            detach_keys=detach_keys(options, tty),
            wait_for="removed" if automatic else "next-exit",
        )
        try:
            link.start()
        except (ApiError, ConnectError) as error:
            link.restore()
            if automatic:
                try:
                    link.exit_status()
                except Failure:
                    pass
            raise Failure(f"{error.message}\nError: failed to start containers: {arguments[0]}") from None
        if not link.stream():
            return 0
        return link.exit_status()
    finally:
        link.close()


def _start_all(names: list[str], engine: Engine) -> int:
    failed = []
    for name in names:
        try:
            engine.call("POST", f"/containers/{segment(name)}/start")
            print(name, flush=True)
        except (ApiError, ConnectError) as error:
            sys.stderr.write(error.message + "\n")
            failed.append(name)
    if failed:
        raise Failure(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def attach(options: Options, arguments: list[str], engine: Engine) -> int:
    container = engine.call("GET", f"/containers/{segment(arguments[0])}/json")
    _check_attachable(container["State"])
    tty = container["Config"]["Tty"]
    stdin = container["Config"]["OpenStdin"] and not options["no-stdin"]
    if tty and stdin and not terminal.is_terminal(0):
        raise Failure("the input device is not a TTY")
    link = attached.Attached(engine, container["Id"], tty=tty, proxy=options["sig-proxy"] and not tty)
    try:
        link.open(
            stdin=stdin,
            stdout=True,
            stderr=True,
            detach_keys=detach_keys(options, tty),
            wait_for="not-running",
        )
        if not link.stream(redraw=True):
            raise Failure("read escape sequence")
        return link.exit_status()
    finally:
        link.close()


def _check_attachable(state: dict[str, Any]) -> None:
    if not state["Running"]:
        raise Failure("You cannot attach to a stopped container, start it first")
    if state.get("Paused"):
        raise Failure("You cannot attach to a paused container, unpause it first")
    if state.get("Restarting"):
        raise Failure("You cannot attach to a restarting container, wait until it is running")


START = Command(
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    start,
    (
        ("attach", "a", "bool", "Attach STDOUT and STDERR, and pass signals on"),
        ("detach-keys", "", "string", "Keys that detach from the container (ctrl-p,ctrl-q)"),
        ("interactive", "i", "bool", "Attach the container's STDIN"),
    ),
    1,
)

ATTACH = Command(
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach the terminal or streams here to a running container",
    attach,
    (
        ("detach-keys", "", "string", "Keys that detach from the container (ctrl-p,ctrl-q)"),
        ("no-stdin", "", "bool", "Do not attach STDIN"),
        ("sig-proxy", "", "bool", "Pass signals that come here on to the container", True),
    ),
    1,
    1,
)
