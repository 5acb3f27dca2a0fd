"""Networks as clients see and use them: addresses, names, reachability, connect and disconnect, refusals.

Traffic is real: containers ping each other and talk TCP (busybox: ping, nc).
"""

import ipaddress
import json
import os
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Cli
from tests.conftest import make_cli
from tests.engine import Engine
from tests.tidiness import remove_everything
from tests.wire import Wire

pytestmark = pytest.mark.minid_only("the tests' dockerd runs without its firewall and default bridge")

SLEEP = ("sleep", "300")


@pytest.fixture
def subnet(engine: Engine) -> Callable[[int], str]:
    """Subnets that no other test daemon uses: ``subnet(7)`` is "10.2xx.yy.7" plus what follows."""
    number = zlib.crc32(str(engine.root).encode())
    return lambda third: f"10.{100 + number % 90}.{(number // 90 + third) % 250}"


@pytest.fixture(autouse=True)
def networks_go(request: pytest.FixtureRequest, tidy: None) -> Iterator[None]:
    """The test's networks are removed with its containers."""
    yield
    if "wire" in request.fixturenames or "engine" in request.fixturenames:
        wire: Wire = request.getfixturevalue("wire")
        remove_everything(wire)
        assert {network["Name"] for network in wire.get("/networks")} == {"bridge", "host", "none"}


def settings(wire: Wire, name: str) -> dict[str, Any]:
    found: dict[str, Any] = wire.get(f"/containers/{name}/json")["NetworkSettings"]
    return found


def pings(docker: Cli, source: str, target: str) -> bool:
    return docker("exec", source, "ping", "-c", "1", "-W", "1", target).code == 0


def interfaces(docker: Cli, name: str) -> dict[str, list[str]]:
    """By name: the addresses, hardware first."""
    result: dict[str, list[str]] = {}
    for line in docker.ok("exec", name, "ip", "-o", "addr").splitlines():
        words = line.split()
        result.setdefault(words[1], []).append(words[3])
    return result


def hosts(docker: Cli, name: str) -> list[list[str]]:
    return [line.split() for line in docker.ok("exec", name, "cat", "/etc/hosts").splitlines()]


def http(address: str, port: int, family: int = socket.AF_INET) -> bytes:
    with socket.create_connection((address, port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.makefile("rb").read()


def server(docker: Cli, name: str, image: str, *options: str, port: int = 80, text: str = "hello") -> None:
    script = f"mkdir -p /w && echo {text} >/w/index.html && exec httpd -f -p {port} -h /w"
    docker.ok("run", "-d", "--name", name, *options, image, "sh", "-c", script)
    listening = f"until netstat -lnt | grep -q ':{port} '; do sleep 0.05; done"
    docker.ok("exec", name, "sh", "-c", listening)


def test_the_default_network(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    for name in ("one", "two"):
        docker_cli.ok("run", "-d", "--name", name, "-h", f"host-{name}", busybox, *SLEEP)
    one, two = settings(wire, "one"), settings(wire, "two")
    network = wire.get("/networks/bridge")
    (config,) = network["IPAM"]["Config"]
    subnet = ipaddress.ip_network(config["Subnet"])
    assert one["Gateway"] == config["Gateway"] == one["Networks"]["bridge"]["Gateway"]
    assert ipaddress.ip_address(one["IPAddress"]) in subnet
    assert one["IPAddress"] != two["IPAddress"]
    assert one["IPPrefixLen"] == subnet.prefixlen
    assert one["MacAddress"].startswith("02:42:")
    assert one["Networks"]["bridge"]["NetworkID"] == network["Id"]
    assert one["EndpointID"] == one["Networks"]["bridge"]["EndpointID"] != two["EndpointID"]
    shown = network["Containers"]
    assert {entry["Name"]: entry["IPv4Address"] for entry in shown.values()} == {
        name: f"{settings(wire, name)['IPAddress']}/{subnet.prefixlen}" for name in ("one", "two")
    }
    addresses = interfaces(docker_cli, "one")
    assert addresses["eth0"] == [f"{one['IPAddress']}/{subnet.prefixlen}"]
    assert "127.0.0.1/8" in addresses["lo"]
    assert one["MacAddress"] in docker_cli.ok("exec", "one", "ip", "link", "show", "eth0")
    assert docker_cli.ok("exec", "one", "ip", "route").splitlines()[0].split()[:3] == [
        "default",
        "via",
        one["Gateway"],
    ]
    assert [one["IPAddress"], "host-one"] in hosts(docker_cli, "one")
    assert pings(docker_cli, "one", two["IPAddress"])
    assert pings(docker_cli, "two", one["Gateway"])
    listed = {entry["Names"][0]: entry for entry in wire.get("/containers/json")}
    assert listed["/one"]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == one["IPAddress"]
    docker_cli.ok("stop", "-t", "0", "one")
    gone = settings(wire, "one")
    assert (gone["IPAddress"], gone["SandboxID"], gone["Networks"]["bridge"]["EndpointID"]) == ("", "", "")
    assert gone["Networks"]["bridge"]["NetworkID"] == network["Id"]
    assert set(wire.get("/networks/bridge")["Containers"]) == {wire.get("/containers/two/json")["Id"]}


def test_network_modes_without_endpoints(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli.ok("run", "-d", "--name", "alone", "--network", "none", busybox, *SLEEP)
    docker_cli.ok("run", "-d", "--name", "base", busybox, *SLEEP)
    docker_cli.ok("run", "-d", "--name", "guest", "--network", "container:base", busybox, *SLEEP)
    docker_cli.ok("run", "-d", "--name", "open", "--network", "host", busybox, *SLEEP)
    assert set(interfaces(docker_cli, "alone")) == {"lo"}
    assert interfaces(docker_cli, "guest") == interfaces(docker_cli, "base")
    assert settings(wire, "guest")["Networks"] == {}
    assert os.listdir("/sys/class/net")[0] in docker_cli.ok("exec", "open", "ls", "/sys/class/net").split()
    for name, network in (("alone", "none"), ("open", "host")):
        found = settings(wire, name)["Networks"][network]
        assert (found["IPAddress"], len(found["EndpointID"])) == ("", 64)
        assert wire.get(f"/networks/{network}")["Containers"]


def test_a_network_of_one_s_own(
    cli: Cli, docker_cli: Cli, wire: Wire, busybox: str, subnet: Callable[[int], str]
) -> None:
    net = subnet(1)
    created = cli.ok(
        *("network", "create", "--subnet", f"{net}.0/24", "--gateway", f"{net}.254"),
        *("--ip-range", f"{net}.64/27", "--aux-address", f"router={net}.65", "--label", "a=b"),
        *("--opt", "com.docker.network.driver.mtu=1400", "mine"),
    )
    network = wire.get("/networks/mine")
    assert network["Id"] == created
    assert (network["Driver"], network["Scope"], network["Labels"]) == ("bridge", "local", {"a": "b"})
    assert network["IPAM"]["Config"] == [
        {
            "Subnet": f"{net}.0/24",
            "IPRange": f"{net}.64/27",
            "Gateway": f"{net}.254",
            "AuxiliaryAddresses": {"router": f"{net}.65"},
        }
    ]
    assert cli.ok("network", "ls", "-q", "--no-trunc", "-f", "label=a=b") == created
    cli.ok("run", "-d", "--name", "first", "--network", "mine", busybox, *SLEEP)
    cli.ok(
        *("run", "-d", "--name", "second", "--network", "mine", "--ip", f"{net}.9"),
        *("--mac-address", "02:42:00:00:be:ef", "--network-alias", "other", busybox, *SLEEP),
    )
    first, second = settings(wire, "first")["Networks"]["mine"], settings(wire, "second")["Networks"]["mine"]
    assert ipaddress.ip_address(first["IPAddress"]) in ipaddress.ip_network(f"{net}.64/27")
    assert first["IPAddress"] != f"{net}.65"
    assert (second["IPAddress"], second["MacAddress"]) == (f"{net}.9", "02:42:00:00:be:ef")
    assert second["IPAMConfig"] == {"IPv4Address": f"{net}.9"}
    identifier = wire.get("/containers/second/json")["Id"]
    assert second["DNSNames"] == ["second", "other", identifier[:12]]
    assert second["Aliases"] == ["other", identifier[:12]]
    assert "mtu 1400" in docker_cli.ok("exec", "second", "ip", "link", "show", "eth0")
    device = Path(f"/sys/class/net/br-{created[:12]}")
    assert (device / "mtu").read_text().strip() == "1400"
    assert pings(docker_cli, "first", f"{net}.9")
    refused = cli("run", "--rm", "--network", "mine", "--ip", f"{net}.9", busybox, "true")
    assert refused.code == 125
    assert "Address already in use" in refused.err
    in_use = cli("network", "rm", "mine")
    assert in_use.code == 1
    assert "has active endpoints" in in_use.err
    cli.ok("rm", "-f", "first", "second")
    assert (device / "mtu").read_text().strip() == "1400", "also when nobody is in it"
    assert cli.ok("network", "rm", "mine") == "mine"
    assert not device.exists()


def test_connect_and_disconnect(
    cli: Cli, docker_cli: Cli, wire: Wire, busybox: str, subnet: Callable[[int], str]
) -> None:
    net = subnet(2)
    cli.ok("network", "create", "--subnet", f"{net}.0/24", "extra")
    cli.ok("run", "-d", "--name", "box", "-h", "boxhost", busybox, *SLEEP)
    cli.ok("run", "-d", "--name", "peer", "--network", "extra", "--ip", f"{net}.7", busybox, *SLEEP)
    docker_cli.ok("exec", "box", "sh", "-c", "echo '192.0.2.9 mine' >> /etc/hosts")
    first = settings(wire, "box")["IPAddress"]
    assert not pings(docker_cli, "box", f"{net}.7"), "networks are apart"
    cli.ok("network", "connect", "--ip", f"{net}.5", "--alias", "boxy", "extra", "box")
    assert pings(docker_cli, "box", f"{net}.7")
    assert pings(docker_cli, "peer", f"{net}.5")
    assert interfaces(docker_cli, "box")["eth1"] == [f"{net}.5/24"]
    assert {"192.0.2.9", first, f"{net}.5"} <= {line[0] for line in hosts(docker_cli, "box")}
    assert settings(wire, "box")["Networks"]["extra"]["DNSNames"][:2] == ["box", "boxy"]
    again = cli("network", "connect", "extra", "box")
    assert again.code == 1
    assert "endpoint with name box already exists in network extra" in again.err
    cli.ok("network", "disconnect", "bridge", "box")
    assert set(interfaces(docker_cli, "box")) == {"lo", "eth1"}
    assert f"default via {net}.1" in docker_cli.ok("exec", "box", "ip", "route")
    lines = [line[0] for line in hosts(docker_cli, "box")]
    assert first not in lines
    assert "192.0.2.9" in lines, "what the container wrote stays"
    cli.ok("restart", "-t", "0", "box")
    assert set(settings(wire, "box")["Networks"]) == {"extra"}
    assert interfaces(docker_cli, "box")["eth0"] == [f"{net}.5/24"]
    cli.ok("stop", "-t", "0", "box")
    cli.ok("network", "connect", "bridge", "box")
    cli.ok("network", "disconnect", "extra", "box")
    cli.ok("start", "box")
    assert set(settings(wire, "box")["Networks"]) == {"bridge"}
    not_there = cli("network", "disconnect", "extra", "box")
    assert "is not connected to network extra" in not_there.err


def test_several_networks_from_the_start(
    docker_cli: Cli, wire: Wire, busybox: str, subnet: Callable[[int], str]
) -> None:
    for number, name in enumerate(("beta", "alpha")):
        docker_cli.ok("network", "create", "--subnet", f"{subnet(10 + number)}.0/24", name)
    body = {
        "Image": busybox,
        "Cmd": list(SLEEP),
        "HostConfig": {"NetworkMode": "beta"},
        "NetworkingConfig": {
            "EndpointsConfig": {"beta": {}, "alpha": {"IPAMConfig": {"IPv4Address": f"{subnet(11)}.77"}}}
        },
    }
    created = wire.post("/containers/create", body, name="both")
    assert created.status == 201, created.body
    assert wire.post("/containers/both/start").status == 204
    found = interfaces(docker_cli, "both")
    assert found["eth0"][0].startswith(subnet(10))
    assert found["eth1"] == [f"{subnet(11)}.77/24"]
    # the default route goes through the first by name
    assert f"default via {subnet(11)}.1" in docker_cli.ok("exec", "both", "ip", "route")


def test_internal_and_without_icc(docker_cli: Cli, busybox: str, subnet: Callable[[int], str]) -> None:
    inner, silent = subnet(20), subnet(21)
    docker_cli.ok("network", "create", "--internal", "--subnet", f"{inner}.0/24", "inner")
    docker_cli.ok(
        *("network", "create", "-o", "com.docker.network.bridge.enable_icc=false"),
        *("--subnet", f"{silent}.0/24", "silent"),
    )
    for network, net in (("inner", inner), ("silent", silent)):
        for last in (5, 6):
            docker_cli.ok(
                *("run", "-d", "--name", f"{network}{last}", "--network", network, "--ip", f"{net}.{last}"),
                *(busybox, *SLEEP),
            )
    assert pings(docker_cli, "inner5", f"{inner}.6")
    assert "default" not in docker_cli.ok("exec", "inner5", "ip", "route")
    assert not pings(docker_cli, "silent5", f"{silent}.6")
    assert pings(docker_cli, "silent5", f"{silent}.1"), "the host can be reached"


def test_ipv6(docker_cli: Cli, wire: Wire, busybox: str, subnet: Callable[[int], str]) -> None:
    net = "fd00:" + ":".join(subnet(30).split(".")[1:])
    docker_cli.ok(
        "network", "create", "--ipv6", "--subnet", f"{subnet(30)}.0/24", "--subnet", f"{net}::/64", "six"
    )
    for last in ("a", "b"):
        docker_cli.ok(
            *("run", "-d", "--name", f"six-{last}", "--network", "six", "--ip6", f"{net}::{last}"),
            *(busybox, *SLEEP),
        )
    found = settings(wire, "six-a")["Networks"]["six"]
    assert (found["GlobalIPv6Address"], found["GlobalIPv6PrefixLen"]) == (f"{net}::a", 64)
    assert found["IPv6Gateway"] == f"{net}::1"
    assert docker_cli("exec", "six-a", "ping6", "-c", "1", "-W", "1", f"{net}::b").code == 0
    assert docker_cli("exec", "six-a", "ping6", "-c", "1", "-W", "1", f"{net}::1").code == 0
    assert f"default via {net}::1" in docker_cli.ok("exec", "six-a", "ip", "-6", "route")
    assert [f"{net}::a"] in [line[:1] for line in hosts(docker_cli, "six-a")]


def test_without_ipv6_a_container_has_none_outside_of_its_loopback(docker_cli: Cli, busybox: str) -> None:
    text = docker_cli.ok("run", "--rm", busybox, "ip", "-6", "-o", "addr")
    assert [line.split()[1] for line in text.splitlines()] == ["lo"]


def test_published_ports(cli: Cli, docker_cli: Cli, wire: Wire, busybox: str) -> None:
    server(docker_cli, "web", busybox, "-p", "80", "-p", "127.0.0.1::81", "--expose", "82")
    ports = settings(wire, "web")["Ports"]
    assert ports["82/tcp"] is None
    (public,) = {binding["HostPort"] for binding in ports["80/tcp"]}
    assert [binding["HostIp"] for binding in ports["80/tcp"]] == ["0.0.0.0", "::"]
    assert [binding["HostIp"] for binding in ports["81/tcp"]] == ["127.0.0.1"]
    address = settings(wire, "web")["IPAddress"]
    for host, port in (("127.0.0.1", int(public)), ("::1", int(public)), (address, 80)):
        assert b"hello" in http(host, port), host
    assert cli.ok("port", "web", "80").splitlines() == [f"0.0.0.0:{public}", f"[::]:{public}"]
    listed = wire.get("/containers/json")[0]["Ports"]
    assert {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": int(public), "Type": "tcp"} in listed
    assert {"PrivatePort": 82, "Type": "tcp"} in listed
    refused = cli("run", "--rm", "-p", f"{public}:80", busybox, "true")
    assert refused.code == 125
    assert "port is already allocated" in refused.err
    docker_cli.ok("network", "create", "elsewhere")
    docker_cli.ok("network", "connect", "elsewhere", "web")
    docker_cli.ok("network", "disconnect", "bridge", "web")
    assert b"hello" in http("127.0.0.1", int(public)), "it follows the container into another network"
    assert b"hello" in http("::1", int(public))
    cli.ok("stop", "-t", "0", "web")
    with pytest.raises(OSError):
        http("127.0.0.1", int(public))
    cli.ok("run", "--rm", "-p", f"{public}:80", busybox, "true")


def test_ports_of_a_running_container_change(
    engine: Engine, client_config: Path, docker_cli: Cli, wire: Wire, busybox: str
) -> None:
    minictl = make_cli("minictl", engine, client_config)
    server(docker_cli, "web", busybox, "-p", "127.0.0.1::80")
    first = int(settings(wire, "web")["Ports"]["80/tcp"][0]["HostPort"])
    minictl.ok("update", "--publish-add", "127.0.0.1::80", "web")
    both = {int(one["HostPort"]) for one in settings(wire, "web")["Ports"]["80/tcp"]}
    (second,) = both - {first}
    for port in both:
        assert b"hello" in http("127.0.0.1", port)
    minictl.ok("update", "--publish-rm", f"127.0.0.1:{first}:80", "web")
    assert {int(one["HostPort"]) for one in settings(wire, "web")["Ports"]["80/tcp"]} == {second}
    with pytest.raises(OSError):
        http("127.0.0.1", first)
    assert b"hello" in http("127.0.0.1", second)
    taken = minictl("update", "--publish-add", f"127.0.0.1:{second}:81", "web")
    assert (taken.code, "port is already allocated" in taken.err) == (1, True)
    assert "81/tcp" not in settings(wire, "web")["Ports"]
    missing = minictl("update", "--publish-rm", "99", "web")
    assert (missing.code, "port 99/tcp of web is not published there" in missing.err) == (1, True)
    minictl.ok("update", "--publish-add", f"127.0.0.1:{first}:80", "--publish-rm", "80", "web")
    docker_cli.ok("restart", "-t", "0", "web")
    assert [one["HostPort"] for one in settings(wire, "web")["Ports"]["80/tcp"]] == [str(first)]
    minictl.ok("update", "--publish-rm", "80", "web")
    assert settings(wire, "web")["Ports"] == {"80/tcp": None}, "exposed still"
    docker_cli.ok("stop", "-t", "0", "web")
    minictl.ok("update", "--publish-add", f"127.0.0.1:{second}:80", "web")
    assert wire.get("/containers/web/json")["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(second)}]
    }


def test_add_host_and_links(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli.ok("run", "-d", "--name", "db", "-h", "dbhost", busybox, *SLEEP)
    docker_cli.ok(
        *("run", "-d", "--name", "app", "--link", "db:store", "--add-host", "up:host-gateway"),
        *("--add-host", "x:10.0.0.1", busybox, *SLEEP),
    )
    address = settings(wire, "db")["IPAddress"]
    lines = hosts(docker_cli, "app")
    assert [address, "store", "dbhost", "db"] in lines
    assert [settings(wire, "app")["Gateway"], "up"] in lines
    assert ["10.0.0.1", "x"] in lines
    docker_cli.ok("restart", "-t", "0", "db")
    new = settings(wire, "db")["IPAddress"]
    lines = hosts(docker_cli, "app")
    assert [new, "store", "dbhost", "db"] in lines
    assert new == address or [address, "store", "dbhost", "db"] not in lines


def test_what_is_refused(docker_cli: Cli, wire: Wire, busybox: str, subnet: Callable[[int], str]) -> None:
    net = subnet(40)
    docker_cli.ok("network", "create", "--subnet", f"{net}.0/24", "mine")
    docker_cli.ok("run", "-d", "--name", "hosty", "--network", "host", busybox, *SLEEP)
    docker_cli.ok("run", "-d", "--name", "loner", "--network", "none", busybox, *SLEEP)

    def create(**body: Any) -> tuple[int, str]:
        answer = wire.post("/networks/create", body)
        return answer.status, answer.message

    assert create(Name="mine") == (409, "network with name mine already exists")
    assert create(Name="host")[0] == 403
    assert create(Name="x", IPAM={"Config": [{"Subnet": f"{net}.128/25"}]}) == (
        403,
        "invalid pool request: Pool overlaps with other one on this address space",
    )
    assert create(Name="x", Driver="nope")[0] == 404
    assert create(Name="x", IPAM={"Config": [{"Subnet": "x"}]})[0] == 400
    for name, words in (("hosty", "sharing network namespace"), ("loner", "private (none) mode")):
        answer = wire.post("/networks/mine/connect", {"Container": name})
        assert answer.status == 400
        assert words in answer.message
    assert wire.post("/networks/nope/connect", {"Container": "hosty"}).status == 404
    assert wire.post("/networks/mine/connect", {"Container": "nope"}).status == 404
    assert wire("DELETE", "/networks/bridge").status == 403
    assert wire("DELETE", "/networks/nope").status == 404
    missing = docker_cli("run", "--name", "lost", "--network", "nope", busybox, "true")
    assert (missing.code, "network nope not found" in missing.err) == (125, True)
    assert wire.get("/containers/lost/json")["State"]["Status"] == "created"
    for flags in (("--ip", "10.0.0.5"), ("--network-alias", "x")):
        answer = docker_cli("run", "--rm", *flags, busybox, "true")
        assert answer.code == 125
        assert "user defined networks" in answer.err or "user-defined networks" in answer.err


def test_lists_and_filters(cli: Cli, wire: Wire, busybox: str, subnet: Callable[[int], str]) -> None:
    cli.ok("network", "create", "--label", "a=1", "--subnet", f"{subnet(50)}.0/24", "used")
    cli.ok("network", "create", "--label", "a=2", "--subnet", f"{subnet(51)}.0/24", "idle")
    cli.ok("run", "-d", "--name", "box", "--network", "used", busybox, *SLEEP)

    def names(**filters: Any) -> set[str]:
        return {one["Name"] for one in wire.get("/networks", filters=json.dumps(filters))}

    assert names(type=["custom"]) == {"used", "idle"}
    assert names(type=["builtin"]) == {"bridge", "host", "none"}
    assert names(driver=["bridge"]) == {"bridge", "used", "idle"}
    assert names(label=["a=1"]) == {"used"}
    assert names(label=["a"]) == {"used", "idle"}
    assert names(name=["use", "idl"]) == {"used", "idle"}
    assert names(dangling=["true"]) == {"idle"}
    assert "idle" not in names(dangling=["false"])
    assert wire("GET", "/networks", query={"filters": json.dumps({"nope": ["x"]})}).status == 400
    identifier = wire.get("/networks/used")["Id"]
    assert wire.get(f"/networks/{identifier[:10]}")["Name"] == "used"
    assert [
        one["Names"] for one in wire.get("/containers/json", filters=json.dumps({"network": ["used"]}))
    ] == [["/box"]]
    assert len(wire.get("/containers/json", filters=json.dumps({"network": [identifier]}))) == 1
    assert "idle" in cli.ok("network", "prune", "-f").splitlines()
    assert names(type=["custom"]) == {"used"}


def test_docker_py(dockerpy: Any, wire: Wire, busybox: str, subnet: Callable[[int], str]) -> None:
    import docker.types

    net = subnet(60)
    pool = docker.types.IPAMPool(subnet=f"{net}.0/24", gateway=f"{net}.1")
    network = dockerpy.networks.create(
        "py", ipam=docker.types.IPAMConfig(pool_configs=[pool]), labels={"x": "y"}
    )
    box = dockerpy.containers.run(busybox, list(SLEEP), detach=True, network="py", name="pybox")
    network.reload()
    assert [one.name for one in network.containers] == ["pybox"]
    network.disconnect(box)
    network.connect(box, ipv4_address=f"{net}.99", aliases=["nick"])
    box.reload()
    assert box.attrs["NetworkSettings"]["Networks"]["py"]["IPAddress"] == f"{net}.99"
    box.remove(force=True)
    network.remove()
    assert dockerpy.networks.list(names=["py"]) == []


def test_network_events(wire: Wire, docker_cli: Cli, busybox: str, subnet: Callable[[int], str]) -> None:
    since = str(wire.get("/info")["SystemTime"])
    docker_cli.ok("network", "create", "--subnet", f"{subnet(70)}.0/24", "told")
    docker_cli.ok("run", "--rm", "--network", "told", busybox, "true")
    docker_cli.ok("network", "rm", "told")
    until = str(wire.get("/info")["SystemTime"])
    text = docker_cli.ok(
        "events",
        "--since",
        since,
        "--until",
        until,
        "-f",
        "type=network",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    )
    assert text.splitlines() == ["create told", "connect told", "disconnect told", "destroy told"]


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_networks_on_an_interface_of_the_host(
    docker_cli: Cli, busybox: str, subnet: Callable[[int], str], driver: str
) -> None:
    net = subnet(80)
    parent = next(
        name
        for name in sorted(os.listdir("/sys/class/net"))
        if Path(f"/sys/class/net/{name}/device").exists()
    )
    made = docker_cli(
        "network", "create", "-d", driver, "--subnet", f"{net}.0/24", "-o", f"parent={parent}", "vlan"
    )
    if made.code != 0:
        assert f"this machine's kernel has no {driver} driver" in made.err
        return
    for last in (5, 6):
        docker_cli.ok(
            "run", "-d", "--name", f"v{last}", "--network", "vlan", "--ip", f"{net}.{last}", busybox, *SLEEP
        )
    assert pings(docker_cli, "v5", f"{net}.6")
