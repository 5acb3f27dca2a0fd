import pytest

from minid.containers import merge
from minid.containers.host import Host
from minid.containers.model import ContainerConfig, Healthcheck, HostConfig
from minid.errors import InvalidParameter

from .conftest import HOST, ID

IMAGE = {
    "User": "app",
    "Env": ["PATH=/bin", "LANG=C"],
    "Cmd": ["serve"],
    "Entrypoint": ["/start"],
    "WorkingDir": "/srv",
    "Labels": {"a": "1", "b": "2"},
    "ExposedPorts": {"80/tcp": {}},
    "Volumes": {"/data": {}},
    "StopSignal": "SIGQUIT",
    "Healthcheck": {"Test": ["CMD", "check"], "Interval": 5_000_000, "Retries": 3},
}


def test_the_image_fills_in_what_is_not_given() -> None:
    merged = merge.merge(ContainerConfig(), IMAGE)
    assert merged.user == "app"
    assert merged.env == ("PATH=/bin", "LANG=C")
    assert (merged.entrypoint, merged.cmd) == (("/start",), ("serve",))
    assert merged.working_dir == "/srv"
    assert merged.stop_signal == "SIGQUIT"
    assert merged.healthcheck == Healthcheck(("CMD", "check"), 5_000_000, retries=3)
    assert merge.command(merged) == ("/start", ("serve",))


def test_what_is_given_wins_and_the_rest_is_joined() -> None:
    config = ContainerConfig(
        user="root",
        env=("LANG=de", "NEW=1"),
        labels={"b": "3", "c": "4"},
        exposed_ports={"90/udp": {}},
        volumes={"/more": {}},
        healthcheck=Healthcheck(retries=9),
    )
    merged = merge.merge(config, IMAGE)
    assert merged.user == "root"
    assert merged.env == ("LANG=de", "NEW=1", "PATH=/bin")
    assert merged.labels == {"a": "1", "b": "3", "c": "4"}
    assert set(merged.exposed_ports) == {"80/tcp", "90/udp"}
    assert set(merged.volumes) == {"/data", "/more"}
    assert merged.healthcheck == Healthcheck(("CMD", "check"), 5_000_000, retries=9)


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "words"),
    [
        (None, None, ("/start", "serve")),
        (None, ("other",), ("/start", "other")),
        (None, (), ("/start", "serve")),
        (("/mine",), None, ("/mine",)),
        (("/mine",), ("x",), ("/mine", "x")),
        ((), None, ("serve",)),
        ((), ("x",), ("x",)),
        (("",), ("x",), ("x",)),
    ],
)
def test_command(
    entrypoint: tuple[str, ...] | None, cmd: tuple[str, ...] | None, words: tuple[str, ...]
) -> None:
    path, args = merge.command(merge.merge(ContainerConfig(entrypoint=entrypoint, cmd=cmd), IMAGE))
    assert (path, *args) == words


def test_no_command_at_all() -> None:
    for config in (ContainerConfig(), ContainerConfig(entrypoint=("",)), ContainerConfig(cmd=())):
        with pytest.raises(InvalidParameter, match="no command specified"):
            merge.merge(config, {})


def test_a_whole_image_document() -> None:
    document = {"config": IMAGE, "rootfs": {"diff_ids": []}, "architecture": "amd64"}
    assert merge.merge(ContainerConfig(), document).user == "app"
    with pytest.raises(InvalidParameter):
        merge.merge(ContainerConfig(), {"config": None, "rootfs": {}})


def test_defaults() -> None:
    config, host_config = merge.with_defaults(
        ContainerConfig(), HostConfig(memory=64 << 20), container_id=ID, host=HOST
    )
    assert config.hostname == ID[:12]
    assert host_config.shm_size == 64 << 20
    assert host_config.memory_swap == 128 << 20
    assert (host_config.ipc_mode, host_config.cgroupns_mode) == ("private", "private")
    assert host_config.log_config.type == "json-file"
    assert host_config.restart_policy.name == "no"


@pytest.mark.parametrize(
    ("host_config", "hostname"),
    [
        (HostConfig(network_mode="host"), "machine"),
        (HostConfig(uts_mode="host"), "machine"),
        (HostConfig(network_mode="container:x"), ""),
        (HostConfig(), ID[:12]),
    ],
)
def test_hostname(host_config: HostConfig, hostname: str) -> None:
    config, _ = merge.with_defaults(ContainerConfig(), host_config, container_id=ID, host=HOST)
    assert config.hostname == hostname


@pytest.mark.parametrize(
    ("version", "privileged", "mode"),
    [(1, True, "host"), (1, False, "private"), (2, True, "private"), (2, False, "private")],
)
def test_cgroup_namespace(version: int, privileged: bool, mode: str) -> None:
    host = Host(capabilities=frozenset(), cgroup_version=version)
    _, host_config = merge.with_defaults(
        ContainerConfig(), HostConfig(privileged=privileged), container_id=ID, host=host
    )
    assert host_config.cgroupns_mode == mode


def test_seccomp_profiles_are_json_objects() -> None:
    assert merge.seccomp_profile('{"defaultAction": "SCMP_ACT_ALLOW"}') == {"defaultAction": "SCMP_ACT_ALLOW"}
    for text in ("x", "[]", "{}"):
        with pytest.raises(InvalidParameter, match="Decoding seccomp profile failed"):
            merge.seccomp_profile(text)
