"""Queries and answers as bytes, read and written for the test by dnslib."""

import ipaddress
import random
import time

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minid.network import dns, zone
from minid.network.dns import Forward
from minid.network.model import Endpoint, Network, Subnet
from minid.network.zone import View

NETWORK = Network("a" * 64, "alpha", "bridge", 0, (Subnet("10.1.0.0/16"), Subnet("fd01::/64")))


def endpoint(number: int, *names: str, ip6: str = "") -> Endpoint:
    ip4 = str(ipaddress.ip_address("10.1.0.0") + number)
    return Endpoint(f"e{number}", NETWORK.id, f"c{number}", "eth0", "veth", "", ip4=ip4, ip6=ip6, names=names)


INDEX = zone.index(
    NETWORK,
    [
        endpoint(2, "web", ip6="fd01::2"),
        endpoint(3, "db"),
        *(endpoint(1000 + number, f"many{number}", "all") for number in range(200)),
    ],
)
OPEN, CLOSED = View([INDEX]), View([INDEX], forwards=False)


def ask(
    name: str, kind: str = "A", *, view: View = OPEN, udp: bool = True, edns_bytes: int = 0, **flags: int
) -> dnslib.DNSRecord | Forward | None:
    query = dnslib.DNSRecord.question(name, kind)
    for flag, value in flags.items():
        setattr(query.header, flag, value)
    if edns_bytes:
        query.add_ar(dnslib.EDNS0(udp_len=edns_bytes))
    packet = bytes(query.pack())
    response = dns.answer(packet, view, udp=udp, shuffle=lambda found: None)
    if not isinstance(response, bytes):
        return response
    parsed = dnslib.DNSRecord.parse(response)
    assert (parsed.header.id, parsed.header.qr, parsed.header.ra) == (query.header.id, 1, 1)
    assert parsed.header.rd == query.header.rd
    assert dns.belongs(packet, response)
    if udp:
        assert len(response) <= max(512, edns_bytes)
    return parsed


def told(name: str, kind: str = "A", **more: object) -> tuple[str, list[str]]:
    response = ask(name, kind, **more)  # type: ignore[arg-type]
    assert isinstance(response, dnslib.DNSRecord)
    for record in response.rr:
        assert (record.rname, record.ttl) == (response.q.qname, dns.TTL_S)
    return dnslib.RCODE[response.header.rcode], [str(record.rdata) for record in response.rr]


def test_addresses_of_both_families() -> None:
    assert told("web") == ("NOERROR", ["10.1.0.2"])
    assert told("WEB.alpha.") == ("NOERROR", ["10.1.0.2"])
    assert told("web", "AAAA") == ("NOERROR", ["fd01::2"])
    assert told("db", "AAAA") == ("NOERROR", []), "the name exists: no NXDOMAIN"
    assert told("web", "ANY") == ("NOERROR", ["10.1.0.2", "fd01::2"])
    for kind in ("MX", "TXT", "SRV", "PTR"):
        assert told("web", kind) == ("NOERROR", []), "and nobody else is asked about it"


def test_names_of_addresses() -> None:
    assert told("2.0.1.10.in-addr.arpa", "PTR") == ("NOERROR", ["web.alpha."])
    six = ipaddress.ip_address("fd01::2").reverse_pointer
    assert told(six, "PTR") == ("NOERROR", ["web.alpha."])
    assert told(six.upper(), "PTR") == ("NOERROR", ["web.alpha."])
    assert told("9.0.1.10.in-addr.arpa", "PTR") == ("NXDOMAIN", []), "in our subnet, and nobody's"
    for elsewhere in ("8.8.8.8.in-addr.arpa", "1.10.in-addr.arpa", "2.0.1.10.in-addr.arpa.nowhere"):
        assert isinstance(ask(elsewhere, "PTR"), Forward)


def test_what_is_unknown_goes_elsewhere() -> None:
    for name in ("nosuch", "example.com", "web.beta", "alpha", "."):
        assert ask(name) == Forward(512), name
    assert ask("example.com", edns_bytes=1400) == Forward(1400)
    assert ask("example.com", edns_bytes=1) == Forward(512)
    assert ask("example.com", edns_bytes=65535) == Forward(dns.OWN_BYTES)


def test_an_internal_network_asks_nobody() -> None:
    assert told("web", view=CLOSED) == ("NOERROR", ["10.1.0.2"])
    assert told("nosuch", view=CLOSED) == ("NXDOMAIN", [])
    assert told("example.com", view=CLOSED) == ("SERVFAIL", [])


def test_long_answers_are_cut_and_say_so() -> None:
    for edns_bytes, at_least in ((0, 25), (1232, 70)):
        response = ask("all", edns_bytes=edns_bytes)
        assert isinstance(response, dnslib.DNSRecord)
        assert response.header.tc and at_least <= len(response.rr) < 200
        assert len(response.ar) == bool(edns_bytes)
    whole = ask("all", udp=False)
    assert isinstance(whole, dnslib.DNSRecord)
    assert not whole.header.tc and len(whole.rr) == 200
    assert len(told("all", edns_bytes=4096)[1]) == 200


def test_everybody_comes_first_some_time() -> None:
    packet = bytes(dnslib.DNSRecord.question("all").pack())
    generator = random.Random(1)
    firsts = set()
    for _ in range(200):
        response = dns.answer(packet, OPEN, udp=False, shuffle=generator.shuffle)
        assert isinstance(response, bytes)
        firsts.add(str(dnslib.DNSRecord.parse(response).rr[0].rdata))
    assert len(firsts) > 100


def test_edns_is_answered() -> None:
    response = ask("web", edns_bytes=1232)
    assert isinstance(response, dnslib.DNSRecord)
    assert (response.ar[0].rtype, response.ar[0].edns_len) == (dns.OPT, dns.OWN_BYTES)
    query = dnslib.DNSRecord.question("web")
    query.add_ar(dnslib.EDNS0(version=1, flags="do"))
    answer = dns.answer(bytes(query.pack()), OPEN)
    assert isinstance(answer, bytes)
    refused = dnslib.DNSRecord.parse(answer)
    assert (refused.ar[0].edns_rcode << 4 | refused.header.rcode) == dns.BADVERS
    assert refused.ar[0].edns_do and not refused.rr


def code(packet: bytes) -> int | None:
    response = dns.answer(packet, OPEN)
    if response is None:
        return None
    assert isinstance(response, bytes)
    assert response[:2] == packet[:2] and response[2] & 0x80
    return dns.code_of(response)


HEADER = bytes.fromhex("1234 0100 0001 0000 0000 0000")
QUESTION = b"\x03web\0\0\x01\0\x01"


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"", None),
        (HEADER[:11], None),
        (b"\x12\x34\x81" + HEADER[3:] + QUESTION, None),  # an answer: two servers would talk for ever
        (b"\x12\x34\x29" + HEADER[3:] + QUESTION, dns.NOTIMP),  # an update
        (HEADER, dns.FORMERR),
        (HEADER + QUESTION[:-1], dns.FORMERR),
        (HEADER + b"\xc0\x0c\0\x01\0\x01", dns.FORMERR),  # a name that is itself
        (HEADER + b"\x03web\xc0\x0c\0\x01\0\x01", dns.FORMERR),
        (HEADER + b"\x40" + b"a" * 64 + b"\0\0\x01\0\x01", dns.FORMERR),
        (HEADER + b"\x3f" * 5000, dns.FORMERR),
        (HEADER[:4] + b"\0\2" + HEADER[6:] + QUESTION * 2, dns.FORMERR),
        (HEADER[:4] + b"\0\0" + HEADER[6:], dns.FORMERR),
        (HEADER[:6] + b"\0\1" + HEADER[8:] + QUESTION, dns.FORMERR),
        (HEADER[:10] + b"\xff\xff" + QUESTION, dns.FORMERR),
        (HEADER[:10] + b"\0\1" + QUESTION + b"\0\0\x29\x10\0\0\0\0\0\xff\xff", dns.FORMERR),
        (HEADER[:10] + b"\0\2" + QUESTION + b"\0\0\x29\x10\0\0\0\0\0\0\0" * 2, dns.FORMERR),
        (HEADER + b"\x01a" * 127 + QUESTION, dns.FORMERR),  # 255 bytes are the end
    ],
)
def test_hostile_packets(packet: bytes, expected: int | None) -> None:
    assert code(packet) == expected


def test_labels_are_not_split_or_joined() -> None:
    query = HEADER + b"\x09web.alpha\0\0\x01\0\x01"
    assert isinstance(dns.answer(query, OPEN), Forward), "one label with a dot in it is another name"
    query = HEADER + b"\x02\xff\xfe\0\0\x01\0\x01"
    assert isinstance(dns.answer(query, OPEN), Forward), "any bytes are a name"


def test_other_classes_are_none_of_ours() -> None:
    assert isinstance(dns.answer(HEADER + QUESTION[:-1] + b"\x03", OPEN), Forward)


@given(st.binary(max_size=600))
def test_any_bytes(packet: bytes) -> None:
    response = dns.answer(packet, OPEN)
    if isinstance(response, bytes):
        assert response[:2] == packet[:2] and response[2] & 0x80
        assert len(response) <= max(dns.PLAIN_BYTES, 4096)


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 30))
def test_almost_queries(noise: bytes, extra: bytes, cut: int) -> None:
    for packet in (HEADER + noise, HEADER + QUESTION + extra, HEADER[:10] + b"\0\2" + QUESTION + extra):
        for view in (OPEN, CLOSED):
            dns.answer(packet, view)
            dns.answer(packet[:-cut], view, udp=False)
        if len(packet) >= 12:
            parsed = dnslib.DNSHeader.parse(dnslib.DNSBuffer(dns.failure(packet, dns.SERVFAIL)))
            assert parsed.rcode == dns.SERVFAIL


@given(st.binary(min_size=12, max_size=300))
def test_foreign_responses(response: bytes) -> None:
    packet = HEADER + QUESTION
    if dns.belongs(packet, response):
        assert response[:2] == packet[:2]
    fitting = dns.fits(packet, response, 512)
    assert fitting == response


@given(
    st.lists(st.binary(min_size=1, max_size=63), min_size=1, max_size=8).filter(
        lambda labels: sum(len(label) + 1 for label in labels) < 255
    ),
    st.sampled_from(["A", "AAAA", "PTR", "TXT"]),
)
@settings(max_examples=50)
def test_every_name_can_be_asked_for(labels: list[bytes], kind: str) -> None:
    number = getattr(dnslib.QTYPE, kind)
    packet = (
        HEADER
        + b"".join(bytes((len(one),)) + one for one in labels)
        + b"\0"
        + number.to_bytes(2, "big")
        + b"\0\1"
    )
    query = dns.parse(packet)
    assert list(query.labels) == labels and query.kind == number
    assert isinstance(dns.answer(packet, View()), Forward)


def test_a_long_foreign_answer_is_cut() -> None:
    packet = HEADER + QUESTION
    long = b"\x12\x34\x81\x83" + HEADER[4:] + QUESTION + bytes(1000)
    cut = dnslib.DNSRecord.parse(dns.fits(packet, long, 512))
    assert cut.header.tc and cut.header.rcode == dns.NXDOMAIN and not cut.rr
    assert dns.fits(packet, long, 4096) == long


def test_an_answer_to_another_question_is_none() -> None:
    packet = HEADER + QUESTION
    answer = dns.failure(packet, dns.NOERROR)
    assert dns.belongs(packet, answer)
    assert dns.belongs(packet, answer.replace(b"web", b"WeB")), "servers may write it as they like"
    for wrong in (
        b"\x12\x35" + answer[2:],
        answer.replace(b"web", b"wed"),
        answer[:-1] + b"\x03",
        answer[:4] + b"\0\0" + answer[6:12],
        packet,
        answer[:14],
        answer[:11],
    ):
        assert not dns.belongs(packet, wrong), wrong
    assert dns.belongs(packet, answer[:3] + b"\x85\0\0" + answer[6:12]), "an error without the question"


def test_no_packet_costs_much() -> None:
    """A container may send as many as it likes to a daemon that serves all of them."""
    worst = [
        HEADER + b"\x01a" * 120 + b"\0\0\x01\0\x01",
        HEADER[:10] + b"\0\4" + QUESTION + b"\x01a" * 126 + b"\0" + bytes(10),
        HEADER + b"\x3f" * 4000,
        HEADER + b"\x01f." * 32 + QUESTION,
    ]
    for packet in worst:
        started = time.process_time()
        for _ in range(200):
            dns.answer(packet, OPEN)
        assert (time.process_time() - started) / 200 < 0.001
