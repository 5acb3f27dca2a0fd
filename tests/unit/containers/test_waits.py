import asyncio

import pytest

from minid.containers.model import State, WaitResult
from minid.containers.waits import Waits
from minid.errors import InvalidParameter
from tests.unit.containers.conftest import ID, make_container

RUNNING = State(status="running", pid=3)
ENDED = WaitResult(3)


@pytest.mark.parametrize("status", ["running", "paused", "restarting"])
async def test_not_running_waits_for_the_exit(status: str) -> None:
    waits = Waits()
    future = waits.register(make_container(state=State(status=status)), "not-running")
    assert not future.done()
    waits.exited(ID, ENDED)
    assert await future == ENDED


@pytest.mark.parametrize("status", ["created", "exited", "dead", "removing"])
async def test_not_running_is_answered_at_once_when_nothing_runs(status: str) -> None:
    state = State(status=status, exit_code=5, error="why")
    assert await Waits().register(make_container(state=state), "not-running") == WaitResult(5, "why")


async def test_next_exit_waits_although_nothing_runs() -> None:
    waits = Waits()
    future = waits.register(make_container(state=State(status="exited", exit_code=1)), "next-exit")
    assert not future.done()
    waits.exited(ID, ENDED)
    assert await future == ENDED


async def test_removed_waits_for_the_removal_only() -> None:
    waits = Waits()
    future = waits.register(make_container(state=RUNNING), "removed")
    waits.exited(ID, WaitResult(1))
    assert not future.done()
    waits.removed(ID, ENDED)
    assert await future == ENDED


async def test_a_removal_answers_everybody() -> None:
    waits = Waits()
    futures = [
        waits.register(make_container(state=RUNNING), each)
        for each in ("not-running", "next-exit", "removed")
    ]
    waits.removed(ID, ENDED)
    assert await asyncio.gather(*futures) == [ENDED] * 3


async def test_others_are_not_told() -> None:
    waits = Waits()
    future = waits.register(make_container(state=RUNNING), "not-running")
    waits.exited("another", ENDED)
    assert not future.done()
    future.cancel()


async def test_nobody_who_left_is_remembered() -> None:
    waits = Waits()
    gone = waits.register(make_container(state=RUNNING), "next-exit")
    told = waits.register(make_container(state=RUNNING), "next-exit")
    gone.cancel()
    waits.exited(ID, ENDED)
    assert await told == ENDED
    await asyncio.sleep(0)  # callbacks of futures run in the loop's next round
    assert not waits._waiting


def test_an_unknown_condition() -> None:
    with pytest.raises(InvalidParameter, match='invalid condition: "tomorrow"'):
        Waits().register(make_container(), "tomorrow")
