"""A nameserver's sockets in a namespace of their own: what opening costs, and where there is no nftables."""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from minid.kernel import netns, process
from minid.network import nameserver, redirect
from minid.network.nameserver import Nameserver, Sockets
from minid.network.zone import View

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Sandbox:
    """A process in a network namespace with a loopback."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "ip link set lo up; echo up; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"up\n"
        self.pid = self._process.pid
        self.start_ticks = process.start_ticks(self.pid)

    def close(self) -> None:
        self._process.communicate()

    def client(self, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        namespace = netns.open_of(self.pid, 0)
        try:
            with netns.inside(namespace):
                made = socket.socket(socket.AF_INET, kind)
        finally:
            netns.close(namespace)
        made.settimeout(5)
        made.connect((redirect.ADDRESS, redirect.PORT))
        return made


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox()
    yield made
    made.close()


def test_opening_costs_a_start_nothing_much(sandbox: Sandbox) -> None:
    others = [sandbox, *(Sandbox() for _ in range(4))]
    durations_s = []
    for one in others:
        started = time.perf_counter()
        sockets = Sockets.open(one.pid, one.start_ticks)
        durations_s.append(time.perf_counter() - started)
        sockets.close()
        sockets.settle()
    for one in others[1:]:
        one.close()
    assert min(durations_s) < 0.0015, durations_s


def test_opening_again_replaces_the_rules(sandbox: Sandbox) -> None:
    for _ in range(3):
        sockets = Sockets.open(sandbox.pid, sandbox.start_ticks)
        with sandbox.client() as client:
            client.send(b"ping")
            packet, address = sockets.udp.recvfrom(100)
            assert packet == b"ping"
            sockets.udp.sendto(b"pong", address)
            assert client.recv(100) == b"pong"
        with sandbox.client(socket.SOCK_STREAM):
            sockets.tcp.accept()[0].close()
        sockets.close()
        sockets.settle()


def test_a_kernel_without_nftables(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such kernel is at hand: the socket that it would refuse is."""
    monkeypatch.setattr(nameserver, "_find_nftables", lambda: None)
    sockets = Sockets.open(sandbox.pid, sandbox.start_ticks)
    assert sockets.udp.getsockname() == sockets.tcp.getsockname() == (redirect.ADDRESS, redirect.PORT)
    sockets.close()
    sockets.settle()


def test_a_process_that_has_ended(sandbox: Sandbox) -> None:
    with pytest.raises(ProcessLookupError):
        Sockets.open(sandbox.pid, sandbox.start_ticks + 1)


async def test_closing_leaves_no_descriptor(sandbox: Sandbox) -> None:
    before = len(os.listdir("/proc/self/fd"))
    server = Nameserver(Sockets.open(sandbox.pid, sandbox.start_ticks), View, (), tuple)
    server.start()
    with sandbox.client(socket.SOCK_STREAM):
        server.close()
    server.close()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert len(os.listdir("/proc/self/fd")) == before
