"""Two hundred containers in one network: everybody knows everybody, and an alias of all of them has them all."""

import concurrent.futures
import ipaddress
import os
import socket
import struct
import time
from collections.abc import Iterator

import dnslib
import pytest

from minid.kernel import netns
from tests.machines import IMAGE, SLEEP, Inhabited, Machine

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500), pytest.mark.minid_only("minid's own nameserver")]

COUNT = int(os.environ.get("MINID_TEST_MANY", "200"))


@pytest.fixture
def daemon(privileged: None) -> Iterator[Inhabited]:
    machine = Machine()
    made = Inhabited(machine)
    made.start()
    made.docker.ok("network", "create", "--subnet", "10.66.0.0/16", "crowd")
    yield made
    made.close()
    machine.close()


def start(daemon: Inhabited, number: int) -> None:
    body = {
        "Image": IMAGE,
        "Cmd": list(SLEEP),
        "HostConfig": {"NetworkMode": "crowd"},
        "NetworkingConfig": {"EndpointsConfig": {"crowd": {"Aliases": ["all"]}}},
    }
    wire = daemon.wire
    assert wire.post("/containers/create", body, name=f"member-{number}").status == 201
    assert wire.post(f"/containers/member-{number}/start").status == 204


class Asking:
    """A program in one of them."""

    def __init__(self, daemon: Inhabited, name: str) -> None:
        self._namespace = netns.open_of(daemon.wire.get(f"/containers/{name}/json")["State"]["Pid"], 0)
        self._udp = self._socket(socket.SOCK_DGRAM)

    def _socket(self, kind: int) -> socket.socket:
        with netns.inside(self._namespace):
            sock = socket.socket(socket.AF_INET, kind)
        sock.settimeout(10)
        sock.connect(("127.0.0.11", 53))
        return sock

    def __call__(self, name: str, kind: str = "A") -> list[str]:
        query = dnslib.DNSRecord.question(name, kind)
        self._udp.send(query.pack())
        reply = dnslib.DNSRecord.parse(self._udp.recv(65535))
        assert reply.header.id == query.header.id
        if reply.header.tc:
            with self._socket(socket.SOCK_STREAM) as sock, sock.makefile("rwb") as stream:
                packet = query.pack()
                stream.write(struct.pack(">H", len(packet)) + packet)
                stream.flush()
                (length,) = struct.unpack(">H", stream.read(2))
                reply = dnslib.DNSRecord.parse(stream.read(length))
        return [str(one.rdata) for one in reply.rr]

    def close(self) -> None:
        self._udp.close()
        netns.close(self._namespace)


def test_two_hundred(daemon: Inhabited) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda number: start(daemon, number), range(COUNT)))
    members = daemon.wire.get("/networks/crowd")["Containers"]
    addresses = {one["Name"]: one["IPv4Address"].partition("/")[0] for one in members.values()}
    assert len(set(addresses.values())) == COUNT
    asking = Asking(daemon, "member-0")
    try:
        started_s = time.perf_counter()
        for identifier, member in members.items():
            address = addresses[member["Name"]]
            assert asking(member["Name"]) == asking(identifier[:12]) == [address]
            pointer = ipaddress.ip_address(address).reverse_pointer
            assert asking(pointer, "PTR") == [f"{member['Name']}.crowd."]
        per_answer_ms = (time.perf_counter() - started_s) * 1000 / (3 * COUNT)
        assert sorted(asking("all")) == sorted(addresses.values()), "a big answer, over TCP"
        firsts = {asking("all")[0] for _ in range(20)}
        assert len(firsts) > 1, "in turns"
        assert per_answer_ms < 100, per_answer_ms  # 1 ms on a real machine
        print(f"{per_answer_ms:.2f} ms an answer")
        daemon.docker.ok("rm", "-f", *(f"member-{number}" for number in range(1, COUNT, 2)))
        kept = {f"member-{number}" for number in range(0, COUNT, 2)}
        assert sorted(asking("all")) == sorted(addresses[name] for name in kept)
        assert asking("member-1") == []
    finally:
        asking.close()
