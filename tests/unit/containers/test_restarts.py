import asyncio
import time

import pytest

from minid.containers import lifecycle
from minid.containers.model import Container, HostConfig, RestartPolicy, State
from minid.containers.restarts import Restarts
from tests.unit.containers.conftest import ID, make_container

SHORT_NS, LONG_NS = 1_000_000, 20_000_000_000


class Starts:
    """Who was started, and when somebody is."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.happened = asyncio.Event()
        self.restarts = Restarts(self._start)

    def _start(self, container_id: str) -> None:
        self.ids.append(container_id)
        self.happened.set()

    async def next(self) -> float:
        """Seconds until the next one."""
        started_s = time.monotonic()
        await asyncio.wait_for(self.happened.wait(), 10)
        self.happened.clear()
        return time.monotonic() - started_s


def ended(policy: str = "always", retries: int = 0, **state: int | bool) -> Container:
    host_config = HostConfig(restart_policy=RestartPolicy(policy, retries))
    return make_container(host_config=host_config, state=State(status="exited", **state))  # type: ignore[arg-type]


@pytest.fixture
async def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    monkeypatch.setattr(lifecycle, "RESTART_DELAY_NS", 20_000_000)
    return Starts()


async def test_the_delay_doubles_until_it_has_run_long_enough(starts: Starts) -> None:
    for expected_s in (0.02, 0.04, 0.08):
        assert starts.restarts.wanted(ended(), SHORT_NS)
        assert expected_s <= await starts.next() < expected_s + 0.5
    assert starts.restarts.wanted(ended(), LONG_NS)
    assert await starts.next() < 0.08
    assert starts.ids == [ID] * 4


@pytest.mark.parametrize(
    ("container", "wanted"),
    [
        (ended("no"), False),
        (ended("unless-stopped"), True),
        (ended("unless-stopped", stopped_by_user=True), False),
        (ended("on-failure", exit_code=0), False),
        (ended("on-failure", exit_code=1), True),
        (ended("on-failure", 2, exit_code=1, restart_count=2), False),
    ],
)
async def test_the_policy_decides(starts: Starts, container: Container, wanted: bool) -> None:
    assert starts.restarts.wanted(container, SHORT_NS) is wanted
    if wanted:
        await starts.next()
    starts.restarts.close()


async def test_a_cancelled_timer_starts_nothing(starts: Starts) -> None:
    assert starts.restarts.wanted(ended(), SHORT_NS)
    starts.restarts.cancel(ID)
    starts.restarts.cancel(ID)
    assert starts.restarts.wanted(ended(), SHORT_NS), "and the delay is the shortest again"
    assert await starts.next() < 0.04 + 0.5
    assert starts.ids == [ID]


async def test_held_for_a_restart_by_hand(starts: Starts) -> None:
    starts.restarts.hold(ID)
    assert starts.restarts.held(ID)
    assert not starts.restarts.wanted(ended(), SHORT_NS)
    starts.restarts.release(ID)
    assert not starts.restarts.held(ID)
    assert starts.restarts.wanted(ended(), SHORT_NS)
    starts.restarts.close()


async def test_after_the_close_it_is_the_next_daemons_to_start(starts: Starts) -> None:
    assert starts.restarts.wanted(ended(), SHORT_NS)
    starts.restarts.close()
    assert starts.restarts.wanted(ended(), SHORT_NS)
    assert not starts.restarts._timers and starts.ids == []
