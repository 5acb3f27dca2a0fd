"""What a container asks of networks, read from its record; and its hosts file, changed in place."""

from pathlib import Path

import pytest

from minid.containers import etcfiles
from minid.containers.endpoints import dns_names
from minid.containers.links import parse_link
from minid.containers.model import ContainerConfig, HostConfig, PortBinding
from minid.containers.networking import has_own_networks
from minid.containers.ports import port_specs
from minid.errors import InvalidParameter
from minid.network.model import PortSpec
from tests.unit.api.double import ID, container


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db", ("db", "db")),
        ("db:store", ("db", "store")),
        ("/db:/web/store", ("db", "store")),
    ],
)
def test_links(text: str, expected: tuple[str, str]):
    assert parse_link(text) == expected


@pytest.mark.parametrize("text", ["", ":x", "a:b:c"])
def test_wrong_links(text: str):
    with pytest.raises(InvalidParameter):
        parse_link(text)


def test_own_networks():
    assert [
        mode
        for mode in ("default", "bridge", "mine", "host", "none", "container:x")
        if has_own_networks(mode)
    ] == [
        "default",
        "bridge",
        "mine",
    ]


def test_names():
    one = container(name="web", config=ContainerConfig(hostname="box"))
    assert dns_names(one, ("alias", "web")) == ("web", "alias", ID[:12], "box")
    assert dns_names(container(name="web", config=ContainerConfig(hostname=ID[:12])), ()) == ("web", ID[:12])


def test_ports():
    bindings = {
        "80/tcp": (PortBinding("127.0.0.1", "8080"), PortBinding("", "")),
        "53/udp": (PortBinding("", "5300-5310"),),
        "7000-7001/tcp": (PortBinding("", "9000-9001"),),
        "81/tcp": None,
    }
    specs = port_specs(
        container(
            config=ContainerConfig(exposed_ports={"80/tcp": {}, "443/tcp": {}}),
            host_config=HostConfig(port_bindings=bindings, publish_all_ports=True),
        )
    )
    assert set(specs) == {
        PortSpec("tcp", 80, "127.0.0.1", (8080, 8080)),
        PortSpec("tcp", 80),
        PortSpec("udp", 53, "", (5300, 5310)),
        PortSpec("tcp", 7000, "", (9000, 9000)),
        PortSpec("tcp", 7001, "", (9001, 9001)),
        PortSpec("tcp", 81),
        PortSpec("tcp", 443),
    }
    fixed = [spec.host_ports != (0, 0) for spec in specs]
    assert fixed == sorted(fixed, reverse=True), "a port that may be any must not take one that is asked for"


def test_a_hosts_file_keeps_what_others_wrote_and_its_inode(tmp_path: Path):
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1\tlocalhost\n10.1.0.2\tbox\n10.9.9.9\tmine\n")
    inode = path.stat().st_ino
    etcfiles.replace_lines(path, {"10.1.0.2\tbox"}.__contains__, ["10.2.0.2\tbox", "10.9.9.9\tmine"])
    assert path.read_text() == "127.0.0.1\tlocalhost\n10.9.9.9\tmine\n10.2.0.2\tbox\n"
    etcfiles.replace_lines(path, lambda line: line.endswith("\tbox"), [])
    assert path.read_text() == "127.0.0.1\tlocalhost\n10.9.9.9\tmine\n"
    assert path.stat().st_ino == inode
    etcfiles.replace_lines(tmp_path / "none", lambda line: True, ["x"])
    assert not (tmp_path / "none").exists()


def test_host_gateway():
    one = container(
        host_config=HostConfig(network_mode="bridge", extra_hosts=("up:host-gateway", "x=10.0.0.1"))
    )
    text = etcfiles.hosts(one, "", ["10.1.0.2\tbox"], lambda: ("10.1.0.1", "fd00::1"))
    assert text.endswith("10.1.0.1\tup\nfd00::1\tup\n10.0.0.1\tx\n10.1.0.2\tbox\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 10.0.0.1\nsearch a\n", "nameserver 10.0.0.1\nsearch a\n"),
        ("nameserver 127.0.0.1\nnameserver 10.0.0.1\n", "nameserver 10.0.0.1\n"),
        ("search a\nnameserver ::1\n", "search a\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        ("nameserver fe80::1%eth0\n", "nameserver fe80::1%eth0\n"),
    ],
)
def test_nameservers_on_the_host_s_loopback_are_left_out(text: str, expected: str):
    assert etcfiles.reachable_nameservers(text) == expected
