"""The firewall's table in the kernel: ours alone, whole or not there, put back when somebody flushes it."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from minid.errors import Conflict, Failed
from minid.kernel.nftables import objects
from minid.kernel.nftables.transaction import Changed, Connection
from minid.network.firewall import Firewall, NetworkRules, PublishedPort
from tests.netns import Namespace

NETWORK = NetworkRules("minid0", ("172.30.0.0/24", "fd30::/64"))
FOREIGN = """
table inet theirs {
    set s { type ipv4_addr; elements = { 10.0.0.1 } }
    chain input { type filter hook input priority filter; policy drop; ct state established accept; }
    chain forward { type filter hook forward priority filter; policy accept; counter; }
}
table ip nat {
    chain DOCKER {
    }
}
"""


@pytest.fixture
def host() -> Iterator[Namespace]:
    space = Namespace()
    yield space
    space.close()


@pytest.fixture
def firewall(host: Namespace) -> Iterator[Firewall]:
    made = Firewall("minid")
    host.inside(lambda: made.ensure([NETWORK]))
    yield made
    made.close()


def port(number: int, protocol: str = "tcp", host_ip: str = "") -> PublishedPort:
    return PublishedPort(protocol, host_ip, number, "172.30.0.2", "fd30::2", 80, "minid0")


def ours(host: Namespace) -> str:
    return host.sh("nft list table inet minid")


def test_what_nft_shows(host: Namespace, firewall: Firewall) -> None:
    """nft(8) reads back what we meant, in its own words."""
    firewall.publish(port(5000), port(53, "udp", "127.0.0.1"))
    shown = ours(host)
    for line in (
        'elements = { "minid0" }',
        'elements = { "minid0" . "minid0" }',
        "elements = { 172.30.0.0/24 }",
        "elements = { fd30::/64 }",
        "elements = { tcp . 5000 : 172.30.0.2 . 80 }",
        "elements = { tcp . 5000 : fd30::2 . 80 }",
        "elements = { 127.0.0.1 . udp . 53 : 172.30.0.2 . 80 }",
        "dnat ip to ip daddr . meta l4proto . th dport map @address4",
        "dnat ip6 to meta l4proto . th dport map @every6",
        "type filter hook forward priority filter; policy accept;",
        "type nat hook prerouting priority dstnat; policy accept;",
        "iifname @bridges ip daddr 127.0.0.0/8 drop",
        "ip6 daddr fe80::/10 accept",
        "iifname . oifname @talking accept",
        "oifname @bridges ct status dnat accept",
        "ip saddr 127.0.0.0/8 masquerade",
    ):
        assert line in shown, f"{line} not in\n{shown}"


def test_no_policy_of_ours_is_drop(host: Namespace, firewall: Firewall) -> None:
    assert "policy drop" not in ours(host)


def test_nothing_else_is_touched(host: Namespace) -> None:
    host.nft(FOREIGN)
    before = host.sh("nft -a list ruleset")
    firewall = Firewall("minid")
    host.inside(lambda: firewall.ensure([NETWORK], [port(1)]))
    firewall.publish(port(2))
    host.inside(lambda: firewall.add_network(NetworkRules("br1", ("172.31.0.0/24",))))
    firewall.remove_network("br1")
    theirs = host.sh("nft -a list table inet theirs") + host.sh("nft -a list table ip nat")
    assert theirs == before
    host.inside(firewall.remove)
    assert host.sh("nft -a list ruleset") == before


def test_two_daemons_side_by_side(host: Namespace, firewall: Firewall) -> None:
    other = Firewall("minid-other")
    host.inside(lambda: other.ensure([NetworkRules("br9", ("172.39.0.0/24",))]))
    firewall.publish(port(1))
    other.publish(port(2))
    assert firewall.present() and other.present()
    host.inside(other.remove)
    assert firewall.present()
    assert "minid-other" not in host.sh("nft list ruleset")


@pytest.mark.parametrize(
    "damage",
    [
        "nft flush ruleset",
        "nft delete table inet minid",
        "nft flush table inet minid",
        "nft flush chain inet minid forward",
        "nft insert rule inet minid forward accept",
        "nft flush map inet minid every4",
        "nft add element inet minid bridges { eth0 }",
        "nft delete element inet minid every6 { tcp . 5000 }",
    ],
)
def test_damage_is_seen_and_repaired(host: Namespace, firewall: Firewall, damage: str) -> None:
    firewall.publish(port(5000))
    before = ours(host)
    assert firewall.present()
    host.sh(damage)
    assert not firewall.present()
    host.inside(firewall.ensure)
    assert firewall.present()
    assert ours(host) == before


@pytest.mark.parametrize("damage", ["nft flush ruleset", "nft flush table inet minid"])
def test_the_next_change_repairs(host: Namespace, firewall: Firewall, damage: str) -> None:
    firewall.publish(port(1))
    firewall.publish(port(2))
    host.sh(damage)
    firewall.publish(port(3))
    shown = ours(host)
    assert all(f"tcp . {number} :" in shown for number in (1, 2, 3)), shown
    assert "masquerade" in shown
    host.sh(damage)
    firewall.unpublish(port(2))
    shown = ours(host)
    assert "tcp . 2 :" not in shown and "tcp . 3 :" in shown and "masquerade" in shown


def test_other_programs_changes_do_not_disturb(host: Namespace, firewall: Firewall) -> None:
    before = host.sh("nft -a list chain inet minid forward")
    for number in range(1, 6):
        host.sh(f"nft add table inet theirs{number}")
        firewall.publish(port(number))
    assert firewall.present()
    assert host.sh("nft -a list chain inet minid forward") == before, "nothing had to be built anew"


def test_a_taken_port_is_a_conflict_and_changes_nothing(host: Namespace, firewall: Firewall) -> None:
    firewall.publish(port(5000))
    before = ours(host)
    with pytest.raises(Conflict, match=r"Bind for 0.0.0.0:5000 failed: port is already allocated"):
        firewall.publish(port(6000), PublishedPort("tcp", "", 5000, "172.30.0.3", "", 80, "minid0"))
    assert ours(host) == before
    assert firewall.present()


def test_publish_and_unpublish_twice(host: Namespace, firewall: Firewall) -> None:
    before = ours(host)
    firewall.publish(port(1))
    firewall.publish(port(1))
    firewall.unpublish(port(1))
    firewall.unpublish(port(1))
    firewall.remove_network("nothing")
    assert ours(host) == before


def test_a_refused_network_is_forgotten(host: Namespace, firewall: Firewall) -> None:
    """Overlapping subnets can't be in one set of intervals."""
    before = ours(host)
    with pytest.raises(Failed, match="element of inet minid subnets4"):
        firewall.add_network(NetworkRules("br1", ("172.30.0.128/25",)))
    host.inside(firewall.ensure)
    assert ours(host) == before


def test_networks_change_and_go(host: Namespace, firewall: Firewall) -> None:
    before = ours(host)
    host.inside(lambda: firewall.add_network(NetworkRules("br1", ("172.30.1.0/24",), icc=False)))
    assert '"br1" . "br1"' not in ours(host)
    host.inside(lambda: firewall.add_network(NetworkRules("br1", ("172.30.1.0/24",), masquerade=False)))
    assert '"br1" . "br1"' in ours(host)
    firewall.remove_network("br1")
    assert ours(host) == before


def test_a_transaction_is_whole_or_nothing(host: Namespace, firewall: Firewall) -> None:
    connection = host.inside(Connection)
    element = objects.Element(objects.join(objects.ifname("eth9")))
    before = ours(host)
    requests = objects.add_elements("minid", "bridges", [element])
    with pytest.raises(FileExistsError, match="nftables: element of inet minid bridges: File exists"):
        connection.commit(requests + requests)
    assert ours(host) == before
    with pytest.raises(FileNotFoundError, match="nftables: chain inet nowhere c"):
        connection.commit([objects.new_chain("nowhere", "c")])
    connection.close()


def test_a_transaction_for_another_generation_is_refused(host: Namespace) -> None:
    connection = host.inside(Connection)
    generation = connection.generation()
    connection.commit([objects.new_table("t")], generation)
    assert connection.generation() == generation + 1
    with pytest.raises(Changed):
        connection.commit([objects.delete_table("t")], generation)
    assert host.sh("nft list tables") == "table inet t\n"
    connection.close()


def test_thousands_of_ports(host: Namespace, firewall: Firewall) -> None:
    ports = [port(number) for number in range(10000, 14000)]
    firewall.publish(*ports)
    assert firewall.present()
    host.sh("nft add table inet theirs")
    assert firewall.present(), "reading 8000 elements back finds them all"
    started_s = time.perf_counter()
    for number in range(100):
        firewall.publish(port(number + 1))
    publish_ms = (time.perf_counter() - started_s) * 10
    host.inside(firewall.ensure)
    firewall.unpublish(*ports)
    assert publish_ms < 5, f"{publish_ms} ms a port: grows with the number of ports"


async def test_changes_race_with_other_programs(host: Namespace, firewall: Firewall) -> None:
    async def others() -> None:
        for number in range(40):
            await asyncio.to_thread(host.sh, f"nft add table inet x{number}")

    async def we() -> None:
        for number in range(1, 200):
            await asyncio.to_thread(firewall.publish, port(number))

    await asyncio.gather(others(), we())
    assert firewall.present()
    assert ours(host).count("172.30.0.2 . 80") == 199


def advice(firewall: Firewall) -> list[str]:
    """The remedies, and that nothing else is said twice."""
    return sorted(text.rpartition("; let it: ")[2] for text in firewall.obstacles())


def test_who_drops_forwarded_packets_is_told(host: Namespace, firewall: Firewall) -> None:
    assert firewall.obstacles() == []
    host.nft("table inet x {\n chain f {\n type filter hook forward priority 10; policy drop;\n}\n}")
    (text,) = firewall.obstacles()
    assert text.startswith("the firewall chain `inet x f` drops what containers and other machines send")
    assert text.endswith("; accept there what comes from and goes to minid0")


def test_the_advice_for_iptables_works(host: Namespace, firewall: Firewall) -> None:
    host.sh("iptables -P FORWARD DROP", "ip6tables -P FORWARD DROP")
    host.sh("iptables -N DOCKER-USER", "iptables -A FORWARD -j DOCKER-USER")
    ours_, docker = advice(firewall)
    assert ours_ == "ip6tables -I FORWARD -i minid0 -j ACCEPT; ip6tables -I FORWARD -o minid0 -j ACCEPT"
    assert (
        docker == "iptables -I DOCKER-USER -i minid0 -j ACCEPT; iptables -I DOCKER-USER -o minid0 -j ACCEPT"
    )
    host.sh(*ours_.split("; "), *docker.split("; "))
    assert firewall.obstacles() == []


def test_the_advice_for_ufw_and_firewalld(host: Namespace, firewall: Firewall) -> None:
    host.sh("iptables -P FORWARD DROP", "iptables -N ufw-user-forward")
    assert advice(firewall) == ["ufw route allow in on minid0; ufw route allow out on minid0"]
    host.sh("iptables -A ufw-user-forward -i minid0 -j ACCEPT")
    host.nft(
        "table inet firewalld {\n chain filter_FORWARD {\n type filter hook forward priority 10;\n"
        "ct state established,related accept\n ct status dnat accept\n"
        "reject with icmpx admin-prohibited\n}\n}"
    )
    assert advice(firewall) == [
        "firewall-cmd --permanent --zone=trusted --add-interface=minid0 && firewall-cmd --reload"
    ]


def test_nft_can_load_what_it_lists(host: Namespace, firewall: Firewall) -> None:
    """Somebody saves and restores the ruleset: the same table, though not by our hand."""
    firewall.publish(port(5000))
    before = ours(host)
    host.sh("nft flush ruleset")
    host.nft(before)
    assert ours(host) == before
    assert not firewall.present(), "whether it is the same is not ours to guess"
    firewall.publish(port(5001))
    assert firewall.present()
