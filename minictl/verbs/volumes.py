"""volume create, ls, rm and prune (inspect is with the other inspects)."""

from __future__ import annotations

from minictl import table, units
from minictl.engine import Engine, segment
from minictl.errors import ApiError, ConnectError, Failure
from minictl.filters import parse_filters
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_HEADERS = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Status": "STATUS",
}
_FIELDS: dict[str, Callable[[Any], Any]] = {
    "Name": lambda v: v["Name"],
    "Driver": lambda v: v["Driver"],
    "Scope": lambda v: v.get("Scope", ""),
    "Mountpoint": lambda v: v.get("Mountpoint", ""),
    "Labels": lambda v: ",".join(f"{key}={value}" for key, value in sorted((v.get("Labels") or {}).items())),
    "Label": lambda v: lambda name: (v.get("Labels") or {}).get(name, ""),
    "Links": lambda v: str(v["UsageData"]["RefCount"]) if v.get("UsageData") else "N/A",
    "Size": lambda v: units.human_size(v["UsageData"]["Size"]) if v.get("UsageData") else "N/A",
    "Availability": lambda v: "N/A",
    "Group": lambda v: "N/A",
    "Status": lambda v: "N/A",
}


def create(options: Options, arguments: list[str], engine: Engine) -> int:
    body = {"Driver": options["driver"]}
    for key, flag in (("DriverOpts", "opt"), ("Labels", "label")):
        if options[flag]:
            body[key] = dict(text.partition("=")[::2] for text in options[flag])
    if arguments:
        body["Name"] = arguments[0]
    print(engine.call("POST", "/volumes/create", None, body)["Name"])
    return 0


def ls(options: Options, arguments: list[str], engine: Engine) -> int:
    answer = engine.call("GET", "/volumes", {"filters": parse_filters(options["filter"])})
    volumes = sorted(answer.get("Volumes") or [], key=lambda volume: _natural(volume["Name"]))
    if options["quiet"] and not options["format"]:
        table.write("".join(f"{volume['Name']}\n" for volume in volumes))
        return 0
    template = options["format"] or table.config_format("volumesFormat")
    table.show(volumes, _FIELDS, _HEADERS, ("Driver", "Name"), template)
    return 0


def rm(options: Options, arguments: list[str], engine: Engine) -> int:
    problems = []
    for name in arguments:
        try:
            engine.call("DELETE", f"/volumes/{segment(name)}", {"force": options["force"] or None})
            print(name)
        except (ApiError, ConnectError) as error:
            problems.append(error.message)
    if problems:
        raise Failure("\n".join(problems))
    return 0


def prune(options: Options, arguments: list[str], engine: Engine) -> int:
    from minictl import prompt

    filters = list(options["filter"])
    warning = "This will remove anonymous local volumes not used by at least one container."
    if options["all"]:
        filters.append("all=true")
        warning = "This will remove all local volumes not used by at least one container."
    if not options["force"] and not prompt.agreed(warning):
        raise Failure("volume prune has been cancelled")
    answer = engine.call("POST", "/volumes/prune", {"filters": parse_filters(filters)})
    deleted = answer.get("VolumesDeleted") or []
    text = "Deleted Volumes:\n" + "".join(f"{name}\n" for name in deleted) + "\n" if deleted else ""
    table.write(f"{text}Total reclaimed space: {units.human_size(answer.get('SpaceReclaimed') or 0)}\n")
    return 0


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Numbers in names by their value: v2 before v10."""
    parts: list[tuple[int, int | str]] = []
    word = ""
    for letter in name + "\0":
        if word and letter.isdigit() != word[-1].isdigit():
            parts.append((0, int(word)) if word.isdigit() else (1, word))
            word = ""
        word += letter
    return parts


CREATE = Command(
    "volume create",
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    create,
    (
        ("driver", "d", "string", "Driver of the volume", "local"),
        ("label", "", "list", "Set a label (key=value)"),
        ("opt", "o", "map", "Set an option of the driver (key=value)"),
    ),
    0,
    1,
)
LS = Command(
    "volume ls",
    "[OPTIONS]",
    "List volumes",
    ls,
    (
        ("filter", "f", "list", "Show only what fits (dangling=true, label=…, name=…)"),
        ("format", "", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
        ("quiet", "q", "bool", "Print only names"),
    ),
    0,
    0,
)
RM = Command(
    "volume rm",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes that no container uses",
    rm,
    (("force", "f", "bool", "Don't mind volumes that don't exist"),),
    1,
)
PRUNE = Command(
    "volume prune",
    "[OPTIONS]",
    "Remove unused volumes",
    prune,
    (
        ("all", "a", "bool", "Remove named ones too, not only anonymous ones"),
        ("filter", "", "list", "Remove only what fits (label=…)"),
        ("force", "f", "bool", "Don't ask"),
    ),
    0,
    0,
)
