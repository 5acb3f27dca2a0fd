"""The daemon stops, is killed and starts again; containers do not notice, and nothing of what they did is lost."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.cli import Result
from tests.system.conftest import Running
from tests.wire import unframed

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only(
        "dockerd loses output while it is away and needs its containerd, which SIGKILL cuts off"
    ),
]


def start_ten(running: Running) -> list[str]:
    """Ten containers of different kinds, all up; container 9 ends as soon as it is told."""
    names = [f"c{number}" for number in range(10)]
    for number, name in enumerate(names):
        script = (
            "trap 'echo bye; exit 33' TERM; trap 'echo usr1' USR1; echo started; "
            f"i=0; while :; do echo tick {number} $i; i=$((i+1)); sleep 0.1; done"
        )
        options = ["-t"] if number % 3 == 0 else []
        options += ["-m", "64m"] if number % 2 else []
        running.docker.ok(
            "run", "-d", "--name", name, "--network", "none", *options, running.image, "sh", "-c", script
        )
    return names


def pids(running: Running) -> dict[str, int]:
    return {
        entry["Names"][0].lstrip("/"): running.wire.get(f"/containers/{entry['Id']}/json")["State"]["Pid"]
        for entry in running.wire.get("/containers/json")
    }


def ticks(running: Running, name: str) -> list[str]:
    return [
        line
        for line in running.docker.ok("logs", name).replace("\r", "").splitlines()
        if line.startswith("tick")
    ]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_ten_containers_outlive_the_daemon(running: Running, how: str) -> None:
    names = start_ten(running)
    before = pids(running)
    assert set(before) == set(names)
    started = {name: running.wire.get(f"/containers/{name}/json")["State"]["StartedAt"] for name in names}
    getattr(running.engine, how)()
    for pid in before.values():
        os.kill(pid, 0)  # still there
    os.kill(before["c8"], signal.SIGKILL)
    os.kill(before["c9"], signal.SIGTERM)
    wait_for_end(before["c8"], before["c9"])
    running.engine.start()

    after = pids(running)
    assert after == {name: pid for name, pid in before.items() if name not in ("c8", "c9")}
    states = {name: running.wire.get(f"/containers/{name}/json")["State"] for name in names}
    assert (states["c8"]["Status"], states["c8"]["ExitCode"]) == ("exited", 137), (
        "an end while the daemon was away is known"
    )
    assert (states["c9"]["Status"], states["c9"]["ExitCode"]) == ("exited", 33)
    assert states["c9"]["FinishedAt"] > started["c9"]
    assert all(states[name]["StartedAt"] == started[name] for name in names)
    assert running.docker.ok("wait", "c8") == "137"
    assert running.docker.ok("ps", "--format", "{{.Names}}").split() == [f"c{n}" for n in range(7, -1, -1)]

    for name in ("c0", "c1"):
        seen = ticks(running, name)
        assert seen == [f"tick {name[1]} {number}" for number in range(len(seen))], (
            "no line of the log is missing"
        )
        assert running.docker.ok("exec", name, "sh", "-c", "echo inside $$").startswith("inside")
        assert "sleep" in running.docker.ok("top", name) or "sh" in running.docker.ok("top", name)
    assert running.docker.ok("logs", "c9").replace("\r", "").splitlines()[-1] == "bye"

    waiting: list[Result] = []
    thread = threading.Thread(target=lambda: waiting.append(running.docker("wait", "c2")))
    with running.wire.stream(
        "GET", "/containers/c2/logs", query={"follow": "1", "stdout": "1", "tail": "0"}, upgrade=False
    ) as log:
        thread.start()
        log.read_until(b"tick 2")
        running.docker.ok("kill", "-s", "USR1", "c2")
        log.read_until(b"usr1")
        running.docker.ok("stop", "c2")
    thread.join(30)
    assert waiting[0].out == "33\n"
    running.docker.ok("restart", "c3")
    assert running.wire.get("/containers/c3/json")["State"]["Running"] is True
    running.docker.ok("start", "c8")
    with running.wire.stream(
        "POST", "/containers/c1/attach", query={"stream": "1", "stdout": "1"}
    ) as attached:
        attached.read_until(b"tick 1")
    running.docker.ok("rm", "-f", *names)
    assert running.wire.get("/containers/json", all="1") == []


def wait_for_end(*pids: int) -> None:
    """Return when the processes have ended and been reaped."""
    for pid in pids:
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline, f"process {pid} does not end"
            time.sleep(0.01)


def test_an_attached_client_outlives_the_daemon(running: Running) -> None:
    """The shim has the client's connection itself: output goes on while the daemon is away."""
    body = {"Image": running.image, "Cmd": ["cat"], "OpenStdin": True, "HostConfig": {"NetworkMode": "none"}}
    container = running.wire.post("/containers/create", body).json["Id"]
    with running.wire.stream(
        "POST", f"/containers/{container}/attach", query={"stream": "1", "stdin": "1", "stdout": "1"}
    ) as stream:
        assert running.wire.post(f"/containers/{container}/start").status == 204
        stream.send(b"before\n")
        assert stream.read_exactly(15) == b"\x01\0\0\0\0\0\0\x07before\n"
        running.engine.kill()
        stream.send(b"while away\n")
        assert stream.read_exactly(19) == b"\x01\0\0\0\0\0\0\x0bwhile away\n"
        running.engine.start()
        stream.send(b"after\n")
        assert stream.read_exactly(14) == b"\x01\0\0\0\0\0\0\x06after\n"
    data = running.wire("GET", f"/containers/{container}/logs", query={"stdout": "1"}).body
    assert unframed(data, 1) == b"before\nwhile away\nafter\n"


def test_logs_are_readable_while_the_daemon_is_down(running: Running) -> None:
    running.docker.ok(
        "run", "-d", "--name", "talks", "--network", "none", running.image, "sh", "-c", "echo one; sleep 300"
    )
    with running.wire.stream(
        "GET", "/containers/talks/logs", query={"follow": "1", "stdout": "1"}, upgrade=False
    ) as log:
        log.read_until(b"one")
    path = Path(running.wire.get("/containers/talks/json")["LogPath"])
    running.engine.kill()
    assert json.loads(path.read_text().splitlines()[0])["log"] == "one\n"


def test_auto_remove_while_the_daemon_is_down(running: Running) -> None:
    running.docker.ok(
        "run",
        "-d",
        "--rm",
        "--name",
        "short",
        "-v",
        "/anonymous",
        "--network",
        "none",
        running.image,
        "sleep",
        "300",
    )
    pid = pids(running)["short"]
    running.engine.kill()
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    running.engine.start()
    assert running.wire.get("/containers/json", all="1") == []
    assert not running.wire.get("/volumes")["Volumes"]


def test_created_paused_and_ended_containers_are_kept(running: Running) -> None:
    docker = running.docker
    docker.ok("create", "--name", "fresh", "--network", "none", running.image, "echo", "late")
    docker("run", "--name", "over", "--network", "none", running.image, "sh", "-c", "exit 5")
    docker.ok("run", "-d", "--name", "cold", "--network", "none", running.image, "sleep", "300")
    docker.ok("pause", "cold")
    docker.ok("volume", "create", "--label", "a=b", "kept")
    docker.ok("tag", running.image, "kept:tag")
    before = {name: running.wire.get(f"/containers/{name}/json") for name in ("fresh", "over", "cold")}
    running.engine.kill()
    running.engine.start()
    for name, seen in before.items():
        assert running.wire.get(f"/containers/{name}/json") == seen, name
    assert running.wire.get("/volumes/kept")["Labels"] == {"a": "b"}
    assert running.wire.get("/images/kept:tag/json")["RepoTags"]
    docker.ok("unpause", "cold")
    assert docker.ok("exec", "cold", "echo", "thawed") == "thawed"
    assert docker.ok("start", "-a", "fresh") == "late"
    docker.ok("rmi", "kept:tag")


def test_killed_again_and_again(running: Running) -> None:
    """SIGKILL at any moment of a start leaves either a container or none, and a daemon that starts."""
    for attempt in range(6):
        command = ("run", "-d", "--network", "none", "--name", f"try{attempt}", running.image, "sleep", "300")
        process = running.docker.popen(*command, stdin=subprocess.DEVNULL)
        time.sleep(0.01 * attempt)  # the moment is the point
        running.engine.kill()
        process.communicate(timeout=30)
        running.engine.start()
        for entry in running.wire.get("/containers/json", all="1"):
            assert entry["State"] in ("created", "running", "exited"), entry
            assert running.wire("DELETE", f"/containers/{entry['Id']}", query={"force": "1"}).status == 204


def test_restart_policies_over_a_restart(running: Running) -> None:
    docker = running.docker
    docker.ok(
        "run",
        "-d",
        "--name",
        "always",
        "--restart",
        "always",
        "--network",
        "none",
        running.image,
        "sleep",
        "300",
    )
    docker.ok(
        "run",
        "-d",
        "--name",
        "unless",
        "--restart",
        "unless-stopped",
        "--network",
        "none",
        running.image,
        "sleep",
        "300",
    )
    docker.ok("stop", "-t", "0", "unless")
    pid = pids(running)["always"]
    running.engine.kill()
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    running.engine.start()
    deadline = time.monotonic() + 15
    while not running.wire.get("/containers/always/json")["State"]["Running"]:
        assert time.monotonic() < deadline, "restart=always must start it again"
        time.sleep(0.05)
    assert running.wire.get("/containers/unless/json")["State"]["Running"] is False


def test_restart_on_failure(running: Running) -> None:
    running.docker.ok(
        "run",
        "-d",
        "--name",
        "fails",
        "--restart",
        "on-failure:2",
        "--network",
        "none",
        running.image,
        "sh",
        "-c",
        "echo go; exit 3",
    )
    deadline = time.monotonic() + 20
    while True:
        seen = running.wire.get("/containers/fails/json")
        if seen["State"]["Status"] == "exited" and seen["RestartCount"] == 2:
            break
        assert time.monotonic() < deadline, seen["State"]
        time.sleep(0.05)
    assert running.docker.ok("logs", "fails").split() == ["go"] * 3
    assert seen["State"]["ExitCode"] == 3


def test_two_daemons_side_by_side(
    running: Running, make_engine: object, registry: object, client_config: object
) -> None:
    from tests.conftest import make_cli, pull
    from tests.wire import Wire

    second = make_engine()  # type: ignore[operator]
    second.start()
    wire = Wire(second.socket, running.wire.version)
    pull(wire, running.image)
    other = make_cli("docker", second, client_config)  # type: ignore[arg-type]
    running.docker.ok("run", "-d", "--name", "same", "--network", "none", running.image, "sleep", "300")
    other.ok("run", "-d", "--name", "same", "--network", "none", running.image, "sleep", "301")
    assert len(wire.get("/containers/json")) == len(running.wire.get("/containers/json")) == 1
    other.ok("rm", "-f", "same")
    second.stop()
    assert running.docker.ok("exec", "same", "echo", "alive") == "alive"
