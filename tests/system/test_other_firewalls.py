"""minid beside ufw, firewalld and Docker themselves: a daemon, containers, and another machine that asks for them.

What is true of each is the table of decision 0014.
"""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.machines import (
    HOST4,
    HOST6,
    OUTSIDE4,
    DockerdOfItsOwn,
    Greeter,
    Inhabited,
    Machine,
    eventually,
    get,
)
from tests.other_firewalls import OtherFirewalls

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.minid_only("it is about minid beside the others"),
]


@pytest.fixture
def machine(privileged: None) -> Iterator[Machine]:
    made = Machine()
    yield made
    made.close()


@pytest.fixture
def others(machine: Machine) -> Iterator[OtherFirewalls]:
    made = OtherFirewalls(machine.host)
    yield made
    made.close()


@pytest.fixture
def inhabited(machine: Machine) -> Iterator[Callable[..., Inhabited]]:
    """A daemon on the machine, started."""
    made: list[Inhabited] = []

    def make(*extra: str) -> Inhabited:
        made.append(Inhabited(machine, extra=extra))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()


def rules_of_others(machine: Machine) -> list[str]:
    """Everything but our tables and counters, as nft lists it."""
    listed = json.loads(machine.host.sh("nft -j list ruleset"))["nftables"]
    result = []
    for entry in listed:
        ((kind, fields),) = entry.items()
        table = fields.get("table", fields.get("name"))
        if kind == "metainfo" or (fields.get("family") == "inet" and str(table).startswith("minid")):
            continue
        for statement in fields.get("expr", ()):
            statement.pop("counter", None)
        result.append(json.dumps({kind: {**fields, "handle": 0}}, sort_keys=True))
    return result


def published(machine: Machine) -> dict[str, bool]:
    """Whence the published port 5000 is reached."""
    return {
        "127.0.0.1": "hello" in get(machine.host, "127.0.0.1", 5000),
        "::1": "hello" in get(machine.host, "::1", 5000),
        "host4": "hello" in get(machine.outside, HOST4, 5000),
        "host6": "hello" in get(machine.outside, HOST6, 5000),
    }


EVERYWHERE = {"127.0.0.1": True, "::1": True, "host4": True, "host6": True}
HERE = {"127.0.0.1": True, "::1": True, "host4": False, "host6": False}


def populate(daemon: Inhabited) -> Greeter:
    daemon.serve("web", "-p", "5000:80")
    daemon.run("client")
    return Greeter(daemon.machine.outside)


def advice(daemon: Inhabited) -> list[list[str]]:
    """The commands that the daemon's log tells, one after another."""
    lines = [line for line in daemon.engine.log_tail(30000).splitlines() if "; let it: " in line]
    texts = dict.fromkeys(line.partition("; let it: ")[2].partition('"')[0] for line in lines)
    return [command.split() for text in texts for command in text.replace("&&", ";").split(";")]


def test_ufw(machine: Machine, others: OtherFirewalls, inhabited: Callable[..., Inhabited]) -> None:
    others.start_ufw()
    before = rules_of_others(machine)
    daemon = inhabited()
    outside = populate(daemon)
    assert published(machine) == HERE, "other machines need `ufw allow`"
    others("ufw", "allow", "5000/tcp")
    assert published(machine) == EVERYWHERE
    assert daemon.reads("client", daemon.address("web"))
    assert not daemon.reads("client", OUTSIDE4), "routed packets are dropped"
    for command in advice(daemon):
        others(*command)
    assert eventually(lambda: daemon.reads("client", OUTSIDE4)), "until ufw is told to let them pass"
    assert outside.sources[-1] == f"::ffff:{HOST4}"
    assert published(machine) == EVERYWHERE
    others("ufw", "reload")
    assert eventually(lambda: published(machine) == EVERYWHERE and daemon.reads("client", OUTSIDE4))
    machine.host.sh("nft flush ruleset")
    assert eventually(lambda: published(machine) == EVERYWHERE), "ours is put back"
    others("ufw", "--force", "reset")
    others.start_ufw()
    daemon.docker.ok("rm", "-f", "web", "client")
    daemon.engine.stop()
    assert "minid" not in machine.host.sh("nft list tables")
    assert sorted(rules_of_others(machine)) == sorted(before)


def test_firewalld(machine: Machine, others: OtherFirewalls, inhabited: Callable[..., Inhabited]) -> None:
    others.start_firewalld()
    before = rules_of_others(machine)
    daemon = inhabited()
    outside = populate(daemon)
    # What is led it lets pass; the container has no IPv6 address, so that is proxied, and meets the input rules.
    assert published(machine) == EVERYWHERE | {"host6": False}
    others("firewall-cmd", "--add-port=5000/tcp")
    assert published(machine) == EVERYWHERE
    assert daemon.reads("client", daemon.address("web"))
    assert not daemon.reads("client", OUTSIDE4)
    for command in advice(daemon):
        others(*command)
    others("firewall-cmd", "--permanent", "--add-port=5000/tcp")
    assert eventually(lambda: daemon.reads("client", OUTSIDE4))
    assert outside.sources[-1] == f"::ffff:{HOST4}"
    for command in ("--reload", "--complete-reload"):
        others("firewall-cmd", command)
        assert eventually(lambda: published(machine) == EVERYWHERE and daemon.reads("client", OUTSIDE4)), (
            command
        )
    daemon.docker.ok("rm", "-f", "web", "client")
    daemon.engine.stop()
    others("firewall-cmd", "--permanent", "--zone=trusted", "--remove-interface=minid0")
    others("firewall-cmd", "--permanent", "--remove-port=5000/tcp")
    others("firewall-cmd", "--reload")
    assert sorted(rules_of_others(machine)) == sorted(before)


def test_firewalld_that_knows_the_uplink(
    machine: Machine, others: OtherFirewalls, inhabited: Callable[..., Inhabited]
) -> None:
    """As NetworkManager tells it: then the zone's own forwarding lets containers out."""
    others.start_firewalld()
    others("firewall-cmd", "--zone=public", "--change-interface=out0")
    daemon = inhabited()
    outside = populate(daemon)
    assert published(machine) == EVERYWHERE | {"host6": False}
    assert daemon.reads("client", OUTSIDE4)
    assert outside.sources[-1] == f"::ffff:{HOST4}"


def beside_docker(machine: Machine) -> Inhabited:
    docker = Inhabited(machine, DockerdOfItsOwn)
    docker.start()
    docker.serve("theirs", "-p", "5001:80")
    return docker


def test_docker_that_switched_forwarding_on(machine: Machine, inhabited: Callable[..., Inhabited]) -> None:
    machine.host.sh("sysctl -qw net.ipv4.ip_forward=0")
    docker = beside_docker(machine)
    try:
        assert "-P FORWARD DROP" in machine.host.sh("iptables -S FORWARD")
        daemon = inhabited()
        outside = populate(daemon)
        assert published(machine) == EVERYWHERE, "proxied"
        assert not daemon.reads("client", OUTSIDE4)
        for command in advice(daemon):
            machine.host.sh(" ".join(command))
        machine.host.sh("nft add table inet noticed")  # iptables' change has been noticed; so is this one
        assert eventually(lambda: daemon.reads("client", OUTSIDE4))
        assert outside.sources[-1] == f"::ffff:{HOST4}"
        assert daemon.reads("client", daemon.address("web"))
        assert eventually(lambda: published(machine) == EVERYWHERE)
        theirs = docker.address("theirs")
        assert "hello" in get(machine.outside, HOST4, 5001), "theirs goes on"
        assert not docker.reads("theirs", daemon.address("web")), "ours is closed to theirs"
        docker.restart()
        assert eventually(lambda: published(machine) == EVERYWHERE and daemon.reads("client", OUTSIDE4))
        daemon.docker.ok("rm", "-f", "web", "client")
        daemon.engine.stop()
        assert "hello" in get(machine.outside, HOST4, 5001), "and when we are gone"
        assert theirs == docker.address("theirs")
    finally:
        docker.close()


@pytest.mark.parametrize("first", ["dockerd", "minid"])
def test_docker_on_a_host_that_forwards(
    machine: Machine, inhabited: Callable[..., Inhabited], first: str
) -> None:
    machine.host.sh("sysctl -qw net.ipv4.ip_forward=1")
    docker = beside_docker(machine) if first == "dockerd" else None
    daemon = inhabited()
    docker = docker or beside_docker(machine)
    try:
        outside = populate(daemon)
        assert published(machine) == EVERYWHERE
        assert daemon.reads("client", OUTSIDE4)
        assert outside.sources[-1] == f"::ffff:{HOST4}"
        assert daemon.reads("client", daemon.address("web"))
        assert daemon.reads("client", HOST4, 5001), "through the host's address"
        assert docker.reads("theirs", HOST4, 5000)
    finally:
        docker.close()


INPUT_RULES = """
table inet hostrules {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname lo accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
}
"""


@pytest.mark.parametrize("policy", ["open", "host-policy"])
def test_published_ports_and_the_hosts_input_rules(
    machine: Machine, inhabited: Callable[..., Inhabited], policy: str
) -> None:
    """``host-policy`` obeys them, for containers that were there before the daemon too."""
    machine.host.nft(INPUT_RULES)
    daemon = inhabited("--published-ports", policy)
    populate(daemon)
    led = EVERYWHERE | {"host6": False}  # the container has no IPv6 address
    for _ in range(2):
        assert published(machine) == (led if policy == "open" else HERE)
        assert daemon.reads("client", HOST4, 5000), "containers need no permission"
        assert daemon.reads("client", OUTSIDE4)
        daemon.restart()
    machine.host.sh("nft add rule inet hostrules input tcp dport 5000 accept")
    assert published(machine) == EVERYWHERE
    machine.host.sh("nft delete table inet hostrules")
    machine.host.nft(INPUT_RULES)
    machine.host.sh(f"nft add rule inet hostrules input ip saddr {OUTSIDE4} tcp dport 5000 accept")
    found = published(machine)
    assert (found["host4"], found["host6"]) == (True, False)


def test_ufw_decides_about_published_ports(
    machine: Machine, others: OtherFirewalls, inhabited: Callable[..., Inhabited]
) -> None:
    """With ``host-policy``, on a host that lets containers out: the complaint moby#22054, answered."""
    others.start_ufw()
    for way in ("in", "out"):
        others("ufw", "route", "allow", way, "on", "minid0")
    daemon = inhabited("--published-ports", "host-policy")
    populate(daemon)
    assert published(machine) == HERE
    others("ufw", "allow", "from", OUTSIDE4, "to", "any", "port", "5000", "proto", "tcp")
    assert published(machine) == HERE | {"host4": True}
    others("ufw", "delete", "allow", "from", OUTSIDE4, "to", "any", "port", "5000", "proto", "tcp")
    assert published(machine) == HERE
    assert daemon.reads("client", OUTSIDE4)


def test_forward_policy_accept_beside_ufw(
    machine: Machine, others: OtherFirewalls, inhabited: Callable[..., Inhabited]
) -> None:
    """Rules of ours at the end of its chain: containers get out, and what ufw says by a rule goes before."""
    others.start_ufw()
    for command in (("ufw", "route", "deny", "to", "192.0.2.1"), ("ufw", "reload")):
        others(*command)
    others("ufw", "--force", "disable")
    others("ufw", "--force", "enable")  # all the steps that come below, so that it looks as it will then
    before = rules_of_others(machine)
    daemon = inhabited("--forward-policy", "accept")
    outside = populate(daemon)
    assert "; let it: " not in daemon.engine.log_tail(30000), "nothing is in the way"
    assert daemon.reads("client", OUTSIDE4)
    assert outside.sources[-1] == f"::ffff:{HOST4}"
    assert published(machine) == EVERYWHERE | {"host6": False}, (
        "led, but for IPv6, which the container has not"
    )
    shown = machine.host.sh("iptables -S FORWARD").splitlines()
    assert [line.split()[2:4] for line in shown[-2:]] == [["-i", "minid0"], ["-o", "minid0"]], shown
    daemon.docker.ok("network", "create", "own")
    daemon.run("second", "--network", "own")
    assert daemon.reads("second", OUTSIDE4)
    assert not daemon.reads("second", daemon.address("web")), "our own isolation holds"
    others("ufw", "route", "deny", "from", "any", "to", OUTSIDE4)
    assert not daemon.reads("client", OUTSIDE4)
    others("ufw", "route", "delete", "deny", "from", "any", "to", OUTSIDE4)
    for command in (("ufw", "reload"), ("ufw", "--force", "disable"), ("ufw", "--force", "enable")):
        others(*command)
        assert eventually(lambda: daemon.reads("client", OUTSIDE4)), command
    last = [["-i", "br-"], ["-o", "br-"], ["-i", "minid0"], ["-o", "minid0"]]

    def ours_at_the_end() -> bool:
        lines = machine.host.sh("iptables -S FORWARD").splitlines()[-4:]
        found = [
            [*line.split()[2:3], line.split()[3][: len(end[1])]]
            for line, end in zip(lines, last, strict=True)
        ]
        return found == last

    assert eventually(ours_at_the_end)
    daemon.restart()
    assert daemon.reads("client", OUTSIDE4)
    daemon.docker.ok("rm", "-f", "web", "client", "second")
    daemon.docker.ok("network", "rm", "own")
    daemon.engine.stop()
    assert sorted(rules_of_others(machine)) == sorted(before)


def test_forward_policy_accept_beside_docker(machine: Machine, inhabited: Callable[..., Inhabited]) -> None:
    machine.host.sh("sysctl -qw net.ipv4.ip_forward=0")
    docker = beside_docker(machine)
    try:
        before = rules_of_others(machine)
        daemon = inhabited("--forward-policy", "accept")
        outside = populate(daemon)
        assert daemon.reads("client", OUTSIDE4)
        assert outside.sources[-1] == f"::ffff:{HOST4}"
        assert published(machine) == EVERYWHERE
        assert daemon.reads("client", daemon.address("web"))
        docker.restart()
        assert eventually(lambda: published(machine) == EVERYWHERE and daemon.reads("client", OUTSIDE4))
        assert "hello" in get(machine.outside, HOST4, 5001), "theirs goes on"
        daemon.docker.ok("rm", "-f", "web", "client")
        daemon.engine.stop()
        assert sorted(rules_of_others(machine)) == sorted(before)
    finally:
        docker.close()
