"""Events: what happened to which thing, kept for a while and sent to whoever listens.

``Engine API v1.44 GET /events``. Publishing never waits: a listener that falls ``BACKLOG`` events behind is
cut off.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

BACKLOG = 4096
HISTORY = 1024


@dataclass(frozen=True, slots=True)
class Event:
    """``type`` container|image|volume|network|daemon; ``actor_id`` the thing's id or name; ``time_ns``
    since the epoch.
    """

    type: str
    action: str
    actor_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    time_ns: int = field(default_factory=time.time_ns)


class Subscription:
    """A listener's queue; ``close()`` is idempotent. Iterating ends when the subscription is closed."""

    def __init__(self, bus: "EventBus") -> None:
        self._bus = bus
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def offer(self, event: Event) -> None:
        if self._queue.qsize() >= BACKLOG:
            self.close()
        else:
            self._queue.put_nowait(event)

    def close(self) -> None:
        self._bus.forget(self)
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._queue.get()) is not None:
            yield event


class EventBus:
    """One per daemon."""

    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._subscriptions: set[Subscription] = set()

    def publish(
        self, type: str, action: str, actor_id: str, attributes: Mapping[str, str] | None = None
    ) -> None:
        event = Event(type, action, actor_id, dict(attributes or {}))
        self._history.append(event)
        for subscription in tuple(self._subscriptions):
            subscription.offer(event)

    def history(self, wanted: Callable[[Event], bool]) -> list[Event]:
        """Past events, oldest first, that ``wanted`` accepts."""
        return [event for event in self._history if wanted(event)]

    def subscribe(self) -> Subscription:
        """Everything published from now on. Close it when done."""
        subscription = Subscription(self)
        self._subscriptions.add(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
