"""Logs: framing, order, tail, since, until, timestamps, follow; and the json-file on disk."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Cli
from tests.conformance.test_lifecycle import create
from tests.wire import Wire, frames, unframed

TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


def logs(wire: Wire, container: str, **query: Any) -> bytes:
    response = wire("GET", f"/containers/{container}/logs", query={"stdout": "1", "stderr": "1", **query})
    assert response.status == 200, response.body
    return response.body


def run(wire: Wire, image: str, script: str, name: str, **fields: Any) -> str:
    container = create(wire, image, "sh", "-c", script, name=name, **fields)
    assert wire.post(f"/containers/{container}/start").status == 204
    assert wire.post(f"/containers/{container}/wait").status == 200
    return container


def test_framing_and_selection(wire: Wire, busybox: str) -> None:
    run(wire, busybox, "echo one; usleep 20000; echo two >&2; usleep 20000; echo -n three", "framed")
    data = logs(wire, "framed")
    assert list(frames(data)) == [(1, b"one\n"), (2, b"two\n"), (1, b"three")]
    assert unframed(logs(wire, "framed", stderr="0"), 1) == b"one\nthree"
    assert list(frames(logs(wire, "framed", stdout="0"))) == [(2, b"two\n")]
    neither = wire("GET", "/containers/framed/logs")
    assert neither.status == 400 and "you must choose at least one stream" in neither.message
    response = wire("GET", "/containers/framed/logs", query={"stdout": "1"})
    expected = None if wire.version == "1.41" else "application/vnd.docker.multiplexed-stream"
    assert response.headers["Content-Type"] == expected


def test_tty_logs_are_raw(wire: Wire, busybox: str) -> None:
    run(wire, busybox, "echo one; echo two >&2", "raw", Tty=True)
    assert logs(wire, "raw") == b"one\r\ntwo\r\n"


def test_tail(cli: Cli, wire: Wire, busybox: str) -> None:
    run(wire, busybox, "for i in $(seq 1 200); do echo line $i; done", "tailed")
    assert cli.ok("logs", "--tail", "3", "tailed").splitlines() == ["line 198", "line 199", "line 200"]
    assert cli.ok("logs", "-n", "0", "tailed") == ""
    assert len(cli.ok("logs", "tailed").splitlines()) == 200
    assert len(cli.ok("logs", "--tail", "all", "tailed").splitlines()) == 200
    assert len(cli.ok("logs", "--tail", "1000", "tailed").splitlines()) == 200


def test_timestamps_since_and_until(cli: Cli, wire: Wire, busybox: str) -> None:
    run(wire, busybox, "echo first; sleep 1.1; echo second; sleep 1.1; echo third", "timed")
    lines = cli.ok("logs", "-t", "timed").splitlines()
    assert all(re.fullmatch(rf"{TIMESTAMP} (first|second|third)", line) for line in lines), lines
    second = lines[1].split()[0]
    assert cli.ok("logs", "--since", second, "timed").split() == ["second", "third"]
    assert cli.ok("logs", "--until", second, "timed").split()[:1] == ["first"]
    assert "third" not in cli.ok("logs", "--until", second, "timed")
    assert cli.ok("logs", "--since", "1h", "timed").split() == ["first", "second", "third"]
    assert cli.ok("logs", "--since", "1h", "--tail", "1", "timed") == "third"
    assert logs(wire, "timed", since="4000000000") == b""


def test_follow_ends_with_the_container(cli: Cli, wire: Wire, busybox: str) -> None:
    script = "for i in 1 2 3; do echo $i; echo e$i >&2; sleep 0.1; done"
    cli.ok("run", "-d", "--name", "followed", "--network", "none", busybox, "sh", "-c", script)
    result = cli("logs", "-f", "followed")
    assert (result.code, result.out, result.err) == (0, "1\n2\n3\n", "e1\ne2\ne3\n")
    assert cli("logs", "-f", "followed").out == "1\n2\n3\n", "following what has ended ends at once"
    assert cli("logs", "-f", "--tail", "1", "followed").out in ("3\n", "")


def test_follow_shows_output_as_it_comes(wire: Wire, busybox: str) -> None:
    create(
        wire, busybox, "sh", "-c", "echo before; read line; echo got $line; cat", name="live", OpenStdin=True
    )
    wire.post("/containers/live/start")
    with wire.stream(
        "GET", "/containers/live/logs", query={"follow": "1", "stdout": "1"}, upgrade=False
    ) as stream:
        stream.read_until(b"before")
        with wire.stream("POST", "/containers/live/attach", query={"stream": "1", "stdin": "1"}) as stdin:
            stdin.send(b"hello\n")
            stream.read_until(b"got hello")
            stdin.send(b"more\n")
            stream.read_until(b"more")
        wire("POST", "/containers/live/kill")
        stream.read_all()


def test_following_from_now(wire: Wire, busybox: str) -> None:
    create(wire, busybox, "sh", "-c", "echo old; cat", name="live", OpenStdin=True)
    wire.post("/containers/live/start")
    with wire.stream(
        "GET", "/containers/live/logs", query={"follow": "1", "stdout": "1"}, upgrade=False
    ) as stream:
        stream.read_until(b"old")
    with (
        wire.stream(
            "GET", "/containers/live/logs", query={"follow": "1", "stdout": "1", "tail": "0"}, upgrade=False
        ) as stream,
        wire.stream("POST", "/containers/live/attach", query={"stream": "1", "stdin": "1"}) as stdin,
    ):
        stdin.send(b"new\n")
        assert b"old" not in stream.read_until(b"new")
        wire("POST", "/containers/live/kill")


def test_long_lines_and_odd_bytes(wire: Wire, busybox: str) -> None:
    """Lines longer than the 16 KiB that a json-file entry holds come back whole; invalid UTF-8 is replaced at most."""
    run(
        wire,
        busybox,
        "head -c 100000 /dev/zero | tr '\\0' a; echo; "
        "printf 'tab\\tquote\"back\\\\slash \\303\\251\\n'; printf '\\001\\n'",
        "long",
    )
    data = unframed(logs(wire, "long"), 1)
    first, second, third = data.splitlines()
    assert first == b"a" * 100000
    assert second == 'tab\tquote"back\\slash é'.encode()
    assert third == b"\x01"


def test_the_file_is_json_lines(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    run(
        wire,
        busybox,
        "echo to stdout; usleep 20000; echo to stderr >&2; usleep 20000; echo -n partial",
        "filed",
    )
    path = Path(wire.get("/containers/filed/json")["LogPath"])
    assert path.name.endswith("-json.log")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(entry["stream"], entry["log"]) for entry in entries] == [
        ("stdout", "to stdout\n"),
        ("stderr", "to stderr\n"),
        ("stdout", "partial"),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", entry["time"]) for entry in entries)


def test_rotation(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    options = ("--log-opt", "max-size=50k", "--log-opt", "max-file=2")
    docker_cli(
        "run",
        "--name",
        "rotated",
        "--network",
        "none",
        *options,
        busybox,
        "sh",
        "-c",
        "for i in $(seq 1 3000); do echo line number $i of three thousand; done",
    )
    path = Path(wire.get("/containers/rotated/json")["LogPath"])
    files = sorted(path.parent.glob(f"{path.name}*"))
    assert 2 <= len(files) <= 2
    assert all(file.stat().st_size <= 60_000 for file in files)
    lines = docker_cli.ok("logs", "rotated").splitlines()
    assert lines[-1] == "line number 3000 of three thousand"
    numbers = [int(line.split()[2]) for line in lines]
    assert numbers == list(range(numbers[0], 3001)), "what is kept has no holes"
    assert (
        docker_cli.ok("logs", "--tail", "2", "rotated").splitlines()[0]
        == "line number 2999 of three thousand"
    )


@pytest.mark.minid_only("dockerd keeps unbounded logs unless told")
def test_rotation_by_default(wire: Wire, busybox: str) -> None:
    run(
        wire,
        busybox,
        "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 24000000",
        "big",
    )
    path = Path(wire.get("/containers/big/json")["LogPath"])
    files = list(path.parent.glob(f"{path.name}*"))
    assert 2 <= len(files) <= 3
    assert sum(file.stat().st_size for file in files) <= 33 << 20


def test_log_driver_none(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    result = docker_cli(
        "run", "--name", "silent", "--network", "none", "--log-driver", "none", busybox, "echo", "seen"
    )
    assert (result.code, result.out) == (0, "seen\n")
    response = wire("GET", "/containers/silent/logs", query={"stdout": "1"})
    assert response.status == 500 or response.status == 501 or b"does not support reading" in response.body
    refused = docker_cli("run", "--rm", "--log-driver", "nonsense", "--network", "none", busybox, "true")
    assert refused.code == 125


def test_unknown_log_option_is_refused(docker_cli: Cli, busybox: str) -> None:
    result = docker_cli("run", "--rm", "--network", "none", "--log-opt", "nonsense=1", busybox, "true")
    assert result.code == 125
    assert "nonsense" in result.err
