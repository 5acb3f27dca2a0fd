"""What a container can look up, from the endpoints of its networks."""

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.network import zone
from minid.network.model import Endpoint, Network, Subnet
from minid.network.zone import Index, Link, View

ALPHA = Network("a" * 64, "Alpha", "bridge", 0, (Subnet("10.1.0.0/16"), Subnet("fd01::/64")))
BETA = Network("b" * 64, "beta", "bridge", 0, (Subnet("10.2.0.0/16"),), internal=True)


def endpoint(container: str, ip4: str, *names: str, ip6: str = "") -> Endpoint:
    return Endpoint("e" + container, ALPHA.id, container, "eth0", "veth", "", ip4=ip4, ip6=ip6, names=names)


def texts(found: tuple[zone.Address, ...] | None) -> list[str] | None:
    return None if found is None else [str(address) for address in found]


WEB = endpoint("c1", "10.1.0.2", "web", "WWW", "0123456789ab", ip6="fd01::2")
DB = endpoint("c2", "10.1.0.3", "db", "www")


@pytest.fixture
def view() -> View:
    return View([zone.index(ALPHA, [WEB, DB])])


def test_names_of_all_kinds(view: View) -> None:
    for name in ("web", "WEB", "web.alpha", "Web.ALPHA", "0123456789ab", "0123456789ab.alpha"):
        assert texts(view.addresses(name, 4)) == ["10.1.0.2"], name
    assert texts(view.addresses("web", 6)) == ["fd01::2"]
    assert view.addresses("db", 6) == (), "known, but not of that kind"
    for name in ("", ".", "alpha", "web.beta", "web.alpha.alpha", "w", "web."):
        assert view.addresses(name, 4) is None, name


def test_a_shared_alias_is_everybody(view: View) -> None:
    assert texts(view.addresses("www", 4)) == ["10.1.0.2", "10.1.0.3"]
    assert texts(view.addresses("www.alpha", 4)) == ["10.1.0.2", "10.1.0.3"]


def test_addresses_have_names(view: View) -> None:
    assert view.name(ipaddress.ip_address("10.1.0.2")) == "web.Alpha"
    assert view.name(ipaddress.ip_address("fd01::2")) == "web.Alpha"
    assert view.name(ipaddress.ip_address("10.1.0.9")) is None
    assert view.covers(ipaddress.ip_address("10.1.0.9"))
    assert not view.covers(ipaddress.ip_address("10.3.0.9"))
    on_the_lan = View([zone.index(replace(ALPHA, driver="macvlan"), [WEB])])
    assert not on_the_lan.covers(ipaddress.ip_address("10.1.0.9")), "others are there too"


def test_the_first_network_counts() -> None:
    other = endpoint("c3", "10.2.0.9", "web", "only")
    first, second = zone.index(ALPHA, [WEB]), zone.index(BETA, [other])
    assert texts(View([first, second]).addresses("web", 4)) == ["10.1.0.2"]
    assert texts(View([second, first]).addresses("web", 4)) == ["10.2.0.9"]
    assert texts(View([second, first]).addresses("web", 6)) == ["fd01::2"], "the first that has one"
    assert texts(View([first, second]).addresses("only", 4)) == ["10.2.0.9"]
    assert texts(View([first, second]).addresses("web.beta", 4)) == ["10.2.0.9"]


def test_a_link_is_a_name_for_one_container_only() -> None:
    shared = zone.index(ALPHA, [WEB, DB])
    linking = View([shared], [Link("Store", "c2"), Link("gone", "c9"), Link("else", "c2", "beta")])
    assert texts(linking.addresses("store", 4)) == ["10.1.0.3"]
    assert texts(linking.addresses("STORE.alpha", 4)) == ["10.1.0.3"]
    assert linking.addresses("gone", 4) is None
    assert linking.addresses("else", 4) is None
    assert View([shared]).addresses("store", 4) is None


def test_a_link_goes_before_a_container_of_that_name() -> None:
    view = View([zone.index(ALPHA, [WEB, DB])], [Link("web", "c2", "Alpha")])
    assert texts(view.addresses("web", 4)) == ["10.1.0.3"]


@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.integers(0, 2**16 - 1)), max_size=20, unique_by=lambda one: one[1]
    )
)
def test_every_name_leads_to_its_address_and_back(named: list[tuple[str, int]]) -> None:
    base = int(ipaddress.ip_address("10.1.0.0"))
    endpoints = [
        endpoint(f"c{number}", str(ipaddress.ip_address(base + number)), name) for name, number in named
    ]
    index: Index = zone.index(ALPHA, endpoints)
    view = View([index])
    for one in endpoints:
        name = one.names[0].rstrip(".")
        address = ipaddress.ip_address(one.ip4)
        if name:
            found = view.addresses(name, 4)
            assert found is not None and address in found
        assert view.name(address) == f"{name}.{ALPHA.name}"
