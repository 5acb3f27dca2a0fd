"""Operations that meet: starts, ends, stops, restarts and removals of the same container, through the API."""

import concurrent.futures
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Running
from tests.wire import Wire

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


QUERY = {"stream": "1", "stdout": "1"}


def create(running: Running, *command: str, name: str = "", **host_config: Any) -> str:
    body = {
        "Image": running.image,
        "Cmd": list(command),
        "HostConfig": {"NetworkMode": "none", **host_config},
    }
    response = running.wire("POST", "/containers/create", body, query={"name": name} if name else {})
    assert response.status == 201, response.body
    return str(response.json["Id"])


def state(wire: Wire, container: str) -> dict[str, Any]:
    return dict(wire.get(f"/containers/{container}/json")["State"])


def test_starting_again_the_moment_it_has_ended(running: Running) -> None:
    """Seen as ended by inspect, it may still have a cgroup that is on its way out."""
    container = create(running, "true")
    started = 0
    deadline = time.monotonic() + 30
    while started < 40:
        response = running.wire.post(f"/containers/{container}/start")
        assert response.status in (204, 304), response.body
        started += response.status == 204
        assert time.monotonic() < deadline
    assert running.wire.post(f"/containers/{container}/wait").json["StatusCode"] == 0
    assert state(running.wire, container)["Error"] == ""


def test_two_starts_at_once(running: Running) -> None:
    for _ in range(5):
        container = create(running, "sleep", "1000")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            responses = list(pool.map(running.wire.post, [f"/containers/{container}/start"] * 4))
        assert sorted(response.status for response in responses) == [204, 304, 304, 304]
        assert running.wire("DELETE", f"/containers/{container}", query={"force": "1"}).status == 204


def test_stop_wins_over_a_restart_by_policy(running: Running) -> None:
    """A crash loop is stopped at a random moment of it; once the answer is there, nothing starts any more."""
    for attempt in range(6):
        container = create(running, "sh", "-c", "exit 1", RestartPolicy={"Name": "always"})
        assert running.wire.post(f"/containers/{container}/start").status == 204
        while running.wire.get(f"/containers/{container}/json")["RestartCount"] < 1:
            pass
        end_s = time.monotonic() + attempt * 0.021
        while time.monotonic() < end_s:  # at another point of the cycle each time
            pass
        assert running.wire.post(f"/containers/{container}/stop", t="1").status in (204, 304)
        after = running.wire.get(f"/containers/{container}/json")
        assert after["State"]["Status"] == "exited", after["State"]
        next_exit = f"/containers/{container}/wait"
        query = {"condition": "next-exit"}
        with (
            running.wire.stream("POST", next_exit, query=query, upgrade=False, timeout_s=0.5) as stream,
            pytest.raises(TimeoutError),  # nobody's exit comes
        ):
            stream.read_all()
        assert running.wire.get(f"/containers/{container}/json")["RestartCount"] == after["RestartCount"]
        assert running.wire("DELETE", f"/containers/{container}").status == 204


def test_removal_by_force_at_any_moment(running: Running) -> None:
    for attempt in range(12):
        container = create(running, "sh", "-c", "exit 1", RestartPolicy={"Name": "always"})
        starting = threading.Thread(target=running.wire.post, args=(f"/containers/{container}/start",))
        starting.start()
        end_s = time.monotonic() + attempt * 0.012
        while time.monotonic() < end_s:
            pass
        response = running.wire("DELETE", f"/containers/{container}", query={"force": "1"})
        starting.join()
        if response.status == 409:  # it was between two states; now it is not
            response = running.wire("DELETE", f"/containers/{container}", query={"force": "1"})
        assert response.status == 204, response.body
        assert running.wire("GET", f"/containers/{container}/json").status == 404


def test_restart_of_a_container_that_removes_itself(running: Running) -> None:
    container = create(running, "sleep", "1000", AutoRemove=True)
    assert running.wire.post(f"/containers/{container}/start").status == 204
    for _ in range(3):
        assert running.wire.post(f"/containers/{container}/restart", t="0").status == 204
        assert state(running.wire, container)["Running"] is True
    assert running.wire.post(f"/containers/{container}/kill").status == 204
    running.wire("POST", f"/containers/{container}/wait", query={"condition": "removed"})
    assert running.wire("GET", f"/containers/{container}/json").status == 404


def test_clients_that_leave_before_the_start_are_let_go(running: Running) -> None:
    container = create(running, "true")

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{running.engine.pid}/fd"))

    before = descriptors()
    for _ in range(30):
        with running.wire.stream("POST", f"/containers/{container}/attach", query=QUERY) as stream:
            assert stream.status in (101, 200)
    with running.wire.stream("POST", f"/containers/{container}/attach", query=QUERY):
        assert descriptors() < before + 10
        assert running.wire.post(f"/containers/{container}/start").status == 204
        assert running.wire.post(f"/containers/{container}/wait").status == 200


def test_a_killed_forkserver_fails_no_start(running: Running) -> None:
    """And is reaped when that is noticed."""
    children = Path(f"/proc/{running.engine.pid}/task/{running.engine.pid}/children")
    for pid in children.read_text().split():
        if Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0") == "minid: forkserver":  # not that of jobs
            os.kill(int(pid), signal.SIGKILL)
    for _ in range(3):  # the first may get the spare shim
        container = create(running, "true")
        assert running.wire.post(f"/containers/{container}/start").status == 204
        assert running.wire.post(f"/containers/{container}/wait").json["StatusCode"] == 0


def test_a_part_of_a_volume_is_looked_up_inside_the_volume(running: Running) -> None:
    """A link that a container made must not lead another one's mount to the host."""
    maker = create(
        running,
        "sh",
        "-c",
        "mkdir /v/good; echo fine >/v/good/file; ln -s /etc /v/bad; ln -s good /v/also",
        Binds=["sub:/v"],
    )
    assert running.wire.post(f"/containers/{maker}/start").status == 204
    assert running.wire.post(f"/containers/{maker}/wait").json["StatusCode"] == 0

    def mount(subpath: str) -> tuple[int, bytes]:
        described = {"Type": "volume", "Source": "sub", "Target": "/x", "VolumeOptions": {"Subpath": subpath}}
        container = create(running, "sh", "-c", "cat /x/file; ls /x", Mounts=[described])
        response = running.wire.post(f"/containers/{container}/start")
        if response.status != 204:
            return response.status, response.body
        running.wire.post(f"/containers/{container}/wait")
        return 204, running.wire("GET", f"/containers/{container}/logs", query={"stdout": "1"}).body

    for subpath in ("good", "also"):
        status, output = mount(subpath)
        assert status == 204 and b"fine" in output
    status, output = mount("bad")
    assert status != 204, f"the host's /etc: {output!r}"
