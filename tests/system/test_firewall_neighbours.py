"""Beside other firewalls: what the host's own rules decide, and what works where they drop forwarded packets."""

import time
from collections.abc import Callable, Iterator

import pytest

from minid.network.publishing import Publishing
from tests.firewall_world import HOST4, HOST6, NETWORKS, OUTSIDE4, OUTSIDE6, World
from tests.netns import peer_of

UFW = """
table inet hostrules {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname lo accept
        meta l4proto ipv6-icmp accept
    }
}
"""


@pytest.fixture(scope="module")
def shared_policy() -> Iterator[World]:
    made = World(host_policy=True)
    made.host.nft(UFW)
    yield made
    made.close()


@pytest.fixture
def obeying(shared_policy: World) -> Iterator[World]:
    """A host with input rules, and ``published_ports: host-policy``."""
    yield shared_policy
    shared_policy.clear()
    shared_policy.host.sh("nft flush chain inet hostrules input")
    shared_policy.host.nft(UFW)


@pytest.fixture(scope="module")
def shared_dropping() -> Iterator[World]:
    made = World()
    made.host.sh("iptables -P FORWARD DROP", "ip6tables -P FORWARD DROP")  # after our table was made
    yield made
    made.close()


@pytest.fixture
def dropping(shared_dropping: World) -> Iterator[World]:
    """Docker and ufw give the chain FORWARD of iptables the policy DROP; no rule of ours can help there."""
    yield shared_dropping
    shared_dropping.clear()


def test_other_machines_need_the_hosts_permission(obeying: World) -> None:
    web = obeying.a1.listen("::", 80)
    obeying.publish()
    assert not obeying.outside.reaches(HOST4, 5000)
    assert not obeying.outside.reaches(HOST6, 5000)
    obeying.host.sh("nft add rule inet hostrules input tcp dport 5000 accept")
    peer_of(web, obeying.outside.connect(HOST4, 5000))
    peer_of(web, obeying.outside.connect(HOST6, 5000))


def test_permission_for_one_machine(obeying: World) -> None:
    web = obeying.a1.listen("::", 80)
    obeying.publish()
    obeying.host.sh(f"nft add rule inet hostrules input ip saddr {OUTSIDE4} tcp dport 5000 accept")
    peer_of(web, obeying.outside.connect(HOST4, 5000))
    assert not obeying.outside.reaches(HOST6, 5000)


def test_udp(obeying: World) -> None:
    server = obeying.a1.udp("::", 80)
    server.settimeout(0.4)
    obeying.publish(protocol="udp")
    client = obeying.outside.udp("0.0.0.0", 0)
    client.connect((HOST4, 5000))
    client.send(b"lost")
    with pytest.raises(TimeoutError):
        server.recv(10)
    obeying.host.sh("nft add rule inet hostrules input udp dport 5000 accept")
    client.send(b"heard")
    data, sender = server.recvfrom(10)
    assert data == b"heard"
    server.sendto(b"answer", sender)
    assert client.recv(10) == b"answer"


def test_the_host_itself_and_containers_need_none(obeying: World) -> None:
    web = obeying.a1.listen("::", 80)
    obeying.publish()
    peer_of(web, obeying.host.connect("127.0.0.1", 5000))
    peer_of(web, obeying.host.connect(HOST4, 5000))
    peer_of(web, obeying.host.connect("::1", 5000))
    peer_of(web, obeying.a2.connect(HOST4, 5000))
    peer_of(web, obeying.b1.connect(HOST4, 5000))


def test_the_host_reaches_containers(dropping: World) -> None:
    web = dropping.a1.listen("::", 80)
    dropping.publish()
    for address in ("127.0.0.1", "::1", HOST4, HOST6):
        peer_of(web, dropping.host.connect(address, 5000))
    peer_of(web, dropping.host.connect("172.30.0.2", 80))
    peer_of(web, dropping.a2.connect("172.30.0.2", 80))


def test_published_ports_are_proxied_where_nothing_is_forwarded(dropping: World) -> None:
    web = dropping.a1.listen("::", 80)
    dropping.publish()
    peer_of(web, dropping.outside.connect(HOST4, 5000))
    peer_of(web, dropping.outside.connect(HOST6, 5000))
    peer_of(web, dropping.a2.connect(HOST4, 5000))
    peer_of(web, dropping.b1.connect(HOST4, 5000))


def test_forwarding_works_as_soon_as_it_is_allowed(dropping: World) -> None:
    """With the commands that the log tells."""
    web = dropping.a1.listen("::", 80)
    theirs = dropping.outside.listen("0.0.0.0", 80)
    dropping.publish()
    assert not dropping.a1.reaches(OUTSIDE4, 80)
    commands = [
        command
        for text in dropping.firewall.obstacles()
        for command in text.rpartition("; let it: ")[2].split("; ")
    ]
    dropping.host.sh(*commands)
    try:
        assert not dropping.firewall.present()
        dropping.do(dropping.firewall.ensure)
        assert peer_of(web, dropping.outside.connect(HOST4, 5000)) == f"::ffff:{OUTSIDE4}"
        assert peer_of(theirs, dropping.a1.connect(OUTSIDE4, 80)) == HOST4
        assert not dropping.b1.reaches("172.30.0.2", 80), "our own isolation holds"
    finally:
        dropping.host.sh(*(command.replace(" -I ", " -D ") for command in commands))
        dropping.do(dropping.firewall.ensure)


def test_one_version_is_dropped_the_other_is_led(dropping: World) -> None:
    """As beside Docker, which drops IPv4 only."""
    web = dropping.a1.listen("::", 80)
    dropping.host.sh("ip6tables -P FORWARD ACCEPT")
    try:
        dropping.publish()
        assert peer_of(web, dropping.outside.connect(HOST6, 5000)) == OUTSIDE6
        assert peer_of(web, dropping.outside.connect(HOST4, 5000)) == "::ffff:172.30.0.1"
    finally:
        dropping.host.sh("ip6tables -P FORWARD DROP")


def test_a_flush_is_repaired_by_itself() -> None:
    """``nft flush ruleset``, and a Docker that starts later: without anybody asking us for anything."""
    world = World()

    async def direct(function: Callable[..., object], *arguments: object) -> object:
        return function(*arguments)

    async def start() -> Publishing:
        publishing = Publishing(world.firewall, world.ports, world.holder, direct)
        await publishing.start(NETWORKS, {})
        return publishing

    try:
        publishing = world.inside(start())
        web = world.a1.listen("::", 80)
        world.publish()
        for damage, source in (
            ("nft flush ruleset", OUTSIDE4),
            ("iptables -P FORWARD DROP", "172.30.0.1"),
            ("iptables -P FORWARD ACCEPT", OUTSIDE4),
        ):
            world.host.sh(damage)
            deadline_s = time.monotonic() + 5
            while not world.inside(direct(world.firewall.present)):
                assert time.monotonic() < deadline_s, damage
                time.sleep(0.02)
            assert peer_of(web, world.outside.connect(HOST4, 5000)) == f"::ffff:{source}"
        world.inside(publishing.close(remove=True))
        assert world.host.sh("nft list tables").splitlines() == ["table ip filter"]
    finally:
        world.close()


FIREWALLD = """
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state established,related accept
        ct status dnat accept
        iifname lo accept
        reject with icmpx type admin-prohibited
    }
}
"""


def test_firewalld_accepts_what_is_led_and_rejects_the_rest() -> None:
    world = World()
    try:
        world.host.nft(FIREWALLD)
        web = world.a1.listen("::", 80)
        world.outside.listen("0.0.0.0", 80)
        world.publish()
        assert peer_of(web, world.outside.connect(HOST4, 5000)) == f"::ffff:{OUTSIDE4}"
        peer_of(web, world.a2.connect(HOST4, 5000))
        peer_of(web, world.a2.connect("172.30.0.2", 80))
        assert not world.a1.reaches(OUTSIDE4, 80)
        assert ["firewall-cmd" in text for text in world.firewall.obstacles()] == [True]
    finally:
        world.close()
