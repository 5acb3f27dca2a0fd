"""The port holder: keeps published ports' sockets beyond the daemon, and serves what arrives at them.

Its "containers" are servers on loopback addresses; nothing here needs root or a firewall.
"""

import asyncio
import os
import select
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from minid.errors import Failed
from minid.network.holder import PortHolder, key_of
from minid.network.model import PortSpec
from minid.network.ports import Ports, Reservation
from minid.network.ruleset import PublishedPort
from minid.shim.client import Forkserver

CONTAINER = "127.0.0.62"
LOCAL = "127.0.0.61"
TIMEOUT_S = 5


class World:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "ports.sock"
        self.forkserver = Forkserver()
        self.ports = Ports((27200, 27299))
        self.holder = PortHolder(self.forkserver, self.path)

    async def publish(self, container_port: int, protocol: str = "tcp", ip6: str = "") -> Reservation:
        (reserved,) = self.ports.reserve([PortSpec(protocol, container_port)])
        port = PublishedPort(protocol, "", reserved.host_port, CONTAINER, ip6, container_port, "b")
        await self.holder.hold(reserved, port, {"port": reserved.host_port})
        return reserved

    async def close(self) -> None:
        for reserved in tuple(self.ports):
            await self.holder.release(reserved)
        self.holder.close()
        self.forkserver.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


@pytest.fixture
def container() -> Iterator[socket.socket]:
    with socket.create_server((CONTAINER, 0)) as listener:
        listener.settimeout(TIMEOUT_S)
        yield listener


def connect(port: int, ip: str = LOCAL) -> socket.socket:
    return socket.create_connection((ip, port), timeout=TIMEOUT_S)


def accept(listener: socket.socket) -> socket.socket:
    accepted, _ = listener.accept()
    accepted.settimeout(TIMEOUT_S)
    return accepted


def read(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(1 << 20):
        data += piece
    return data


async def in_thread(function: Callable[[], object]) -> None:
    await asyncio.wait_for(asyncio.to_thread(function), 30)


@pytest.mark.parametrize("ip", [LOCAL, "::1"])
async def test_a_connection_with_both_ends(world: World, container: socket.socket, ip: str) -> None:
    """Each direction ends by itself, as between the two without a proxy."""
    reserved = await world.publish(container.getsockname()[1])

    def talk() -> None:
        with connect(reserved.host_port, ip) as client, accept(container) as server:
            client.sendall(b"request")
            client.shutdown(socket.SHUT_WR)
            assert read(server) == b"request"
            server.sendall(b"answer after the end")
            server.close()
            assert read(client) == b"answer after the end"

    await in_thread(talk)


async def test_large_transfers_both_ways_with_a_slow_reader(world: World, container: socket.socket) -> None:
    reserved = await world.publish(container.getsockname()[1])
    sent = os.urandom(1 << 20) * 24

    def send(sock: socket.socket) -> None:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)

    def talk() -> None:
        with connect(reserved.host_port) as client, accept(container) as server:
            writers = [threading.Thread(target=send, args=(one,)) for one in (client, server)]
            for one in writers:
                one.start()
            assert read(server) == sent  # nobody reads the other direction before this one is through
            assert read(client) == sent
            for one in writers:
                one.join()

    await in_thread(talk)


async def test_a_stuck_connection_stops_no_other(world: World, container: socket.socket) -> None:
    reserved = await world.publish(container.getsockname()[1])

    def talk() -> None:
        with connect(reserved.host_port) as stuck, accept(container):
            stuck.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    stuck.send(bytes(1 << 20))
            with connect(reserved.host_port) as client, accept(container) as server:
                client.sendall(b"through")
                assert server.recv(10) == b"through"

    await in_thread(talk)


async def test_a_reset_is_passed_on(world: World, container: socket.socket) -> None:
    reserved = await world.publish(container.getsockname()[1])

    def talk() -> None:
        with connect(reserved.host_port) as client:
            server = accept(container)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            server.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)

    await in_thread(talk)


async def test_nobody_listens_in_the_container(world: World) -> None:
    reserved = await world.publish(9)

    def talk() -> None:
        with pytest.raises(ConnectionResetError), connect(reserved.host_port) as client:
            client.recv(1)

    await in_thread(talk)


async def test_many_connections_leave_nothing_open(world: World, container: socket.socket) -> None:
    reserved = await world.publish(container.getsockname()[1])
    (pid,) = holders(world)
    before = len(os.listdir(f"/proc/{pid}/fd"))

    def talk() -> None:
        pairs = [(connect(reserved.host_port), accept(container)) for _ in range(100)]
        for client, server in pairs:
            client.sendall(b"x")
            assert server.recv(1) == b"x"
            client.close()
            assert server.recv(1) == b""
            server.close()
        with connect(reserved.host_port) as client, accept(container) as server:
            server.close()
            assert client.recv(1) == b""

    await in_thread(talk)
    await world.holder.ports()  # the events before have been dealt with
    assert len(os.listdir(f"/proc/{pid}/fd")) <= before + 2


async def test_datagrams_of_several_clients(world: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.settimeout(TIMEOUT_S)
        server.bind((CONTAINER, 0))
        reserved = await world.publish(server.getsockname()[1], "udp")

        def talk() -> None:
            clients = []
            for ip in (LOCAL, "127.0.0.1", "::1"):
                family = socket.AF_INET6 if ":" in ip else socket.AF_INET
                client = socket.socket(family, socket.SOCK_DGRAM)
                client.settimeout(TIMEOUT_S)
                client.connect((ip, reserved.host_port))  # takes answers from this address only
                clients.append(client)
            for number, client in enumerate(clients * 2):
                client.send(b"%d" % number)
                data, sender = server.recvfrom(100)
                assert data == b"%d" % number
                server.sendto(data * 100, sender)
                assert client.recv(1000) == data * 100
            for client in clients:
                client.close()

        await in_thread(talk)


async def test_it_outlives_the_daemon_and_its_forkserver(world: World, container: socket.socket) -> None:
    reserved = await world.publish(container.getsockname()[1])
    (pid,) = holders(world)
    world.holder.close()
    world.forkserver.close()

    def talk() -> None:
        with connect(reserved.host_port) as client, accept(container) as server:
            client.sendall(b"still")
            assert server.recv(10) == b"still"

    await in_thread(talk)
    world.forkserver = Forkserver()
    world.holder = PortHolder(world.forkserver, world.path)
    assert await world.holder.ports() == {key_of(reserved): {"port": reserved.host_port}}
    assert holders(world) == [pid]


async def test_it_ends_with_the_daemon_when_it_holds_nothing(world: World) -> None:
    await world.holder.release(await world.publish(80))
    (pid,) = holders(world)
    pidfd = os.pidfd_open(pid)
    world.holder.close()
    ready, _, _ = await asyncio.to_thread(select.select, [pidfd], [], [], TIMEOUT_S)
    os.close(pidfd)
    assert ready
    assert not world.path.exists()


async def test_a_released_port_is_free(world: World, container: socket.socket) -> None:
    reserved = await world.publish(container.getsockname()[1])
    other = await world.publish(container.getsockname()[1])
    await world.holder.release(reserved)
    with socket.create_server(("", reserved.host_port)):
        pass
    assert list(await world.holder.ports()) == [key_of(other)]
    await world.holder.release(reserved)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_the_container_gets_another_address(world: World, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as before, socket.socket(socket.AF_INET, kind) as after:
        before.bind((CONTAINER, 0))
        number = before.getsockname()[1]
        after.bind(("127.0.0.63", number))
        after.settimeout(TIMEOUT_S)
        protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
        reserved = await world.publish(number, protocol)
        if protocol == "tcp":
            before.listen()
            after.listen()
        moved = PublishedPort(protocol, "", reserved.host_port, "127.0.0.63", "", number, "b")
        await world.holder.aim(reserved, moved)

        def talk() -> None:
            with socket.socket(socket.AF_INET, kind) as client:
                client.connect((LOCAL, reserved.host_port))
                client.send(b"x")
                with accept(after) if protocol == "tcp" else after as server:
                    assert server.recv(1) == b"x"

        await in_thread(talk)


async def test_open_connections_survive_the_release(world: World, container: socket.socket) -> None:
    reserved = await world.publish(container.getsockname()[1])
    client = await asyncio.to_thread(connect, reserved.host_port)
    server = await asyncio.to_thread(accept, container)
    with client, server:
        await world.holder.release(reserved)
        client.sendall(b"still")
        assert await asyncio.to_thread(server.recv, 10) == b"still"


async def test_hundreds_of_ports_are_listed(world: World) -> None:
    world.ports = Ports((27200, 27499))
    for _ in range(250):
        await world.publish(80)
    assert len(await world.holder.ports()) == 250


async def test_a_killed_holder_is_replaced(world: World, container: socket.socket) -> None:
    first = await world.publish(container.getsockname()[1])
    (pid,) = holders(world)
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    ready, _, _ = await asyncio.to_thread(select.select, [pidfd], [], [], TIMEOUT_S)
    os.close(pidfd)
    assert ready, "it has ended"
    second = await world.publish(container.getsockname()[1])
    assert list(await world.holder.ports()) == [key_of(second)]
    assert first.host_port != second.host_port


async def test_why_it_can_not_start(tmp_path: Path) -> None:
    forkserver = Forkserver()
    holder = PortHolder(forkserver, tmp_path / "nowhere" / "ports.sock")
    (reserved,) = Ports((27200, 27299)).reserve([PortSpec("tcp", 80, LOCAL)])
    with pytest.raises(Failed, match="could not be started: No such file or directory"):
        await holder.hold(reserved, PublishedPort("tcp", "", 1, CONTAINER, "", 1, "b"), {})
    assert reserved.sockets, "the daemon keeps them"
    reserved.close()
    forkserver.close()


def holders(world: World) -> list[int]:
    """The processes that have the control socket open, found through /proc."""
    inodes = [
        line.split()[6]
        for line in Path("/proc/net/unix").read_text().splitlines()
        if line.endswith(f" {world.path}") and line.split()[3] == "00010000"
    ]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(fd) for fd in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(f"socket:[{inode}]" in links for inode in inodes):
            found.append(int(process.name))
    return found
