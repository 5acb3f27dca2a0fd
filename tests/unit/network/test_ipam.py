"""Address management: subnets never overlap, addresses are never given twice, everything free is found."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.errors import Failed, Forbidden, InvalidParameter
from minid.network import ipam
from minid.network.ipam import DEFAULT_POOLS, Range, choose_subnet, mac_of, overlaps
from minid.network.model import Subnet


def networks(text: str) -> list[ipam.Network]:
    return [ipaddress.ip_network(one) for one in text.split()]


def test_the_default_pools_are_docker_s():
    taken: list[ipam.Network] = []
    for _ in range(31):
        taken.append(choose_subnet(4, DEFAULT_POOLS, taken))
    assert [str(one) for one in taken[:3]] == ["172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16"]
    assert [str(one) for one in taken[14:17]] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]
    with pytest.raises(Failed, match="non-overlapping IPv4 address pool"):
        choose_subnet(4, DEFAULT_POOLS, taken)


def test_what_the_host_reaches_already_is_not_chosen():
    assert str(choose_subnet(4, DEFAULT_POOLS, networks("172.17.3.0/24 172.16.0.0/14"))) == "172.20.0.0/16"
    assert str(choose_subnet(4, DEFAULT_POOLS, networks("10.0.0.0/8 fd00::/8"))) == "172.17.0.0/16"


def test_a_pool_smaller_than_its_size_is_one_network():
    assert str(choose_subnet(4, [("10.9.8.0/24", 16)], [])) == "10.9.8.0/24"


def test_ipv6_pools():
    assert (
        str(choose_subnet(6, [*DEFAULT_POOLS, ("fd00:1::/48", 64)], networks("fd00:1::/64")))
        == "fd00:1:0:1::/64"
    )
    with pytest.raises(Failed, match="IPv6"):
        choose_subnet(6, DEFAULT_POOLS, [])


pools = st.lists(
    st.tuples(st.integers(0, 15), st.integers(0, 6)).map(lambda pair: (f"10.{pair[0]}.0.0/16", 18 + pair[1])),
    min_size=1,
    max_size=3,
)


@given(pools, st.integers(1, 40))
def test_chosen_subnets_never_overlap(pools: list[tuple[str, int]], count: int):
    taken: list[ipam.Network] = []
    for _ in range(count):
        try:
            chosen = choose_subnet(4, pools, taken)
        except Failed:
            space = {address for base, _ in pools for address in [base]}
            assert sum(one.num_addresses for one in taken) >= len(space) << 14
            return
        assert overlaps(chosen, taken) is None
        taken.append(chosen)


subnets = st.builds(
    lambda prefix, offset, gateway, ranged: Subnet(
        f"10.77.0.0/{prefix}", f"10.77.0.{gateway}", f"10.77.0.{offset * 8}/29" if ranged else ""
    ),
    st.integers(24, 28),
    st.integers(0, 1),
    st.integers(1, 14),
    st.booleans(),
)


@given(subnets, st.lists(st.integers(0, 300), max_size=60))
def test_every_address_is_given_once_and_all_are(subnet: Subnet, given_back: list[int]):
    addresses = Range.of(subnet)
    whole = ipaddress.ip_network(subnet.subnet)
    inside = ipaddress.ip_network(subnet.ip_range) if subnet.ip_range else whole
    free = {int(address) for address in inside} - {
        int(whole.network_address),
        int(whole.broadcast_address),
        int(ipaddress.ip_address(subnet.gateway)),
    }
    taken: set[int] = set()
    last = 0
    for number in given_back:
        try:
            last = addresses.next(taken, last)
        except Failed:
            assert taken == free
        else:
            assert last not in taken
            assert last in free
            taken.add(last)
        if taken and number % 3 == 0:
            taken.discard(sorted(taken)[number % len(taken)])
    while len(taken) < len(free):
        last = addresses.next(taken, last)
        assert last not in taken
        taken.add(last)
    assert taken == free
    with pytest.raises(Failed, match="no available IPv4 addresses"):
        addresses.next(taken, last)


def test_addresses_go_round_instead_of_being_given_again_at_once():
    addresses = Range.of(Subnet("10.1.0.0/24", "10.1.0.1"))
    first = addresses.next(set(), 0)
    assert addresses.text(first) == "10.1.0.2"
    assert addresses.text(addresses.next(set(), first)) == "10.1.0.3"
    last = int(ipaddress.ip_address("10.1.0.254"))
    assert addresses.text(addresses.next(set(), last)) == "10.1.0.2"


def test_ipv6_ranges_are_not_counted_through():
    addresses = Range.of(Subnet("fd00::/64", "fd00::1"))
    assert addresses.text(addresses.next(set(), 0)) == "fd00::2"


def test_auxiliary_addresses_are_left_out():
    addresses = Range.of(Subnet("10.1.0.0/24", "10.1.0.1", "", {"router": "10.1.0.2"}))
    assert addresses.text(addresses.next(set(), 0)) == "10.1.0.3"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("10.2.0.5", InvalidParameter, "does not belong"),
        ("nonsense", InvalidParameter, "invalid IPv4"),
        ("fd00::1", InvalidParameter, "does not belong"),
        ("10.1.0.1", Forbidden, "Address already in use"),
        ("10.1.0.9", Forbidden, "Address already in use"),
        ("10.1.0.255", Forbidden, "already in use"),
    ],
)
def test_addresses_that_cannot_be_had(text: str, kind: type[Exception], words: str):
    addresses = Range.of(Subnet("10.1.0.0/24", "10.1.0.1"))
    with pytest.raises(kind, match=f"(?i){words}"):
        addresses.check(text, {int(ipaddress.ip_address("10.1.0.9"))})


def test_an_address_outside_of_the_range_may_be_asked_for():
    addresses = Range.of(Subnet("10.1.0.0/24", "10.1.0.1", "10.1.0.128/25"))
    assert addresses.text(addresses.check("10.1.0.9", set())) == "10.1.0.9"
    assert addresses.text(addresses.next(set(), 0)) == "10.1.0.128"


def test_mac_of_an_address():
    assert mac_of("172.17.0.2") == "02:42:ac:11:00:02"
