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
