"""Health checks as clients see them; the same on dockerd, except where a test says so."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from docker import DockerClient

from tests.cli import Cli
from tests.conformance.test_lifecycle import create, state
from tests.wire import Stream, Wire

SECOND = 1_000_000_000
FAST = {"Interval": SECOND // 4, "Retries": 2}
MINIDS_OWN = pytest.mark.minid_only("dockerd does nothing about an unhealthy container")


class Events:
    """The events of one container from now on (``past``: from the daemon's start on); use ``with``."""

    def __init__(self, wire: Wire, container: str, *, past: bool = False) -> None:
        query: dict[str, Any] = {"filters": {"container": [container]}}
        if past:
            query["since"] = "1"
        self._stream: Stream = wire.stream("GET", "/events", query=query, upgrade=False)
        self._rest = b""
        self.seen: list[dict[str, Any]] = []

    def until(self, action: str) -> dict[str, Any]:
        """The next event whose action begins so; what comes before it is in ``seen``."""
        while True:
            for line in self._lines():
                event: dict[str, Any] = json.loads(line)
                self.seen.append(event)
                if event["Action"].startswith(action):
                    return event
            part = self._stream.read(65536)
            assert part, f"the events ended before {action}"
            self._rest += part

    def _lines(self) -> Any:
        """Whole lines of JSON; the sizes of chunks between them are none."""
        while b"\n" in self._rest:
            line, _, self._rest = self._rest.partition(b"\n")
            if line.startswith(b"{"):
                yield line

    def actions(self) -> list[str]:
        return [event["Action"] for event in self.seen]

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()


def checked(wire: Wire, image: str, test: str, *command: str, **fields: Any) -> str:
    """A container that sleeps, with a check by the shell, created and not started."""
    check = {"Test": ["CMD-SHELL", test], **FAST, **fields.pop("Healthcheck", {})}
    return create(wire, image, *(command or ("sleep", "300")), Healthcheck=check, **fields)


def health_of(wire: Wire, container: str) -> dict[str, Any]:
    return dict(state(wire, container)["Health"])


def test_from_starting_to_unhealthy_to_healthy(wire: Wire, docker_cli: Cli, busybox: str) -> None:
    container = checked(wire, busybox, "echo looking; test -e /tmp/good", name="box")
    assert "Health" not in state(wire, container)
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        assert health_of(wire, container) == {"Status": "starting", "FailingStreak": 0, "Log": []}
        assert "(health: starting)" in docker_cli.ok("ps", "--format", "{{.Status}}")
        assert docker_cli.ok("ps", "-q", "--filter", "health=starting")
        events.until("health_status: unhealthy")
        bad = health_of(wire, container)
        assert bad["Status"] == "unhealthy" and bad["FailingStreak"] >= 2
        assert {(entry["ExitCode"], entry["Output"]) for entry in bad["Log"]} == {(1, "looking\n")}
        assert all(entry["Start"] < entry["End"] for entry in bad["Log"])
        assert docker_cli.ok("ps", "--format", "{{.Status}}").endswith("(unhealthy)")
        docker_cli.ok("exec", container, "touch", "/tmp/good")
        event = events.until("health_status")
        assert event["Action"] == "health_status: healthy"
        assert event["Actor"]["Attributes"]["name"] == "box" and event["Type"] == "container"
        good = health_of(wire, container)
        assert (good["Status"], good["FailingStreak"]) == ("healthy", 0)
        assert docker_cli.ok("ps", "--format", "{{.Status}}").endswith("(healthy)")
        for wanted, found in (("healthy", True), ("unhealthy", False), ("none", False)):
            listed = docker_cli.ok("ps", "-q", "--filter", f"health={wanted}")
            assert bool(listed) is found, wanted
        for _ in range(5):
            events.until("exec_die")
        assert len(health_of(wire, container)["Log"]) == 5, "the last five results"


def test_the_events_of_a_check_are_those_of_an_exec(wire: Wire, busybox: str) -> None:
    container = checked(wire, busybox, "exit 0")
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        events.until("health_status: healthy")
        program = "/bin/sh -c exit 0"
        expected = [f"exec_create: {program}", f"exec_start: {program}", "exec_die", "health_status: healthy"]
        assert [one for one in events.actions() if one != "start"] == expected
        ids = {one["Actor"]["Attributes"].get("execID") for one in events.seen if "exec" in one["Action"]}
        assert len(ids) == 1 and None not in ids
        assert events.seen[-2]["Actor"]["Attributes"]["exitCode"] == "0"


def test_a_check_is_run_as_an_exec_is(wire: Wire, docker_cli: Cli, variant: Callable[[str], str]) -> None:
    """The same user, variables, directory, capabilities, namespaces, limits and system call filter."""
    script = (
        "(id -u; pwd; env | sort; grep -E 'Cap|Seccomp|NoNewPrivs' /proc/self/status; "
        "ls -l /proc/self/ns | sed 's/.*->//' | sort; ulimit -n) "
    )
    container = checked(
        wire,
        variant("user"),
        script + "> /tmp/check",
        Env=["A=b"],
        HostConfig={"CapDrop": ["CHOWN"], "Ulimits": [{"Name": "nofile", "Soft": 99, "Hard": 99}]},
    )
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        events.until("health_status: healthy")
    seen = docker_cli.ok("exec", container, "cat", "/tmp/check").splitlines()
    same = docker_cli.ok("exec", container, "sh", "-c", script).splitlines()
    drop = ("SHLVL", "_=")
    assert [line for line in seen if not line.startswith(drop)] == [
        line for line in same if not line.startswith(drop)
    ]
    assert seen[0] == "1000" and "A=b" in seen and "99" in seen


@pytest.mark.parametrize(
    "test", [["NONE"], ["CMD", "test", "-e", "/a b"], ["CMD-SHELL", "echo  two  spaces"]]
)
def test_the_test_is_kept_as_it_was_given(wire: Wire, busybox: str, test: list[str]) -> None:
    """Two of Podman's bugs: NONE became something else (14493), spaces split words (26519)."""
    container = create(
        wire, busybox, "sh", "-c", "touch '/a b'; sleep 300", Healthcheck={"Test": test, **FAST}
    )
    assert wire.get(f"/containers/{container}/json")["Config"]["Healthcheck"]["Test"] == test
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        if test == ["NONE"]:
            assert "Health" not in state(wire, container)
            assert "health" not in wire.get("/containers/json")[0]["Status"]
            assert len(wire.get("/containers/json", filters={"health": ["none"]})) == 1
            return
        events.until("health_status: healthy")
    if test[0] == "CMD-SHELL":
        assert health_of(wire, container)["Log"][0]["Output"] == "two spaces\n"


def test_a_program_that_is_not_there(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sleep", "300", Healthcheck={"Test": ["CMD", "no-such"], **FAST})
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        events.until("health_status: unhealthy")
    result = health_of(wire, container)["Log"][0]
    assert result["ExitCode"] == -1
    assert 'exec: "no-such": executable file not found in $PATH' in result["Output"]


def test_long_output_is_cut(wire: Wire, busybox: str) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo x; i=$((i+1)); done"
    container = checked(wire, busybox, script)
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        events.until("health_status: healthy")
    output = health_of(wire, container)["Log"][0]["Output"]
    assert output == "x\n" * 2048 + "..."


def test_a_check_that_takes_too_long(wire: Wire, docker_cli: Cli, busybox: str, engine_kind: str) -> None:
    """It fails; with minid it is also killed, with everything it has started, wherever that hides."""
    script = "echo begun; setsid sh -c 'sleep 1111 & sleep 1112' & sleep 1113 & exec sleep 1114"
    container = checked(wire, busybox, script, Healthcheck={"Timeout": SECOND // 2})
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        events.until("health_status: unhealthy")
        result = health_of(wire, container)["Log"][0]
        assert result["ExitCode"] == -1
        assert result["Output"].startswith("Health check exceeded timeout (500ms)")
        if engine_kind == "minid":
            assert result["Output"] == "Health check exceeded timeout (500ms): begun\n"
            died = [event for event in events.seen if event["Action"] == "exec_die"]
            assert died[0]["Actor"]["Attributes"]["exitCode"] == "137"
            sleeping = docker_cli.ok("top", container, "-o", "pid,args")
            assert sleeping.count("sleep 1114") <= 1, "of the one that runs now"
            assert sleeping.count("sleep 111") <= 4, sleeping


def test_what_a_check_leaves_running_on_purpose_stays(wire: Wire, docker_cli: Cli, busybox: str) -> None:
    script = "test -e /tmp/once || { touch /tmp/once; sleep 1222 >/dev/null 2>&1 & }"
    container = checked(wire, busybox, script)
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        for _ in range(3):
            events.until("exec_die")
    assert docker_cli.ok("top", container, "-o", "pid,args").count("sleep 1222") == 1


def test_in_the_start_period_failures_do_not_count(wire: Wire, busybox: str) -> None:
    container = checked(
        wire,
        busybox,
        "test -e /tmp/good",
        Healthcheck={"StartPeriod": 60 * SECOND, "StartInterval": SECOND // 4, "Interval": SECOND // 4},
    )
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        for _ in range(4):
            events.until("exec_die")
        now = health_of(wire, container)
        assert (now["Status"], now["FailingStreak"]) == ("starting", 0) and now["Log"]


def test_at_the_end_of_a_run_and_at_the_next_one(wire: Wire, busybox: str) -> None:
    container = checked(wire, busybox, "exit 0")
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        events.until("health_status: healthy")
        wire("POST", f"/containers/{container}/stop", query={"t": "0"})
        ended = health_of(wire, container)
        assert ended["Status"] == "unhealthy" and ended["FailingStreak"] == 0 and ended["Log"]
        events.until("stop")
        assert "health_status: unhealthy" not in events.actions()
        wire.post(f"/containers/{container}/start")
        again = health_of(wire, container)
        assert again["Status"] == "starting" and again["Log"] == ended["Log"]
        events.until("health_status: healthy")


def test_paused(wire: Wire, busybox: str) -> None:
    container = checked(wire, busybox, "exit 0")
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        events.until("health_status: healthy")
        wire.post(f"/containers/{container}/pause")
        assert health_of(wire, container)["Status"] == "unhealthy"
        assert wire.get("/containers/json")[0]["Status"].endswith("(Paused)")
        wire.post(f"/containers/{container}/unpause")
        events.until("unpause")
        events.until("health_status: healthy")


@pytest.mark.minid_only("dockerd waits for the check to notice")
def test_a_check_holds_up_nothing(wire: Wire, busybox: str) -> None:
    """Neither a stop, nor a pause, nor a removal waits for a check that hangs."""
    container = checked(
        wire, busybox, "trap '' TERM; sleep 1333; sleep 1333", Healthcheck={"Timeout": 60 * SECOND}
    )
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        events.until("exec_start")
        wire.post(f"/containers/{container}/pause")
        wire.post(f"/containers/{container}/unpause")
        assert wire("POST", f"/containers/{container}/stop", query={"t": "0"}, timeout_s=5).status == 204
        wire.post(f"/containers/{container}/start")
        events.until("exec_start")
        assert wire("DELETE", f"/containers/{container}", query={"force": "1"}, timeout_s=5).status == 204


def test_inherited_from_the_image(cli: Cli, wire: Wire, busybox: str) -> None:
    cli.ok("create", "--name", "made", "--network", "none", busybox, "sleep", "300")
    change = 'HEALTHCHECK --interval=250ms --retries=7 CMD ["test", "-d", "/etc"]'
    cli.ok("commit", "--change", change, "made", "checked:1")
    try:
        cli.ok("run", "-d", "--name", "same", "--network", "none", "checked:1")
        cli.ok("run", "-d", "--name", "other", "--network", "none", "--health-retries", "3", "checked:1")
        cli.ok("run", "-d", "--name", "without", "--network", "none", "--no-healthcheck", "checked:1")
        inherited = {"Test": ["CMD", "test", "-d", "/etc"], "Interval": SECOND // 4}
        found = {
            name: wire.get(f"/containers/{name}/json")["Config"]["Healthcheck"]
            for name in ("same", "other", "without")
        }
        assert found == {
            "same": {**inherited, "Retries": 7},
            "other": {**inherited, "Retries": 3},
            "without": {**inherited, "Test": ["NONE"], "Retries": 7},
        }
        with Events(wire, "same") as events:
            events.until("exec_die")
        assert health_of(wire, "same")["Status"] == "healthy"
        assert "Health" not in state(wire, "without")
    finally:
        cli.ok("rm", "-f", "made", "same", "other", "without")
        cli.ok("rmi", "checked:1")


def test_the_flags_of_run(cli: Cli, wire: Wire, busybox: str) -> None:
    flags = ["--health-cmd", "echo a  b; exit 3", "--health-interval", "1m30s", "--health-retries", "4"]
    flags += ["--health-timeout", "2s", "--health-start-period", "500ms"]
    cli.ok("create", "--name", "flags", "--network", "none", *flags, busybox, "true")
    assert wire.get("/containers/flags/json")["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "echo a  b; exit 3"],
        "Interval": 90 * SECOND,
        "Timeout": 2 * SECOND,
        "StartPeriod": SECOND // 2,
        "Retries": 4,
    }


def test_docker_py(dockerpy: DockerClient, busybox: str) -> None:
    check = {"test": ["CMD", "true"], "interval": SECOND // 4, "retries": 1}
    container = dockerpy.containers.run(
        busybox, ["sleep", "300"], network_mode="none", detach=True, healthcheck=check
    )
    for event in dockerpy.events(decode=True, filters={"container": container.id, "event": "health_status"}):
        assert event["Action"] == "health_status: healthy"
        break
    container.reload()
    assert container.health == "healthy"
    assert dockerpy.containers.list(filters={"health": "healthy"}) == [container]


@pytest.mark.parametrize(
    "wrong",
    [{"Interval": 1000}, {"Timeout": -1}, {"Retries": -1}, {"StartPeriod": 5}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_refusals(wire: Wire, busybox: str, wrong: dict[str, int]) -> None:
    body = {"Image": busybox, "Cmd": ["true"], "Healthcheck": {"Test": ["CMD", "true"], **wrong}}
    response = wire.post("/containers/create", body)
    assert response.status == 400 and "in Healthcheck cannot be" in response.message


# --- what minid does about an unhealthy container


@MINIDS_OWN
def test_restarted_when_unhealthy(wire: Wire, docker_cli: Cli, busybox: str) -> None:
    """By no policy but its own; the delay grows from run to run, because no run was ever healthy."""
    host = {"HealthOnFailure": "restart"}
    container = checked(wire, busybox, "exit 1", HostConfig=host, StopSignal="SIGKILL")
    assert wire.get(f"/containers/{container}/json")["HostConfig"]["HealthOnFailure"] == "restart"
    starts = []
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        died_ns = 0
        delays_s = []
        for _ in range(4):
            started = events.until("start")
            starts.append(started["timeNano"])
            if died_ns:
                delays_s.append((started["timeNano"] - died_ns) / 1e9)
            events.until("health_status: unhealthy")
            died_ns = events.until("die")["timeNano"]
    assert all(delay_s >= least_s for delay_s, least_s in zip(delays_s, (0.1, 0.2, 0.4), strict=True)), (
        delays_s
    )
    assert wire.get(f"/containers/{container}/json")["RestartCount"] >= 3
    docker_cli.ok("stop", "-t", "0", container)
    assert state(wire, container)["Status"] == "exited", "a stop by the user is the end of it"


@MINIDS_OWN
def test_killed_when_unhealthy_the_policy_goes_on(wire: Wire, busybox: str) -> None:
    host = {
        "HealthOnFailure": "kill",
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1},
    }
    container = checked(wire, busybox, "exit 1", HostConfig=host)
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        for _ in range(2):
            events.until("start")
            assert events.until("die")["Actor"]["Attributes"]["exitCode"] == "137"
    ended = wire.post(f"/containers/{container}/wait").json
    assert ended["StatusCode"] == 137
    assert state(wire, container)["Status"] == "exited"


@MINIDS_OWN
def test_stopped_when_unhealthy(wire: Wire, busybox: str) -> None:
    host = {"HealthOnFailure": "stop", "RestartPolicy": {"Name": "always"}}
    script = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")
    container = checked(wire, busybox, "exit 1", *script, HostConfig=host)
    with Events(wire, container) as events:
        wire.post(f"/containers/{container}/start")
        events.until("stop")
    now = state(wire, container)
    assert (now["Status"], now["ExitCode"]) == ("exited", 7), "its policy does not start it again"


@MINIDS_OWN
def test_the_flag_of_minictl(cli: Cli, wire: Wire, busybox: str) -> None:
    if cli.name != "minictl":
        pytest.skip("the docker CLI does not have the flag")
    options = ["--network", "none", "--health-cmd", "exit 1", "--health-interval", "200ms"]
    options += ["--health-retries", "1", "--health-on-failure"]
    cli.ok(
        "run",
        "-d",
        "--name",
        "one",
        *options,
        "stop",
        busybox,
        "sh",
        "-c",
        "trap 'exit 3' TERM; sleep 9 & wait",
    )
    assert cli.ok("wait", "one") == "3"
    refused = cli("run", *options, "reboot", busybox, "true")
    assert refused.code == 125 and "invalid HealthOnFailure: reboot" in refused.err
    refused = cli("run", "--health-on-failure", "kill", busybox, "true")
    assert refused.code == 125 and "without a health check" in refused.err
    refused = cli("run", "--rm", *options, "restart", busybox, "true")
    assert refused.code == 125 and "AutoRemove" in refused.err
