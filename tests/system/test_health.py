"""Health checks and the daemon's own ends: checks go on, results are kept, what was under way does not stay."""

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_health import SECOND, Events
from tests.conformance.test_lifecycle import create
from tests.system.conftest import Running

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only(
        "dockerd forgets a check that was under way, and does nothing about an unhealthy one"
    ),
]


def checked(running: Running, test: str, name: str, **fields: Any) -> str:
    check = {
        "Test": ["CMD-SHELL", test],
        "Interval": SECOND // 4,
        "Retries": 2,
        **fields.pop("Healthcheck", {}),
    }
    container = create(running.wire, running.image, "sleep", "600", name=name, Healthcheck=check, **fields)
    with Events(running.wire, container) as events:
        assert running.wire.post(f"/containers/{container}/start").status == 204
        events.until("exec_start")
    return container


def state(running: Running, name: str) -> dict[str, Any]:
    return dict(running.wire.get(f"/containers/{name}/json")["State"])


def running_with(argument: str) -> list[int]:
    """Processes of this machine that have ``argument`` among theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if argument.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_next_daemon_goes_on(running: Running, how: str) -> None:
    good = checked(running, "exit 0", "good")
    with Events(running.wire, good) as events:
        for _ in range(6):
            events.until("exec_die")
    bad = checked(running, "exit 1", "bad")
    with Events(running.wire, bad) as events:
        events.until("health_status: unhealthy")
    before = {name: state(running, name)["Health"] for name in ("good", "bad")}
    getattr(running.engine, how)()
    running.engine.start()
    with Events(running.wire, good) as events:
        after = {name: state(running, name)["Health"] for name in ("good", "bad")}
        assert after["good"]["Status"] == "healthy" and after["bad"]["Status"] == "unhealthy"
        assert after["bad"]["FailingStreak"] >= before["bad"]["FailingStreak"] >= 2
        kept = [entry["Start"] for entry in after["good"]["Log"]]
        assert set(kept) & {entry["Start"] for entry in before["good"]["Log"]}, "the results are still there"
        events.until("exec_die")
        events.until("exec_die")
    assert running.docker.ok("ps", "-q", "--filter", "health=healthy") == good[:12]
    assert [entry["Start"] for entry in state(running, "good")["Health"]["Log"]] > kept


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_check_that_was_under_way_does_not_stay(running: Running, how: str) -> None:
    checked(running, "setsid sleep 4711 & sleep 4712", "hung", Healthcheck={"Timeout": 600 * SECOND})
    inside = (
        "until ps -o args | grep -q '^sleep 4711' && ps -o args | grep -q '^sleep 4712'; do sleep 0.01; done"
    )
    running.docker.ok("exec", "hung", "sh", "-c", inside)
    hanging = running_with("4711") + running_with("4712")
    getattr(running.engine, how)()
    running.engine.start()
    with Events(running.wire, "hung", past=True) as events:
        events.until("exec_start")
    for pid in hanging:
        assert pid not in running_with("4711") + running_with("4712"), "of the old daemon's check"
    assert state(running, "hung")["Health"]["Status"] == "starting", "it says nothing about the container"


def test_the_end_of_a_run_while_the_daemon_is_away(running: Running) -> None:
    container = checked(running, "exit 0", "over")
    pid = state(running, "over")["Pid"]
    with Events(running.wire, container) as events:
        events.until("exec_die")
    running.engine.kill()
    os.kill(pid, 9)
    running.engine.start()
    ended = state(running, "over")
    assert (ended["Status"], ended["Health"]["Status"]) == ("exited", "unhealthy")


def test_a_restart_that_was_under_way_is_finished(running: Running) -> None:
    """The stop signal was sent, and the daemon killed before the container ended."""
    body = {"HostConfig": {"HealthOnFailure": "restart"}, "StopTimeout": 600}
    container = checked(running, "test ! -e /tmp/bad", "box", **body)
    with Events(running.wire, container) as events:
        running.docker.ok("exec", "box", "touch", "/tmp/bad")
        assert events.until("kill")["Actor"]["Attributes"]["signal"] == "15", "which sleep, as pid 1, ignores"
    first = state(running, "box")["Pid"]
    running.engine.kill()
    os.kill(first, 9)
    running.engine.start()
    with Events(running.wire, container) as events:
        if not state(running, "box")["Running"] or state(running, "box")["Restarting"]:
            events.until("start")
    now = state(running, "box")
    assert now["Running"] and now["Pid"] not in (0, first)
    assert running.wire.get("/containers/box/json")["RestartCount"] == 1
    assert now["Health"]["Status"] in ("starting", "unhealthy")


def test_a_hundred_checks_leave_nothing(running: Running) -> None:
    """Twenty containers checked five times a second, some of them too slowly: the leak check comes after it."""
    names = [f"c{number}" for number in range(20)]
    for number, name in enumerate(names):
        test = "sleep 5 & setsid sleep 5 & sleep 5" if number % 5 == 0 else "echo fine"
        check = {"Interval": SECOND // 5, "Timeout": SECOND // 5}
        checked(running, test, name, Healthcheck=check)
    with Events(running.wire, "c1") as events:
        for _ in range(5):
            events.until("exec_die")
    statuses = {name: state(running, name)["Health"]["Status"] for name in names}
    assert all(status == "healthy" for name, status in statuses.items() if int(name[1:]) % 5), statuses
    running.docker.ok("rm", "-f", *names)
