"""Networks when the daemon dies, when several daemons run, when many containers start at once."""

import os
import random
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from tests.cli import Result
from tests.engine import Engine
from tests.system.conftest import Running
from tests.wire import Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only("the tests' dockerd runs without its firewall and default bridge"),
]

SLEEP = ("sleep", "300")


def bridge(running: Running) -> str:
    return running.engine.root.name[:15]


def ports_of(running: Running) -> set[str]:
    """The bridge's ports, as the kernel has them."""
    return set(os.listdir(f"/sys/class/net/{bridge(running)}/brif"))


def await_ports(running: Running, count: int) -> None:
    """A namespace's devices go a moment after its last process."""
    deadline = time.monotonic() + 5
    while len(ports_of(running)) != count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(ports_of(running)) == count


def reserved(running: Running) -> list[tuple[str, str]]:
    """(container, address), as the next daemon would find them."""
    path = f"file:{running.engine.data_root}/minid.db?mode=ro"
    with sqlite3.connect(path, uri=True) as database:
        return list(
            database.execute(
                "SELECT container_id, address FROM addresses JOIN endpoints ON endpoint_id = endpoints.id"
            )
        )


def addresses(running: Running) -> dict[str, str]:
    """Of the running containers, by id: what inspect says, checked against what they have."""
    found = {}
    for entry in running.wire.get("/containers/json"):
        shown = entry["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        have = running.docker.ok("exec", entry["Id"], "ip", "-o", "-4", "addr", "show", "eth0")
        assert f" {shown}/" in have
        found[entry["Id"]] = shown
    return found


def http(address: str, port: int) -> bytes:
    with socket.create_connection((address, port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.makefile("rb").read()


def test_many_starts_at_once_do_not_collide(running: Running) -> None:
    results: list[Result] = []

    def start(number: int) -> None:
        results.append(running.docker("run", "-d", "--name", f"c{number}", running.image, *SLEEP))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.code for result in results] == [0] * 12, results
    found = addresses(running)
    assert len(found) == len(set(found.values())) == 12
    assert sorted(reserved(running)) == sorted(found.items())
    assert len(ports_of(running)) == 12
    running.docker.ok("rm", "-f", *found)
    assert reserved(running) == []
    await_ports(running, 0)


def test_networks_outlive_the_daemon(running: Running) -> None:
    script = "mkdir /w && echo hello >/w/index.html && exec httpd -f -p 80 -h /w"
    running.docker.ok("run", "-d", "--name", "web", "-p", "127.0.0.1::80", running.image, "sh", "-c", script)
    running.docker.ok(
        *("run", "-d", "--name", "other", running.image, "sh", "-c"),
        "i=0; while :; do ping -c 1 -W 1 $0 >/dev/null && echo ok $i || echo lost $i; i=$((i+1)); sleep 0.1; done",
        running.wire.get("/containers/web/json")["NetworkSettings"]["IPAddress"],
    )
    running.docker.ok("network", "create", "kept")
    running.docker.ok("network", "connect", "--alias", "nick", "kept", "web")
    before = running.wire.get("/containers/web/json")["NetworkSettings"]
    port = int(before["Ports"]["80/tcp"][0]["HostPort"])
    network = running.wire.get("/networks/kept")
    for end in (running.engine.kill, running.engine.stop):
        end()
        assert b"hello" in http("127.0.0.1", port), "packets flow while the daemon is away"
        running.engine.start()
        assert running.wire.get("/containers/web/json")["NetworkSettings"] == before
        assert running.wire.get("/networks/kept") == network
        assert b"hello" in http("127.0.0.1", port)
        running.docker.ok("run", "--rm", running.image, "ping", "-c", "1", "-W", "1", before["IPAddress"])
        taken = running.docker("run", "--rm", "-p", f"127.0.0.1:{port}:80", running.image, "true")
        assert "port is already allocated" in taken.err
    lines = running.docker.ok("logs", "other").splitlines()
    assert lines and all(line.startswith("ok") for line in lines), lines
    running.docker.ok("rm", "-f", "web", "other")
    with pytest.raises(OSError):
        http("127.0.0.1", port)
    running.docker.ok("network", "rm", "kept")


@pytest.mark.timeout(240)
def test_killed_at_any_moment(running: Running) -> None:
    """Whenever the daemon dies, the next one gives no address twice, and loses none."""
    chance = random.Random(int(os.environ.get("MINID_TEST_SEED", "7")))
    for round_number in range(10):
        threads = [
            threading.Thread(
                target=running.docker,
                args=("run", "-d", *flags, running.image, "sleep", seconds),
                daemon=True,
            )
            for flags in ((), ("--rm",), ("-p", "80"))
            for seconds in ("300", "0")
        ]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.0, 0.35))
        running.engine.kill()
        for thread in threads:
            thread.join()
        running.engine.start()
        found = addresses(running)
        assert len(set(found.values())) == len(found), f"an address twice in round {round_number}"
        assert sorted(reserved(running)) == sorted(found.items())
        await_ports(running, len(found))
        fresh = running.docker.ok("run", "-d", running.image, *SLEEP)
        assert addresses(running)[fresh] not in found.values()
        everything = [entry["Id"] for entry in running.wire.get("/containers/json", all="1")]
        for container in chance.sample(everything, len(everything) // 2):
            running.docker.ok("rm", "-f", container)
    everything = [entry["Id"] for entry in running.wire.get("/containers/json", all="1")]
    running.docker.ok("rm", "-f", *everything)
    assert reserved(running) == []
    await_ports(running, 0)


def test_a_guest_does_not_keep_its_host_s_interface(running: Running) -> None:
    """Another container still holds the network namespace of one that has ended."""
    running.docker.ok("run", "-d", "--name", "base", running.image, *SLEEP)
    running.docker.ok("run", "-d", "--name", "guest", "--network", "container:base", running.image, *SLEEP)
    assert len(ports_of(running)) == 1
    running.docker.ok("stop", "-t", "0", "base")
    await_ports(running, 0)
    running.docker.ok("start", "base")
    await_ports(running, 1)
    running.docker.ok("rm", "-f", "base", "guest")


def test_what_somebody_took_away_is_put_back(running: Running) -> None:
    """A reload repairs the bridge's address; the next daemon makes a bridge that is gone."""
    running.docker.ok("run", "-d", "--name", "box", running.image, *SLEEP)
    gateway = running.wire.get("/containers/box/json")["NetworkSettings"]["Gateway"]
    subprocess.run(["ip", "addr", "flush", "dev", bridge(running)], check=True)
    assert running.docker("exec", "box", "ping", "-c", "1", "-W", "1", gateway).code != 0
    os.kill(running.engine.pid, signal.SIGHUP)
    deadline = time.monotonic() + 5
    while running.docker("exec", "box", "ping", "-c", "1", "-W", "1", gateway).code != 0:
        assert time.monotonic() < deadline
    running.docker.ok("rm", "-f", "box")
    running.engine.kill()
    subprocess.run(["ip", "link", "del", bridge(running)], check=True)
    running.engine.start()
    running.docker.ok("run", "--rm", running.image, "ping", "-c", "1", "-W", "1", gateway)


def test_a_bridge_is_one_daemon_s(make_engine: Callable[..., Engine]) -> None:
    """The second daemon serves all the same, and says what is wrong when its bridge is asked for."""
    first = make_engine()
    first.start()
    device = first.root.name[:15]
    second = make_engine(extra=("--bridge", device, "--bip", "10.199.199.1/24"))
    second.start()
    assert f"the bridge {device} is in use by another minid" in second.log_tail()
    wire = Wire(second.socket)
    assert wire("GET", "/_ping").status == 200
    second.stop()
    assert os.path.exists(f"/sys/class/net/{device}"), "the other one's bridge stays"
    first.stop()
    assert not os.path.exists(f"/sys/class/net/{device}"), "nobody is in it: it is gone"


def test_without_a_bridge(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(extra=("--bridge", "none"))
    before = set(os.listdir("/sys/class/net"))
    engine.start()
    wire = Wire(engine.socket)
    assert {network["Name"] for network in wire.get("/networks")} == {"host", "none"}
    assert not {name for name in set(os.listdir("/sys/class/net")) - before if name.startswith("minid")}


@pytest.mark.parametrize("count", [3])
def test_subnets_of_networks_avoid_the_host_s(make_engine: Callable[..., Engine], count: int) -> None:
    pool = "10.198.0.0/16"
    engine = make_engine(extra=("--bridge", "none", "--default-address-pool", f"base={pool},size=24"))
    engine.start()
    wire = Wire(engine.socket)
    taken = f"mtx{os.getpid()}"
    subprocess.run(["ip", "link", "add", taken, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", "10.198.1.7/24", "dev", taken], check=True)
        subnets = []
        for number in range(count):
            identifier = wire.post("/networks/create", {"Name": f"n{number}"}).json["Id"]
            subnets.append(wire.get(f"/networks/{identifier}")["IPAM"]["Config"][0]["Subnet"])
        assert subnets == ["10.198.0.0/24", "10.198.2.0/24", "10.198.3.0/24"]
    finally:
        subprocess.run(["ip", "link", "del", taken], check=True)
    for number in range(count):
        assert wire("DELETE", f"/networks/n{number}").status == 204


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_five_hundred_starts_and_stops_leave_nothing(running: Running) -> None:
    """A tenth of the containers are killed while they start, on bridges, with and without ports."""
    wire = running.wire
    wire.post("/networks/create", {"Name": "own"})
    chance = random.Random(11)
    failures: list[str] = []

    def starts(count: int, seed: int) -> None:
        mine = random.Random(seed)
        for number in range(count):
            mode = ("bridge", "own")[number % 2]
            host_config = {"NetworkMode": mode, "PortBindings": {"80/tcp": [{}]} if number % 3 == 0 else {}}
            body = {
                "Image": running.image,
                "Cmd": ["sleep", "300"],
                "StopSignal": "SIGKILL",
                "HostConfig": host_config,
            }
            container = wire.post("/containers/create", body).json["Id"]
            killer = threading.Timer(
                mine.uniform(0, 0.03), lambda it=container: wire.post(f"/containers/{it}/kill")
            )
            killed = number % 10 == 0
            if killed:
                killer.start()
            started = wire.post(f"/containers/{container}/start")
            if killed:
                killer.join()
            elif started.status != 204:
                failures.append(started.message)
            stopped = wire.post(f"/containers/{container}/stop")
            if stopped.status not in (204, 304):
                failures.append(stopped.message)
            wire("DELETE", f"/containers/{container}", query={"force": "1"})

    threads = [threading.Thread(target=starts, args=(125, chance.randrange(1000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:5]
    assert wire.get("/containers/json", all="1") == []
    assert reserved(running) == []
    await_ports(running, 0)
    assert wire("DELETE", "/networks/own").status == 204
