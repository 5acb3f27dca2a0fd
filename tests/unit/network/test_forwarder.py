"""Asking a real server on the loopback: answers, silence, refusals, lies."""

import asyncio
import socket
import time
from collections.abc import Iterator

import dnslib
import pytest

from minid.network import dns, forwarder
from minid.network.forwarder import Server
from tests.upstream import BIG_ADDRESSES, Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


def question(name: str) -> bytes:
    return bytes(dnslib.DNSRecord.question(name).pack())


def addresses(response: bytes | None) -> list[str]:
    assert response is not None
    return [str(record.rdata) for record in dnslib.DNSRecord.parse(response).rr]


def at(server: Upstream) -> Server:
    return Server(server.ip, server.port)


def refused() -> Server:
    """A port that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return Server(*sock.getsockname())


async def test_an_answer_has_the_clients_number(upstream: Upstream) -> None:
    packet = question("host.example")
    for udp in (True, False):
        response = await forwarder.ask(packet, [at(upstream)], udp=udp)
        assert addresses(response) == ["192.0.2.1"]
        assert response is not None and response[:2] == packet[:2]
    assert upstream.seen == ["udp host.example", "tcp host.example"]


async def test_a_large_answer_comes_whole_over_tcp(upstream: Upstream) -> None:
    packet = question("big.example")
    by_udp = await forwarder.ask(packet, [at(upstream)])
    assert by_udp is not None and dnslib.DNSRecord.parse(by_udp).header.tc
    by_tcp = await forwarder.ask(packet, [at(upstream)], udp=False)
    assert len(addresses(by_tcp)) == BIG_ADDRESSES


async def test_answers_to_other_questions_are_not_taken(upstream: Upstream) -> None:
    assert addresses(await forwarder.ask(question("lying.example"), [at(upstream)])) == ["192.0.2.1"]


async def test_a_silent_server_makes_room_for_the_next(upstream: Upstream) -> None:
    with Upstream(address="192.0.2.2") as second:
        upstream.ignoring = 1
        response = await forwarder.ask(
            question("host.example"), [at(upstream), at(second)], next_after_s=0.05
        )
        assert addresses(response) == ["192.0.2.2"]
    assert upstream.seen == ["udp host.example"]


async def test_a_server_is_asked_again(upstream: Upstream) -> None:
    """The first query got lost and the second server is silent."""
    upstream.ignoring = 1
    with Upstream() as second:
        second.ignoring = 100
        servers = [at(upstream), at(second)]
        response = await forwarder.ask(question("host.example"), servers, next_after_s=0.02)
        assert addresses(response) == ["192.0.2.1"]
    assert upstream.seen == ["udp host.example"] * 2


async def test_failing_and_refusing_servers_cost_no_time(upstream: Upstream) -> None:
    started = time.monotonic()
    with Upstream() as failing:
        servers = [refused(), at(failing), at(upstream)]
        failed = await forwarder.ask(question("failing.example"), servers)
        assert failed is not None and dns.code_of(failed) == dns.SERVFAIL
        assert failing.seen == upstream.seen == ["udp failing.example"]
        assert addresses(await forwarder.ask(question("host.example"), [refused(), at(upstream)])) == [
            "192.0.2.1"
        ]
        assert await forwarder.ask(question("host.example"), [refused()]) is None
        assert await forwarder.ask(question("host.example"), [refused()], udp=False) is None
        hung_up = await forwarder.ask(question("hanging-up.example"), [at(upstream)], udp=False)
        assert hung_up is None
    assert time.monotonic() - started < forwarder.NEXT_AFTER_S


async def test_silence_ends(upstream: Upstream) -> None:
    started = time.monotonic()
    assert (
        await forwarder.ask(question("silent.example"), [at(upstream)], next_after_s=0.05, timeout_s=0.3)
        is None
    )
    assert 0.3 <= time.monotonic() - started < 1
    assert upstream.seen == ["udp silent.example"] * forwarder.ROUNDS
    assert await forwarder.ask(question("silent.example"), []) is None


async def test_many_at_once(upstream: Upstream) -> None:
    names = [f"host{number}.example" for number in range(100)]
    responses = await asyncio.gather(*(forwarder.ask(question(name), [at(upstream)]) for name in names))
    for name, response in zip(names, responses, strict=True):
        assert response is not None
        assert str(dnslib.DNSRecord.parse(response).q.qname) == f"{name}."
