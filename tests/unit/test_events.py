import time

from minid import events
from minid.events import BACKLOG, HISTORY, Event, EventBus


async def take(subscription: events.Subscription, count: int) -> list[str]:
    taken: list[str] = []
    async for event in subscription:
        taken.append(event.action)
        if len(taken) == count:
            break
    return taken


async def rest(subscription: events.Subscription) -> list[str]:
    return [event.action async for event in subscription]


async def test_every_listener_gets_everything_from_its_subscription_on() -> None:
    bus = EventBus()
    bus.publish("container", "before", "x")
    first, second = bus.subscribe(), bus.subscribe()
    bus.publish("container", "a", "x", {"name": "one"})
    first.close()
    bus.publish("container", "b", "x")
    assert await rest(first) == ["a"]
    assert await take(second, 2) == ["a", "b"]


async def test_an_event_is_a_copy_with_its_time() -> None:
    bus = EventBus()
    attributes = {"name": "one"}
    before_ns = time.time_ns()
    bus.publish("image", "tag", "sha256:1", attributes)
    attributes["name"] = "two"
    (event,) = bus.history(lambda event: True)
    assert event == Event("image", "tag", "sha256:1", {"name": "one"}, event.time_ns)
    assert before_ns <= event.time_ns <= time.time_ns()


async def test_history_is_bounded_and_filtered() -> None:
    bus = EventBus()
    for number in range(HISTORY + 10):
        bus.publish("container", str(number), "odd" if number % 2 else "even")
    kept = bus.history(lambda event: event.actor_id == "even")
    assert [event.action for event in kept] == [str(number) for number in range(10, HISTORY + 10, 2)]


async def test_a_listener_that_falls_behind_is_cut_off_and_nobody_else() -> None:
    bus = EventBus()
    slow, quick = bus.subscribe(), bus.subscribe()
    for number in range(BACKLOG + 5):
        bus.publish("container", str(number), "x")
        assert await take(quick, 1) == [str(number)]
    assert await rest(slow) == [str(number) for number in range(BACKLOG)], "what it had, then the end"
    bus.publish("container", "later", "x")
    assert await take(quick, 1) == ["later"]
    assert slow not in bus._subscriptions


async def test_closing_twice() -> None:
    bus = EventBus()
    subscription = bus.subscribe()
    subscription.close()
    subscription.close()
    assert await rest(subscription) == [] and not bus._subscriptions
