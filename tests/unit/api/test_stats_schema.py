"""Samples of either cgroup version in Docker's JSON; the whole of it, key by key."""

from typing import Any

from minid.api.schema import stats as schema
from minid.containers.model import Container, ContainerConfig, HostConfig, NetworkingConfig, State
from minid.containers.stats import Sample, Usage
from minid.kernel.usage import CpuTime

GIB = 1 << 30
CONTAINER = Container(
    id="c" * 64,
    name="web",
    created_ns=1,
    image_id="sha256:" + "a" * 64,
    platform="linux",
    config=ContainerConfig(),
    host_config=HostConfig(),
    networking=NetworkingConfig(),
    state=State("running"),
    path="sh",
    args=(),
    mounts=(),
    storage_driver="overlay2",
    log_path="",
)
ENTRY = {"major": 8, "minor": 0, "op": "Read", "value": 4096}
INTERFACE = {f"{way}_{what}": 1 for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")}
NO_BLKIO = dict.fromkeys(schema.BLKIO_KINDS)


def sample(version: int, **group: Any) -> Sample:
    return Sample(1_700_000_000_000_000_000, version, group, CpuTime(9_000_000_000, 4), 8 * GIB, {})


def test_cgroup_v1() -> None:
    cpu = {"usage_ns": 500, "user_ns": 300, "system_ns": 200, "percpu_ns": [400, 100]}
    cpu |= {"periods": 7, "throttled_periods": 2, "throttled_ns": 50}
    memory = {"usage_bytes": 100, "max_usage_bytes": 120, "limit_bytes": 2**63 - 4096, "failures": 3}
    memory |= {"stat": {"total_inactive_file": 10, "cache": 20}}
    blkio = {"io_service_bytes_recursive": [ENTRY], "io_serviced_recursive": []}
    now = sample(1, cpu=cpu, memory=memory, pids={"current": 3, "limit": None}, blkio=blkio)
    assert schema.stats(Usage(CONTAINER, now, None)) == {
        "read": "2023-11-14T22:13:20Z",
        "preread": "0001-01-01T00:00:00Z",
        "pids_stats": {"current": 3},
        "blkio_stats": {**NO_BLKIO, "io_service_bytes_recursive": [ENTRY], "io_serviced_recursive": []},
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": {
            "cpu_usage": {
                "total_usage": 500,
                "percpu_usage": [400, 100],
                "usage_in_kernelmode": 200,
                "usage_in_usermode": 300,
            },
            "system_cpu_usage": 9_000_000_000,
            "online_cpus": 4,
            "throttling_data": {"periods": 7, "throttled_periods": 2, "throttled_time": 50},
        },
        "precpu_stats": schema.NO_CPU,
        "memory_stats": {
            "usage": 100,
            "max_usage": 120,
            "stats": {"total_inactive_file": 10, "cache": 20},
            "failcnt": 3,
            "limit": 8 * GIB,
        },
        "name": "/web",
        "id": "c" * 64,
    }


def test_cgroup_v2_leaves_out_what_the_api_says_it_does() -> None:
    cpu = {"usage_ns": 500, "user_ns": 300, "system_ns": 200, "periods": 0}
    memory = {"usage_bytes": 100, "max_usage_bytes": 120, "limit_bytes": GIB, "failures": 3}
    memory |= {"stat": {"inactive_file": 10, "anon": 20}}
    blkio = {"io_service_bytes_recursive": [{**ENTRY, "op": "read"}]}
    now = sample(2, cpu=cpu, memory=memory, pids={"current": 3, "limit": 50}, blkio=blkio)
    data = schema.stats(Usage(CONTAINER, now, now))
    assert data["memory_stats"] == {"usage": 100, "stats": {"inactive_file": 10, "anon": 20}, "limit": GIB}
    assert set(data["cpu_stats"]["cpu_usage"]) == {"total_usage", "usage_in_kernelmode", "usage_in_usermode"}
    assert data["precpu_stats"] == data["cpu_stats"] and data["preread"] == data["read"]
    assert data["pids_stats"] == {"current": 3, "limit": 50}
    unlimited = schema.stats(Usage(CONTAINER, sample(2, pids={"current": 1, "limit": None})))
    assert unlimited["pids_stats"] == {"current": 1, "limit": 2**64 - 1}
    assert data["blkio_stats"] == {**NO_BLKIO, "io_service_bytes_recursive": [{**ENTRY, "op": "read"}]}


def test_networks_only_where_there_are_some() -> None:
    now = Sample(1, 2, {}, CpuTime(1, 1), GIB, {"eth1": INTERFACE, "eth0": INTERFACE})
    assert schema.stats(Usage(CONTAINER, now))["networks"] == {"eth0": INTERFACE, "eth1": INTERFACE}
    assert "networks" not in schema.stats(Usage(CONTAINER, sample(1)))


def test_a_machine_without_a_controller() -> None:
    data = schema.stats(Usage(CONTAINER, sample(2), sample(2)))
    assert (data["memory_stats"], data["pids_stats"], data["cpu_stats"]) == ({}, {}, schema.NO_CPU)
