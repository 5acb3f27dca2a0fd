"""Events in Docker's JSON, and which a client's filters let through (``Engine API v1.44 GET /events``)."""

from collections.abc import Mapping
from typing import Any

from minid.events import Event

FILTERS = (
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
)


def event(event: Event) -> dict[str, Any]:
    """One line; containers and images also carry the fields of API 1.21, which clients still read."""
    data: dict[str, Any] = {}
    if event.type in ("container", "image"):
        data |= {"status": event.action, "id": event.actor_id}
        if event.type == "container" and (image := event.attributes.get("image")):
            data["from"] = image
    return data | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.actor_id, "Attributes": dict(event.attributes)},
        "scope": "local",
        "time": event.time_ns // 1_000_000_000,
        "timeNano": event.time_ns,
    }


def wanted(event: Event, filters: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether ``event`` passes: the values of one key are alternatives, the keys must all match."""
    return all(_matches(event, key, values) for key, values in filters.items() if values)


def _matches(event: Event, key: str, values: tuple[str, ...]) -> bool:
    match key:
        case "type":
            return event.type in values
        case "event":
            # "exec_start: sh" is asked for as exec_start
            return any(event.action == value or event.action.startswith(f"{value}:") for value in values)
        case "scope":
            return "local" in values
        case "label":
            return all(_has_label(event.attributes, value) for value in values)
        case "image":
            image = event.attributes.get("name" if event.type == "image" else "image", "")
            names = {event.actor_id, image, without_tag(event.actor_id), without_tag(image)}
            return any(value in names for value in values)
        case "daemon":
            return event.type == "daemon" and _is(event, values)
        case _:
            return event.type == key and _is(event, values)


def _is(event: Event, values: tuple[str, ...]) -> bool:
    name = event.attributes.get("name", "")
    return any(event.actor_id.startswith(value) or name == value for value in values)


def _has_label(attributes: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in attributes and (not equals or attributes[name] == value)


def without_tag(name: str) -> str:
    """``host:5000/busybox:1`` as ``host:5000/busybox``."""
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name
