"""The default network by its flags, with traffic: IPv6 inside, out, in, and through published ports."""

from collections.abc import Callable, Iterator

import pytest

from tests.machines import HOST4, HOST6, OUTSIDE6, Greeter, Inhabited, Machine, get

pytestmark = [pytest.mark.timeout(600), pytest.mark.minid_only("it is about minid's flags")]


@pytest.fixture
def inhabited(privileged: None) -> Iterator[Callable[..., Inhabited]]:
    """A daemon with these flags on a machine of its own, started."""
    made: list[Inhabited] = []

    def make(*extra: str) -> Inhabited:
        made.append(Inhabited(Machine(), extra=extra))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.machine.close()


def settings(daemon: Inhabited, name: str) -> dict[str, object]:
    found: dict[str, object] = daemon.wire.get(f"/containers/{name}/json")["NetworkSettings"]
    return found


@pytest.mark.parametrize(
    ("flags", "gateway", "prefix"),
    [
        (("--fixed-cidr-v6", "fd00:7::/64"), "fd00:7::1", "fd00:7::"),
        (("--bip6", "fd00:8::9/64"), "fd00:8::9", "fd00:8::"),
        (("--bip6", "fd00:8::9/64", "--fixed-cidr-v6", "fd00:8::a:0/112"), "fd00:8::9", "fd00:8::a:"),
        ((), "", "fd"),
    ],
)
def test_ipv6(inhabited: Callable[..., Inhabited], flags: tuple[str, ...], gateway: str, prefix: str) -> None:
    daemon = inhabited("--ipv6", *flags)
    daemon.serve("web", "-p", "5000:80", "-p", "[::1]:5001:80")
    daemon.run("client")
    network = daemon.wire.get("/networks/bridge")
    six = network["IPAM"]["Config"][1]
    assert network["EnableIPv6"] is True
    assert six["Gateway"] == (gateway or six["Gateway"])
    found = settings(daemon, "web")
    address = str(found["GlobalIPv6Address"])
    assert address.startswith(prefix)
    assert found["IPv6Gateway"] == six["Gateway"]
    assert f"default via {six['Gateway']}" in daemon.docker.ok("exec", "web", "ip", "-6", "route")
    assert daemon.reads("client", address), "neighbours"
    outside = Greeter(daemon.machine.outside, OUTSIDE6)
    assert daemon.reads("client", OUTSIDE6), "the world"
    assert outside.sources[-1] == HOST6, "masqueraded"
    assert "hello" in get(daemon.machine.host, address, 80)
    for where in (HOST4, HOST6):
        assert "hello" in get(daemon.machine.outside, where, 5000), where
    for where, port in (("::1", 5000), ("::1", 5001), ("127.0.0.1", 5000), (HOST6, 5000)):
        assert "hello" in get(daemon.machine.host, where, port), (where, port)
    assert not get(daemon.machine.outside, HOST6, 5001), "published at ::1 only"
    daemon.machine.outside.sh(f"ip -6 route add {six['Subnet']} via {HOST6}")
    assert not get(daemon.machine.outside, address, 80), "not published, so not reached from other machines"
    daemon.restart()
    assert settings(daemon, "web") == found
    assert "hello" in get(daemon.machine.outside, HOST6, 5000)


def test_ipv6_without_masquerade_and_icc(inhabited: Callable[..., Inhabited]) -> None:
    daemon = inhabited("--ipv6", "--fixed-cidr-v6", "fd00:7::/64", "--ip-masq=false", "--icc=false")
    daemon.serve("web")
    daemon.run("client")
    address = str(settings(daemon, "web")["GlobalIPv6Address"])
    assert not daemon.reads("client", address)
    assert not daemon.reads("client", daemon.address("web"))
    outside = Greeter(daemon.machine.outside, OUTSIDE6)
    daemon.machine.outside.sh(f"ip -6 route add fd00:7::/64 via {HOST6}")
    assert daemon.reads("client", OUTSIDE6)
    assert outside.sources[-1] == settings(daemon, "client")["GlobalIPv6Address"], "its own address"


def test_ipv6_is_switched_on_and_off_between_daemons(inhabited: Callable[..., Inhabited]) -> None:
    daemon = inhabited()
    assert daemon.wire.get("/networks/bridge")["EnableIPv6"] is False
    daemon.engine.stop()
    daemon.engine.extra = ["--ipv6", "--fixed-cidr-v6", "fd00:7::/64"]
    daemon.machine.host.inside(daemon.engine.start)
    daemon.serve("web")
    address = str(settings(daemon, "web")["GlobalIPv6Address"])
    assert "hello" in get(daemon.machine.host, address, 80)
    daemon.docker.ok("rm", "-f", "web")
    daemon.engine.stop()
    daemon.engine.extra = []
    daemon.machine.host.inside(daemon.engine.start)
    daemon.run("plain")
    assert settings(daemon, "plain")["GlobalIPv6Address"] == ""
    assert "fd00:7" not in daemon.machine.host.sh("ip -6 addr show dev minid0")


def test_a_new_holder_of_an_address_is_found_at_once(inhabited: Callable[..., Inhabited]) -> None:
    """With another hardware address than the one before: who remembers that is told."""
    daemon = inhabited()
    subnets = ("--subnet", "10.77.0.0/24", "--ipv6", "--subnet", "fd00:77::/64")
    daemon.docker.ok("network", "create", *subnets, "own")
    daemon.run("client", "--network", "own")
    for last in ("01", "02"):
        at = ("--ip", "10.77.0.9", "--ip6", "fd00:77::9", "--mac-address", f"02:42:00:00:00:{last}")
        daemon.serve("web", "--network", "own", *at)
        for address in ("10.77.0.9", "fd00:77::9"):
            assert daemon.reads("client", address), (last, address)
            assert "hello" in get(daemon.machine.host, address, 80), (last, address)
        daemon.docker.ok("rm", "-f", "web")
