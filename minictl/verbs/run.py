"""run and create: a new container, its image pulled when missing."""

from __future__ import annotations

import os
import sys

from minictl import attached, config, terminal
from minictl.create_body import create_body
from minictl.create_flags import CREATE_FLAGS, RENAMED
from minictl.engine import Engine
from minictl.errors import ApiError, ConnectError, Failure, UsageError
from minictl.flags import Command, Options
from minictl.terminal import detach_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(options: Options, arguments: list[str], engine: Engine) -> int:
    try:
        return _run(options, arguments, engine)
    except UsageError:
        raise
    except (ApiError, ConnectError) as error:
        raise _with_help("run", error.message, _start_status(error.message)) from None
    except Failure as error:
        if error.status != 125 or error.message.startswith(("error waiting", "Error waiting")):
            raise
        raise _with_help("run", error.message, 125) from None


def create(options: Options, arguments: list[str], engine: Engine) -> int:
    options.put("detach", False)
    try:
        body = create_body(options, arguments[0], arguments[1:], config.proxies(engine.host))
    except UsageError:
        raise
    except Failure as error:
        raise _with_help("create", error.message, 125) from None
    print(_create(options, arguments[0], body, engine))
    return 0


def _run(options: Options, arguments: list[str], engine: Engine) -> int:
    detached = options["detach"]
    body = create_body(options, arguments[0], arguments[1:], config.proxies(engine.host))
    if detached and options["attach"]:
        raise Failure("conflicting options: cannot specify both --attach and --detach")
    if options["rm"] and options["restart"] not in ("", "no"):
        raise Failure("conflicting options: cannot specify both --restart and --rm", 125)
    tty = body["Tty"]
    if not detached:
        if tty and body["AttachStdin"] and not terminal.is_terminal(0):
            raise Failure("the input device is not a TTY")
        body["HostConfig"]["ConsoleSize"] = list(terminal.size())
    container = _create(options, arguments[0], body, engine)
    if detached:
        engine.call("POST", f"/containers/{container}/start")
        print(container)
        return 0
    streams = {name: body[f"Attach{name.capitalize()}"] for name in ("stdin", "stdout", "stderr")}
    link = attached.Attached(engine, container, tty=tty, proxy=options["sig-proxy"])
    try:
        link.open(
            **streams,
            detach_keys=detach_keys(options, tty),
            wait_for="removed" if options["rm"] else "next-exit",
        )
        try:
            link.start()
        except (ApiError, ConnectError):
            link.restore()
            if options["rm"]:
                try:
                    link.exit_status()  # the daemon removes what could not start: be gone together
                except Failure:
                    pass
            raise
        if not link.stream():
            return 0
        return link.exit_status()
    finally:
        link.close()


def _create(options: Options, image: str, body: dict[str, Any], engine: Engine) -> str:
    """The new container's ID, its image pulled as --pull says; warnings go to stderr, the ID to --cidfile."""
    policy = options["pull"]
    if policy not in ("always", "missing", "never", ""):
        raise Failure(
            f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"', 125
        )
    cid_file = options["cidfile"]
    if cid_file and os.path.lexists(cid_file):
        raise Failure(
            f"container ID file found, make sure the other container isn't running or delete {cid_file}", 125
        )
    if policy == "always":
        _pull(options, image, engine)
    query = {"name": options["name"], "platform": options["platform"]}
    try:
        answer = engine.call("POST", "/containers/create", query, body)
    except ApiError as error:
        if error.http_status != 404 or policy == "never" or "no such image" not in error.detail.lower():
            raise
        if not options["quiet"]:
            from minictl.reference import familiar_tagged

            sys.stderr.write(f"Unable to find image '{familiar_tagged(image)}' locally\n")
        _pull(options, image, engine)
        answer = engine.call("POST", "/containers/create", query, body)
    for warning in answer.get("Warnings") or ():
        sys.stderr.write(f"WARNING: {warning}\n")
    container: str = answer["Id"]
    if cid_file:
        try:
            with open(cid_file, "w", encoding="ascii") as file:
                file.write(container)
        except OSError as error:
            engine.call("DELETE", f"/containers/{container}")
            raise Failure(f"failed to create the container ID file: {error}", 125) from None
    return container


def _pull(options: Options, image: str, engine: Engine) -> None:
    from minictl import pulling

    pulling.pull(engine, image, platform=options["platform"], quiet=options["quiet"], out_fd=2)


def _start_status(message: str) -> int:
    """127 for a command that isn't there, 126 for one that can't be executed, else 125, by docker's own rule."""
    if any(
        text in message
        for text in (
            "executable file not found",
            "no such file or directory",
            "system cannot find the file specified",
        )
    ):
        return 127
    if any(text in message for text in ("permission denied", "is a directory")):
        return 126
    return 125


def _with_help(verb: str, message: str, status: int) -> Failure:
    return Failure(f"minictl: {message}\n\nRun 'minictl {verb} --help' for more information", status)


RUN = Command(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    run,
    (
        *CREATE_FLAGS,
        ("detach", "d", "bool", "Run the container in the background and print its ID"),
        ("detach-keys", "", "string", "Keys that detach from the container (ctrl-p,ctrl-q)"),
        ("sig-proxy", "", "bool", "Pass signals that come here on to the container", True),
    ),
    1,
    interspersed=False,
    renamed=RENAMED,
)

CREATE = Command(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    create,
    CREATE_FLAGS,
    1,
    interspersed=False,
    renamed=RENAMED,
)
