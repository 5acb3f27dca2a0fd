"""``network create --config-only`` and ``--config-from``."""

import json
import zlib
from collections.abc import Iterator

import pytest

from tests.cli import Cli
from tests.engine import Engine
from tests.tidiness import remove_everything
from tests.wire import Wire


@pytest.fixture
def net(engine: Engine, wire: Wire) -> Iterator[str]:
    """The first three numbers of a subnet that no other test daemon uses."""
    number = zlib.crc32(str(engine.root).encode())
    yield f"10.{60 + number % 30}.{number // 30 % 250}"
    for network in wire.get("/networks"):  # those that take from others first
        if network["ConfigFrom"]["Network"]:
            wire("DELETE", f"/networks/{network['Id']}")
    remove_everything(wire)


def test_a_configuration_and_a_network_made_with_it(cli: Cli, wire: Wire, net: str) -> None:
    options = ("--opt", "com.docker.network.driver.mtu=1400", "--label", "a=b")
    made = cli.ok("network", "create", "--config-only", "--subnet", f"{net}.0/24", *options, "conf")
    found = wire.get("/networks/conf")
    assert (found["Id"], found["Driver"], found["ConfigOnly"]) == (made, "null", True)
    assert found["IPAM"]["Config"] == [{"Subnet": f"{net}.0/24"}]
    cli.ok("network", "create", "--config-from", "conf", "--attachable", "user")
    user = wire.get("/networks/user")
    assert (user["Driver"], user["ConfigFrom"], user["ConfigOnly"]) == ("bridge", {"Network": "conf"}, False)
    assert user["IPAM"]["Config"][0]["Subnet"] == f"{net}.0/24"
    assert user["Options"] == {"com.docker.network.driver.mtu": "1400"}
    assert (user["Labels"], user["Attachable"]) == ({"a": "b"}, True)
    again = cli("network", "create", "--config-from", "conf", "second")
    assert "Pool overlaps with other one on this address space" in again.err
    in_use = cli("network", "rm", "conf")
    assert in_use.code == 1
    assert 'configuration network "conf" is in use' in in_use.err
    cli.ok("network", "rm", "user")
    cli.ok("network", "rm", "conf")


def test_nobody_can_be_in_a_configuration(cli: Cli, wire: Wire, busybox: str, net: str) -> None:
    cli.ok("network", "create", "--config-only", "conf")
    refused = cli("run", "--rm", "--network", "conf", busybox, "true")
    assert refused.code == 125
    assert "cannot create endpoint on configuration-only network" in refused.err
    cli.ok("network", "create", "--subnet", f"{net}.0/24", "other")
    cli.ok("run", "-d", "--name", "box", "--network", "other", busybox, "sleep", "300")
    refused = cli("network", "connect", "conf", "box")
    assert "cannot create endpoint on configuration-only network" in refused.err


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"ConfigOnly": True, "Internal": True}, 403, "Network operator fields"),
        ({"ConfigOnly": True, "ConfigFrom": {"Network": "conf"}}, 403, "cannot depend on another"),
        ({"ConfigFrom": {"Network": "conf"}, "Labels": {"a": "b"}}, 403, "user specified configurations"),
        ({"ConfigFrom": {"Network": "conf"}, "Options": {"a": "b"}}, 403, "network driver options"),
        ({"ConfigFrom": {"Network": "nope"}}, 404, 'configuration network "nope" does not exist'),
    ],
)
def test_refusals(wire: Wire, net: str, body: dict[str, object], status: int, words: str) -> None:
    assert wire.post("/networks/create", {"Name": "conf", "ConfigOnly": True}).status == 201
    refused = wire.post("/networks/create", {"Name": "bad", **body})
    assert (refused.status, words in refused.message) == (status, True), refused.body
    assert json.loads(wire("GET", "/networks", query={"filters": '{"name":["bad"]}'}).body) == []
