"""What containers tell the rest of the world: events with the attributes that clients filter by.

``Engine API v1.44 GET /events``.
"""

from collections.abc import Mapping

from minid.containers.model import Container
from minid.events import EventBus

NOTHING: Mapping[str, str] = {}


class News:
    """Publishes container events."""

    def __init__(self, events: EventBus) -> None:
        self._events = events

    def publish(self, container: Container, action: str, attributes: Mapping[str, str] = NOTHING) -> None:
        """``action`` happened to ``container``; labels, image and name come along. Of a hidden one nobody hears."""
        if container.hidden:
            return
        about = {"image": container.config.image, "name": container.name}
        self._events.publish(
            "container", action, container.id, {**container.config.labels, **about, **attributes}
        )
