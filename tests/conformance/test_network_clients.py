"""One story of networks told by three clients, docker, minictl and docker-py: the daemon sees the same each time."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.types import EndpointConfig, IPAMConfig, IPAMPool

from tests.cli import Cli
from tests.conftest import make_cli
from tests.engine import Engine
from tests.tidiness import remove_everything
from tests.wire import Wire

pytestmark = pytest.mark.minid_only("the tests' dockerd runs without its firewall and default bridge")

Picture = dict[str, Any]
MTU = "com.docker.network.driver.mtu"
INNER = "10.29.255.0/24"
MAC = "02:42:00:00:be:ef"


@pytest.fixture
def net(engine: Engine, wire: Wire) -> Iterator[str]:
    number = zlib.crc32(str(engine.root).encode())
    yield f"10.{30 + number % 30}.{number // 30 % 250}"
    remove_everything(wire)


def without(data: Any, *keys: str) -> Any:
    """Without what differs from one time to the next."""
    if isinstance(data, dict):
        return {key: without(value, *keys) for key, value in data.items() if key not in keys}
    return [without(one, *keys) for one in data] if isinstance(data, list) else data


def picture(wire: Wire) -> Picture:
    """Networks, and what containers have of them."""
    random = ("Id", "Created", "EndpointID", "NetworkID", "SandboxID", "SandboxKey")
    networks = [one for one in wire.get("/networks") if one["Name"] not in ("bridge", "host", "none")]
    shown: Picture = {}
    for one in networks:
        found = without(wire.get(f"/networks/{one['Id']}"), *random)
        found["Containers"] = sorted(found["Containers"].values(), key=lambda member: member["Name"])
        found["IPAM"]["Config"].sort(key=str)  # the docker CLI sends them in the order of a Go map
        found["IPAM"]["Options"] = found["IPAM"]["Options"] or {}  # docker-py says nothing, the CLIs say {}
        shown[one["Name"]] = found
    for container in wire.get("/containers/json", all="1"):
        inspected = wire.get(f"/containers/{container['Id']}/json")
        settings = without(inspected["NetworkSettings"]["Networks"], *random)
        for name, endpoint in settings.items():
            for key in ("Aliases", "DNSNames"):
                kept = [one for one in endpoint[key] or () if one != inspected["Id"][:12]]
                endpoint[key] = kept
            for key in ("Links", "DriverOpts", "IPAMConfig"):
                endpoint[key] = endpoint[key] or None
            if name == "bridge":
                for key in ("IPAddress", "MacAddress"):
                    del endpoint[key]  # the next free one
        shown["/" + inspected["Name"].strip("/")] = settings
    return shown


class ByCli:
    def __init__(self, cli: Cli, image: str) -> None:
        self.cli = cli
        self.image = image

    def create(self, net: str) -> None:
        self.cli.ok(
            *("network", "create", "--subnet", f"{net}.0/24", "--gateway", f"{net}.254", "--label", "a=b"),
            *("--ip-range", f"{net}.64/27", "--aux-address", f"router={net}.65", "--opt", f"{MTU}=1400"),
            *("--ipv6", "--subnet", "fd00:99::/64", "--attachable", "mine"),
        )
        self.cli.ok("network", "create", "--internal", "--subnet", INNER, "inner")

    def run(self, net: str) -> None:
        at = ("--ip", f"{net}.9", "--ip6", "fd00:99::9", "--mac-address", MAC, "--network-alias", "other")
        self.cli.ok("run", "-d", "--name", "box", "--network", "mine", *at, self.image, "sleep", "300")
        self.cli.ok("run", "-d", "--name", "plain", self.image, "sleep", "300")

    def connect(self, net: str) -> None:
        self.cli.ok("network", "connect", "--alias", "nick", "--ip", f"{net}.10", "mine", "plain")
        self.cli.ok("network", "connect", "--link", "box:linked", "inner", "plain")

    def disconnect(self) -> None:
        self.cli.ok("network", "disconnect", "bridge", "plain")
        self.cli.ok("network", "disconnect", "-f", "inner", "plain")

    def names(self) -> list[str]:
        return sorted(self.cli.ok("network", "ls", "--filter", "label=a=b", "--format", "{{.Name}}").split())

    def refused(self) -> str:
        return self.cli("network", "rm", "mine").err

    def prune(self) -> list[str]:
        lines = self.cli.ok("network", "prune", "-f").splitlines()
        return sorted(line for line in lines if line and not line.endswith(":"))

    def remove(self) -> None:
        self.cli.ok("rm", "-f", "box", "plain")
        self.cli.ok("network", "rm", "mine")


class ByDockerPy:
    def __init__(self, client: docker.DockerClient, image: str) -> None:
        self.client = client
        self.image = image

    def create(self, net: str) -> None:
        pool = IPAMPool(
            subnet=f"{net}.0/24",
            gateway=f"{net}.254",
            iprange=f"{net}.64/27",
            aux_addresses={"router": f"{net}.65"},
        )
        self.client.networks.create(
            "mine",
            driver="bridge",
            ipam=IPAMConfig(pool_configs=[pool, IPAMPool(subnet="fd00:99::/64")]),
            options={MTU: "1400"},
            labels={"a": "b"},
            enable_ipv6=True,
            attachable=True,
            scope="local",
        )
        inner = IPAMConfig(pool_configs=[IPAMPool(subnet=INNER)])
        self.client.networks.create("inner", internal=True, ipam=inner)

    def run(self, net: str) -> None:
        endpoint = EndpointConfig(
            "1.44",
            ipv4_address=f"{net}.9",
            ipv6_address="fd00:99::9",
            mac_address=MAC,
            aliases=["other"],
        )
        given: dict[str, Any] = {"network": "mine", "networking_config": {"mine": endpoint}}
        self.client.containers.run(self.image, ["sleep", "300"], detach=True, name="box", **given)
        self.client.containers.run(self.image, ["sleep", "300"], detach=True, name="plain")

    def connect(self, net: str) -> None:
        self.client.networks.get("mine").connect("plain", aliases=["nick"], ipv4_address=f"{net}.10")
        self.client.networks.get("inner").connect("plain", links=[("box", "linked")])

    def disconnect(self) -> None:
        self.client.networks.get("bridge").disconnect("plain")
        self.client.networks.get("inner").disconnect("plain", force=True)

    def names(self) -> list[str]:
        return sorted(str(one.name) for one in self.client.networks.list(filters={"label": "a=b"}))

    def refused(self) -> str:
        with pytest.raises(docker.errors.APIError) as refused:
            self.client.networks.get("mine").remove()
        return str(refused.value.explanation)

    def prune(self) -> list[str]:
        return sorted(self.client.networks.prune()["NetworksDeleted"])

    def remove(self) -> None:
        for name in ("box", "plain"):
            self.client.containers.get(name).remove(force=True)
        self.client.networks.get("mine").remove()


def story(client: ByCli | ByDockerPy, wire: Wire, net: str) -> list[Any]:
    """What is there after each step."""
    told: list[Any] = []
    steps: list[Callable[[], None]] = [
        lambda: client.create(net),
        lambda: client.run(net),
        lambda: client.connect(net),
        client.disconnect,
    ]
    for step in steps:
        step()
        told.append(picture(wire))
    told.append(client.names())
    told.append("has active endpoints" in client.refused())
    told.append(client.prune())
    client.remove()
    told.append(picture(wire))
    return told


def test_three_clients_tell_the_same_story(
    engine: Engine, wire: Wire, busybox: str, dockerpy: docker.DockerClient, client_config: Path, net: str
) -> None:
    by_docker = story(ByCli(make_cli("docker", engine, client_config), busybox), wire, net)
    by_minictl = story(ByCli(make_cli("minictl", engine, client_config), busybox), wire, net)
    by_dockerpy = story(ByDockerPy(dockerpy, busybox), wire, net)
    assert by_docker[-4:-1] == [["mine"], True, ["inner"]]
    assert by_docker[-1] == {}
    for number, expected in enumerate(by_docker):
        assert by_minictl[number] == expected, f"minictl, after step {number}"
        assert by_dockerpy[number] == expected, f"docker-py, after step {number}"
