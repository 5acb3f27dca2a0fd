"""From a request to a network: what is completed, and what is refused in which words."""

import ipaddress
from typing import Any

import pytest

from minid.errors import Conflict, Forbidden, InvalidParameter, MinidError, NotFound, Unsupported
from minid.network import creation, options
from minid.network.ipam import DEFAULT_POOLS
from minid.network.model import CreateNetwork, Network, Subnet

KNOWN = [
    Network("a" * 64, "taken", "bridge", 1, (Subnet("10.5.0.0/16", "10.5.0.1"),), device="br-taken"),
    Network("b" * 64, "host", "host", 0),
    Network(
        "c" * 64,
        "given",
        "null",
        2,
        (Subnet("10.8.0.0/24"), Subnet("fd00:8::/64")),
        ipv6=True,
        options={options.MTU: "1400"},
        labels={"a": "b"},
        config_only=True,
    ),
]


def plan(**fields: Any) -> Network:
    return creation.plan(
        CreateNetwork(**{"name": "new", **fields}),
        known=KNOWN,
        pools=DEFAULT_POOLS,
        host_subnets=[ipaddress.ip_network("172.17.0.0/16")],
    )


def test_a_plain_network():
    network = plan()
    assert network.subnets == (Subnet("172.18.0.0/16", "172.18.0.1"),)
    assert network.device == f"br-{network.id[:12]}"
    assert (network.driver, network.internal, network.ipv6) == ("bridge", False, False)


def test_ipv6_without_a_subnet_gets_a_unique_local_one():
    network = plan(enable_ipv6=True)
    subnet = network.subnet(6)
    assert subnet is not None
    whole = ipaddress.ip_network(subnet.subnet)
    assert whole.prefixlen == 64
    assert whole.subnet_of(ipaddress.IPv6Network("fd00::/8"))
    assert ipaddress.ip_address(subnet.gateway) == whole.network_address + 1


def test_an_ipv6_subnet_is_for_networks_with_ipv6():
    subnets = (Subnet("10.6.0.0/16"), Subnet("fd00:6::/64"))
    assert [one.subnet for one in plan(subnets=subnets).subnets] == ["10.6.0.0/16"]
    assert len(plan(subnets=subnets, enable_ipv6=True).subnets) == 2


def test_everything_that_was_asked_for_is_kept():
    subnet = Subnet("10.6.0.0/16", "10.6.0.254", "10.6.4.0/24", {"x": "10.6.4.9"})
    network = plan(subnets=(subnet,), labels={"a": "b"}, internal=True, options={options.BRIDGE_NAME: "br7"})
    assert network.subnets == (subnet,)
    assert (network.labels, network.internal, network.device) == ({"a": "b"}, True, "br7")


def test_a_configuration_is_kept_as_it_was_given():
    network = plan(config_only=True, driver="macvlan", options={"parent": "eth7"}, enable_ipv6=True)
    assert (network.driver, network.subnets, network.device, network.ipv6) == ("null", (), "", True)
    assert network.options == {"parent": "eth7"}


def test_a_network_takes_what_a_configuration_says():
    network = plan(config_from="given", internal=True)
    assert network.subnets == (Subnet("10.8.0.0/24", "10.8.0.1"), Subnet("fd00:8::/64", "fd00:8::1"))
    assert (network.driver, network.ipv6, network.internal) == ("bridge", True, True)
    assert (network.options, network.labels) == ({options.MTU: "1400"}, {"a": "b"})
    assert (network.config_from, network.config_only) == ("given", False)


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"name": ""}, InvalidParameter, "invalid network name"),
        ({"name": "a/b"}, InvalidParameter, "invalid network name a/b"),
        ({"name": "taken"}, Conflict, "network with name taken already exists"),
        ({"name": "bridge"}, Forbidden, "operation is not permitted on predefined bridge network"),
        ({"driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"driver": "null"}, Forbidden, 'only one instance of "null" network is allowed'),
        ({"driver": "nope"}, NotFound, "could not find plugin nope"),
        ({"driver": "overlay"}, Unsupported, "swarm manager"),
        ({"config_only": True, "internal": True}, Forbidden, "Network operator fields"),
        ({"config_only": True, "config_from": "given"}, Forbidden, "cannot depend on another"),
        ({"config_only": True, "subnets": (Subnet("x"),)}, InvalidParameter, "invalid CIDR"),
        ({"config_from": "nope"}, NotFound, 'configuration network "nope" does not exist'),
        ({"config_from": "taken"}, NotFound, 'configuration network "taken" does not exist'),
        ({"config_from": "given", "labels": {"a": "b"}}, Forbidden, "user specified configurations"),
        ({"config_from": "given", "enable_ipv6": True}, Forbidden, "user specified configurations"),
        ({"config_from": "given", "options": {"a": "b"}}, Forbidden, "network driver options"),
        ({"ipam_driver": "dhcp"}, InvalidParameter, "IPAM driver with name dhcp"),
        (
            {"subnets": (Subnet("10.5.9.0/24"),)},
            Forbidden,
            "Pool overlaps with other one on this address space",
        ),
        ({"subnets": (Subnet("10.6.0.0/16"), Subnet("10.6.1.0/24"))}, Forbidden, "Pool overlaps"),
        ({"subnets": (Subnet("x"),)}, InvalidParameter, "invalid CIDR"),
        ({"subnets": (Subnet("10.6.0.7/16"),)}, InvalidParameter, "it should be 10.6.0.0/16"),
        ({"subnets": (Subnet("10.6.0.0/31"),)}, InvalidParameter, "no room"),
        ({"subnets": (Subnet("", "10.6.0.1"),)}, InvalidParameter, "a subnet is needed"),
        (
            {"subnets": (Subnet("10.6.0.0/16", "10.7.0.1"),)},
            InvalidParameter,
            "no matching subnet for 10.7.0.1",
        ),
        ({"subnets": (Subnet("10.6.0.0/16", "", "10.7.0.0/24"),)}, InvalidParameter, "not inside"),
        ({"subnets": (Subnet("10.6.0.0/16", "", "", {"a": "10.7.0.1"}),)}, InvalidParameter, "auxiliary"),
        ({"options": {options.BRIDGE_NAME: "br-taken"}}, Forbidden, "networks have same bridge name"),
        ({"options": {options.BRIDGE_NAME: "a name"}}, InvalidParameter, "1 to 15 characters"),
        ({"options": {options.ICC: "perhaps"}}, InvalidParameter, "strconv.ParseBool"),
        ({"options": {options.MTU: "12"}}, InvalidParameter, "68 to 65535"),
        ({"driver": "macvlan", "options": {"macvlan_mode": "x"}}, InvalidParameter, "macvlan mode 'x'"),
        ({"driver": "ipvlan", "options": {"ipvlan_mode": "l4"}}, InvalidParameter, "ipvlan mode 'l4'"),
    ],
)
def test_refusals(fields: dict[str, Any], kind: type[MinidError], words: str):
    with pytest.raises(kind) as refused:
        plan(**fields)
    assert words in str(refused.value)
