"""Names in user-defined networks: the nameserver at 127.0.0.11, asked by programs in real containers.

The daemon runs with a resolv.conf of its own (in a mount namespace), which names a server of the test on the
loopback: nothing here needs, or asks, the world outside.
"""

import ipaddress
import os
import random
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dnslib
import pytest

from minid.kernel import netns
from tests.cli import Cli
from tests.conftest import make_cli, pull, run_once
from tests.engine import Minid
from tests.leaks import Machine
from tests.registry import Registry
from tests.tidiness import remove_everything
from tests.upstream import BIG_ADDRESSES, Upstream
from tests.wire import Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only("Debian's dockerd runs without iptables here, which its nameserver needs"),
]

NAMESERVER = ("127.0.0.11", 53)


class Resolving(Minid):
    """minid on a host whose resolv.conf is ``root/resolv.conf``."""

    def command(self) -> list[str]:
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "-m", "sh", "-c", script, str(self.root / "resolv.conf"), *super().command()]


class World:
    """A daemon, its clients, and a server that knows the rest of the world."""

    def __init__(self, engine: Resolving, image: str, docker: Cli, wire: Wire, upstream: Upstream) -> None:
        self.engine = engine
        self.image = image
        self.docker = docker
        self.wire = wire
        self.upstream = upstream

    def network(self, name: str, *options: str) -> str:
        self.docker.ok("network", "create", *options, name)
        return name

    def up(self, name: str, *options: str, command: tuple[str, ...] = ("sleep", "600")) -> str:
        """A container that runs; its address in the network of ``--network``."""
        self.docker.ok("run", "-d", "--name", name, *options, self.image, *command)
        return self.address(name)

    def address(self, name: str, network: str = "") -> str:
        networks = self.wire.get(f"/containers/{name}/json")["NetworkSettings"]["Networks"]
        settings = networks[network] if network else next(iter(networks.values()))
        return str(settings["IPAddress"])

    def sh(self, name: str, script: str) -> str:
        return self.docker.ok("exec", name, "sh", "-c", script)

    def inside(self, name: str, *, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """A socket of this process in the container's network namespace."""
        namespace = netns.open_of(self.wire.get(f"/containers/{name}/json")["State"]["Pid"], 0)
        try:
            with netns.inside(namespace):
                return socket.socket(socket.AF_INET, kind)
        finally:
            netns.close(namespace)

    def ask(self, container: str, name: str, kind: str = "A") -> dnslib.DNSRecord:
        """What the nameserver answers to a program in the container, over UDP and, when it says so, TCP."""
        query = dnslib.DNSRecord.question(name, kind)
        with self.inside(container) as sock:
            sock.settimeout(10)
            sock.connect(NAMESERVER)
            sock.send(query.pack())
            answer = dnslib.DNSRecord.parse(sock.recv(65535))
        assert answer.header.id == query.header.id
        return self.ask_tcp(container, query) if answer.header.tc else answer

    def ask_tcp(self, container: str, *queries: dnslib.DNSRecord) -> dnslib.DNSRecord:
        with self.inside(container, kind=socket.SOCK_STREAM) as sock:
            sock.settimeout(10)
            sock.connect(NAMESERVER)
            stream = sock.makefile("rwb")
            with stream:
                for query in queries:
                    packet = query.pack()
                    stream.write(struct.pack(">H", len(packet)) + packet)
                    stream.flush()
                    (length,) = struct.unpack(">H", stream.read(2))
                    answer = dnslib.DNSRecord.parse(stream.read(length))
                    assert answer.header.id == query.header.id
        return answer

    def addresses(self, container: str, name: str, kind: str = "A") -> list[str]:
        answer = self.ask(container, name, kind)
        assert answer.header.rcode == dnslib.RCODE.NOERROR, answer
        return [str(record.rdata) for record in answer.rr]

    def code(self, container: str, name: str, kind: str = "A") -> str:
        return str(dnslib.RCODE[self.ask(container, name, kind).header.rcode])


@pytest.fixture
def world(registry: Registry, client_config: Path, privileged: None) -> Iterator[World]:
    """Checked for leaks as the other system tests' daemons are."""
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    ip = f"127.{random.randrange(2, 250)}.{random.randrange(250)}.{random.randrange(1, 250)}"
    with Upstream(ip, 53) as upstream:
        (root / "resolv.conf").write_text(f"search corp.nowhere\nnameserver {ip}\noptions edns0\n")
        engine = Resolving(root)
        try:
            engine.start()
            wire = Wire(engine.socket, Wire(engine.socket, "").get("/version")["ApiVersion"])
            image = f"{registry.address}/busybox:latest"
            pull(wire, image)
            run_once(wire, image)
            world = World(engine, image, make_cli("docker", engine, client_config), wire, upstream)
            world.network("warm")
            world.docker.ok("run", "--rm", "--network", "warm", image, "nslookup", "x.example")
            world.docker.ok("network", "rm", "warm")
            upstream.seen.clear()
            scope = (engine.data_root, engine.exec_root, engine.cgroup_parent)
            pid, alive = engine.pid, Machine.snapshot(*scope, engine.pid)
            yield world
            if not engine.running:
                engine.start()
            remove_everything(wire)
            if engine.pid == pid:
                leaks = Machine.leaks(alive)
                assert not leaks, "left behind:\n" + "\n".join(leaks)
        finally:
            engine.destroy()


def test_programs_find_each_other(world: World) -> None:
    world.network("alpha")
    web = world.up("web", "--network", "alpha", "--network-alias", "www")
    client = world.up("client", "--network", "alpha", "--hostname", "theclient")
    assert world.sh("client", "cat /etc/resolv.conf").splitlines() == [
        "search corp.nowhere",
        "nameserver 127.0.0.11",
        "options edns0 ndots:0",
    ]
    assert f"PING web ({web})" in world.sh("client", "ping -c 1 -W 2 web")
    assert f"PING web.alpha ({web})" in world.sh("client", "ping -c 1 -W 2 web.alpha")
    short = world.wire.get("/containers/web/json")["Id"][:12]
    for name in ("WEB", "www", "www.alpha", short, f"{short}.alpha"):
        assert world.addresses("client", name) == [web], name
    assert world.addresses("web", "client") == world.addresses("web", "theclient") == [client]
    assert world.addresses("web", "web") == [web], "its own name"
    assert world.addresses("client", "web", "AAAA") == []
    assert world.addresses("client", ".".join(reversed(web.split("."))) + ".in-addr.arpa", "PTR") == [
        "web.alpha."
    ]
    assert [str(one.rdata) for one in world.ask_tcp("client", dnslib.DNSRecord.question("web")).rr] == [web]
    assert world.upstream.seen == [], "none of these names is anybody else's business"


def test_names_come_and_go(world: World) -> None:
    world.network("alpha")
    world.up("client", "--network", "alpha")
    assert world.code("client", "late") == "NXDOMAIN"
    late = world.up("late", "--network", "alpha", "--restart", "no")
    assert world.addresses("client", "late") == [late]
    world.docker.ok("rename", "late", "later")
    assert world.addresses("client", "later") == [late]
    assert world.code("client", "late") == "NXDOMAIN"
    world.docker.ok("kill", "later")
    world.docker.ok("wait", "later")
    assert world.code("client", "later") == "NXDOMAIN"
    world.docker.ok("start", "later")
    assert world.addresses("client", "later") == [world.address("later")]


def test_a_shared_alias_is_shared_out(world: World) -> None:
    world.network("alpha")
    several = {world.up(f"w{number}", "--network", "alpha", "--network-alias", "pool") for number in range(3)}
    answers = [world.addresses("w0", "pool") for _ in range(60)]
    assert all(set(answer) == several for answer in answers)
    assert {answer[0] for answer in answers} == several, "everybody is the first sometimes"


def test_networks_do_not_know_each_other(world: World) -> None:
    world.network("alpha")
    world.network("beta")
    world.up("ann", "--network", "alpha")
    world.up("bob", "--network", "beta")
    assert world.code("ann", "bob") == "NXDOMAIN"
    assert world.addresses("ann", "bob.beta") == ["192.0.2.1"], "a name like any other: the world is asked"
    world.docker.ok("network", "connect", "--alias", "guest", "beta", "ann")
    assert world.addresses("bob", "ann") == world.addresses("bob", "guest") == [world.address("ann", "beta")]
    assert world.addresses("ann", "bob") == [world.address("bob")]
    assert world.addresses("ann", "ann.beta") == [world.address("ann", "beta")]
    assert world.addresses("ann", "ann.alpha") == [world.address("ann", "alpha")]
    world.docker.ok("network", "disconnect", "beta", "ann")
    assert world.code("ann", "bob") == world.code("bob", "ann") == world.code("bob", "guest") == "NXDOMAIN"


def test_links_are_names_for_one_container(world: World) -> None:
    world.network("alpha")
    store = world.up("store", "--network", "alpha")
    world.up("linking", "--network", "alpha", "--link", "store:db")
    assert world.addresses("linking", "db") == world.addresses("linking", "db.alpha") == [store]
    assert world.code("store", "db") == "NXDOMAIN"
    world.docker.ok("restart", "-t", "0", "store")
    assert world.addresses("linking", "db") == [world.address("store")]


def test_the_first_user_defined_network_brings_the_nameserver(world: World) -> None:
    world.network("alpha")
    web = world.up("web", "--network", "alpha")
    world.up("plain")
    world.up("edited")
    before = world.sh("plain", "cat /etc/resolv.conf")
    assert "127.0.0.11" not in before
    world.sh("edited", "echo nameserver 10.9.8.7 > /etc/resolv.conf")
    for name in ("plain", "edited"):
        world.docker.ok("network", "connect", "alpha", name)
    assert world.sh("edited", "cat /etc/resolv.conf") == "nameserver 10.9.8.7", "somebody's own file stays"
    assert "nameserver 127.0.0.11" in world.sh("plain", "cat /etc/resolv.conf")
    assert f"Address: {web}" in world.sh("plain", "nslookup web.")
    assert world.addresses("edited", "web") == [web]
    world.docker.ok("network", "disconnect", "alpha", "plain")
    assert world.addresses("plain", "world.example") == ["192.0.2.1"], "it is still what resolv.conf names"


def test_the_world_is_asked(world: World) -> None:
    world.network("alpha")
    world.up("client", "--network", "alpha")
    assert "Address: 192.0.2.1" in world.sh("client", "nslookup -type=a host.example")
    assert world.code("client", "nobody.nowhere") == "NXDOMAIN"
    assert world.code("client", "bare") == "NXDOMAIN"
    assert world.code("client", "failing.example") == "SERVFAIL"
    world.upstream.seen.clear()
    assert len(world.addresses("client", "big.example")) == BIG_ADDRESSES
    assert world.upstream.seen == ["udp big.example", "tcp big.example"]


def test_a_silent_world_is_an_error_in_time(world: World) -> None:
    world.network("alpha")
    web = world.up("web", "--network", "alpha")
    silent = dnslib.DNSRecord.question("silent.example")
    with world.inside("web") as sock:
        sock.settimeout(6)
        sock.connect(NAMESERVER)
        sock.send(silent.pack())
        assert world.addresses("web", "web") == [web], "others do not wait"
        answer = dnslib.DNSRecord.parse(sock.recv(65535))
    assert (answer.header.id, answer.header.rcode) == (silent.header.id, dnslib.RCODE.SERVFAIL)


def test_the_hosts_resolvers_may_change(world: World) -> None:
    world.network("alpha")
    world.up("client", "--network", "alpha")
    with Upstream(f"127.251.{random.randrange(250)}.{random.randrange(1, 250)}", 53, "192.0.2.77") as other:
        (world.engine.root / "resolv.conf").write_text(f"nameserver {other.ip}\n")
        assert world.addresses("client", "host.example") == ["192.0.2.77"]


def test_own_servers_are_asked_from_inside(world: World) -> None:
    """``--dns`` means what the container reaches: its own loopback, its neighbours."""
    world.network("alpha")
    world.up(
        "client", "--network", "alpha", "--dns", "127.0.0.1", "--dns-search", ".", "--dns-option", "ndots:3"
    )
    assert world.sh("client", "cat /etc/resolv.conf").split("\n") == [
        "nameserver 127.0.0.11",
        "options ndots:3",
    ]
    with world.inside("client") as server:
        server.bind(("127.0.0.1", 53))
        server.settimeout(5)
        with world.inside("client") as client:
            client.settimeout(5)
            client.connect(NAMESERVER)
            query = dnslib.DNSRecord.question("host.example")
            client.send(query.pack())
            packet, address = server.recvfrom(512)
            reply = dnslib.DNSRecord.parse(packet).reply()
            reply.add_answer(dnslib.RR("host.example", rdata=dnslib.A("192.0.2.9")))
            server.sendto(reply.pack(), address)
            answer = dnslib.DNSRecord.parse(client.recv(512))
    assert (answer.header.id, str(answer.rr[0].rdata)) == (query.header.id, "192.0.2.9")
    assert world.upstream.seen == []


def test_the_nameserver_is_not_its_own_upstream(world: World) -> None:
    world.network("alpha")
    world.up("client", "--network", "alpha", "--dns", "127.0.0.11")
    assert world.addresses("client", "host.example") == ["192.0.2.1"]
    assert world.upstream.seen == ["udp host.example"]


def test_both_families(world: World) -> None:
    world.network("six", "--ipv6", "--subnet", "fd00:dead:beef::/64", "--internal")
    web = world.up("web", "--network", "six", "--ip6", "fd00:dead:beef::80")
    assert world.addresses("web", "web") == [web]
    assert world.addresses("web", "web", "AAAA") == ["fd00:dead:beef::80"]
    reverse = ipaddress.ip_address("fd00:dead:beef::80").reverse_pointer
    assert world.addresses("web", reverse, "PTR") == ["web.six."]
    assert "PING web (fd00:dead:beef::80)" in world.sh("web", "ping -6 -c 1 -W 2 web")


def test_an_internal_network_does_not_ask(world: World) -> None:
    world.network("inner", "--internal")
    web = world.up("web", "--network", "inner")
    assert world.addresses("web", "web") == [web]
    assert world.code("web", "nosuch") == "NXDOMAIN"
    assert world.code("web", "host.example") == "SERVFAIL"
    assert (
        world.ask_tcp("web", dnslib.DNSRecord.question("host.example")).header.rcode == dnslib.RCODE.SERVFAIL
    )
    assert world.upstream.seen == []
    world.network("outer")
    world.docker.ok("network", "connect", "outer", "web")
    assert world.addresses("web", "host.example") == ["192.0.2.1"]


def test_a_program_may_have_port_53(world: World) -> None:
    world.network("alpha")
    web = world.up("web", "--network", "alpha")
    world.up("server", "--network", "alpha")
    with world.inside("server") as udp, world.inside("server", kind=socket.SOCK_STREAM) as tcp:
        udp.bind(("0.0.0.0", 53))
        tcp.bind(("0.0.0.0", 53))
        tcp.listen()
        assert world.addresses("server", "web") == [web]
        assert len(world.addresses("server", "big.example")) == BIG_ADDRESSES
        with world.inside("server") as client:
            client.sendto(b"for the program", ("127.0.0.1", 53))
            udp.settimeout(5)
            assert udp.recv(100) == b"for the program"


def test_nothing_of_it_is_seen_in_the_container(world: World) -> None:
    world.network("alpha")
    world.up("web", "--network", "alpha")
    assert set(world.sh("web", "ps -o comm").split()) <= {"COMMAND", "ps", "sh", "sleep"}
    assert "0B00007F:0035" not in world.sh("web", "cat /proc/net/udp /proc/net/tcp"), "not port 53"


def test_a_container_in_anothers_network_has_its_names(world: World) -> None:
    world.network("alpha")
    web = world.up("web", "--network", "alpha")
    world.up("first", "--network", "alpha", "--hostname", "thefirst")
    world.docker.ok(
        "run", "-d", "--name", "second", "--network", "container:first", world.image, "sleep", "600"
    )
    assert f"PING web ({web})" in world.sh("second", "ping -c 1 -W 2 web")
    for file in ("hosts", "hostname", "resolv.conf"):
        assert world.sh("second", f"cat /etc/{file}") == world.sh("first", f"cat /etc/{file}")
    world.docker.ok(
        "run", "-d", "--name", "third", "--network", "container:second", world.image, "sleep", "600"
    )
    assert world.sh("second", "hostname") == world.sh("third", "hostname") == "thefirst"
    assert f"PING web ({web})" in world.sh("third", "ping -c 1 -W 2 web")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_names_outlive_the_daemon(world: World, how: str) -> None:
    world.network("alpha")
    second = world.up("web2", "--network", "alpha")
    web = world.up("web", "--network", "alpha", "--link", "web2:second")
    world.up("joined")
    world.docker.ok("network", "connect", "alpha", "joined")
    with world.inside("web") as flow:
        flow.settimeout(5)
        flow.connect(NAMESERVER)

        def ask_again() -> list[str]:
            query = dnslib.DNSRecord.question("web2")
            flow.send(query.pack())
            return [str(record.rdata) for record in dnslib.DNSRecord.parse(flow.recv(512)).rr]

        assert ask_again() == [second]
        getattr(world.engine, how)()
        flow.settimeout(0.3)
        with pytest.raises(TimeoutError):  # not refused: most programs ask again until it is back
            ask_again()
        flow.settimeout(5)
        world.engine.start()
        assert ask_again() == [second], "a program's old socket leads to the new daemon"
    assert world.addresses("web", "second") == [second]
    assert world.addresses("joined", "web") == [web]
    assert world.addresses("web", "host.example") == ["192.0.2.1"]
    third = world.up("web3", "--network", "alpha")
    assert world.addresses("web", "web3") == [third]
    rules = subprocess.run(
        [
            "nsenter",
            f"--net=/proc/{world.wire.get('/containers/web/json')['State']['Pid']}/ns/net",
            "nft",
            "list",
            "ruleset",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert rules.count("table ") == 1 and rules.count("dport set") == 2, rules


def test_a_flood_does_not_stop_the_daemon(world: World) -> None:
    """Queries as fast as one sender can: other containers' names and the API go on."""
    world.network("alpha")
    web = world.up("web", "--network", "alpha")
    world.up("noisy", "--network", "alpha")
    packet = dnslib.DNSRecord.question("silent.example").pack()
    with world.inside("noisy") as sock:
        sock.connect(NAMESERVER)
        for _ in range(20000):
            sock.send(packet)
        assert world.addresses("web", "web") == [web]
        assert world.wire.get("/containers/web/json")["State"]["Running"] is True
    connections = []
    try:
        for _ in range(100):
            one = world.inside("noisy", kind=socket.SOCK_STREAM)
            connections.append(one)
            one.settimeout(5)
            one.connect(NAMESERVER)
        assert connections[-1].recv(1) == b"", "so many at a time are not served"
        assert world.addresses("web", "web") == [web]
    finally:
        for one in connections:
            one.close()


def test_many_start_at_once(world: World) -> None:
    world.network("alpha")
    names = [f"c{number}" for number in range(12)]
    starting = [
        subprocess.Popen(
            [
                "docker",
                "-H",
                world.engine.host,
                "run",
                "-d",
                "--name",
                name,
                "--network",
                "alpha",
                world.image,
                "sleep",
                "600",
            ],
            stdout=subprocess.DEVNULL,
        )
        for name in names
    ]
    assert [one.wait(60) for one in starting] == [0] * len(names)
    for asking in names[:3]:
        for name in names:
            assert world.addresses(asking, name) == [world.address(name)]
