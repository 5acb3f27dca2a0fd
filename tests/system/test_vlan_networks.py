"""macvlan, ipvlan and VLANs with traffic, where the kernel has them: containers that are machines of the network
that the host is in. And SCTP by published ports. Debian's own kernel has all of it (``scripts/vm-test``).
"""

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.machines import HOST4, IMAGE, OUTSIDE4, OUTSIDE6, Greeter, Inhabited, Machine, eventually, get
from tests.netns import Namespace

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.minid_only("the tests' dockerd has no networks of its own"),
]

LAN4 = ("--subnet", "10.9.0.0/24", "--gateway", OUTSIDE4, "--ip-range", "10.9.0.64/26")
LAN6 = ("--ipv6", "--subnet", "fd09::/64", "--gateway", OUTSIDE6)


@pytest.fixture(scope="module")
def shared(privileged: None) -> Iterator[Inhabited]:
    machine = Machine()
    daemon = Inhabited(machine)
    daemon.start()
    yield daemon
    daemon.close()
    machine.close()


@pytest.fixture
def daemon(shared: Inhabited) -> Iterator[Inhabited]:
    yield shared
    everything = shared.docker.ok("ps", "-aq").split()
    if everything:
        shared.docker.ok("rm", "-f", *everything)
    shared.docker.ok("network", "prune", "-f")
    shared.machine.outside.close_sockets()


def skip_without(kind: str, *options: str) -> None:
    """Unless the kernel makes such a device."""
    space = Namespace()
    try:
        space.sh("ip link add parent0 type veth peer name peer0")
        space.sh(f"ip link add link parent0 name probe0 type {kind} {' '.join(options)}".strip())
    except AssertionError as error:
        pytest.skip(f"the kernel has no {kind}: {error}")
    finally:
        space.close()


def talks(daemon: Inhabited) -> None:
    """Containers ``web`` and ``client`` in a network with the machine outside."""
    web = daemon.address("web", "lan")
    assert eventually(lambda: daemon.reads("client", web)), "each other"
    assert "hello" in get(daemon.machine.outside, web, 80), "from outside, at its own address"
    outside = Greeter(daemon.machine.outside)
    assert daemon.reads("client", OUTSIDE4)
    outside.close()
    assert outside.sources[-1].removeprefix("::ffff:") == daemon.address("client", "lan"), (
        "by its own address"
    )
    assert daemon.reads("client", "web"), "by name"


@pytest.mark.parametrize("mode", ["", "bridge", "private"])
def test_macvlan(daemon: Inhabited, mode: str) -> None:
    skip_without("macvlan")
    options = ("-o", f"macvlan_mode={mode}") if mode else ()
    daemon.docker.ok(
        *("network", "create", "-d", "macvlan", "-o", "parent=out0", *options, *LAN4, *LAN6, "lan"),
    )
    daemon.serve("web", "--network", "lan", "--mac-address", "02:42:00:00:00:77")
    daemon.run("client", "--network", "lan")
    web = daemon.address("web", "lan")
    assert web.startswith("10.9.0.") and int(web.rpartition(".")[2]) >= 64
    if mode == "private":
        assert not daemon.reads("client", web), "private: not each other"
        assert "hello" in get(daemon.machine.outside, web, 80)
    else:
        talks(daemon)
    assert "02:42:00:00:00:77" in daemon.machine.outside.sh("ip neigh show")
    six = daemon.wire.get("/containers/web/json")["NetworkSettings"]["Networks"]["lan"]["GlobalIPv6Address"]
    assert "hello" not in get(daemon.machine.host, web, 80, timeout_s=0.5), "the host itself is left out"
    assert six.startswith("fd09::")
    assert daemon.docker("exec", "client", "ping6", "-c", "1", "-W", "2", OUTSIDE6).code == 0
    daemon.restart()
    assert "hello" in get(daemon.machine.outside, web, 80), "with the next daemon"
    daemon.docker.ok("restart", "-t", "0", "web")
    assert eventually(lambda: "hello" in get(daemon.machine.outside, daemon.address("web", "lan"), 80))


def test_a_vlan_of_the_parent(daemon: Inhabited) -> None:
    skip_without("macvlan")
    skip_without("vlan", "id", "10")
    daemon.machine.outside.sh(
        "ip link add link eth0 name eth0.10 type vlan id 10",
        "ip addr add 10.10.0.2/24 dev eth0.10",
        "ip link set eth0.10 up",
    )
    daemon.docker.ok(
        *("network", "create", "-d", "macvlan", "-o", "parent=out0.10", "--subnet", "10.10.0.0/24"),
        *("--gateway", "10.10.0.2", "tagged"),
    )
    assert "out0.10" in daemon.machine.host.sh("ip link show")
    daemon.serve("web", "--network", "tagged")
    assert "hello" in get(daemon.machine.outside, daemon.address("web", "tagged"), 80)
    daemon.docker.ok("rm", "-f", "web")
    daemon.docker.ok("network", "rm", "tagged")
    assert "out0.10" not in daemon.machine.host.sh("ip link show"), "what was made for it goes with it"
    daemon.machine.outside.sh("ip link del eth0.10")


def test_macvlan_without_a_parent(daemon: Inhabited) -> None:
    skip_without("macvlan")
    skip_without("dummy")
    daemon.docker.ok("network", "create", "-d", "macvlan", "--subnet", "10.11.0.0/24", "lan")
    daemon.serve("web", "--network", "lan")
    daemon.run("client", "--network", "lan")
    assert daemon.reads("client", daemon.address("web", "lan"))
    assert not daemon.reads("client", OUTSIDE4), "it leads nowhere"


def test_ipvlan_l2(daemon: Inhabited) -> None:
    skip_without("ipvlan", "mode", "l2")
    daemon.docker.ok("network", "create", "-d", "ipvlan", "-o", "parent=out0", *LAN4, "lan")
    daemon.serve("web", "--network", "lan")
    daemon.run("client", "--network", "lan")
    talks(daemon)


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_ipvlan_l3(daemon: Inhabited, mode: str) -> None:
    skip_without("ipvlan", "mode", mode)
    options = ("-o", "parent=out0", "-o", f"ipvlan_mode={mode}", "--subnet", "10.44.0.0/24")
    daemon.docker.ok("network", "create", "-d", "ipvlan", *options, "lan")
    daemon.machine.outside.sh(f"ip route replace 10.44.0.0/24 via {HOST4}")
    daemon.serve("web", "--network", "lan")
    daemon.run("client", "--network", "lan")
    talks(daemon)


SERVER = """
import socket
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)
listener.bind(("0.0.0.0", 80)); listener.listen()
print("ready", flush=True)
while True:
    connection, address = listener.accept()
    connection.sendall(b"hello " + address[0].encode())
    connection.close()
"""


def sctp(space: Namespace, address: str, port: int) -> str:
    """What the server says; "" if it cannot be reached."""

    def ask() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as client:
            client.settimeout(3)
            try:
                client.connect((address, port))
                return client.recv(100).decode()
            except OSError:
                return ""

    return space.inside(ask)


@pytest.fixture
def sctp_server(daemon: Inhabited) -> Callable[..., None]:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError as error:
        pytest.skip(f"the kernel has no SCTP: {error}")

    def start(*options: str) -> None:
        binds = [
            f"--volume={source}:{target}:ro"
            for source, target in (("/usr", "/usr"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64"))
        ]
        daemon.run("server", *binds, *options, command=("/usr/bin/python3", "-IS", "-c", SERVER))
        assert eventually(lambda: "ready" in daemon.docker.ok("logs", "server"), 30)

    return start


def test_sctp_through_a_published_port(daemon: Inhabited, sctp_server: Callable[..., None]) -> None:
    sctp_server("-p", "5000:80/sctp")
    assert daemon.docker.ok("port", "server").startswith("80/sctp -> 0.0.0.0:5000")
    assert sctp(daemon.machine.outside, HOST4, 5000) == f"hello {OUTSIDE4}", "the client's own address"
    assert sctp(daemon.machine.host, HOST4, 5000).startswith("hello ")
    assert sctp(daemon.machine.host, daemon.address("server"), 80).startswith("hello ")
    taken = daemon.docker("run", "--rm", "-p", "5000:81/sctp", IMAGE, "true")
    assert (taken.code, "port is already allocated" in taken.err) == (125, True)
    assert not daemon.docker("run", "--rm", "-p", "5000:81/tcp", IMAGE, "true").code
    daemon.docker.ok("rm", "-f", "server")
    assert not sctp(daemon.machine.outside, HOST4, 5000)
