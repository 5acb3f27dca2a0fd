"""OCI linux.resources → writes into cgroup files, v1 and v2."""

from typing import Any

import pytest

from minid.kernel.cgroups.settings import (
    Settings,
    for_v1,
    for_v2,
    io_weight_from_blkio,
    weight_from_shares,
)

MIB = 1 << 20


def first_choices(settings: Settings) -> list[tuple[str, str]]:
    return [setting.choices[0] for setting in settings.writes]


@pytest.mark.parametrize("convert", [for_v1, for_v2])
@pytest.mark.parametrize(
    "resources",
    [
        {},
        {"memory": None, "cpu": None, "pids": None, "blockIO": None, "hugepageLimits": None},
        {
            "memory": {"limit": 0, "swap": 0, "reservation": None},
            "cpu": {"shares": 0, "quota": 0, "cpus": ""},
        },
        {"pids": {"limit": 0}, "blockIO": {"weight": 0, "weightDevice": [], "throttleReadBpsDevice": None}},
    ],
)
def test_nothing_asked_writes_nothing(convert: Any, resources: dict[str, Any]) -> None:
    assert convert(resources) == Settings((), ())


def test_memory_v1() -> None:
    resources = {
        "memory": {
            "limit": 64 * MIB,
            "swap": 96 * MIB,
            "reservation": 32 * MIB,
            "swappiness": 0,
            "disableOOMKiller": True,
        }
    }
    assert first_choices(for_v1(resources)) == [
        ("memory.limit_in_bytes", str(64 * MIB)),
        ("memory.memsw.limit_in_bytes", str(96 * MIB)),
        ("memory.soft_limit_in_bytes", str(32 * MIB)),
        ("memory.swappiness", "0"),
        ("memory.oom_control", "1"),
    ]


def test_memory_v2_takes_memory_off_the_swap_limit() -> None:
    resources = {"memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB}}
    assert first_choices(for_v2(resources)) == [
        ("memory.swap.max", str(32 * MIB)),
        ("memory.max", str(64 * MIB)),
        ("memory.low", str(32 * MIB)),
    ]


def test_equal_memory_and_swap_means_no_swap_on_v2() -> None:
    choices = first_choices(for_v2({"memory": {"limit": MIB, "swap": MIB}}))
    assert ("memory.swap.max", "0") in choices


def test_unlimited() -> None:
    assert first_choices(for_v2({"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}})) == [
        ("memory.swap.max", "max"),
        ("memory.max", "max"),
        ("pids.max", "max"),
    ]
    assert first_choices(for_v1({"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}})) == [
        ("memory.limit_in_bytes", "-1"),
        ("memory.memsw.limit_in_bytes", "-1"),
        ("pids.max", "max"),
    ]


@pytest.mark.parametrize("convert", [for_v1, for_v2])
def test_swap_below_memory_is_refused(convert: Any) -> None:
    with pytest.raises(ValueError, match="Minimum memoryswap limit should be larger than memory limit"):
        convert({"memory": {"limit": 2 * MIB, "swap": MIB}})
    with pytest.raises(ValueError, match="always set the Memory limit"):
        convert({"memory": {"swap": MIB}})


def test_what_v2_cannot_do_is_a_warning() -> None:
    settings = for_v2(
        {"memory": {"swappiness": 60, "disableOOMKiller": True}, "cpu": {"realtimeRuntime": 1000}}
    )
    assert settings.writes == ()
    assert [text.split(" discarded")[0].rsplit(".")[-1].strip() for text in settings.warnings] == [
        "Memory swappiness",
        "OomKillDisable",
        "Real-time limits",
    ]


def test_cpu_v1() -> None:
    cpu = {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0", "burst": 1000}
    assert first_choices(for_v1({"cpu": cpu})) == [
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("cpu.shares", "512"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
        ("cpu.cfs_burst_us", "1000"),
    ]


@pytest.mark.parametrize(
    ("cpu", "value"),
    [
        ({"quota": 50000, "period": 200000}, "50000 200000"),
        ({"quota": 50000}, "50000"),
        ({"period": 200000}, "max 200000"),
        ({"quota": -1, "period": 100000}, "max 100000"),
        ({"quota": -1}, "max"),
    ],
)
def test_cpu_max_v2(cpu: dict[str, int], value: str) -> None:
    assert first_choices(for_v2({"cpu": cpu})) == [("cpu.max", value)]


def test_weight_from_shares_keeps_both_ends_and_the_default() -> None:
    assert [weight_from_shares(shares) for shares in (0, 2, 1024, 262144, 1 << 40)] == [
        1,
        1,
        100,
        10000,
        10000,
    ]
    weights = [weight_from_shares(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights)
    assert all(1 <= weight <= 10000 for weight in weights)


def test_io_weight_from_blkio() -> None:
    assert [io_weight_from_blkio(weight) for weight in (10, 500, 1000)] == [1, 4950, 10000]


BLOCK = {
    "weight": 500,
    "weightDevice": [{"major": 8, "minor": 0, "weight": 300}],
    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1048576}],
    "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 100}],
}


def test_block_io_v1() -> None:
    writes = for_v1({"blockIO": BLOCK}).writes
    assert [setting.choices[-1] for setting in writes] == [
        ("blkio.bfq.weight", "500"),
        ("blkio.bfq.weight_device", "8:0 300"),
        ("blkio.throttle.read_bps_device", "8:0 1048576"),
        ("blkio.throttle.write_iops_device", "8:16 100"),
    ]


def test_block_io_v2() -> None:
    writes = for_v2({"blockIO": BLOCK}).writes
    assert [setting.choices for setting in writes] == [
        (("io.bfq.weight", "500"), ("io.weight", "4950")),
        (("io.bfq.weight", "8:0 300"),),
        (("io.max", "8:0 rbps=1048576"),),
        (("io.max", "8:16 wiops=100"),),
    ]


def test_huge_pages() -> None:
    resources = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}
    assert first_choices(for_v1(resources)) == [("hugetlb.2MB.limit_in_bytes", str(4 * MIB))]
    assert first_choices(for_v2(resources)) == [("hugetlb.2MB.max", str(4 * MIB))]


def test_unified() -> None:
    assert first_choices(for_v2({"unified": {"memory.high": "1000"}})) == [("memory.high", "1000")]
    with pytest.raises(ValueError, match="cannot use unified on cgroup v1"):
        for_v1({"unified": {"memory.high": "1000"}})


@pytest.mark.parametrize("file", ["../memory.max", "a/b.c", "", "procs"])
def test_unified_is_no_way_out(file: str) -> None:
    with pytest.raises(ValueError, match="must be a cgroup file name"):
        for_v2({"unified": {file: "1"}})
