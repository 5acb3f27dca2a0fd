import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.containers import resources
from minid.containers.host import Host
from minid.containers.model import HostConfig, Resources, Ulimit
from minid.errors import InvalidParameter

from .conftest import HOST

V1 = Host(capabilities=frozenset(), cgroup_version=1, cpus=frozenset((0, 1)))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Resources(memory=1000), "Minimum memory limit allowed is 6MB"),
        (Resources(memory=-1), "Minimum memory limit allowed is 6MB"),
        (
            Resources(memory=10_000_000, memory_swap=5),
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            Resources(memory_swap=5),
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (Resources(memory_reservation=1), "Minimum memory reservation allowed is 6MB"),
        (
            Resources(memory=10_000_000, memory_reservation=20_000_000),
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (Resources(memory_swappiness=101), "Invalid value: 101, valid memory swappiness range is 0-100"),
        (
            Resources(nano_cpus=99_000_000_000),
            "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (Resources(nano_cpus=-1), "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
        (
            Resources(nano_cpus=1, cpu_period=1000),
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        (
            Resources(nano_cpus=1, cpu_quota=1000),
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            Resources(cpu_period=10),
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (Resources(cpu_quota=10), "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (Resources(cpuset_cpus="77"), "Requested CPUs are not available - requested 77, available: 0-1"),
        (Resources(cpuset_cpus="a"), "Invalid value a for cpuset cpus: invalid format: a"),
        (
            Resources(cpuset_mems="9"),
            "Requested memory nodes are not available - requested 9, available: 0",
        ),
        (Resources(blkio_weight=1), "Range of blkio weight is from 10 to 1000"),
        (Resources(ulimits=(Ulimit("foo", 1, 1),)), "invalid ulimit type: foo"),
        (
            Resources(ulimits=(Ulimit("nofile", 3, 1),)),
            "ulimit soft limit must be less than or equal to hard limit: 3 > 1",
        ),
    ],
)
def test_what_dockerd_refuses(wanted: Resources, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        resources.validate(wanted, HOST)
    assert str(caught.value) == message


def test_an_update_may_set_swap_alone() -> None:
    assert resources.validate(Resources(memory_swap=100_000_000), HOST, update=True) == []


def test_what_the_host_lacks_is_left_out_and_told() -> None:
    wanted = Resources(memory=64 << 20, memory_swappiness=10, oom_kill_disable=True, blkio_weight=300)
    host = Host(capabilities=frozenset(), swap_limit=False, blkio_weight=False)
    warnings = resources.validate(wanted, host)
    assert [warning.split(".")[0] for warning in warnings] == [
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted",
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted",
        "Your kernel does not support OomKillDisable",
        "Your kernel does not support Block I/O weight or the cgroup is not mounted",
    ]
    assert resources.section(wanted, [], host) == {"devices": [], "memory": {"limit": 64 << 20}}


def test_version_1_has_them() -> None:
    wanted = Resources(memory=64 << 20, memory_swappiness=10, oom_kill_disable=True)
    assert resources.validate(wanted, V1) == []
    memory = resources.section(wanted, [], V1)["memory"]
    assert memory == {"limit": 64 << 20, "swap": 128 << 20, "swappiness": 10, "disableOOMKiller": True}


def test_disabling_the_oom_killer_without_a_limit_is_warned_of() -> None:
    assert "no memory limit is set" in resources.validate(Resources(oom_kill_disable=True), V1)[0]


@pytest.mark.parametrize(
    ("wanted", "memory"),
    [
        (Resources(memory=64 << 20), {"limit": 64 << 20, "swap": 128 << 20}),
        (Resources(memory=64 << 20, memory_swap=64 << 20), {"limit": 64 << 20, "swap": 64 << 20}),
        (Resources(memory=64 << 20, memory_swap=-1), {"limit": 64 << 20, "swap": -1}),
        (Resources(memory_swap=-1), {"swap": -1}),
        (Resources(memory_reservation=16 << 20), {"reservation": 16 << 20}),
    ],
)
def test_memory(wanted: Resources, memory: dict[str, int]) -> None:
    assert resources.section(wanted, [], HOST)["memory"] == memory


def test_no_limits_make_no_sections() -> None:
    assert resources.section(Resources(pids_limit=0), [], HOST) == {"devices": []}


def test_adapting_keeps_the_kind_of_record() -> None:
    adapted = resources.adapt(HostConfig(memory=64 << 20, memory_swappiness=-1, privileged=True))
    assert isinstance(adapted, HostConfig)
    assert (adapted.memory_swap, adapted.memory_swappiness, adapted.privileged) == (128 << 20, None, True)


@given(st.frozensets(st.integers(0, 200), min_size=1))
def test_cpu_lists_survive_a_round_trip(numbers: frozenset[int]) -> None:
    assert resources.parse_set(resources.format_set(numbers)) == numbers


@pytest.mark.parametrize(
    "text", ["", "a", "1-", "-1", "2-1", "1,,2", "1 2", "99999999", "0-99999999", "\uff11"]
)
def test_broken_cpu_lists(text: str) -> None:
    with pytest.raises(ValueError, match="invalid format"):
        resources.parse_set(text)
