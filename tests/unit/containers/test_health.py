"""What is run as a health check, when, and what its results make of a container."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.containers import health, lifecycle, validate
from minid.containers.model import (
    Container,
    ContainerConfig,
    Health,
    Healthcheck,
    HealthResult,
    HostConfig,
    RestartPolicy,
    State,
)
from minid.errors import InvalidParameter
from tests.unit.containers.conftest import HOST, make_container

SECOND = 1_000_000_000
START_NS = 1_000 * SECOND
CHECK = Healthcheck(("CMD", "check"), interval=10 * SECOND, timeout=SECOND, retries=2)


def running(check: Healthcheck | None, now: Health | None = None, **fields: Any) -> Container:
    return make_container(
        ContainerConfig(cmd=("sleep", "1"), healthcheck=check, **fields),
        state=State("running", started_at_ns=START_NS, health=now),
    )


def result(exit_code: int, after_s: float = 60, took_s: float = 1) -> HealthResult:
    start_ns = START_NS + int(after_s * SECOND)
    return HealthResult(start_ns, start_ns + int(took_s * SECOND), exit_code, "")


@pytest.mark.parametrize(
    ("test", "program"),
    [
        (None, ()),
        ((), ()),
        (("NONE",), ()),
        (("CMD",), ()),
        (("CMD", "test", "-e", "/a b"), ("test", "-e", "/a b")),
        (("CMD-SHELL", "exit  0 &&  echo x"), ("/bin/sh", "-c", "exit  0 &&  echo x")),
    ],
)
def test_the_program(test: tuple[str, ...] | None, program: tuple[str, ...]) -> None:
    check = None if test is None else Healthcheck(test)
    assert health.command(ContainerConfig(healthcheck=check)) == program
    assert health.checked(running(check)) == bool(program)
    assert (health.begun(running(check)) is not None) == bool(program)


def test_the_images_shell_and_the_steps_of_a_build() -> None:
    config = ContainerConfig(healthcheck=Healthcheck(("CMD-SHELL", "x")), shell=("/bin/bash", "-ec"))
    assert health.command(config) == ("/bin/bash", "-ec", "x")
    assert not health.checked(replace(running(CHECK), hidden=True))


def test_failures_count_until_it_is_unhealthy_and_a_success_ends_them() -> None:
    now = Health()
    statuses = []
    for exit_code in (1, 2, 137, 0, 1, 0):
        now = health.after(now, CHECK, result(exit_code), START_NS)
        statuses.append((now.status, now.failing_streak))
    expected = [("starting", 1), ("unhealthy", 2), ("unhealthy", 3), ("healthy", 0), ("healthy", 1)]
    assert statuses == [*expected, ("healthy", 0)]
    assert [entry.exit_code for entry in now.log] == [2, 137, 0, 1, 0], "the last five"
    assert now.was_healthy and not Health().was_healthy


def test_three_failures_are_the_default() -> None:
    now, check = Health(), replace(CHECK, retries=0)
    for expected in ("starting", "starting", "unhealthy"):
        now = health.after(now, check, result(1), START_NS)
        assert now.status == expected


def test_in_the_start_period_failures_do_not_count() -> None:
    check = replace(CHECK, start_period=30 * SECOND)
    now = Health()
    for after_s in (1.0, 10.0, 29.9):
        now = health.after(now, check, result(1, after_s), START_NS)
    assert (now.status, now.failing_streak, len(now.log)) == ("starting", 0, 3)
    late = health.after(now, check, result(1, 30), START_NS)
    assert (late.status, late.failing_streak) == ("starting", 1)
    good = health.after(now, check, result(0, 5), START_NS)
    assert good.status == "healthy"
    assert health.after(good, check, result(1, 6), START_NS).failing_streak == 1, "it has started"


@given(st.lists(st.integers(-1, 255), max_size=30), st.integers(1, 5))
def test_any_results(codes: list[int], retries: int) -> None:
    now, streak = Health(), 0
    for code in codes:
        now = health.after(now, replace(CHECK, retries=retries), result(code), START_NS)
        streak = 0 if code == 0 else streak + 1
        assert now.failing_streak == streak and (streak < retries or now.status == "unhealthy")
        assert (now.status == "healthy") == (now.was_healthy and now.status != "unhealthy")
    assert [entry.exit_code for entry in now.log] == codes[-5:]


def test_the_next_check() -> None:
    def due_s(container: Container, now_s: float) -> float:
        now_ns = START_NS + int(now_s * SECOND)
        return (health.next_check_ns(container, now_ns) - START_NS) / SECOND

    checked = Health("healthy", 0, (result(0, 10, took_s=2),))
    assert due_s(running(CHECK, Health()), 0) == 10
    assert due_s(running(CHECK, checked), 12) == 22, "an interval after the end of the last"
    assert due_s(running(CHECK, checked), 500) == 22, "it is overdue when a daemon was away"
    assert due_s(running(CHECK, checked), -3600) == -3590, "the clock was put back"
    assert due_s(running(replace(CHECK, interval=0), Health()), 0) == 30
    slow = replace(CHECK, start_period=60 * SECOND)
    assert due_s(running(slow, Health()), 0) == 5
    assert due_s(running(replace(slow, start_interval=SECOND), Health()), 0) == 1
    assert due_s(running(slow, checked), 12) == 22, "it is no longer starting"
    assert due_s(running(slow, Health()), 61) == 10
    last_run = Health(log=(HealthResult(1, START_NS - SECOND, 0, ""),))
    assert due_s(running(CHECK, last_run), 0) == 10


def test_a_run_begins_and_ends() -> None:
    log = (result(1),)
    begun = health.begun(running(CHECK, Health("unhealthy", 7, log, was_healthy=True)))
    assert begun == Health("starting", 0, log), "the results of the last run stay to be read"
    assert health.interrupted(Health("healthy", 0, log)) == Health("unhealthy", 0, log)
    assert health.interrupted(None) is None
    assert health.health_status(running(None)) == "none"
    assert health.health_status(running(CHECK, Health("healthy"))) == "healthy"


def test_output_is_cut() -> None:
    assert health.kept_output(b"x" * 4096) == "x" * 4096
    assert health.kept_output(b"x" * 4097) == "x" * 4096 + "..."
    assert health.kept_output(b"\xff\n") == "\ufffd\n"
    assert health.timeout_text(CHECK, "") == "Health check exceeded timeout (1s)"
    assert health.timeout_text(CHECK, "half\n") == "Health check exceeded timeout (1s): half\n"
    assert health.timeout_text(Healthcheck(), "") == "Health check exceeded timeout (30s)"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        *((0, "0ns"), (1, "1ns"), (1_500, "1.5µs"), (2_000_000, "2ms"), (1_500_000, "1.5ms")),
        *((SECOND, "1s"), (1_500_000_000, "1.5s"), (90 * SECOND, "1m30s"), (3600 * SECOND, "1h0m0s")),
        (3661 * SECOND + 1_000_000, "1h1m1.001s"),
    ],
)
def test_durations_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert health.duration(nanoseconds) == text


def unhealthy(action: str, **state: Any) -> State:
    return State("exited", exit_code=137, started_at_ns=1, ended_by_health=action, **state)


def test_the_action_needs_a_check_and_a_container_that_stays() -> None:
    config = ContainerConfig(cmd=("x",), healthcheck=CHECK)
    for action in health.ACTIONS:
        validate.validate(config, HostConfig(health_on_failure=action), HOST)
    for wrong, host_config, message in (
        (config, HostConfig(health_on_failure="reboot"), "invalid HealthOnFailure: reboot"),
        (ContainerConfig(cmd=("x",)), HostConfig(health_on_failure="kill"), "without a health check"),
        (config, HostConfig(health_on_failure="restart", auto_remove=True), "restart and AutoRemove"),
    ):
        with pytest.raises(InvalidParameter, match=message):
            validate.validate(wrong, host_config, HOST)


def test_a_restart_that_is_due() -> None:
    base: dict[str, Any] = {"exit_code": 0, "previous_delay_ns": 0, "ran_ns": 1, "stopped_by_user": False}

    def wanted(policy: RestartPolicy, count: int = 0, **changes: Any) -> int:
        found = lifecycle.restart(policy, restart_count=count, **{**base, "due": True, **changes})
        return 0 if found is None else found.delay_ns

    delay_ns = lifecycle.RESTART_DELAY_NS
    assert wanted(RestartPolicy("no")) == delay_ns
    assert wanted(RestartPolicy("on-failure", 2), 1) == delay_ns, "whatever its exit code is"
    assert wanted(RestartPolicy("on-failure", 2), 2) == 0
    assert wanted(RestartPolicy("no"), stopped_by_user=True) == 0
    long_ns = 90 * SECOND
    assert wanted(RestartPolicy("no"), previous_delay_ns=8 * delay_ns, ran_ns=long_ns) == delay_ns
    again = wanted(RestartPolicy("no"), previous_delay_ns=8 * delay_ns, ran_ns=long_ns, recovered=False)
    assert again == 16 * delay_ns, "a run that never was healthy does not end the backoff"


def test_a_restart_that_is_due_outlives_the_daemon() -> None:
    no = RestartPolicy("no")
    assert lifecycle.starts_with_daemon(no, unhealthy("restart"))
    assert not lifecycle.starts_with_daemon(no, unhealthy("restart", stopped_by_user=True))
    assert not lifecycle.starts_with_daemon(no, unhealthy("kill"))
    limited = RestartPolicy("on-failure", 2)
    assert not lifecycle.starts_with_daemon(limited, unhealthy("restart", restart_count=2))
