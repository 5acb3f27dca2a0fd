"""Limits: what the kernel was told, in cgroup v1 or v2, and what happens at the limit."""

from pathlib import Path

import pytest

from tests.cli import Cli
from tests.wire import Wire

NONE = ("run", "--rm", "--network", "none")
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
MIB = 1 << 20


def cgroup_file(pid: int, controller: str, name_v1: str, name_v2: str) -> str:
    """What a process's cgroup says, read on the host."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if V2 and controllers == "":
            return (Path("/sys/fs/cgroup") / path.lstrip("/") / name_v2).read_text().strip()
        if not V2 and controller in controllers.split(","):
            return (Path("/sys/fs/cgroup") / controller / path.lstrip("/") / name_v1).read_text().strip()
    raise AssertionError(f"process {pid} has no cgroup of the controller {controller}")


def test_limits_reach_the_kernel(cli: Cli, wire: Wire, busybox: str) -> None:
    options = (
        "--memory",
        "64m",
        "--memory-swap",
        "96m",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "17",
    )
    cli.ok("run", "-d", "--name", "limited", "--network", "none", *options, busybox, "sleep", "60")
    inspected = wire.get("/containers/limited/json")
    pid, host = inspected["State"]["Pid"], inspected["HostConfig"]
    assert cgroup_file(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert cgroup_file(pid, "pids", "pids.max", "pids.max") == "17"
    assert cgroup_file(pid, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"
    if V2:
        assert cgroup_file(pid, "cpu", "", "cpu.max") == "50000 100000"
        assert cgroup_file(pid, "memory", "", "memory.swap.max") == str(32 * MIB)
        assert cgroup_file(pid, "cpu", "", "cpu.weight") in ("20", "59"), (
            "1 + (512 - 2) * 9999 / 262142 is 20"
        )
    else:
        assert cgroup_file(pid, "cpu", "cpu.cfs_quota_us", "") == "50000"
        assert cgroup_file(pid, "cpu", "cpu.cfs_period_us", "") == "100000"
        assert cgroup_file(pid, "cpu", "cpu.shares", "") == "512"
        assert cgroup_file(pid, "memory", "memory.memsw.limit_in_bytes", "") == str(96 * MIB)
    assert (
        host["Memory"],
        host["MemorySwap"],
        host["NanoCpus"],
        host["CpuShares"],
        host["CpusetCpus"],
        host["PidsLimit"],
    ) == (
        64 * MIB,
        96 * MIB,
        500_000_000,
        512,
        "0",
        17,
    )


def test_limits_are_seen_inside(docker_cli: Cli, busybox: str) -> None:
    path = "/sys/fs/cgroup/memory.max" if V2 else "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    assert docker_cli.ok(*NONE, "-m", "48m", busybox, "cat", path) == str(48 * MIB)


def test_cpu_quota_and_period(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli.ok(
        "run",
        "-d",
        "--name",
        "quota",
        "--network",
        "none",
        "--cpu-quota",
        "20000",
        "--cpu-period",
        "50000",
        busybox,
        "sleep",
        "60",
    )
    pid = wire.get("/containers/quota/json")["State"]["Pid"]
    assert cgroup_file(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "20000"


EAT = "head -c 100000000 /dev/zero | tail"  # tail keeps a line of 100 MB in memory


def test_oom_kill_is_reported(cli: Cli, wire: Wire, busybox: str) -> None:
    result = cli(
        "run",
        "--name",
        "oom",
        "--network",
        "none",
        "-m",
        "20m",
        "--memory-swap",
        "20m",
        busybox,
        "sh",
        "-c",
        f"exec {EAT.split('|')[1]} /dev/zero",
    )
    assert result.code == 137
    state = wire.get("/containers/oom/json")["State"]
    assert (state["ExitCode"], state["Status"]) == (137, "exited")
    assert state["OOMKilled"] is True or wire.version == "1.41", (
        "Docker 20.10 sometimes hears of it after the end"
    )


def test_a_process_within_its_limit_lives(cli: Cli, wire: Wire, busybox: str) -> None:
    assert (
        cli(
            "run",
            "--name",
            "fits",
            "--network",
            "none",
            "-m",
            "64m",
            busybox,
            "sh",
            "-c",
            "head -c 10000000 /dev/zero | tail | wc -c",
        ).out.strip()
        == "10000000"
    )
    assert wire.get("/containers/fits/json")["State"]["OOMKilled"] is False


def test_pids_limit_is_enforced(docker_cli: Cli, busybox: str) -> None:
    result = docker_cli(
        *NONE, "--pids-limit", "5", busybox, "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait"
    )
    assert "can't fork" in result.err


def test_ulimits(cli: Cli, wire: Wire, busybox: str) -> None:
    out = cli.ok(
        *NONE,
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=0",
        busybox,
        "sh",
        "-c",
        "ulimit -n; ulimit -Hn; ulimit -c",
    )
    assert out.split() == ["100", "200", "0"]


def test_shm_size(cli: Cli, busybox: str) -> None:
    assert (
        cli.ok(*NONE, "--shm-size", "3m", busybox, "sh", "-c", "df -k /dev/shm | tail -1").split()[1]
        == "3072"
    )
    assert cli.ok(*NONE, busybox, "sh", "-c", "df -k /dev/shm | tail -1").split()[1] == "65536"


def test_update_changes_a_running_container(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli.ok(
        "run",
        "-d",
        "--name",
        "updated",
        "--network",
        "none",
        "-m",
        "64m",
        "--memory-swap",
        "64m",
        busybox,
        "sleep",
        "60",
    )
    docker_cli.ok("update", "--memory", "80m", "--memory-swap", "80m", "--cpu-shares", "300", "updated")
    inspected = wire.get("/containers/updated/json")
    assert inspected["HostConfig"]["Memory"] == 80 * MIB
    assert cgroup_file(inspected["State"]["Pid"], "memory", "memory.limit_in_bytes", "memory.max") == str(
        80 * MIB
    )


@pytest.mark.skipif(
    not V2 and not Path("/sys/fs/cgroup/freezer").exists(), reason="no freezer on this machine"
)
def test_pause_freezes(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli.ok(
        "run",
        "-d",
        "--name",
        "cold",
        "--network",
        "none",
        busybox,
        "sh",
        "-c",
        "while :; do usleep 1000; done",
    )
    docker_cli.ok("pause", "cold")
    state = wire.get("/containers/cold/json")["State"]
    assert (state["Status"], state["Paused"], state["Running"]) == ("paused", True, True)
    assert "(Paused)" in docker_cli.ok("ps", "--format", "{{.Status}}")
    assert wire.post("/containers/cold/pause").status == 409
    assert wire.post("/containers/cold/exec", {"Cmd": ["true"]}).status == 409
    docker_cli.ok("unpause", "cold")
    assert wire.get("/containers/cold/json")["State"]["Status"] == "running"
    assert wire.post("/containers/cold/unpause").status in (409, 500)
    docker_cli.ok("pause", "cold")
    docker_cli.ok("rm", "-f", "cold")
