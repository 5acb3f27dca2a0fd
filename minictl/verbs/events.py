"""events: what happens in the daemon, as it happens."""

from __future__ import annotations

import time

from minictl import jsontext, table
from minictl.engine import Engine
from minictl.filters import parse_filters
from minictl.flags import Command, Options
from minictl.timestamps import parse_timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def events(options: Options, arguments: list[str], engine: Engine) -> int:
    query = {
        "filters": parse_filters(options["filter"]),
        "since": parse_timestamp("since", options["since"]),
        "until": parse_timestamp("until", options["until"]),
    }
    template = None
    if options["format"] and options["format"] != "json":
        from minictl.template import Template

        template = Template(options["format"], strict=False)
    response = engine.request("GET", "/events", query)
    pending = b""
    rest = ""
    for part in response.parts():
        pending += part
        cut = max(pending.rfind(b"}"), pending.rfind(b"\n")) + 1
        if not cut:
            continue
        found, rest = jsontext.loads_many(rest + pending[:cut].decode("utf-8", "replace"))
        pending = pending[cut:]
        text = ""
        for event in found:
            if template:
                text += template.render(_event_fields(event)) + "\n"
            elif options["format"]:
                text += jsontext.dumps_for_html(_in_order(event)) + "\n"
            else:
                text += _event_line(event)
        table.write(text)
    return 0


def _event_fields(event: dict[str, Any]) -> dict[str, Any]:
    """With the names of the Go struct too, which differ from the JSON's."""
    return event | {
        "Status": event.get("status", ""),
        "ID": event.get("id", ""),
        "From": event.get("from", ""),
        "Scope": event.get("scope", ""),
        "Time": event.get("time", 0),
        "TimeNano": event.get("timeNano", 0),
    }


def _in_order(event: dict[str, Any]) -> dict[str, Any]:
    """With the attributes sorted, as Go writes maps."""
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    return event | {"Actor": actor | {"Attributes": {key: attributes[key] for key in sorted(attributes)}}}


def _event_line(event: dict[str, Any]) -> str:
    nano = event.get("timeNano") or event.get("time", 0) * 1_000_000_000
    seconds, rest = divmod(nano, 1_000_000_000)
    zone = time.strftime("%z", time.localtime(seconds))
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(seconds))}.{rest:09d}{zone}"
    actor = event.get("Actor") or {}
    line = f"{when} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    attributes = actor.get("Attributes") or {}
    if attributes:
        line += " (" + ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes)) + ")"
    return line + "\n"


EVENTS = Command(
    "events",
    "[OPTIONS]",
    "Show what happens in the daemon, as it happens",
    events,
    (
        ("filter", "f", "list", "Show only what fits (type=container, event=start, container=…)"),
        ("format", "", "string", "How to print: json, or a Go template"),
        ("since", "", "string", "Begin with what happened since: a time, or how long ago"),
        ("until", "", "string", "End at this time"),
    ),
    0,
    0,
)
