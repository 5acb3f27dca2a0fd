import itertools

import pytest

from minid.containers import lifecycle
from minid.containers.lifecycle import Restart
from minid.containers.model import RestartPolicy, State
from minid.errors import Conflict, NotModified

SECOND = 1_000_000_000
ACTIONS = sorted({action for _, action in lifecycle.TRANSITIONS})


def test_every_pair_is_a_status_or_an_expected_error() -> None:
    for status, action in itertools.product(lifecycle.STATUSES, ACTIONS):
        try:
            assert lifecycle.after(status, action, ref="x") in lifecycle.STATUSES
        except (Conflict, NotModified) as error:
            assert "x" in str(error) or "paused" in str(error)
    for (status, _), follows in lifecycle.TRANSITIONS.items():
        assert status in lifecycle.STATUSES
        assert follows in lifecycle.STATUSES


@pytest.mark.parametrize(
    ("status", "action", "follows"),
    [
        ("created", "start", "running"),
        ("exited", "start", "running"),
        ("running", "die", "exited"),
        ("paused", "die-and-restart", "restarting"),
        ("restarting", "start", "running"),
        ("restarting", "stop", "exited"),
        ("running", "pause", "paused"),
        ("paused", "unpause", "running"),
        ("exited", "remove", "removing"),
        ("removing", "fail", "dead"),
        ("dead", "remove", "removing"),
    ],
)
def test_transitions(status: str, action: str, follows: str) -> None:
    assert lifecycle.after(status, action, ref="x") == follows


@pytest.mark.parametrize(
    ("status", "action", "error", "message"),
    [
        ("running", "start", NotModified, "container x is already running"),
        ("exited", "stop", NotModified, "container x is already stopped"),
        ("created", "stop", NotModified, "container x is already stopped"),
        ("paused", "start", Conflict, "cannot start a paused container, try unpause instead"),
        ("exited", "kill", Conflict, "cannot kill container: x: container x is not running"),
        ("paused", "pause", Conflict, "Container x is already paused"),
        ("exited", "pause", Conflict, "container x is not running"),
        ("running", "unpause", Conflict, "Container x is not paused"),
        ("exited", "exec", Conflict, "container x is not running"),
        ("paused", "exec", Conflict, "Container x is paused, unpause the container before exec"),
        (
            "restarting",
            "exec",
            Conflict,
            "Container x is restarting, wait until the container is running",
        ),
        ("created", "top", Conflict, "container x is not running"),
        (
            "running",
            "remove",
            Conflict,
            'cannot remove container "/x": container is running: '
            "stop the container before removing or force remove",
        ),
        (
            "paused",
            "remove",
            Conflict,
            'cannot remove container "/x": container is paused and must be unpaused first',
        ),
        ("removing", "start", Conflict, "removal of container x is already in progress"),
        ("dead", "start", Conflict, "container x is dead and must be removed"),
    ],
)
def test_what_is_not_possible(status: str, action: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        lifecycle.after(status, action, ref="x")
    assert str(caught.value) == message


def decide(policy: RestartPolicy, **changes: int | bool) -> Restart | None:
    values = {
        "exit_code": 1,
        "restart_count": 0,
        "previous_delay_ns": 0,
        "ran_ns": SECOND,
        "stopped_by_user": False,
    }
    return lifecycle.restart(policy, **(values | changes))  # type: ignore[arg-type]


def test_restart_policies() -> None:
    first = Restart(100_000_000)
    for name in ("", "no"):
        assert decide(RestartPolicy(name)) is None
    for name in ("always", "unless-stopped"):
        assert decide(RestartPolicy(name)) == first
        assert decide(RestartPolicy(name), exit_code=0) == first
        assert decide(RestartPolicy(name), stopped_by_user=True) is None
    assert decide(RestartPolicy("on-failure")) == first
    assert decide(RestartPolicy("on-failure"), exit_code=0) is None
    assert decide(RestartPolicy("on-failure", 2), restart_count=1) == first
    assert decide(RestartPolicy("on-failure", 2), restart_count=2) is None


def test_the_delay_doubles_to_a_minute_and_starts_again_after_a_good_run() -> None:
    delays = []
    previous = 0
    for _ in range(12):
        restart = decide(RestartPolicy("always"), previous_delay_ns=previous)
        assert restart is not None
        previous = restart.delay_ns
        delays.append(previous / SECOND)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60]
    assert decide(RestartPolicy("always"), previous_delay_ns=previous, ran_ns=10 * SECOND) == Restart(
        100_000_000
    )


@pytest.mark.parametrize(
    ("policy", "state", "starts"),
    [
        (RestartPolicy("no"), State("running"), False),
        (RestartPolicy("always"), State("running", started_at_ns=1), True),
        (RestartPolicy("always"), State("exited", started_at_ns=1, stopped_by_user=True), True),
        (RestartPolicy("always"), State("created"), False),
        (RestartPolicy("unless-stopped"), State("exited", started_at_ns=1, stopped_by_user=True), False),
        (RestartPolicy("unless-stopped"), State("restarting", started_at_ns=1), True),
        (RestartPolicy("on-failure"), State("exited", started_at_ns=1, exit_code=1), True),
        (RestartPolicy("on-failure"), State("exited", started_at_ns=1), False),
        (
            RestartPolicy("on-failure", 1),
            State("exited", started_at_ns=1, exit_code=1, restart_count=1),
            False,
        ),
    ],
)
def test_with_the_daemon(policy: RestartPolicy, state: State, starts: bool) -> None:
    assert lifecycle.starts_with_daemon(policy, state) is starts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (59 * 86400, "8 weeks"),
        (60 * 86400, "2 months"),
        (729 * 86400, "24 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_durations(seconds: int, text: str) -> None:
    assert lifecycle.human_duration(seconds * SECOND) == text


@pytest.mark.parametrize(
    ("state", "health", "text"),
    [
        (State("created"), "", "Created"),
        (State("running", started_at_ns=100 * SECOND), "", "Up 5 minutes"),
        (State("running", started_at_ns=100 * SECOND), "none", "Up 5 minutes"),
        (State("running", started_at_ns=100 * SECOND), "healthy", "Up 5 minutes (healthy)"),
        (State("running", started_at_ns=100 * SECOND), "starting", "Up 5 minutes (health: starting)"),
        (State("paused", started_at_ns=100 * SECOND), "", "Up 5 minutes (Paused)"),
        (
            State("exited", exit_code=137, started_at_ns=1, finished_at_ns=397 * SECOND),
            "",
            "Exited (137) 3 seconds ago",
        ),
        (
            State("restarting", exit_code=3, started_at_ns=1, finished_at_ns=400 * SECOND),
            "",
            "Restarting (3) Less than a second ago",
        ),
        (State("removing"), "", "Removal In Progress"),
        (State("dead"), "", "Dead"),
        # a clock that was set back
        (State("running", started_at_ns=500 * SECOND), "", "Up Less than a second"),
    ],
)
def test_status(state: State, health: str, text: str) -> None:
    assert lifecycle.status_text(state, 400 * SECOND, health) == text
