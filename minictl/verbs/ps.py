"""ps: the list of containers."""

from __future__ import annotations

import time

from minictl import table, units
from minictl.engine import Engine
from minictl.filters import parse_filters
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
DEFAULT = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def ps(options: Options, arguments: list[str], engine: Engine) -> int:
    template = options["format"] or ("" if options["quiet"] else table.config_format("psFormat"))
    size = options["size"] or ".Size" in template or "{{json .}}" in template
    limit = 1 if options["latest"] else options["last"]
    query = {
        "all": True if options["all"] else None,
        "filters": parse_filters(options["filter"]),
        "limit": limit if limit > 0 else None,
        "size": True if size else None,
    }
    containers = engine.call("GET", "/containers/json", query)
    fields = container_fields(short=not options["no-trunc"])
    if options["quiet"] and not options["format"]:
        table.write("".join(f"{fields['ID'](container)}\n" for container in containers))
        return 0
    table.show(containers, fields, HEADERS, (*DEFAULT, "Size") if options["size"] else DEFAULT, template)
    return 0


def container_fields(*, short: bool) -> dict[str, Callable[[Any], Any]]:
    """What templates can ask of a container in the list; `short`: as the table shows it, else in full."""
    now = time.time()
    return {
        "ID": lambda c: table.short_id(c["Id"]) if short else c["Id"],
        "Names": lambda c: _names(c, short),
        "Image": lambda c: _image(c, short),
        "Command": lambda c: _quoted(
            table.ellipsis(c.get("Command") or "", 20) if short else c.get("Command") or ""
        ),
        "CreatedAt": lambda c: local_time(c.get("Created") or 0),
        "RunningFor": lambda c: f"{units.human_duration(now - (c.get('Created') or 0))} ago",
        "Ports": lambda c: ports_text(c.get("Ports") or []),
        "State": lambda c: c.get("State", ""),
        "Status": lambda c: c.get("Status", ""),
        "Size": lambda c: _size(c),
        "Labels": lambda c: ",".join(
            f"{key}={value}" for key, value in sorted((c.get("Labels") or {}).items())
        ),
        "Label": lambda c: lambda name: (c.get("Labels") or {}).get(name, ""),
        "Mounts": lambda c: ",".join(_mount(mount, short) for mount in c.get("Mounts") or []),
        "LocalVolumes": lambda c: str(sum(mount.get("Driver") == "local" for mount in c.get("Mounts") or [])),
        "Networks": lambda c: ",".join((c.get("NetworkSettings") or {}).get("Networks") or {}),
        "Platform": lambda c: c.get("Platform"),
    }


def local_time(seconds: int) -> str:
    """As Go prints a time in the local zone: 2024-05-01 10:00:00 +0200 CEST."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def _names(container: dict[str, Any], short: bool) -> str:
    names = [name.removeprefix("/") for name in container.get("Names") or []]
    if short:
        names = [name for name in names if "/" not in name] or names
    return ",".join(names)


def _image(container: dict[str, Any], short: bool) -> str:
    image: str = container.get("Image") or ""
    if not image:
        return "<no image>"
    if short:
        identity = table.short_id(container.get("ImageID") or "")
        if identity and identity == table.short_id(image):
            return identity
        name, at, _ = image.partition("@")
        if at and ":" in name.rpartition("/")[2]:
            return name
    return image


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    from minictl.template_functions import quoted

    return quoted(text)


def _size(container: dict[str, Any]) -> str:
    text = units.human_size(container.get("SizeRw") or 0, 3)
    if container.get("SizeRootFs"):
        text += f" (virtual {units.human_size(container['SizeRootFs'], 3)})"
    return text


def _mount(mount: dict[str, Any], short: bool) -> str:
    name: str = mount.get("Name") or mount.get("Source") or ""
    return table.ellipsis(name, 15) if short else name


def ports_text(ports: list[dict[str, Any]]) -> str:
    """Exposed and published ports; neighbours that map to themselves are shown as one range."""
    groups: list[list[Any]] = []  # address, protocol, first, last
    open_groups: dict[tuple[str, str], list[Any]] = {}
    finished: list[list[Any]] = []
    mapped = []
    for port in sorted(
        ports, key=lambda p: (p["PrivatePort"], p.get("IP", ""), p.get("PublicPort", 0), p.get("Type", ""))
    ):
        inside, protocol, address = port["PrivatePort"], port.get("Type", "tcp"), port.get("IP", "")
        if address and port.get("PublicPort") != inside:
            mapped.append(f"{_joined(address, port.get('PublicPort', 0))}->{inside}/{protocol}")
            continue
        key = (address, protocol)
        group = open_groups.get(key)
        if group and group[3] + 1 == inside:
            group[3] = inside
            continue
        new = [address, protocol, inside, inside]
        if group:
            finished.append(group)
            groups[groups.index(group)] = new
        else:
            groups.append(new)
        open_groups[key] = new
    shown = []
    for address, protocol, first, last in (*finished, *groups):
        numbers = str(first) if first == last else f"{first}-{last}"
        shown.append(
            f"{_joined(address, numbers)}->{numbers}/{protocol}" if address else f"{numbers}/{protocol}"
        )
    return ", ".join(shown + mapped)


def _joined(address: str, port: object) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


PS = Command(
    "ps",
    "[OPTIONS]",
    "List containers",
    ps,
    (
        ("all", "a", "bool", "Show all containers, not only those that run"),
        ("filter", "f", "list", "Show only what fits (status=exited, label=key=value, name=…)"),
        ("format", "", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
        ("last", "n", "int", "Show the n newest containers in any state", -1),
        ("latest", "l", "bool", "Show the newest container in any state"),
        ("no-trunc", "", "bool", "Don't shorten IDs, commands and names"),
        ("quiet", "q", "bool", "Print only IDs"),
        ("size", "s", "bool", "Show sizes"),
    ),
    0,
    0,
)
