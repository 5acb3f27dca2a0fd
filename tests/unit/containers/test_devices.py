import os
from pathlib import Path

import pytest

from minid.containers import devices
from minid.containers.devices import DeviceNode
from minid.containers.model import Device, HostConfig
from minid.errors import InvalidParameter

NULL = DeviceNode("/dev/null", "c", 1, 3, 0o666)


def test_one_device_under_another_name() -> None:
    (node,) = devices.custom_nodes(Device("/dev/null", "/dev/nothing", "r"))
    assert (node.path, node.type, node.major, node.minor, node.access) == ("/dev/nothing", "c", 1, 3, "r")


def test_a_symbolic_link_is_the_device_it_means(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    (node,) = devices.custom_nodes(Device(str(tmp_path / "link"), "", ""))
    assert (node.path, node.major, node.minor, node.access) == (str(tmp_path / "link"), 1, 3, "rwm")


def test_what_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in (
        ("/dev/nope", "no such file or directory"),
        (str(tmp_path / "file"), "not a device node"),
    ):
        with pytest.raises(InvalidParameter) as caught:
            devices.custom_nodes(Device(path))
        assert str(caught.value) == (
            f'error gathering device information while adding custom device "{path}": {reason}'
        )
    with pytest.raises(InvalidParameter, match="not a device node"):
        devices.custom_nodes(Device(str(tmp_path)))


def test_the_hosts_devices_without_what_a_container_makes_itself() -> None:
    paths = {node.path for node in devices.host_nodes()}
    assert {"/dev/null", "/dev/zero", "/dev/tty"} <= paths
    assert not [
        path for path in paths if path.startswith(("/dev/pts/", "/dev/shm/")) or path == "/dev/console"
    ]
    assert not [path for path in paths if Path(path).is_symlink()]


def test_privileged_gets_all_and_others_what_they_name() -> None:
    asked = (Device("/dev/null", "/dev/mine", "rw"),)
    assert [node.path for node in devices.gather(HostConfig(devices=asked))] == ["/dev/mine"]
    assert devices.gather(HostConfig()) == ()
    everything = devices.gather(HostConfig(privileged=True, devices=asked))
    assert {"/dev/null", "/dev/mine"} <= {node.path for node in everything}


@pytest.mark.skipif(os.geteuid() != 0, reason="mknod needs root")
def test_a_directory_is_all_that_is_below_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, minor in (("b", 5), ("sub/a", 3)):
        try:
            os.mknod(tmp_path / name, 0o020600, os.makedev(1, minor))
        except PermissionError:
            pytest.skip("this machine does not allow mknod")
    nodes = devices.custom_nodes(Device(str(tmp_path), "/dev/x", "rw"))
    assert [(node.path, node.minor, node.access) for node in nodes] == [
        ("/dev/x/b", 5, "rw"),
        ("/dev/x/sub/a", 3, "rw"),
    ]


@pytest.mark.parametrize(
    ("rule", "entry"),
    [
        ("c 1:3 mr", {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "mr"}),
        ("b *:* rwm", {"allow": True, "type": "b", "access": "rwm"}),
        ("a 7:* w", {"allow": True, "type": "a", "major": 7, "access": "w"}),
    ],
)
def test_rules(rule: str, entry: dict[str, object]) -> None:
    assert devices.parse_rule(rule) == entry


@pytest.mark.parametrize(
    "rule", ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 x", "c  1:3 r", "c 1:3 r\n", "c -1:3 r"]
)
def test_broken_rules(rule: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid device cgroup rule format"):
        devices.parse_rule(rule)


def test_sections() -> None:
    assert devices.section((NULL,)) == [
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0}
    ]
    assert devices.rules(HostConfig(privileged=True), (NULL,)) == [{"allow": True, "access": "rwm"}]


@pytest.mark.parametrize(
    ("access", "valid"), [("rwm", True), ("r", True), ("mr", True), ("", False), ("rr", False), ("x", False)]
)
def test_access(access: str, valid: bool) -> None:
    assert devices.valid_access(access) is valid
