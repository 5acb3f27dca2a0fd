"""The firewall's promises, with real packets between namespaces: a host, containers, another host."""

import os
import socket
from collections.abc import Iterator

import pytest

from minid.network.firewall import NetworkRules, PublishedPort
from tests.firewall_world import HOST4, HOST6, NETWORKS, OUTSIDE4, OUTSIDE6, World
from tests.netns import REFUSED_S, peer_of


@pytest.fixture(scope="module", params=["bridged frames filtered", "bridged frames unfiltered"])
def shared(request: pytest.FixtureRequest) -> Iterator[World]:
    """With br_netfilter calling the IP hooks for frames within a bridge, and without."""
    value = "1" if request.param == "bridged frames filtered" else "0"
    if value == "1" and not os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables"):
        pytest.skip("this kernel has no br_netfilter")
    made = World(value)
    yield made
    made.close()


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    yield shared
    shared.clear()


@pytest.fixture
def web(world: World) -> socket.socket:
    return world.a1.listen("0.0.0.0", 80)


@pytest.fixture
def web6(world: World) -> socket.socket:
    return world.a1.listen("::", 80)


def test_other_host_reaches_a_published_port_and_is_seen(world: World, web: socket.socket) -> None:
    world.publish()
    assert peer_of(web, world.outside.connect(HOST4, 5000)) == OUTSIDE4


def test_other_host_reaches_a_published_port_over_ipv6(world: World, web6: socket.socket) -> None:
    world.publish()
    assert peer_of(web6, world.outside.connect(HOST6, 5000)) == OUTSIDE6


@pytest.mark.parametrize("address", [HOST4, "172.30.0.1", "172.31.0.1"])
def test_host_reaches_a_published_port_at_its_addresses(
    world: World, web: socket.socket, address: str
) -> None:
    world.publish()
    peer_of(web, world.host.connect(address, 5000))


@pytest.mark.parametrize("address", [HOST6, "fd30::1", "fd31::1"])
def test_host_reaches_a_published_port_at_its_ipv6_addresses(
    world: World, web6: socket.socket, address: str
) -> None:
    world.publish()
    peer_of(web6, world.host.connect(address, 5000))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.53"])
def test_localhost(world: World, web: socket.socket, address: str) -> None:
    world.publish()
    assert peer_of(web, world.host.connect(address, 5000)) == "172.30.0.1"


def test_published_at_127_0_0_1_only(world: World, web: socket.socket) -> None:
    world.publish(host_ip="127.0.0.1")
    peer_of(web, world.host.connect("127.0.0.1", 5000))
    assert not world.host.reaches(HOST4, 5000)
    assert not world.outside.reaches(HOST4, 5000)
    assert not world.a2.reaches("172.30.0.1", 5000)


def test_published_at_one_address(world: World, web: socket.socket) -> None:
    world.publish(host_ip=HOST4)
    peer_of(web, world.outside.connect(HOST4, 5000))
    assert not world.host.reaches("127.0.0.1", 5000)


def test_each_address_has_its_own_container(world: World, web: socket.socket) -> None:
    second = world.a2.listen("0.0.0.0", 80)
    world.publish(host_ip=HOST4, ip4="172.30.0.3", ip6="")
    world.publish(host_ip="127.0.0.1")
    assert peer_of(second, world.outside.connect(HOST4, 5000)) == OUTSIDE4
    peer_of(web, world.host.connect("127.0.0.1", 5000))


def test_every_ipv4_address_is_not_ipv6(world: World, web6: socket.socket) -> None:
    world.publish(host_ip="0.0.0.0")
    assert world.outside.reaches(HOST4, 5000)
    assert not world.outside.reaches(HOST6, 5000)


def test_other_destinations_are_not_led_astray(world: World, web: socket.socket) -> None:
    world.publish()
    theirs = world.outside.listen("0.0.0.0", 5000)
    assert peer_of(theirs, world.host.connect(OUTSIDE4, 5000)) == HOST4
    assert peer_of(theirs, world.a2.connect(OUTSIDE4, 5000)) == HOST4


def test_host_reaches_a_container_at_its_own_address(world: World, web6: socket.socket) -> None:
    assert world.host.reaches("172.30.0.2", 80)
    assert world.host.reaches("fd30::2", 80)


@pytest.mark.parametrize("address", [HOST4, "172.30.0.1"])
def test_neighbour_and_self_reach_a_published_port(world: World, web: socket.socket, address: str) -> None:
    world.publish()
    peer_of(web, world.a2.connect(address, 5000))
    peer_of(web, world.a1.connect(address, 5000))


def test_neighbour_reaches_a_published_port_over_ipv6(world: World, web6: socket.socket) -> None:
    world.publish()
    peer_of(web6, world.a2.connect(HOST6, 5000))
    peer_of(web6, world.a1.connect(HOST6, 5000))


def test_container_of_another_network_reaches_a_published_port(world: World, web6: socket.socket) -> None:
    world.publish()
    peer_of(web6, world.b1.connect(HOST4, 5000))
    peer_of(web6, world.b1.connect(HOST6, 5000))


def test_silent_neighbour_reaches_a_published_port_only(world: World) -> None:
    web = world.s1.listen("::", 80)
    world.publish(ip4="172.33.0.2", ip6="fd33::2", bridge="br-silent")
    peer_of(web, world.s2.connect(HOST4, 5000))
    peer_of(web, world.s2.connect(HOST6, 5000))
    assert not world.s2.reaches("172.33.0.2", 80)
    assert not world.s2.reaches("fd33::2", 80)


def test_neighbours_talk(world: World, web6: socket.socket) -> None:
    assert peer_of(web6, world.a2.connect("172.30.0.2", 80)) == "::ffff:172.30.0.3"
    assert peer_of(web6, world.a2.connect("fd30::2", 80)) == "fd30::3"


def test_networks_are_isolated(world: World, web6: socket.socket) -> None:
    assert not world.b1.reaches("172.30.0.2", 80)
    assert not world.b1.reaches("fd30::2", 80)


def test_outbound_is_masqueraded(world: World) -> None:
    theirs = world.outside.listen("::", 80)
    assert peer_of(theirs, world.a1.connect(OUTSIDE4, 80)) == f"::ffff:{HOST4}"
    assert peer_of(theirs, world.a1.connect(OUTSIDE6, 80)) == HOST6
    assert peer_of(theirs, world.s1.connect(OUTSIDE4, 80)) == f"::ffff:{HOST4}"


def test_without_masquerade_the_container_is_seen(world: World) -> None:
    world.outside.sh(f"ip route add 172.31.0.0/24 via {HOST4}")
    theirs = world.outside.listen("0.0.0.0", 80)
    rules = NetworkRules("br-other", ("172.31.0.0/24", "fd31::/64"), masquerade=False)
    world.do(lambda: world.firewall.add_network(rules))
    try:
        assert peer_of(theirs, world.b1.connect(OUTSIDE4, 80)) == "172.31.0.2"
    finally:
        world.do(lambda: world.firewall.add_network(NETWORKS[1]))
        world.outside.sh("ip route del 172.31.0.0/24")
    assert peer_of(theirs, world.b1.connect(OUTSIDE4, 80)) == HOST4


def test_internal_network_has_no_way_out_or_in(world: World, web6: socket.socket) -> None:
    world.outside.listen("::", 80)
    inner = world.i1.listen("::", 80)
    world.publish(5001, ip4="172.32.0.2", ip6="fd32::2", bridge="br-internal")
    world.publish()
    assert not world.i1.reaches(OUTSIDE4, 80)
    assert not world.i1.reaches(OUTSIDE6, 80)
    assert not world.i1.reaches("172.30.0.2", 80)
    assert not world.i1.reaches(HOST4, 5000)
    assert not world.outside.reaches(HOST4, 5001)
    assert not world.a1.reaches("172.32.0.2", 80)
    peer_of(inner, world.i2.connect("172.32.0.2", 80))
    peer_of(inner, world.host.connect("172.32.0.2", 80))


def test_unpublished_ports_are_not_reached_by_routing_to_the_container(
    world: World, web6: socket.socket
) -> None:
    world.outside.sh(f"ip route add 172.30.0.0/24 via {HOST4}", f"ip route add fd30::/64 via {HOST6}")
    try:
        assert not world.outside.reaches("172.30.0.2", 80)
        assert not world.outside.reaches("fd30::2", 80)
    finally:
        world.outside.sh("ip route del 172.30.0.0/24", "ip route del fd30::/64")


def test_containers_do_not_reach_the_hosts_loopback(world: World) -> None:
    """route_localnet opens the bridge for 127.0.0.0/8; a container that routes it there must not profit."""
    world.host.listen("127.0.0.1", 6000)
    attacker = world.container("minid0", 9)
    attacker.sh(
        "sysctl -qw net.ipv4.conf.all.route_localnet=1",
        "ip addr del 127.0.0.1/8 dev lo",
        "ip route add 127.0.0.0/8 via 172.30.0.1",
    )
    assert world.host.sh("sysctl -n net.ipv4.conf.minid0.route_localnet").strip() == "1"
    assert not attacker.reaches("127.0.0.1", 6000)
    world.do(world.firewall.remove)
    try:
        world.host.sh("sysctl -qw net.ipv4.conf.minid0.route_localnet=1")
        attacker.connect("127.0.0.1", 6000)  # without our rules it is reached: the test tests something
    finally:
        world.do(lambda: world.firewall.ensure(NETWORKS))


def test_udp(world: World) -> None:
    server = world.a1.udp("::", 80)
    world.publish(protocol="udp")
    for space, address in (
        (world.outside, HOST4),
        (world.outside, HOST6),
        (world.host, "127.0.0.1"),
        (world.host, HOST4),
        (world.a2, HOST4),
    ):
        client = space.udp("::" if ":" in address else "0.0.0.0", 0)
        client.sendto(b"ping", (address, 5000))
        data, sender = server.recvfrom(10)
        assert data == b"ping"
        if space is world.outside:
            assert sender[0] in (OUTSIDE6, f"::ffff:{OUTSIDE4}")
        server.sendto(b"pong", sender)
        assert client.recvfrom(10)[0] == b"pong"
        assert not world.outside.reaches(HOST4, 5000), "udp is not tcp"


def test_sctp(world: World) -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
    except OSError as error:
        pytest.skip(f"this kernel has no SCTP sockets: {error}")


def test_sctp_packets_are_led_to_the_container(world: World) -> None:
    """An INIT chunk arrives, whatever the kernel thinks of SCTP sockets."""
    world.publish(protocol="sctp")
    receiver = world.a1.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 132))
    sender = world.outside.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 132))
    with receiver, sender:
        receiver.settimeout(3)
        sender.sendto(sctp_init(40000, 5000), (HOST4, 0))
        packet, (source, _) = receiver.recvfrom(100)
    assert source == OUTSIDE4
    assert packet[20:24] == (40000).to_bytes(2, "big") + (80).to_bytes(2, "big")


def sctp_init(source: int, destination: int) -> bytes:
    """RFC 9260 § 3.3.2 with its CRC32c."""
    chunk = bytes((1, 0, 0, 20)) + b"\x11\x22\x33\x44" + b"\0\x01\0\0" + b"\0\x01\0\x01" + b"\0\0\0\1"
    header = source.to_bytes(2, "big") + destination.to_bytes(2, "big") + bytes(4)
    crc = 0xFFFFFFFF
    for byte in header + bytes(4) + chunk:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return header + (crc ^ 0xFFFFFFFF).to_bytes(4, "little") + chunk


@pytest.mark.parametrize("ip6", ["fd30::2", ""])
def test_localhost_over_ipv6(world: World, web6: socket.socket, ip6: str) -> None:
    world.publish(ip6=ip6)
    assert peer_of(web6, world.host.connect("::1", 5000)) == ("fd30::1" if ip6 else "::ffff:172.30.0.1")


def test_ipv6_clients_of_a_container_without_ipv6(world: World, web: socket.socket) -> None:
    world.publish(ip6="")
    peer_of(web, world.outside.connect(HOST6, 5000))
    peer_of(web, world.a2.connect(HOST6, 5000))


def test_link_local_address(world: World, web6: socket.socket) -> None:
    world.publish()
    link_local = world.host.sh("ip -6 -o addr show dev out0 scope link").split()[3].split("/")[0]
    peer_of(web6, world.outside.connect(f"{link_local}%eth0", 5000))


def test_udp_over_the_loopback_of_ipv6(world: World) -> None:
    server = world.a1.udp("0.0.0.0", 80)
    world.publish(protocol="udp", ip6="")
    for space, address in ((world.host, "::1"), (world.outside, HOST6)):
        client = space.udp("::", 0)
        client.connect((address, 5000))  # takes answers from that address only
        for text in (b"one", b"two"):
            client.send(text)
            data, sender = server.recvfrom(10)
            assert data == text
            server.sendto(data.upper(), sender)
            assert client.recv(10) == text.upper()


def test_range_of_ports(world: World, web: socket.socket) -> None:
    ports = [
        PublishedPort("tcp", "", number, "172.30.0.2", "fd30::2", 80, "minid0")
        for number in range(7000, 7020)
    ]
    world.do(lambda: world.firewall.publish(*ports))
    for number in (7000, 7010, 7019):
        peer_of(web, world.outside.connect(HOST4, number))
    world.do(lambda: world.firewall.unpublish(*ports))
    assert not world.outside.reaches(HOST4, 7010)


def test_open_connections_survive_unpublish_and_rebuild(world: World, web: socket.socket) -> None:
    port = world.publish()
    client = world.outside.connect(HOST4, 5000)
    accepted, _ = web.accept()
    with accepted:
        world.do(world.firewall.ensure)
        world.do(lambda: world.firewall.unpublish(port))
        client.sendall(b"still here")
        accepted.settimeout(REFUSED_S * 5)
        assert accepted.recv(20) == b"still here"


def test_udp_clients_that_go_on_sending_reach_the_new_container(world: World) -> None:
    """The kernel remembers where a flow went; each container's end and start makes it forget."""
    first, second = world.a1.udp("0.0.0.0", 80), world.a2.udp("0.0.0.0", 80)
    client = world.outside.udp("0.0.0.0", 0)
    client.connect((HOST4, 5000))
    client.send(b"too early")  # a flow to the host itself
    with pytest.raises(ConnectionRefusedError):
        client.recv(10)
    world.publish(protocol="udp")
    client.send(b"one")
    data, sender = first.recvfrom(10)
    assert (data, sender[0]) == (b"one", OUTSIDE4)
    first.sendto(b"answer", sender)
    assert client.recv(10) == b"answer"
    world.unpublish_all()
    world.publish(protocol="udp", ip4="172.30.0.3", ip6="")
    client.send(b"two")
    data, sender = second.recvfrom(10)
    assert (data, sender[0]) == (b"two", OUTSIDE4)
