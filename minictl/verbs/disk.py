"""system df and system prune: what takes up the disk, and getting rid of it."""

from __future__ import annotations

from minictl import table, units
from minictl.engine import Engine
from minictl.errors import Failure
from minictl.filters import parse_filters
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def df(options: Options, arguments: list[str], engine: Engine) -> int:
    answer = engine.call("GET", "/system/df")
    images = answer.get("Images") or []
    containers = answer.get("Containers") or []
    volumes = answer.get("Volumes") or []
    cache = answer.get("BuildCache") or []
    total = answer.get("LayersSize") or 0
    used = sum(
        (image.get("Size") or 0) - max(image.get("SharedSize", 0), 0)
        for image in images
        if image.get("Containers")
    )
    stopped = sum(c.get("SizeRw") or 0 for c in containers if c.get("State") not in ("running", "paused"))
    volume_sizes = [(volume.get("UsageData") or {}) for volume in volumes]
    rows = [
        _usage("Images", len(images), sum(bool(i.get("Containers")) for i in images), total, total - used),
        _usage(
            "Containers",
            len(containers),
            sum(c.get("State") in ("running", "paused", "restarting") for c in containers),
            sum(c.get("SizeRw") or 0 for c in containers),
            stopped,
        ),
        _usage(
            "Local Volumes",
            len(volumes),
            sum(usage.get("RefCount", 0) > 0 for usage in volume_sizes),
            sum(max(usage.get("Size", 0), 0) for usage in volume_sizes),
            sum(max(usage.get("Size", 0), 0) for usage in volume_sizes if not usage.get("RefCount")),
        ),
        _usage(
            "Build Cache",
            len(cache),
            sum(bool(entry.get("InUse")) for entry in cache),
            sum(entry.get("Size") or 0 for entry in cache),
            sum(entry.get("Size") or 0 for entry in cache if not entry.get("InUse")),
        ),
    ]
    headers = {
        "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE",
    }  # fmt: skip
    table.show(rows, {name: _getter(name) for name in headers}, headers, tuple(headers), options["format"])
    return 0


def _getter(name: str) -> Any:
    return lambda row: row[name]


def _usage(kind: str, total: int, active: int, size: int, reclaimable: int) -> dict[str, str]:
    text = units.human_size(max(reclaimable, 0))
    if size > 0:
        text += f" ({max(reclaimable, 0) * 100 // size}%)"
    elif kind == "Images":
        text += " (0%)"
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": units.human_size(size),
        "Reclaimable": text,
    }


def prune(options: Options, arguments: list[str], engine: Engine) -> int:
    from minictl import prompt

    things = ["all stopped containers", "all networks not used by at least one container"]
    if options["volumes"]:
        things.append("all anonymous volumes not used by at least one container")
    things.append(
        "all images without at least one container associated to them"
        if options["all"]
        else "all dangling images"
    )
    warning = "This will remove:\n" + "".join(f"  - {thing}\n" for thing in things)
    if not options["force"] and not prompt.agreed(warning):
        raise Failure("system prune has been cancelled")
    reclaimed = 0
    text = ""
    filters = options["filter"]
    steps = [("Deleted Containers", "/containers/prune", "ContainersDeleted", filters)]
    steps.append(("Deleted Networks", "/networks/prune", "NetworksDeleted", filters))
    if options["volumes"]:
        steps.append(("Deleted Volumes", "/volumes/prune", "VolumesDeleted", filters))
    dangling = f"dangling={'false' if options['all'] else 'true'}"
    steps.append(("Deleted Images", "/images/prune", "ImagesDeleted", [*filters, dangling]))
    for title, path, key, wanted in steps:
        try:
            answer = engine.call("POST", path, {"filters": parse_filters(wanted)})
        except Failure:
            if path == "/networks/prune":  # a daemon without networks has none to prune
                continue
            raise
        reclaimed += answer.get("SpaceReclaimed") or 0
        deleted = answer.get(key) or []
        if deleted:
            lines = [
                entry
                if isinstance(entry, str)
                else f"untagged: {entry['Untagged']}"
                if entry.get("Untagged")
                else f"deleted: {entry['Deleted']}"
                for entry in deleted
            ]
            text += f"{title}:\n" + "\n".join(lines) + "\n\n"
    table.write(f"{text}Total reclaimed space: {units.human_size(reclaimed)}\n")
    return 0


DF = Command(
    "system df",
    "[OPTIONS]",
    "Show how much disk is used",
    df,
    (("format", "", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),),
    0,
    0,
)


PRUNE = Command(
    "system prune",
    "[OPTIONS]",
    "Remove all that is not in use",
    prune,
    (
        ("all", "a", "bool", "Remove all images that no container uses, not only untagged ones"),
        ("filter", "", "list", "Remove only what fits (until=24h, label=…)"),
        ("force", "f", "bool", "Don't ask"),
        ("volumes", "", "bool", "Remove anonymous volumes too"),
    ),
    0,
    0,
)
