"""What ``/info`` and ``/version`` tell: this machine, and machines made of files."""

import os
import uuid
from pathlib import Path

import pytest

from minid import hostinfo
from minid.api.schema import system
from minid.containers.model import State
from tests.unit.api.double import container


def gather(root: Path) -> hostinfo.HostInfo:
    return hostinfo.gather(engine_id="e", data_root=Path("/d"), driver_name="vfs", root=root)


def test_this_machine() -> None:
    facts = gather(Path("/"))
    assert facts.kernel_version == os.uname().release
    assert facts.memory_bytes > 64 << 20
    assert facts.cpus >= 1
    assert facts.cgroup_version in (1, 2)
    assert facts.memory_limit
    assert facts.open_files >= 3
    assert facts.os_type == "linux"


def test_a_machine_with_nothing(tmp_path: Path) -> None:
    facts = gather(tmp_path)
    assert (facts.operating_system, facts.os_version, facts.memory_bytes) == ("Linux", "", 0)
    assert not facts.pids_limit
    assert facts.cgroup_version == 1


def test_a_machine_with_cgroup_v2(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('# a comment\nPRETTY_NAME="Some Linux 1"\nVERSION_ID=1\n')
    facts = gather(tmp_path)
    assert (facts.cgroup_version, facts.memory_limit, facts.cpuset, facts.oom_kill_disable) == (
        2,
        True,
        False,
        False,
    )
    assert (facts.operating_system, facts.os_version) == ("Some Linux 1", "1")
    assert "name=cgroupns" in facts.security_options


def test_the_engine_keeps_its_identity(tmp_path: Path) -> None:
    first = hostinfo.ensure_engine_id(tmp_path)
    assert str(uuid.UUID(first)) == first
    assert hostinfo.ensure_engine_id(tmp_path) == first
    assert os.listdir(tmp_path) == ["engine-id"]


def test_counts_of_containers(tmp_path: Path) -> None:
    states = ["running", "running", "paused", "exited", "created", "restarting", "dead"]
    shown = system.info(
        gather(tmp_path),
        containers=[container(state=State(status)) for status in states],
        images=2,
        listeners=0,
        now_ns=1,
    )
    counts = [
        shown[key] for key in ("Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped")
    ]
    assert counts == [7, 3, 1, 3]


@pytest.mark.parametrize("insecure", [(), ("10.0.0.0/8", "reg.local:5000")])
def test_registry_rules(insecure: tuple[str, ...]) -> None:
    shown = system.registry_config(insecure, ("https://mirror/",))
    assert shown["IndexConfigs"]["docker.io"]["Secure"] is True
    assert shown["IndexConfigs"]["docker.io"]["Mirrors"] == ["https://mirror/"]
    assert {"127.0.0.0/8", "::1/128"} <= set(shown["InsecureRegistryCIDRs"])
    assert ("10.0.0.0/8" in shown["InsecureRegistryCIDRs"]) is bool(insecure)
    assert ("reg.local:5000" in shown["IndexConfigs"]) is bool(insecure)
