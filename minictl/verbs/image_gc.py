"""image gc: remove images that have not been used for long, or that there is no room for; or only tell which."""

from __future__ import annotations

from minictl import table, units
from minictl.engine import Engine
from minictl.errors import ApiError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_DAYS = {"d": 24, "w": 7 * 24}


def collect(options: Options, arguments: list[str], engine: Engine) -> int:
    query = {
        "dry-run": options["dry-run"] or None,
        "tagged": options["tagged"] or None,
        "max-age": _seconds(options["max-age"]),
        "max-size": _bytes("max-size", options["max-size"]),
        "min-free": _bytes("min-free", options["min-free"]),
    }
    try:
        report = engine.call("POST", "/minid/images/gc", query)
    except ApiError as error:
        if error.http_status == 404:
            raise Failure("image gc is minid's own: this daemon is not minid, or an older one") from None
        raise
    verb = "remove" if report["DryRun"] else "removed"
    rows = [(verb, each) for each in report["Collected"]] + [("keep", each) for each in report["Kept"]]
    if options["quiet"]:
        table.write("".join(f"{each['Id']}\n" for each in report["Collected"]))
        return 0
    table.show(
        rows, _fields(), _HEADERS, ("Action", "Kind", "ID", "Name", "Size", "Reason"), options["format"]
    )
    if options["format"] in ("", "table"):
        would = "would be reclaimed" if report["DryRun"] else "reclaimed"
        table.write(
            f"\n{units.human_size(report['SpaceReclaimed'])} {would} of {units.human_size(report['TotalSize'])} "
            f"that images take; {units.human_size(report['FreeSpace'])} were free\n"
        )
    return 0


_HEADERS = {
    "Action": "ACTION",
    "Kind": "KIND",
    "ID": "ID",
    "Name": "NAME",
    "LastUsed": "LAST USED",
    "Size": "SIZE",
    "Reason": "WHY",
}


def _fields() -> dict[str, Callable[[Any], Any]]:
    return {
        "Action": lambda row: row[0],
        "Kind": lambda row: row[1]["Kind"],
        "ID": lambda row: table.short_id(row[1]["Id"]),
        "Name": lambda row: row[1]["Names"][0] if row[1]["Names"] else "<none>",
        "LastUsed": lambda row: row[1]["LastUsed"],
        "Size": lambda row: units.human_size(row[1]["Size"], 3),
        "Reason": lambda row: row[1]["Reason"],
    }


def _seconds(text: str) -> int | None:
    """`12h`, `30d`, `2w`, `90m` in seconds; days and weeks are ours, the rest is Go's notation."""
    if not text:
        return None
    try:
        if text[-1] in _DAYS:
            return int(float(text[:-1]) * _DAYS[text[-1]] * 3600)
        return units.parse_duration(text) // 1_000_000_000
    except ValueError:
        raise Failure(f'invalid --max-age "{text}": write it as 30d, 12h or 1h30m') from None


def _bytes(name: str, text: str) -> int | None:
    if not text:
        return None
    try:
        return units.parse_bytes(text)
    except ValueError as error:
        raise Failure(f"invalid --{name}: {error}") from None


GC = Command(
    "gc",
    "[OPTIONS]",
    "Remove images that have not been used for long, or that there is no room for",
    collect,
    (
        ("dry-run", "", "bool", "Only tell what would be removed, and why the rest stays"),
        ("format", "", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
        ("max-age", "", "string", "Remove what has not been used for so long (30d, 12h)"),
        ("max-size", "", "string", "Remove the least recently used while images take more (50g)"),
        ("min-free", "", "string", "Remove the least recently used while less is free (10g)"),
        ("quiet", "q", "bool", "Print only the IDs of what is removed"),
        ("tagged", "", "bool", "Remove images with tags too; what a container uses always stays"),
    ),
    0,
    0,
)
