"""Host ports, with real sockets on the loopback. No root."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from minid.errors import Conflict, InvalidParameter
from minid.network.model import PortSpec
from minid.network.ports import DEFAULT_RANGE, Ports, Reservation, dynamic_range

LOCAL = "127.0.0.61"  # nobody else binds there


@pytest.fixture
def ports() -> Iterator[Ports]:
    made = Ports((27100, 27109))
    yield made
    made.release(list(made))


def spec(first: int, last: int = 0, *, protocol: str = "tcp", host_ip: str = LOCAL) -> PortSpec:
    return PortSpec(protocol, 80, host_ip, (first, last or first))


def bind(kind: socket.SocketKind, port: int, ip: str = LOCAL, option: int = socket.SO_REUSEADDR) -> None:
    with socket.socket(socket.AF_INET, kind) as one:
        one.setsockopt(socket.SOL_SOCKET, option, 1)
        one.bind((ip, port))
        if kind == socket.SOCK_STREAM:
            one.listen()


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
@pytest.mark.parametrize(("protocol", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
@pytest.mark.parametrize("host_ip", [LOCAL, "", "0.0.0.0"])
def test_a_reserved_port_is_kept_from_other_programs(
    ports: Ports, protocol: str, kind: socket.SocketKind, option: int, host_ip: str
) -> None:
    (reserved,) = ports.reserve([spec(27120, protocol=protocol, host_ip=host_ip)])
    with pytest.raises(OSError, match="Address already in use"):
        bind(kind, 27120, option=option)
    ports.release([reserved])
    bind(kind, 27120)


@pytest.mark.parametrize(("protocol", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
def test_another_programs_port_is_a_conflict(ports: Ports, protocol: str, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as theirs:
        theirs.bind((LOCAL, 27121))
        if protocol == "tcp":
            theirs.listen()
        for host_ip in (LOCAL, ""):
            with pytest.raises(
                Conflict, match=f"failed to bind host port .*:27121/{protocol}: address already"
            ):
                ports.reserve([spec(27121, protocol=protocol, host_ip=host_ip)])
    assert not list(ports)
    ports.reserve([spec(27121, protocol=protocol)])


def test_time_wait_does_not_matter(ports: Ports) -> None:
    """A server that just closed a connection leaves its port in TIME_WAIT."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((LOCAL, 27122))
        server.listen()
        with socket.create_connection((LOCAL, 27122)) as client:
            accepted, _ = server.accept()
            accepted.close()
            assert client.recv(1) == b""
    with socket.socket() as plain, pytest.raises(OSError, match="Address already in use"):
        plain.bind((LOCAL, 27122))
    ports.reserve([spec(27122)])


def test_our_own_port_is_a_conflict_in_dockers_words(ports: Ports) -> None:
    ports.reserve([spec(27123)])
    with pytest.raises(Conflict, match=f"^Bind for {LOCAL}:27123 failed: port is already allocated$"):
        ports.reserve([spec(27123)])
    with pytest.raises(Conflict, match=r"^Bind for 0.0.0.0:27123 failed: port is already allocated$"):
        ports.reserve([spec(27123, host_ip="")])
    ports.reserve([spec(27123, host_ip="127.0.0.62"), spec(27123, protocol="udp")])


def test_all_or_none(ports: Ports) -> None:
    ports.reserve([spec(27125)])
    with pytest.raises(Conflict):
        ports.reserve([spec(27124), spec(27125)])
    bind(socket.SOCK_STREAM, 27124)


def test_range(ports: Ports) -> None:
    found = [ports.reserve([spec(27130, 27132)])[0].host_port for _ in range(3)]
    assert found == [27130, 27131, 27132]
    with pytest.raises(Conflict, match=f"Bind for {LOCAL}:27130-27132 failed: all ports are allocated"):
        ports.reserve([spec(27130, 27132)])


def test_dynamic_ports_go_round(ports: Ports) -> None:
    anywhere = PortSpec("tcp", 80, LOCAL)
    first = ports.reserve([anywhere, anywhere])
    assert [one.host_port for one in first] == [27100, 27101]
    ports.release(first)
    assert [one.host_port for one in ports.reserve([anywhere] * 10)] == [*range(27102, 27110), 27100, 27101]
    with pytest.raises(Conflict, match="all ports from 27100 to 27109 are allocated"):
        ports.reserve([anywhere])


def test_every_address_is_both_families(ports: Ports) -> None:
    (reserved,) = ports.reserve([spec(27140, host_ip="")])
    assert {one.family for one in reserved.sockets} == {socket.AF_INET, socket.AF_INET6}
    ports.release([reserved])
    (reserved,) = ports.reserve([spec(27140, host_ip="0.0.0.0")])
    assert [one.family for one in reserved.sockets] == [socket.AF_INET]
    ports.reserve([spec(27140, host_ip="::")])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (spec(1, host_ip="localhost"), "invalid host address of a published port: 'localhost'"),
        (spec(27141, host_ip="192.0.2.1"), "cannot assign requested address; it is no address of this host"),
        (spec(27141, protocol="icmp"), "invalid protocol 'icmp' of port 80"),
        (spec(70000), "invalid range of host ports 70000-70000"),
        (spec(5, 4), "invalid range of host ports 5-4"),
    ],
)
def test_what_can_not_be(ports: Ports, wrong: PortSpec, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        ports.reserve([wrong])


def test_adopted_ports_are_ours(ports: Ports) -> None:
    adopted = ports.adopt("tcp", LOCAL, 27142, 80)
    assert adopted == Reservation("tcp", LOCAL, 27142, 80)
    with pytest.raises(Conflict):
        ports.reserve([spec(27142)])
    ports.release([Reservation("tcp", LOCAL, 27142, 80)])
    ports.reserve([spec(27142)])


def test_sctp_is_remembered_even_without_sockets(ports: Ports) -> None:
    ports.reserve([spec(27143, protocol="sctp")])
    with pytest.raises(Conflict, match="port is already allocated"):
        ports.reserve([spec(27143, protocol="sctp")])


def test_dynamic_range(tmp_path: Path) -> None:
    (tmp_path / "range").write_text("32768\t60999\n")
    assert dynamic_range(tmp_path / "range") == (32768, 60999)
    assert dynamic_range(tmp_path / "nothing") == DEFAULT_RANGE
