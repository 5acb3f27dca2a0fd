"""The same questions to minid's nameserver and to dockerd's: the same answers, but where it is said otherwise.

Each engine has a machine of its own, and so may have all its rules; the world is a server on the machine outside.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterator

import dnslib
import pytest

from minid.kernel import netns
from tests.machines import IMAGE, OUTSIDE4, SLEEP, DockerdOfItsOwn, Inhabited, Machine, MinidOfItsOwn
from tests.upstream import BIG_ADDRESSES, Upstream

pytestmark = [pytest.mark.timeout(240), pytest.mark.minid_only("it asks both")]

NET4, NET6 = "10.66.0", "fd66:"
SUBNETS = ("--subnet", f"{NET4}.0/24", "--ipv6", "--subnet", f"{NET6}:/64")
Answer = tuple[str, list[str]]


class Asked(Inhabited):
    """With containers that are called as those of the other one, at the same addresses."""

    def populate(self) -> None:
        self.start()
        self.upstream = self.machine.outside.inside(lambda: Upstream(OUTSIDE4, 53))
        for name, options in (("net", SUBNETS), ("other", ()), ("inner", ("--internal",))):
            self.docker.ok("network", "create", *options, name)
        self._up("web", 10, "--network-alias", "www", "--network-alias", "shared")
        self._up("CapsName", 11, "--network-alias", "shared", "--network-alias", "UPPER")
        self._up("hosted", 12, "-h", "hosty", "--domainname", "example.org")
        self._up("client", 13, "--dns", OUTSIDE4, "--dns-search", "example.test", "--dns-option", "timeout:3")
        self._up("linking", 14, "--dns", OUTSIDE4, "--link", "web:store")
        self.run("apart", "--network", "other", "--dns", OUTSIDE4)
        self.run("confined", "--network", "inner", "--dns", OUTSIDE4)
        self.docker.ok("network", "connect", "--alias", "second", "other", "web")

    def _up(self, name: str, last: int, *options: str) -> None:
        at = ("--network", "net", "--ip", f"{NET4}.{last}", "--ip6", f"{NET6}:{last}")
        self.docker.ok("run", "-d", "--name", name, *at, *options, IMAGE, *SLEEP)

    def id(self, name: str) -> str:
        return str(self.wire.get(f"/containers/{name}/json")["Id"])

    def ask(self, container: str, name: str, kind: str = "A") -> Answer:
        """The response code and the answers, sorted; ids are written as ID."""
        question = name
        for one in ("web", "client"):
            identifier = self.id(one)
            question = question.replace(f"<{one}>", identifier).replace(f"<{one}:12>", identifier[:12])
        query = dnslib.DNSRecord.question(question, kind)
        reply = self._exchange(container, query, socket.SOCK_DGRAM)
        if reply.header.tc:
            reply = self._exchange(container, query, socket.SOCK_STREAM)
        found = sorted(f"{dnslib.QTYPE[one.rtype]} {one.rdata}" for one in reply.rr)
        return dnslib.RCODE[reply.header.rcode], found

    def _exchange(self, container: str, query: dnslib.DNSRecord, kind: int) -> dnslib.DNSRecord:
        namespace = netns.open_of(self.wire.get(f"/containers/{container}/json")["State"]["Pid"], 0)
        try:
            with netns.inside(namespace):
                sock = socket.socket(socket.AF_INET, kind)
        finally:
            netns.close(namespace)
        with sock:
            sock.settimeout(15)
            sock.connect(("127.0.0.11", 53))
            packet = query.pack()
            if kind == socket.SOCK_DGRAM:
                sock.send(packet)
                return dnslib.DNSRecord.parse(sock.recv(65535))
            with sock.makefile("rwb") as stream:
                stream.write(struct.pack(">H", len(packet)) + packet)
                stream.flush()
                (length,) = struct.unpack(">H", stream.read(2))
                return dnslib.DNSRecord.parse(stream.read(length))


@pytest.fixture(scope="module")
def both(privileged: None) -> Iterator[tuple[Asked, Asked]]:
    """minid, dockerd."""
    made: list[Asked] = []
    try:
        for kind in (MinidOfItsOwn, DockerdOfItsOwn):
            made.append(Asked(Machine(), kind))
            made[-1].populate()
        yield made[0], made[1]
    finally:
        for one in made:
            one.upstream.close()
            one.close()
            one.machine.close()


NAMES = (
    *("web", "WEB", "wEb", "web.", "web.net", "WEB.net", "web.net.", "<web:12>", "<web:12>.net", "web.web"),
    *("www", "WWW", "www.net", "shared", "shared.net", "CapsName", "capsname", "UPPER", "upper", "second"),
    *("hosted", "hosty", "hosty.example.org", "client", "apart", "apart.other", "web.other", "web.nowhere"),
    *("nobody", "nobody.net", "world.example", "failing.example", "big.example", "localhost", "net", "_web"),
)


@pytest.mark.parametrize("kind", ["A", "AAAA"])
@pytest.mark.parametrize("name", NAMES)
def test_names(both: tuple[Asked, Asked], name: str, kind: str) -> None:
    minid, dockerd = both
    assert minid.ask("client", name, kind) == dockerd.ask("client", name, kind)


@pytest.mark.parametrize("address", ["10", "11", "12", "13", "1", "200"])
@pytest.mark.parametrize("version", [4, 6])
def test_reverse(both: tuple[Asked, Asked], version: int, address: str) -> None:
    text = f"{NET4}.{address}" if version == 4 else f"{NET6}:{address}"
    name = ipaddress.ip_address(text).reverse_pointer
    mine, theirs = (one.ask("client", name, "PTR") for one in both)
    if address in ("1", "200"):
        assert mine == ("NXDOMAIN", []), "an address of ours is nobody else's business"
    else:
        assert mine == theirs


@pytest.mark.parametrize("kind", ["MX", "TXT", "SRV", "ANY", "SOA", "HTTPS"])
@pytest.mark.parametrize("name", ["web", "nobody", "world.example"])
def test_other_kinds(both: tuple[Asked, Asked], name: str, kind: str) -> None:
    minid, dockerd = both
    mine = minid.ask("client", name, kind)
    if name == "web" and kind != "MX":  # dockerd asks the world, which says that there is no "web" at all
        addresses = [f"A {NET4}.10", f"AAAA {NET6}:10"] if kind == "ANY" else []
        assert mine == ("NOERROR", addresses)
    else:
        assert mine == dockerd.ask("client", name, kind)


@pytest.mark.parametrize(
    ("container", "name"),
    [
        ("linking", "store"),
        ("linking", "store.net"),
        ("client", "store"),
        ("apart", "web"),
        ("apart", "second"),
        ("apart", "www"),
        ("apart", "client"),
        ("confined", "confined"),
    ],
)
def test_who_asks(both: tuple[Asked, Asked], container: str, name: str) -> None:
    minid, dockerd = both
    mine, theirs = minid.ask(container, name), dockerd.ask(container, name)
    if (container, name) in (("apart", "web"), ("apart", "second")):
        assert len(mine[1]) == len(theirs[1]) == 1, "at an address of that network"
    else:
        assert mine == theirs


def test_a_big_answer(both: tuple[Asked, Asked]) -> None:
    minid, dockerd = both
    mine = minid.ask("client", "big.example")
    assert mine == dockerd.ask("client", "big.example")
    assert len(mine[1]) == BIG_ADDRESSES


def test_resolv_conf(both: tuple[Asked, Asked]) -> None:
    """Comments aside."""

    def lines(one: Asked, name: str) -> list[str]:
        text = one.docker.ok("exec", name, "cat", "/etc/resolv.conf")
        return sorted(line for line in text.splitlines() if line and not line.startswith("#"))

    minid, dockerd = both
    for name in ("client", "confined"):
        assert lines(minid, name) == lines(dockerd, name)
