"""``GET /containers/{id}/stats``: the fields, and the numbers that clients calculate from them."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker import DockerClient

from tests.cli import Cli
from tests.conformance.contract import find_definitions
from tests.conformance.test_lifecycle import create, ready
from tests.wire import UnixConnection, Wire

NO_METRICS = pytest.mark.minid_only(
    "Debian's containerd reads no metrics where the cgroup mounts are not those that systemd makes"
)
BUSY = ("sh", "-c", "echo ready; while :; do :; done")
ZERO_TIME = "0001-01-01T00:00:00Z"


def started(wire: Wire, image: str, *command: str, **fields: Any) -> str:
    container = create(wire, image, *command, **fields)
    response = wire.post(f"/containers/{container}/start")
    assert response.status == 204, response.body
    return container


def cpu_percent(sample: dict[str, Any]) -> float:
    """By the formulas in the API's definition."""
    now, before = sample["cpu_stats"], sample["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    system = now["system_cpu_usage"] - before["system_cpu_usage"]
    return float(used / system * now["online_cpus"] * 100)


def is_right(sample: dict[str, Any]) -> bool:
    """Whether the formulas give what was used of the time that has passed, however busy the machine is."""
    now, before = (sample[part]["cpu_usage"]["total_usage"] for part in ("cpu_stats", "precpu_stats"))
    passed = datetime.fromisoformat(sample["read"]) - datetime.fromisoformat(sample["preread"])
    used_percent = (now - before) / 1e9 / passed.total_seconds() * 100
    return bool(cpu_percent(sample) == pytest.approx(used_percent, rel=0.15, abs=1))


def lines_of(wire: Wire, path: str, count: int) -> list[dict[str, Any]]:
    """The first answers of a stream, which is then left."""
    connection = UnixConnection(wire.path)
    try:
        connection.request("GET", wire.url(path))
        response = connection.getresponse()
        assert response.status == 200
        return [json.loads(response.readline()) for _ in range(count)]
    finally:
        connection.close()


@NO_METRICS
def test_every_field_of_the_definition_is_there(wire: Wire, busybox: str) -> None:
    path = find_definitions()
    if path is None:
        pytest.skip("the Engine API's definitions are not there: set MINID_TEST_SPECS to their folder")
    operation = yaml.safe_load(path.read_text())["paths"]["/containers/{id}/stats"]["get"]
    example = operation["responses"][200]["examples"]["application/json"]
    del example["memory_stats"]["failcnt"]  # left out while it is 0
    if not Path("/sys/fs/cgroup/memory").exists():  # "On a cgroup v2 host, the following fields are not set"
        del example["memory_stats"]["max_usage"], example["cpu_stats"]["cpu_usage"]["percpu_usage"]
        del example["precpu_stats"]["cpu_usage"]["percpu_usage"]
    for part in ("cpu_stats", "precpu_stats"):  # the example has them one level too high
        for name in ("usage_in_usermode", "total_usage", "usage_in_kernelmode"):
            example[part]["cpu_usage"][name] = example[part].pop(name, 0)
    del example["networks"]["eth5"], example["memory_stats"]["stats"]
    container = started(wire, busybox, "sleep", "300", HostConfig={"NetworkMode": "bridge"})
    sample = wire.get(f"/containers/{container}/stats", stream="0")
    assert_has(sample, example, "")
    assert sample["memory_stats"]["stats"] and sample["pids_stats"]["current"] == 1
    assert sample["name"] == wire.get(f"/containers/{container}/json")["Name"] and sample["id"] == container


def assert_has(data: Any, example: Any, where: str) -> None:
    if isinstance(example, dict):
        for key, value in example.items():
            assert key in data, f"{where}.{key} is missing"
            assert_has(data[key], value, f"{where}.{key}")
    elif isinstance(example, list):
        assert all(type(item) is type(example[0]) for item in data), where
    else:
        assert type(data) is type(example), (where, data)


@NO_METRICS
def test_cpu_and_memory_come_out_right(wire: Wire, busybox: str) -> None:
    limit = 64 << 20
    host = {"Memory": limit, "NanoCpus": 50_000_000, "PidsLimit": 77}
    busy = started(wire, busybox, *BUSY, HostConfig=host)
    ready(wire, busy)
    idle = started(wire, busybox, "sleep", "300")
    first, second = lines_of(wire, f"/containers/{busy}/stats", 2)
    assert first["preread"] == ZERO_TIME and first["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert second["preread"] == first["read"] < second["read"]
    assert second["precpu_stats"] == first["cpu_stats"]
    assert is_right(second) and 0.5 < cpu_percent(second) < 15, "it may have a twentieth of a CPU"
    assert second["cpu_stats"]["throttling_data"]["throttled_periods"] > 0
    assert second["memory_stats"]["limit"] == limit and second["pids_stats"]["limit"] == 77
    assert 0 < second["memory_stats"]["usage"] < limit
    once = wire.get(f"/containers/{idle}/stats", stream="0")
    assert is_right(once) and cpu_percent(once) < 1 and once["preread"] > ZERO_TIME
    assert once["memory_stats"]["limit"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    at_once = wire.get(f"/containers/{idle}/stats", **{"stream": "0", "one-shot": "1"})
    assert at_once["preread"] == ZERO_TIME and at_once["read"] > once["read"]


@NO_METRICS
def test_networks_are_those_of_the_namespace(wire: Wire, docker_cli: Cli, busybox: str) -> None:
    owner = started(wire, busybox, "sleep", "300", HostConfig={"NetworkMode": "bridge"})
    guest = started(wire, busybox, "sleep", "300", HostConfig={"NetworkMode": f"container:{owner}"})
    gateway = wire.get(f"/containers/{owner}/json")["NetworkSettings"]["Gateway"]
    docker_cli.ok("exec", guest, "ping", "-c", "3", "-i", "0.1", "-s", "1000", gateway)
    for container in (owner, guest):
        counted = wire.get(f"/containers/{container}/stats", **{"stream": "0", "one-shot": "1"})["networks"]
        assert set(counted) == {"eth0"}, "without lo"
        assert counted["eth0"]["tx_packets"] >= 3 and 3000 < counted["eth0"]["tx_bytes"] < 100_000
        assert counted["eth0"]["rx_bytes"] > 3000
    for mode in ("none", "host"):
        other = started(wire, busybox, "sleep", "300", HostConfig={"NetworkMode": mode})
        query = {"stream": "0", "one-shot": "1"}
        assert "networks" not in wire.get(f"/containers/{other}/stats", **query)


def test_a_container_that_does_not_run(wire: Wire, busybox: str) -> None:
    container = started(wire, busybox, "true", name="over")
    wire.post(f"/containers/{container}/wait")
    no_cpu = {
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }
    for query in ({"stream": "0"}, {"stream": "0", "one-shot": "1"}):
        sample = wire.get("/containers/over/stats", **query)
        assert set(sample.pop("blkio_stats").values()) == {None}
        assert sample == {
            "read": ZERO_TIME,
            "preread": ZERO_TIME,
            "pids_stats": {},
            "num_procs": 0,
            "storage_stats": {},
            "cpu_stats": no_cpu,
            "precpu_stats": no_cpu,
            "memory_stats": {},
            "name": "/over",
            "id": container,
        }


def test_refusals(wire: Wire, busybox: str) -> None:
    create(wire, busybox, "true", name="made")
    refused = wire("GET", "/containers/made/stats", query={"one-shot": "1"})
    assert refused.status == 400 and refused.message == "cannot have stream=true and one-shot=true"
    assert wire("GET", "/containers/nosuch/stats", query={"stream": "0"}).status == 404


def test_a_stream_goes_on_until_the_container_is_removed(wire: Wire, busybox: str) -> None:
    container = started(wire, busybox, "sleep", "300")
    with wire.stream("GET", f"/containers/{container}/stats", upgrade=False) as stream:
        stream.read_until(container.encode())
        wire("POST", f"/containers/{container}/stop", query={"t": "0"})
        stopped = stream.read_until(b'"memory_stats":{}')
        assert b'"memory_stats":{}' in stopped, "it has stopped: nothing, once a second"
        wire("DELETE", f"/containers/{container}")
        stream.read_all()


@NO_METRICS
def test_a_stream_goes_through_a_restart_and_a_pause(wire: Wire, busybox: str) -> None:
    container = started(wire, busybox, "sleep", "300")
    with wire.stream("GET", f"/containers/{container}/stats", upgrade=False) as stream:
        stream.read_until(b'"current":1')
        wire.post(f"/containers/{container}/pause")
        stream.read_until(b'"current":1')
        wire.post(f"/containers/{container}/unpause")
        wire("POST", f"/containers/{container}/restart", query={"t": "0"})
        stream.read_until(b'"current":1')


@NO_METRICS
def test_the_columns_of_both_clients(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "busy", "-m", "64m", "--network", "none", busybox, *BUSY)
    cli.ok("run", "-d", "--name", "idle", "-m", "32m", busybox, "sleep", "300")
    header, *rows = cli.ok("stats", "--no-stream").splitlines()
    assert header.split("  ")[0] == "CONTAINER ID"
    assert (
        " ".join(header.split()) == "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS"
    )
    found = {row.split()[1]: row.split() for row in rows}
    assert set(found) == {"busy", "idle"}
    assert 1 < float(found["busy"][2].rstrip("%")) < 115 and float(found["idle"][2].rstrip("%")) < 1
    assert found["busy"][5] == "64MiB" and found["idle"][5] == "32MiB" and found["busy"][-1] == "1"
    assert found["busy"][7:10] == ["0B", "/", "0B"]
    one = json.loads(cli.ok("stats", "--no-stream", "--format", "json", "idle"))
    assert one["Name"] == "idle" and one["PIDs"] == "1" and one["MemUsage"].endswith(" / 32MiB")
    assert one["NetIO"] != "0B / 0B"
    cli.ok("stop", "-t", "0", "idle")
    assert "idle" not in cli.ok("stats", "--no-stream")
    assert "idle" in cli.ok("stats", "--no-stream", "--all")
    assert cli("stats", "--no-stream", "nosuch").code == 1


@NO_METRICS
def test_docker_py(dockerpy: DockerClient, busybox: str) -> None:
    container = dockerpy.containers.run(busybox, list(BUSY), network_mode="none", detach=True)
    once = container.stats(stream=False)
    assert is_right(once) and 1 < cpu_percent(once) < 115
    stream = container.stats(decode=True)
    next(stream)
    sample = next(stream)
    assert is_right(sample) and 1 < cpu_percent(sample) < 115
    stream.close()
