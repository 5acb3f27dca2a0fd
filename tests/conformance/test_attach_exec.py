"""Attach and exec: upgraded connections, framing, half-close, several at once, exit codes."""

import contextlib
import json
import re
import time
from typing import Any

import pytest

from tests.cli import Cli
from tests.conformance.test_lifecycle import Wait, create, ready, state
from tests.wire import Wire, frames, unframed

ALL = {"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"}


def test_upgrade_headers(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "cat", OpenStdin=True, StdinOnce=True)
    with wire.stream("POST", f"/containers/{container}/attach", query=ALL) as stream:
        assert stream.status == 101
        assert (stream.headers["connection"].lower(), stream.headers["upgrade"]) == ("upgrade", "tcp")
        types = ("application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream")
        assert stream.headers["content-type"] in types
        wire.post(f"/containers/{container}/start")
        stream.send(b"through\n")
        assert stream.read_exactly(8 + 8) == b"\x01\0\0\0\0\0\0\x08through\n"
        stream.close_write()
        assert stream.read_all() == b""
    with wire.stream("POST", f"/containers/{container}/attach", query=ALL, upgrade=False) as stream:
        assert stream.status == 200, "old clients hijack without asking for an upgrade"


def test_run_through_attach_wait_start(wire: Wire, busybox: str) -> None:
    """The docker CLI's order: create, attach, wait, start. Output and code are complete; stderr is apart."""
    script = "wc -c; echo oops >&2; exit 5"
    container = create(wire, busybox, "sh", "-c", script, OpenStdin=True, StdinOnce=True, AttachStdin=True)
    with wire.stream("POST", f"/containers/{container}/attach", query=ALL) as stream:
        waiting = Wait(wire, container, "next-exit")
        wire.post(f"/containers/{container}/start")
        stream.send(b"x" * 500_000)
        stream.close_write()
        data = stream.read_all()
    assert unframed(data, 1).strip() == b"500000" and unframed(data, 2) == b"oops\n"
    assert waiting.result()["StatusCode"] == 5


def test_attach_to_what_runs_with_logs(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "sh", "-c", "echo ready; cat", OpenStdin=True)
    wire.post(f"/containers/{container}/start")
    ready(wire, container)
    with wire.stream("POST", f"/containers/{container}/attach", query={**ALL, "logs": "1"}) as stream:
        stream.read_until(b"ready\n")
        stream.send(b"more\n")
        stream.read_until(b"more\n")
    with wire.stream("POST", f"/containers/{container}/attach", query=ALL) as stream:
        stream.send(b"again\n")
        data = stream.read_until(b"again\n")
        assert b"ready" not in data, "without logs only what comes from now on"
    only_logs = wire.stream("POST", f"/containers/{container}/attach", query={"logs": "1", "stdout": "1"})
    with only_logs:
        data = only_logs.read_all()
        assert unframed(data, 1) == b"ready\nmore\nagain\n"
    assert state(wire, container)["Running"], "a client that leaves closes nothing"


def test_several_clients_see_the_same(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "cat", OpenStdin=True)
    wire.post(f"/containers/{container}/start")
    with (
        wire.stream("POST", f"/containers/{container}/attach", query=ALL) as one,
        wire.stream("POST", f"/containers/{container}/attach", query=ALL) as two,
        wire.stream(
            "POST", f"/containers/{container}/attach", query={"stream": "1", "stderr": "1"}
        ) as errors,
    ):
        one.send(b"from one\n")
        two.read_until(b"from one\n")
        one.read_until(b"from one\n")
        two.send(b"from two\n")
        one.read_until(b"from two\n")
        wire.post(f"/containers/{container}/kill")
        assert errors.read_all() == b""


def test_stdin_stays_open_unless_once(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "cat", OpenStdin=True, StdinOnce=False)
    wire.post(f"/containers/{container}/start")
    with wire.stream("POST", f"/containers/{container}/attach", query=ALL) as stream:
        stream.send(b"one\n")
        stream.read_until(b"one\n")
    with wire.stream("POST", f"/containers/{container}/attach", query=ALL) as stream:
        stream.send(b"two\n")
        stream.read_until(b"two\n")
    once = create(wire, busybox, "cat", OpenStdin=True, StdinOnce=True)
    with wire.stream("POST", f"/containers/{once}/attach", query=ALL) as stream:
        wire.post(f"/containers/{once}/start")
        stream.send(b"x\n")
        stream.read_until(b"x\n")
        stream.close_write()
        stream.read_all()
    assert Wait(wire, once).result()["StatusCode"] == 0


@pytest.mark.minid_only("dockerd waits for its slowest client, for ever")
def test_a_reader_that_does_not_read_blocks_nobody_else(wire: Wire, busybox: str) -> None:
    """One attached client never reads while 5 MB pass: the other one, the log and the container's end do not wait."""
    container = create(wire, busybox, "sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' y")
    attach = ("POST", f"/containers/{container}/attach")
    output = {"stream": "1", "stdout": "1"}
    with wire.stream(*attach, query=output), wire.stream(*attach, query=output) as second:
        wire.post(f"/containers/{container}/start")
        data = second.read_all()
        assert wire.post(f"/containers/{container}/wait").json["StatusCode"] == 0
    assert unframed(data, 1).count(b"y") == 5_000_000
    logged = wire("GET", f"/containers/{container}/logs", query={"stdout": "1"}).body
    assert unframed(logged, 1).count(b"y") == 5_000_000


def test_attach_to_a_stopped_container(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli("run", "--name", "over", "--network", "none", busybox, "true")
    result = docker_cli("attach", "over")
    assert result.code == 1 and "cannot attach to a stopped container" in result.err.lower()


def test_attach_returns_the_exit_code(cli: Cli, busybox: str) -> None:
    cli.ok(
        "run",
        "-d",
        "-i",
        "--name",
        "box",
        "--network",
        "none",
        busybox,
        "sh",
        "-c",
        "read x; echo got $x; exit 8",
    )
    with cli.popen("attach", "box") as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"word\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got word\n"
        assert process.wait(20) == 8


def test_attach_by_bad_parameters(wire: Wire, busybox: str) -> None:
    container = create(wire, busybox, "true")
    response = wire(
        "POST", f"/containers/{container}/attach", query={"stream": "1", "detachKeys": "ctrl-nonsense"}
    )
    assert response.status == 400


# ---- exec


@pytest.fixture
def box(wire: Wire, busybox: str) -> str:
    container = create(
        wire, busybox, "sleep", "300", name="box", Env=["FROM=container"], WorkingDir="/etc", User="app"
    )
    assert wire.post(f"/containers/{container}/start").status == 204
    return container


def exec_create(wire: Wire, container: str, *command: str, **fields: Any) -> str:
    body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **fields}
    response = wire.post(f"/containers/{container}/exec", body)
    assert response.status == 201, response.body
    return str(response.json["Id"])


def test_exec_over_the_wire(wire: Wire, box: str) -> None:
    exec_id = exec_create(wire, box, "sh", "-c", "cat; echo err >&2; exit 9", AttachStdin=True)
    assert re.fullmatch(r"[0-9a-f]{64}", exec_id)
    before = wire.get(f"/exec/{exec_id}/json")
    assert (before["Running"], before["ExitCode"], before["ContainerID"], before["Pid"]) == (
        False,
        None,
        box,
        0,
    )
    assert (before["ProcessConfig"]["entrypoint"], before["ProcessConfig"]["arguments"][0]) == ("sh", "-c")
    assert exec_id in wire.get(f"/containers/{box}/json")["ExecIDs"]
    with wire.stream("POST", f"/exec/{exec_id}/start", {"Detach": False, "Tty": False}) as stream:
        assert stream.status == 101
        stream.send(b"hello")
        assert stream.read_exactly(13) == b"\x01\0\0\0\0\0\0\x05hello"
        assert wire.get(f"/exec/{exec_id}/json")["Running"] is True
        stream.close_write()
        assert list(frames(stream.read_all())) == [(2, b"err\n")]
    after = wire.get(f"/exec/{exec_id}/json")
    assert (after["Running"], after["ExitCode"]) == (False, 9)
    again = wire.post(f"/exec/{exec_id}/start", {})
    assert again.status == 409 or wire.version == "1.41"
    assert b"has already run" in again.body


def test_exec_inherits_and_overrides(cli: Cli, box: str) -> None:
    script = "echo $(id -un) $(pwd) $FROM $MORE $HOME"
    assert cli.ok("exec", "-e", "MORE=more", "box", "sh", "-c", script) == "app /etc container more /home/app"
    out = cli.ok(
        "exec",
        "-u",
        "0:www",
        "-w",
        "/tmp",
        "-e",
        "FROM=exec",
        "box",
        "sh",
        "-c",
        "id -u; id -gn; pwd; echo $FROM $HOME",
    )
    assert out.split() == ["0", "www", "/tmp", "exec", "/root"]


def test_exec_exit_codes(cli: Cli, wire: Wire, box: str) -> None:
    assert cli("exec", "box", "sh", "-c", "exit 42").code == 42
    missing = cli("exec", "box", "no-such-command")
    assert missing.code == 127 or (missing.code == 126 and wire.version == "1.41"), "127 since Docker 23"
    assert 'exec: "no-such-command": executable file not found in $PATH' in missing.err + missing.out
    denied = cli("exec", "box", "/etc/passwd")
    assert denied.code == 126 and "permission denied" in denied.err + denied.out
    assert cli("exec", "box", "sh", "-c", "kill -9 $$").code == 137
    nowhere = cli("exec", "-w", "/no/such/dir", "box", "true")
    assert nowhere.code in (126, 127)
    nobody = cli("exec", "-u", "nosuch", "box", "true")
    assert nobody.code != 0 and "unable to find user nosuch" in nobody.err + nobody.out


def test_exec_streams(cli: Cli, box: str) -> None:
    result = cli("exec", "box", "sh", "-c", "echo out; echo err >&2")
    assert (result.out, result.err) == ("out\n", "err\n")
    assert cli("exec", "-i", "box", "wc", "-c", stdin="z" * 200_000).out.strip() == "200000"
    assert len(cli("exec", "box", "sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' q").out) == 1_000_000
    assert cli("exec", "box", "cat", stdin="nothing without -i").out == ""


def test_exec_detached(cli: Cli, wire: Wire, box: str) -> None:
    assert (
        cli.ok("exec", "-d", "-u", "root", "box", "sh", "-c", "mkfifo /tmp/fifo; echo done > /tmp/fifo") == ""
    )
    assert (
        cli.ok(
            "exec",
            "-u",
            "root",
            "box",
            "sh",
            "-c",
            "until [ -p /tmp/fifo ]; do usleep 1000; done; cat /tmp/fifo",
        )
        == "done"
    )
    exec_id = exec_create(wire, box, "sh", "-c", "exit 3")
    assert wire.post(f"/exec/{exec_id}/start", {"Detach": True}).status in (200, 204)
    deadline = time.monotonic() + 10
    while (seen := wire.get(f"/exec/{exec_id}/json"))["Running"] or seen["ExitCode"] is None:
        assert time.monotonic() < deadline
    assert seen["ExitCode"] == 3


def test_exec_has_the_containers_confinement(docker_cli: Cli, box: str) -> None:
    script = "grep -E '^(CapInh|CapBnd|CapEff|Seccomp:|NoNewPrivs)' /proc/self/status; "
    script += "unshare -U true; cat /proc/self/cgroup"
    result = docker_cli("exec", "-u", "0", "box", "sh", "-c", script)
    fields = dict(line.split(":\t") for line in result.out.splitlines() if ":\t" in line)
    assert (fields["CapInh"], fields["CapEff"], fields["CapBnd"]) == (
        "0000000000000000",
        "00000000a80425fb",
        "00000000a80425fb",
    )
    assert fields["Seccomp"] == "2"
    assert "Operation not permitted" in result.err
    one = docker_cli.ok("exec", "box", "cat", "/proc/1/cgroup")
    assert one == docker_cli.ok("exec", "box", "cat", "/proc/self/cgroup")


def test_exec_is_not_a_child_of_pid_1_and_dies_with_it(docker_cli: Cli, wire: Wire, box: str) -> None:
    with docker_cli.popen("exec", "box", "sh", "-c", "echo ready; sleep 300") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        wire.post("/containers/box/kill")
        assert process.wait(20) == 137
        assert process.stdin is not None


def test_exec_needs_a_running_container(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    create(wire, busybox, "true", name="cold")
    response = wire.post("/containers/cold/exec", {"Cmd": ["true"]})
    assert response.status == 409 and re.search("is not running", response.message)
    assert docker_cli("exec", "cold", "true").code == 1
    create(wire, busybox, "sleep", "60", name="warm")
    wire.post("/containers/warm/start")
    no_command = wire.post("/containers/warm/exec", {"Cmd": []})
    assert no_command.status == 400 or wire.version == "1.41"
    assert "No exec command specified" in no_command.message


def test_exec_resize(wire: Wire, box: str) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done"
    exec_id = exec_create(wire, box, "sh", "-c", script, Tty=True)
    with wire.stream("POST", f"/exec/{exec_id}/start", {"Tty": True}) as stream:
        stream.read_until(b"ready")
        assert wire.post(f"/exec/{exec_id}/resize", h="21", w="43").status in (200, 201)
        stream.read_until(b"21 43")
    assert wire.post("/exec/nosuch/resize", h="21", w="43").status == 404


def test_exec_privileged_is_wider(docker_cli: Cli, engine_kind: str, box: str) -> None:
    if engine_kind == "dockerd":
        pytest.skip("minid_only: runc cannot add CAP_SYS_RESOURCE, which this machine's root lacks")
    out = docker_cli.ok("exec", "--privileged", "-u", "0", "box", "grep", "CapEff", "/proc/self/status")
    assert int(out.split()[1], 16) & (1 << 21), "CAP_SYS_ADMIN"


def test_many_execs_at_once(docker_cli: Cli, wire: Wire, box: str) -> None:
    with contextlib.ExitStack() as stack:
        commands = [("exec", "box", "sh", "-c", f"echo {number}; exit {number}") for number in range(12)]
        processes = [stack.enter_context(docker_cli.popen(*command)) for command in commands]
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == list(range(12))
    assert outputs == [f"{number}\n".encode() for number in range(12)]
    assert not wire.get("/containers/box/json")["ExecIDs"], "an exec that has ended is not listed any more"


def test_exec_create_and_die_events(wire: Wire, box: str) -> None:
    with wire.stream("GET", "/events", query={"filters": {"container": ["box"]}}, upgrade=False) as events:
        exec_id = exec_create(wire, box, "true")
        with wire.stream("POST", f"/exec/{exec_id}/start", {}) as stream:
            stream.read_all()
        text = events.read_until(b"exec_die")
        while text.rfind(b"\n") < text.rfind(b"exec_die"):
            text += events.read(65536)
    actions = [json.loads(line)["Action"].strip() for line in text.splitlines() if line.startswith(b"{")]
    assert actions[:3] == ["exec_create: true", "exec_start: true", "exec_die"]


@pytest.mark.parametrize("uts", ["", "host"])
def test_exec_where_the_network_is_another_containers(
    wire: Wire, docker_cli: Cli, busybox: str, uts: str
) -> None:
    """HOSTNAME is what the container itself was given, even when the other container has ended."""
    owner = create(wire, busybox, "sleep", "300", name="owner", Hostname="the-owner")
    wire.post(f"/containers/{owner}/start")
    host = {"NetworkMode": f"container:{owner}", "UTSMode": uts}
    guest = create(wire, busybox, "sh", "-c", "echo ready $HOSTNAME; exec sleep 300", HostConfig=host)
    assert wire.post(f"/containers/{guest}/start").status == 204
    ready(wire, guest)
    given = docker_cli.ok("logs", guest).removeprefix("ready ")
    assert given == "the-owner"
    asked = ("sh", "-c", "echo $HOSTNAME")
    assert docker_cli.ok("exec", guest, *asked) == given
    assert docker_cli.ok("exec", "-e", "HOSTNAME=own", guest, *asked) == "own"
    wire("DELETE", f"/containers/{owner}", query={"force": "1"})
    assert docker_cli.ok("exec", guest, *asked) == given
