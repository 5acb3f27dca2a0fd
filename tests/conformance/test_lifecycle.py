"""create, start, stop, kill, restart, wait, rename, remove: states, exit codes, races, and events of each."""

import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli import Cli
from tests.wire import Response, Stream, UnixConnection, Wire

ZERO_TIME = "0001-01-01T00:00:00Z"


def create(wire: Wire, image: str, *command: str, name: str = "", **fields: Any) -> str:
    host = {"NetworkMode": "none", **fields.pop("HostConfig", {})}
    body = {"Image": image, "Cmd": list(command) or None, "HostConfig": host, **fields}
    response = wire("POST", "/containers/create", body, query={"name": name} if name else {})
    assert response.status == 201, response.body
    return str(response.json["Id"])


def state(wire: Wire, container: str) -> dict[str, Any]:
    return dict(wire.get(f"/containers/{container}/json")["State"])


class Wait:
    """A ``POST /wait`` under way: its headers have come, so whatever happens now is seen."""

    def __init__(self, wire: Wire, container: str, condition: str = "") -> None:
        self._stream: Stream = wire.stream(
            "POST",
            f"/containers/{container}/wait",
            query={"condition": condition} if condition else {},
            upgrade=False,
        )
        assert self._stream.status == 200

    def result(self) -> dict[str, Any]:
        with self._stream:
            data = self._stream.read_until(b"}")
            return dict(json.loads(data[data.index(b"{") : data.rindex(b"}") + 1]))


def test_one_life(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sh", "-c", "exit 3", name="life")
    before = state(wire, container)
    assert (before["Status"], before["Running"], before["Pid"], before["ExitCode"]) == (
        "created",
        False,
        0,
        0,
    )
    assert (before["StartedAt"], before["FinishedAt"]) == (ZERO_TIME, ZERO_TIME)
    waiting = Wait(wire, "life", "next-exit")
    assert wire.post(f"/containers/{container}/start").status == 204
    assert waiting.result()["StatusCode"] == 3
    after = state(wire, container[:12])
    assert (after["Status"], after["Running"], after["Pid"], after["ExitCode"]) == ("exited", False, 0, 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z", after["StartedAt"])
    assert after["StartedAt"] < after["FinishedAt"]
    assert wire("DELETE", "/containers/life").status == 204
    assert wire("GET", "/containers/life/json").status == 404


def test_already_started_and_already_stopped(wire: Wire, busybox: str) -> None:
    create(wire, busybox, "sleep", "60", name="once")
    assert [wire.post("/containers/once/start").status for _ in range(2)] == [204, 304]
    assert [wire("POST", "/containers/once/stop", query={"t": "0"}).status for _ in range(2)] == [204, 304]
    killed = wire.post("/containers/once/kill")
    assert killed.status == 409 and "is not running" in killed.message


def test_what_is_not_there_is_404(wire: Wire, engine: object) -> None:
    for method, path in (
        ("GET", "/containers/nosuch/json"),
        ("POST", "/containers/nosuch/start"),
        ("POST", "/containers/nosuch/stop"),
        ("POST", "/containers/nosuch/kill"),
        ("POST", "/containers/nosuch/restart"),
        ("POST", "/containers/nosuch/wait"),
        ("POST", "/containers/nosuch/rename?name=x"),
        ("POST", "/containers/nosuch/resize?h=1&w=1"),
        ("POST", "/containers/nosuch/pause"),
        ("GET", "/containers/nosuch/logs?stdout=1"),
        ("GET", "/containers/nosuch/top"),
        ("GET", "/containers/nosuch/changes"),
        ("POST", "/containers/nosuch/attach?stream=1"),
        ("DELETE", "/containers/nosuch"),
        ("GET", "/exec/nosuch/json"),
        ("GET", "/images/nosuch:tag/json"),
        ("GET", "/images/nosuch:tag/history"),
        ("DELETE", "/images/nosuch:tag"),
        ("GET", "/volumes/nosuch"),
    ):
        path, _, query = path.partition("?")
        response = wire(method, path, query=dict(pair.split("=") for pair in query.split("&") if pair))
        assert response.status == 404, (method, path, response.status, response.body)
        assert b"nosuch" in response.body, (path, response.body)
        if not path.endswith("/attach"):  # dockerd answers that one in plain text
            assert "nosuch" in response.message
            assert response.headers["Content-Type"].startswith("application/json")
    assert wire("POST", "/containers/nosuch/exec", {"Cmd": ["true"]}).status == 404
    missing_image = wire.post("/containers/create", {"Image": "nosuch:tag", "Cmd": ["x"]})
    assert missing_image.status == 404 and "No such image: nosuch:tag" in missing_image.message


def test_wait_conditions(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sh", "-c", "exit 4", name="waited")
    not_running = Wait(wire, container)
    assert not_running.result()["StatusCode"] == 0, "a created container is not running"
    exits = [Wait(wire, container, "next-exit") for _ in range(3)]
    removal = Wait(wire, container, "removed")
    wire.post(f"/containers/{container}/start")
    assert {wait.result()["StatusCode"] for wait in exits} == {4}
    assert Wait(wire, container).result()["StatusCode"] == 4, "not-running answers at once"
    wire("DELETE", f"/containers/{container}")
    assert removal.result()["StatusCode"] == 4


def test_wait_for_removal_of_a_container_that_removes_itself(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sh", "-c", "exit 6", HostConfig={"AutoRemove": True})
    waiting = Wait(wire, container, "removed")
    wire.post(f"/containers/{container}/start")
    assert waiting.result()["StatusCode"] == 6
    assert wire("GET", f"/containers/{container}/json").status == 404


@pytest.mark.minid_only("Docker has refused it since version 23, Debian's is 20.10")
def test_wait_condition_must_be_known(wire: Wire, busybox: str) -> None:
    create(wire, busybox, "true", name="waited")
    response = wire("POST", "/containers/waited/wait", query={"condition": "nonsense"})
    assert response.status == 400 and "nonsense" in response.message


def test_fast_exits_are_never_missed(wire: Wire, busybox: str) -> None:
    for code in range(5):
        container = create(wire, busybox, "sh", "-c", f"exit {code}")
        waiting = Wait(wire, container, "next-exit")
        wire.post(f"/containers/{container}/start")
        assert waiting.result()["StatusCode"] == code


def test_start_twice_keeps_the_file_system(cli: Cli, busybox: str) -> None:
    cli.ok(
        "create",
        "--name",
        "again",
        "--network",
        "none",
        busybox,
        "sh",
        "-c",
        "echo x >> /count; wc -l < /count",
    )
    assert cli.ok("start", "-a", "again") == "1"
    assert cli.ok("start", "-a", "again") == "2"
    assert cli.ok("logs", "again").split() == ["1", "2"]


def test_stop_signal_timeout_and_exit_code(
    cli: Cli, wire: Wire, busybox: str, variant: Callable[[str], str]
) -> None:
    trap = "trap 'exit 10' TERM; trap 'exit 11' USR1; trap 'exit 12' HUP; echo ready; while :; do sleep 0.02; done"
    cli.ok("run", "-d", "--name", "term", "--network", "none", busybox, "sh", "-c", trap)
    cli.ok("run", "-d", "--name", "image", "--network", "none", variant("stopsignal"), "sh", "-c", trap)
    cli.ok(
        "run",
        "-d",
        "--name",
        "option",
        "--network",
        "none",
        "--stop-signal",
        "HUP",
        busybox,
        "sh",
        "-c",
        trap,
    )
    cli.ok("run", "-d", "--name", "deaf", "--network", "none", "--stop-timeout", "1", busybox, "sleep", "60")
    for name in ("term", "image", "option"):
        ready(wire, name)
    assert cli.ok("stop", "term", "image", "option", "deaf").split() == ["term", "image", "option", "deaf"]
    codes = {name: state(wire, name)["ExitCode"] for name in ("term", "image", "option", "deaf")}
    assert codes == {"term": 10, "image": 11, "option": 12, "deaf": 137}
    assert cli.ok("start", "deaf") == "deaf"
    cli.ok("stop", "-t", "0", "deaf")
    assert state(wire, "deaf")["OOMKilled"] is False


def ready(wire: Wire, name: str) -> None:
    """Return when the container has printed its first line."""
    with wire.stream(
        "GET", f"/containers/{name}/logs", query={"follow": "1", "stdout": "1"}, upgrade=False
    ) as stream:
        stream.read_until(b"ready")


def test_kill_with_signals_by_name_and_number(cli: Cli, wire: Wire, busybox: str) -> None:
    trap = "trap 'echo got' USR2; trap 'exit 21' INT; echo ready; while :; do sleep 0.02; done"
    cli.ok("run", "-d", "--name", "target", "--network", "none", busybox, "sh", "-c", trap)
    ready(wire, "target")
    with wire.stream(
        "GET", "/containers/target/logs", query={"follow": "1", "stdout": "1"}, upgrade=False
    ) as stream:
        for count, name in enumerate(("USR2", "SIGUSR2", "12"), 1):
            assert cli.ok("kill", "--signal", name, "target") == "target"
            seen = b""
            while seen.count(b"got") < 1:
                seen += stream.read(65536)
            assert count
    assert cli("kill", "-s", "NOSUCH", "target").code == 1
    cli.ok("kill", "-s", "INT", "target")
    assert cli.ok("wait", "target") == "21"
    result = cli("kill", "target", "nosuch")
    assert result.code == 1 and "is not running" in result.err and "No such container: nosuch" in result.err


def test_restart(cli: Cli, wire: Wire, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "again", "--network", "none", busybox, "sleep", "60")
    first = state(wire, "again")
    assert cli.ok("restart", "-t", "0", "again") == "again"
    second = state(wire, "again")
    assert second["Running"] and second["Pid"] != first["Pid"] and second["StartedAt"] > first["StartedAt"]
    cli.ok("kill", "again")
    cli.ok("restart", "again")
    assert state(wire, "again")["Running"] is True


def test_names(cli: Cli, wire: Wire, busybox: str) -> None:
    first = cli.ok("create", "--name", "taken", "--network", "none", busybox, "true")
    conflict = cli("create", "--name", "taken", "--network", "none", busybox, "true")
    assert conflict.code in (1, 125)
    expected = f'Conflict. The container name "/taken" is already in use by container "{first}"'
    assert expected in conflict.err
    second = create(wire, busybox, "true")
    generated = wire.get(f"/containers/{second}/json")["Name"]
    assert re.fullmatch(r"/[a-z]+_[a-z]+\d?", generated)
    clash = wire("POST", f"/containers/{second}/rename", query={"name": "taken"})
    assert clash.status == 409 and expected in clash.message
    cli.ok("rename", "taken", "free-again")
    assert wire.get("/containers/free-again/json")["Id"] == first
    assert wire("GET", "/containers/taken/json").status == 404
    assert wire("POST", f"/containers/{second}/rename", query={"name": "taken"}).status == 204
    assert wire("POST", f"/containers/{second}/rename", query={"name": "-bad"}).status in (400, 500)
    assert wire("POST", f"/containers/{second}/rename", query={"name": ""}).status == 400


def test_ids_may_be_short_and_names_win(wire: Wire, busybox: str) -> None:
    first = create(wire, busybox, "true")
    second = create(wire, busybox, "true", name=first[:12])
    assert wire.get(f"/containers/{first[:12]}/json")["Id"] == second, "a name is looked for before a prefix"
    assert wire.get(f"/containers/{first[:20]}/json")["Id"] == first
    assert wire.get(f"/containers/{first}/json")["Id"] == first


def test_removing_what_runs(cli: Cli, wire: Wire, busybox: str) -> None:
    container = cli.ok("run", "-d", "--name", "busy", "--network", "none", busybox, "sleep", "60")
    refused = cli("rm", "busy")
    assert refused.code == 1
    assert re.search(r"(cannot remove|You cannot remove a running) container", refused.err)
    assert container in refused.err or "busy" in refused.err
    assert cli.ok("rm", "-f", "busy") == "busy"
    assert cli("rm", "busy").code == 1
    assert cli("rm", "-f", "busy").code in (0, 1)


def test_restart_policy_is_kept_and_auto_remove_excludes_it(
    docker_cli: Cli, wire: Wire, busybox: str
) -> None:
    docker_cli.ok(
        "create", "--name", "policy", "--restart", "on-failure:3", "--network", "none", busybox, "true"
    )
    assert wire.get("/containers/policy/json")["HostConfig"]["RestartPolicy"] == {
        "Name": "on-failure",
        "MaximumRetryCount": 3,
    }
    body = {
        "Image": busybox,
        "Cmd": ["true"],
        "HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
    }
    assert wire.post("/containers/create", body).status == 400


def test_concurrent_operations_on_one_container(wire: Wire, busybox: str) -> None:
    """Starts race with stops and kills; nothing hangs, nothing is 500, and it ends as it should."""
    create(wire, busybox, "sleep", "60", name="contended")
    answers: list[Response] = []

    def work(path: str, query: dict[str, str]) -> None:
        for _ in range(4):
            answers.append(wire("POST", f"/containers/contended/{path}", query=query))

    threads = [
        threading.Thread(target=work, args=arguments)
        for arguments in (("start", {}), ("stop", {"t": "0"}), ("kill", {}), ("restart", {"t": "0"}))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} <= {204, 304, 409}, [
        answer.body for answer in answers if answer.status == 500
    ]
    assert len(answers) == 16
    wire("POST", "/containers/contended/stop", query={"t": "0"})
    assert state(wire, "contended")["Status"] == "exited"


def test_many_requests_on_one_connection(wire: Wire, busybox: str) -> None:
    connection = UnixConnection(wire.path)
    for number in range(3):
        body = {
            "Image": busybox,
            "Cmd": ["sh", "-c", f"exit {number}"],
            "HostConfig": {"NetworkMode": "none"},
        }
        created = wire("POST", "/containers/create", body, connection=connection)
        container = created.json["Id"]
        assert wire("POST", f"/containers/{container}/start", connection=connection).status == 204
        waited = wire("POST", f"/containers/{container}/wait", connection=connection)
        assert waited.json["StatusCode"] == number
        assert wire("DELETE", f"/containers/{container}", connection=connection).status == 204
    connection.close()


def test_prune(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli.ok("run", "-d", "--name", "runs", "--network", "none", busybox, "sleep", "60")
    docker_cli.ok("create", "--name", "never", "--network", "none", busybox, "true")
    docker_cli(
        "run", "--name", "ended", "--network", "none", busybox, "sh", "-c", "head -c 100000 /dev/zero > /x"
    )
    docker_cli.ok("create", "--name", "labelled", "--label", "keep", "--network", "none", busybox, "true")
    answer = wire.post("/containers/prune", filters={"label!": ["keep"]}).json
    assert len(answer["ContainersDeleted"]) == 2 and answer["SpaceReclaimed"] >= 100000
    assert set(docker_cli.ok("ps", "-a", "--format", "{{.Names}}").split()) == {"runs", "labelled"}


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"Image": 7}', b'{"Image": "x", "HostConfig": []}'], ids=repr
)
def test_malformed_creations_are_400(wire: Wire, engine: object, body: bytes) -> None:
    response = wire("POST", "/containers/create", body, headers={"Content-Type": "application/json"})
    assert response.status == 400 or wire.version == "1.41", response.body  # Docker 20.10 says 500
    assert response.status >= 400
    assert response.message


def test_top(cli: Cli, wire: Wire, busybox: str) -> None:
    cli.ok(
        "run", "-d", "--name", "top", "--network", "none", busybox, "sh", "-c", "sleep 71 & echo ready; wait"
    )
    ready(wire, "top")
    lines = cli.ok("top", "top").splitlines()
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [line for line in lines if line.endswith("sleep 71")]
    assert str(state(wire, "top")["Pid"]) in " ".join(lines).split()
    answer = wire("GET", "/containers/top/top", query={"ps_args": "-o pid,args"}).json
    assert answer["Titles"] == ["PID", "COMMAND"] and any(row[1] == "sleep 71" for row in answer["Processes"])
    cli.ok("kill", "top")
    stopped = wire("GET", "/containers/top/top")
    assert stopped.status in (409, 500) and "is not running" in stopped.message
