"""Verbs that ask one thing about a container, or change it: top, port, diff, update, commit, prune."""

from __future__ import annotations

from minictl import create_body, table, units
from minictl.engine import Engine, segment
from minictl.errors import ApiError, Failure
from minictl.filters import parse_filters
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHANGES = ("C", "A", "D")
_UPDATE_FLAGS = (
    ("blkio-weight", "", "uint16", "Block I/O weight, 10 to 1000, 0 for none"),
    ("cpu-period", "", "int", "CFS period in microseconds"),
    ("cpu-quota", "", "int", "CFS quota in microseconds"),
    ("cpu-rt-period", "", "int", "Real-time period in microseconds"),
    ("cpu-rt-runtime", "", "int", "Real-time runtime in microseconds"),
    ("cpu-shares", "c", "int", "CPU weight relative to other containers"),
    ("cpus", "", "decimal", "Number of CPUs the container may use at most"),
    ("cpuset-cpus", "", "string", "CPUs it may run on (0-3, 0,1)"),
    ("cpuset-mems", "", "string", "Memory nodes it may use (0-3, 0,1)"),
    ("memory", "m", "bytes", "Memory limit"),
    ("memory-reservation", "", "bytes", "Soft memory limit"),
    ("memory-swap", "", "swap", "Limit of memory plus swap, -1 for unlimited swap"),
    ("pids-limit", "", "int", "Most processes it may have, -1 for no limit"),
    ("publish-add", "", "list", "Publish another port, at once ([[IP:]PORT:]PORT[/PROTOCOL])"),
    ("publish-rm", "", "list", "Publish a port no more, at once ([[IP:]PORT:]PORT[/PROTOCOL])"),
    ("restart", "", "string", "When it is started again: no, on-failure[:N], always, unless-stopped"),
)


def top(options: Options, arguments: list[str], engine: Engine) -> int:
    query = {"ps_args": " ".join(arguments[1:])}
    answer = engine.call("GET", f"/containers/{segment(arguments[0])}/top", query)
    lines = [answer["Titles"], *(answer["Processes"] or [])]
    table.write(table.aligned(lines, minimum=20, padding=1))
    return 0


def port(options: Options, arguments: list[str], engine: Engine) -> int:
    container = engine.call("GET", f"/containers/{segment(arguments[0])}/json")
    ports: dict[str, Any] = (container.get("NetworkSettings") or {}).get("Ports") or {}
    lines = []
    if len(arguments) > 1:
        wanted = arguments[1] if "/" in arguments[1] else f"{arguments[1]}/tcp"
        bindings = ports.get(wanted)
        if not bindings:
            raise Failure(f"Error: No public port '{arguments[1]}' published for {arguments[0]}")
        lines = [_address(binding) for binding in bindings]
    else:
        for inside, bindings in ports.items():
            lines += [f"{inside} -> {_address(binding)}" for binding in bindings or []]
        lines.sort(key=_by_number)
    table.write("".join(f"{line}\n" for line in lines))
    return 0


def diff(options: Options, arguments: list[str], engine: Engine) -> int:
    changes = engine.call("GET", f"/containers/{segment(arguments[0])}/changes")
    table.write("".join(f"{_CHANGES[change['Kind']]} {change['Path']}\n" for change in changes or []))
    return 0


def update(options: Options, arguments: list[str], engine: Engine) -> int:
    if not any(options.given(flag[0]) for flag in _UPDATE_FLAGS):
        raise Failure("you must provide one or more flags when using this command")
    body: dict[str, Any] = create_body.resources(options)
    if not options.given("pids-limit"):
        body["PidsLimit"] = None
    body["RestartPolicy"] = (
        create_body.restart_policy(options["restart"])
        if options["restart"]
        else {"Name": "", "MaximumRetryCount": 0}
    )
    for key, flag in (("PublishAdd", "publish-add"), ("PublishRm", "publish-rm")):
        if options[flag]:
            from minictl import ports

            body[key] = ports.parse_ports(options[flag], [])[1]
    problems: list[str] = []
    warnings: list[str] = []
    for name in arguments:
        try:
            answer = engine.call("POST", f"/containers/{segment(name)}/update", None, body)
        except ApiError as error:
            problems.append(error.message)
            continue
        print(name)
        warnings += (answer or {}).get("Warnings") or []
    table.write("".join(f"{warning}\n" for warning in warnings))
    if problems:
        raise Failure("\n".join(problems))
    return 0


def commit(options: Options, arguments: list[str], engine: Engine) -> int:
    query: dict[str, Any] = {
        "author": options["author"],
        "changes": options["change"],
        "comment": options["message"],
        "container": arguments[0],
        "pause": None if options["pause"] else False,
    }
    if len(arguments) > 1:
        from minictl import reference

        wanted = reference.parse(arguments[1])
        query |= {"repo": wanted.name, "tag": wanted.tag}
    print(engine.call("POST", "/commit", query)["Id"])
    return 0


def prune(options: Options, arguments: list[str], engine: Engine) -> int:
    from minictl import prompt

    if not options["force"] and not prompt.agreed("This will remove all stopped containers."):
        raise Failure("container prune has been cancelled")
    answer = engine.call("POST", "/containers/prune", {"filters": parse_filters(options["filter"])})
    deleted = answer.get("ContainersDeleted") or []
    text = "Deleted Containers:\n" + "".join(f"{name}\n" for name in deleted) + "\n" if deleted else ""
    table.write(f"{text}Total reclaimed space: {units.human_size(answer.get('SpaceReclaimed') or 0)}\n")
    return 0


def _address(binding: dict[str, str]) -> str:
    address = binding.get("HostIp") or "0.0.0.0"
    return f"[{address}]:{binding['HostPort']}" if ":" in address else f"{address}:{binding['HostPort']}"


def _by_number(line: str) -> tuple[int, str]:
    number = line.partition("/")[0]
    return (int(number) if number.isdigit() else 0, line)


TOP = Command(
    "top", "CONTAINER [ps OPTIONS]", "Show the processes of a container", top, (), 1, interspersed=False
)
PORT = Command("port", "CONTAINER [PRIVATE_PORT[/PROTO]]", "Show where ports are published", port, (), 1, 2)
DIFF = Command("diff", "CONTAINER", "Show what was changed in a container's file system", diff, (), 1, 1)
UPDATE = Command(
    "update",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Change the limits of one or more containers",
    update,
    _UPDATE_FLAGS,
    1,
)
COMMIT = Command(
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Make an image of what was changed in a container",
    commit,
    (
        ("author", "a", "string", "Author (Name <address>)"),
        ("change", "c", "list", "Apply a Dockerfile instruction to the image"),
        ("message", "m", "string", "Message that history shows"),
        ("pause", "p", "bool", "Pause the container meanwhile", True),
    ),
    1,
    2,
)
PRUNE = Command(
    "container prune",
    "[OPTIONS]",
    "Remove all stopped containers",
    prune,
    (
        ("filter", "", "list", "Remove only what fits (until=24h, label=…)"),
        ("force", "f", "bool", "Don't ask"),
    ),
    0,
    0,
)
