"""The table's messages, compared with those of nft(8), and the elements of networks and ports."""

from pathlib import Path

import pytest

from minid.kernel.netlink import attribute_list, attributes
from minid.kernel.nftables import expressions, objects, transaction
from minid.network import ruleset
from minid.network.ruleset import NetworkRules, PublishedPort

# Lines of "chain comment expressions" (hex of the attributes), taken with
#     strace -e sendmsg -xx -s 1000000 nft -f LISTING
# where LISTING is what `nft list table inet minid` printed of the table that ``ruleset.base`` makes.
NFT = Path(__file__).parent / "nft-1.0.6.txt"
REGISTERS = {  # attributes that hold a register's number, by expression
    "meta": {1},
    "cmp": {1},
    "payload": {1},
    "lookup": {2, 3},
    "ct": {1},
    "fib": {1},
    "bitwise": {1, 2},
    "nat": {3, 5},
}
SET_ID = 4  # of a lookup: nft names sets by their number in the transaction too

Decoded = list[tuple[str, dict[int, object]]]


def decoded(data: bytes) -> Decoded:
    """Expressions by name, with NFT_REG_1 … NFT_REG_4 as the 32-bit registers that they are."""
    found: Decoded = []
    for _, listed in attribute_list(data):
        fields = attributes(listed)
        name = fields[1].rstrip(b"\0").decode()
        values: dict[int, object] = {}
        for kind, value in attributes(fields.get(2, b"")).items():
            number = int.from_bytes(value, "big")
            if kind in REGISTERS.get(name, set()):
                values[kind] = number if number >= 8 else 8 + 4 * (number - 1)
            elif (name, kind) != ("lookup", SET_ID):
                values[kind] = value
        found.append((name, values))
    return found


def test_rules_are_what_nft_sends() -> None:
    ours = [request for request in ruleset.base("minid") if request.kind == objects.NEWRULE]
    theirs = [line.split() for line in NFT.read_text().splitlines()]
    assert len(ours) == len(theirs)
    for request, (chain, comment, rule) in zip(ours, theirs, strict=True):
        fields = attributes(request.body)
        assert fields[2] == chain.encode() + b"\0"
        assert fields[7].hex() == comment
        assert decoded(fields[4]) == decoded(bytes.fromhex(rule)), request.about


def led(**versions: frozenset[int]) -> list[tuple[str, list[str]]]:
    """The rules that lead packets to containers: their comments, and what they look at."""
    found = []
    for request in ruleset.base("t", **versions):
        if request.about.startswith("rule inet t prerouting from"):
            names = [name for name, _ in decoded(attributes(request.body)[4])]
            found.append((request.about.removeprefix("rule inet t prerouting "), names))
    return found


def test_what_is_led() -> None:
    local = ["fib", "cmp", "immediate"]
    assert led() == [("from everywhere", local)]
    assert led(from_others=frozenset()) == [("from containers", ["meta", "lookup", *local])]
    assert led(from_others=frozenset((6,)), from_containers=frozenset((6,))) == [
        ("from everywhere", ["meta", "cmp", *local])
    ]
    assert led(from_others=frozenset(), from_containers=frozenset((4,))) == [
        ("from containers", ["meta", "lookup", "meta", "cmp", *local])
    ]
    assert led(from_others=frozenset(), from_containers=frozenset()) == []


def test_batch() -> None:
    """nfnetlink.h: begin, the requests, end; 20 bytes of headers each; the table replaced in one go."""
    data = transaction.batch([objects.new_table("t"), objects.delete_table("t")], generation=7)
    assert data.hex() == (
        "1c000000" "1000" "0100" "00000000" "00000000" "0000000a" "0800010000000007"
        "24000000" "000a" "0104" "01000000" "00000000" "01000000" "0600010074000000" "0800020000000000"
        "1c000000" "020a" "0100" "02000000" "00000000" "01000000" "0600010074000000"
        "14000000" "1100" "0100" "03000000" "00000000" "0000000a"
    )  # fmt: skip
    assert [(kind, sequence) for kind, _, sequence, _ in transaction.messages(data)] == [
        (0x10, 0),
        (0xA00, 1),
        (0xA02, 2),
        (0x11, 3),
    ]


def test_messages_cut_short() -> None:
    data = transaction.batch([])
    with pytest.raises(ValueError, match="cut short"):
        transaction.messages(data[:-1])


def test_elements_are_split_into_messages_that_fit() -> None:
    elements = [
        objects.Element(objects.join(b"\6", objects.port(number)), bytes(20)) for number in range(3000)
    ]
    requests = objects.add_elements("t", "every6", elements)
    assert len(requests) == 6
    assert max(len(request.body) for request in requests) < 65536


def test_a_key_is_padded_field_by_field() -> None:
    assert objects.join(b"\6", objects.port(5000)) == b"\6\0\0\0\x13\x88\0\0"


@pytest.mark.parametrize("name", ["", "a" * 16, "ä" * 8])
def test_no_device(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a network device"):
        objects.ifname(name)


def test_has_bits() -> None:
    """``ct status dnat``, as nft --debug=netlink shows it: bitwise, cmp neq 0."""
    (bitwise, compare) = decoded(expressions.has_bits(0x20))
    assert bitwise[0] == "bitwise" and compare[0] == "cmp"
    assert compare[1][2] == (1).to_bytes(4, "big")


def sets(elements: ruleset.Elements) -> list[str]:
    return sorted(name for name, _ in elements)


def test_network_elements() -> None:
    subnets = ("172.17.0.0/16", "fd00::/64")
    every = ["bridges", "masquerade4", "masquerade6", "subnets4", "subnets6", "talking"]
    assert sets(ruleset.network_elements(NetworkRules("b", subnets))) == every
    assert sets(ruleset.network_elements(NetworkRules("b", subnets[:1], icc=False))) == [
        "bridges",
        "masquerade4",
        "subnets4",
    ]
    assert sets(ruleset.network_elements(NetworkRules("b", subnets[1:], masquerade=False))) == [
        "bridges",
        "subnets6",
        "talking",
    ]
    assert sets(ruleset.network_elements(NetworkRules("b", (), internal=True))) == [
        "bridges",
        "internal",
        "talking",
    ]


def test_the_last_subnet_has_no_address_after_it() -> None:
    elements = dict(ruleset.network_elements(NetworkRules("b", ("255.255.255.0/24", "10.0.0.0/8"))))
    assert elements["subnets4"] == objects.Element(bytes((10, 0, 0, 0)), end=bytes((11, 0, 0, 0)))
    (last,) = [
        element
        for name, element in ruleset.network_elements(NetworkRules("b", ("255.255.255.0/24",)))
        if name == "subnets4"
    ]
    assert last.end == b""


@pytest.mark.parametrize(
    ("host_ip", "ip4", "ip6", "expected"),
    [
        ("", "172.17.0.2", "fd00::2", ["every4", "every6"]),
        ("", "172.17.0.2", "", ["every4"]),
        ("0.0.0.0", "172.17.0.2", "fd00::2", ["every4"]),
        ("::", "172.17.0.2", "fd00::2", ["every6"]),
        ("10.0.0.1", "172.17.0.2", "fd00::2", ["address4"]),
        ("fd09::1", "172.17.0.2", "fd00::2", ["address6"]),
        ("fd09::1", "172.17.0.2", "", []),
    ],
)
def test_port_elements(host_ip: str, ip4: str, ip6: str, expected: list[str]) -> None:
    port = PublishedPort("tcp", host_ip, 5000, ip4, ip6, 80, "minid0")
    assert sets(ruleset.port_elements(port)) == expected


def test_what_is_no_port() -> None:
    with pytest.raises(ValueError, match="'icmp' is not tcp, udp or sctp"):
        ruleset.port_elements(PublishedPort("icmp", "", 1, "172.17.0.2", "", 1, "b"))
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        ruleset.port_elements(PublishedPort("tcp", "localhost", 1, "172.17.0.2", "", 1, "b"))
