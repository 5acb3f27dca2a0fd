"""``--link`` in the default network, with containers that talk and, with ``icc`` off, that may not."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli import Cli
from tests.conftest import make_cli, pull
from tests.engine import Engine
from tests.tidiness import remove_everything
from tests.wire import Wire

pytestmark = pytest.mark.minid_only("the tests' dockerd runs without its firewall and default bridge")

SLEEP = ("sleep", "300")
SERVE = "echo hello >/i; while :; do nc -l -p 80 </i; done & while :; do nc -l -p 81 </i; done"
LISTENING = "until netstat -lnt | grep -q ':80 ' && netstat -lnt | grep -q ':81 '; do sleep 0.05; done"


@pytest.fixture(autouse=True)
def all_goes(tidy: None, wire: Wire) -> Iterator[None]:
    yield
    remove_everything(wire)


@pytest.fixture
def silent(
    make_engine: Callable[..., Engine], busybox: str, client_config: Path
) -> Iterator[tuple[Engine, Cli]]:
    """A daemon with ``--icc=false``, and a client."""
    engine = make_engine(extra=("--icc=false",))
    engine.start()
    wire = Wire(engine.socket)
    pull(wire, busybox)
    yield engine, make_cli("docker", engine, client_config)
    remove_everything(wire)


def environment(text: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in text.splitlines())


def address(wire: Wire, name: str) -> str:
    return str(wire.get(f"/containers/{name}/json")["NetworkSettings"]["IPAddress"])


def test_environment_and_hosts(cli: Cli, wire: Wire, busybox: str) -> None:
    cli.ok(
        *("run", "-d", "--name", "db", "-h", "dbhost", "--expose", "5432", "-e", "USER=me", "-e", "HOME=/h"),
        *(busybox, *SLEEP),
    )
    ip = address(wire, "db")
    options = ("--name", "web", "--link", "db:my-store", "-e", "MY_STORE_NAME=mine")
    cli.ok("run", "-d", *options, busybox, *SLEEP)
    for text in (
        cli.ok("exec", "web", "env"),
        cli.ok("exec", "web", "sh", "-c", "tr '\\0' '\\n' </proc/1/environ"),
    ):
        found = {name: value for name, value in environment(text).items() if name.startswith("MY_STORE")}
        assert found == {
            "MY_STORE_PORT": f"tcp://{ip}:5432",
            "MY_STORE_PORT_5432_TCP": f"tcp://{ip}:5432",
            "MY_STORE_PORT_5432_TCP_ADDR": ip,
            "MY_STORE_PORT_5432_TCP_PORT": "5432",
            "MY_STORE_PORT_5432_TCP_PROTO": "tcp",
            "MY_STORE_ENV_USER": "me",
            "MY_STORE_NAME": "mine",
        }, "what the user says of a variable counts"
    lines = [line.split() for line in cli.ok("exec", "web", "cat", "/etc/hosts").splitlines()]
    assert lines[-2] == [ip, "my-store", "dbhost", "db"], "links come before the container's own line"
    assert lines[-1][0] == address(wire, "web")
    assert wire.get("/containers/web/json")["HostConfig"]["Links"] == ["/db:/web/my-store"]
    cli.ok("rename", "db", "database")
    assert wire.get("/containers/web/json")["HostConfig"]["Links"] == ["/database:/web/my-store"]
    cli.ok("restart", "-t", "0", "web")
    assert f"{address(wire, 'database')}\tmy-store" in cli.ok("exec", "web", "cat", "/etc/hosts")
    cli.ok("rm", "--link", "web/my-store")
    assert wire.get("/containers/web/json")["HostConfig"]["Links"] is None
    assert "my-store" not in cli.ok("exec", "web", "cat", "/etc/hosts")
    assert "MY_STORE_PORT" not in cli.ok("exec", "web", "env")
    again = cli("rm", "--link", "web/my-store")
    assert (again.code, "No such container: web/my-store" in again.err) == (1, True)
    assert wire("DELETE", "/containers/web", query={"link": "1"}).status == 500


def test_whom_a_container_cannot_be_linked_to(cli: Cli, wire: Wire, busybox: str) -> None:
    cli.ok("create", "--name", "still", busybox, *SLEEP)
    refused = cli("run", "--name", "one", "--link", "still:s", busybox, "true")
    assert (refused.code, "Cannot link to a non running container: /still AS /one/s" in refused.err) == (
        125,
        True,
    )
    cli.ok("network", "create", "own")
    cli.ok("run", "-d", "--name", "elsewhere", "--network", "own", busybox, *SLEEP)
    refused = cli("run", "--rm", "--link", "elsewhere:e", busybox, "true")
    assert "Cannot link to /elsewhere, as it does not belong to the default network" in refused.err
    assert not cli("run", "--rm", "--network", "own", "--link", "still:s", busybox, "true").code, (
        "a name only"
    )


def reads(docker: Cli, source: str, target: str, port: int) -> bool:
    return "hello" in docker("exec", source, "nc", "-w", "2", target, str(port)).out


def test_a_link_opens_what_is_exposed_where_containers_may_not_talk(
    silent: tuple[Engine, Cli], busybox: str
) -> None:
    engine, docker = silent
    wire = Wire(engine.socket)
    docker.ok("run", "-d", "--name", "db", "--expose", "80", busybox, "sh", "-c", SERVE)
    for name, options in (("web", ("--link", "db:store")), ("other", ())):
        docker.ok("run", "-d", "--name", name, *options, busybox, *SLEEP)
    docker.ok("exec", "db", "sh", "-c", LISTENING)
    assert reads(docker, "web", "store", 80)
    assert not reads(docker, "web", "store", 81), "not exposed"
    assert not reads(docker, "other", address(wire, "db"), 80), "not linked"
    docker.ok("restart", "-t", "0", "db")
    docker.ok("exec", "db", "sh", "-c", LISTENING)
    assert reads(docker, "web", "store", 80), "at its new address"
    engine.kill()
    engine.start()
    assert reads(docker, "web", "store", 80), "with the next daemon"
    assert not reads(docker, "other", address(wire, "db"), 80)
    docker.ok("rm", "--link", "web/store")
    assert not reads(docker, "web", address(wire, "db"), 80)


def test_linked_containers_start_with_the_daemon_in_order(silent: tuple[Engine, Cli], busybox: str) -> None:
    engine, docker = silent
    wire = Wire(engine.socket)
    docker.ok("run", "-d", "--name", "base", "--restart", "always", busybox, *SLEEP)
    for number in range(4):
        linked = ("--name", f"on{number}", "--restart", "always", "--link", "base")
        docker.ok("run", "-d", *linked, busybox, *SLEEP)
    names = ("base", *(f"on{number}" for number in range(4)))
    pids = [wire.get(f"/containers/{name}/json")["State"]["Pid"] for name in names]
    engine.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    engine.start()
    deadline = time.monotonic() + 10
    while not all(wire.get(f"/containers/{name}/json")["State"]["Running"] for name in names):
        assert time.monotonic() < deadline, [wire.get(f"/containers/{name}/json")["State"] for name in names]
        time.sleep(0.05)
