from pathlib import Path

import pytest

from minid.containers import etcfiles
from minid.containers.model import ContainerConfig, HostConfig
from minid.errors import InvalidParameter
from tests.unit.containers.conftest import make_container

HOST_RESOLV_CONF = "domain corp.example\nnameserver 10.0.0.2\nnameserver 10.0.0.3\noptions ndots:2\n# kept\n"


def lines(**host_config: object) -> list[str]:
    container = make_container(host_config=HostConfig(**host_config))  # type: ignore[arg-type]
    return etcfiles.resolv_conf(container, HOST_RESOLV_CONF).splitlines()


def test_hosts() -> None:
    container = make_container(host_config=HostConfig(extra_hosts=("db:10.0.0.9", "six=[::5]")))
    text = etcfiles.hosts(container, "10.9.9.9\thost-only\n", ["172.17.0.2\tone"])
    assert text == etcfiles.HOSTS + "10.0.0.9\tdb\n::5\tsix\n172.17.0.2\tone\n"
    assert "host-only" not in text


def test_hosts_of_the_host() -> None:
    container = make_container(host_config=HostConfig(network_mode="host", extra_hosts=("db:10.0.0.9",)))
    assert etcfiles.hosts(container, "127.0.0.1 machine\n") == "127.0.0.1 machine\n10.0.0.9\tdb\n"


def test_the_hosts_gateways_are_looked_up_only_if_asked_for() -> None:
    def gateways() -> tuple[str, ...]:
        asked.append(True)
        return ("172.17.0.1", "fd00::1")

    asked: list[bool] = []
    etcfiles.hosts(make_container(host_config=HostConfig(extra_hosts=("a:1.2.3.4",))), "", (), gateways)
    assert not asked
    container = make_container(host_config=HostConfig(extra_hosts=("up:host-gateway",)))
    assert etcfiles.hosts(container, "", (), gateways).endswith("172.17.0.1\tup\nfd00::1\tup\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:1.2.3.4", ("a", "1.2.3.4")),
        ("a=1.2.3.4", ("a", "1.2.3.4")),
        ("a:fe80::1", ("a", "fe80::1")),
        ("a=[fe80::1]", ("a", "fe80::1")),
        ("a:host-gateway", ("a", "host-gateway")),
    ],
)
def test_extra_hosts(text: str, expected: tuple[str, str]) -> None:
    assert etcfiles.parse_extra_host(text) == expected


@pytest.mark.parametrize("text", ["", "a", ":1.2.3.4", "a:", "a:1.2.3", "a:b", "a=host-gateways"])
def test_wrong_extra_hosts(text: str) -> None:
    with pytest.raises(InvalidParameter):
        etcfiles.parse_extra_host(text)


def test_resolv_conf_is_the_hosts() -> None:
    assert lines() == HOST_RESOLV_CONF.splitlines()


def test_each_kind_of_line_is_replaced_by_itself() -> None:
    assert lines(dns=("1.1.1.1",)) == [
        "domain corp.example",
        "options ndots:2",
        "# kept",
        "nameserver 1.1.1.1",
    ]
    assert lines(dns_search=("a.example", "b.example"))[-1] == "search a.example b.example"
    assert not any(line.startswith("domain") for line in lines(dns_search=("a.example",)))
    assert lines(dns_options=("timeout:1",))[-1] == "options timeout:1"
    assert "options ndots:2" not in lines(dns_options=("timeout:1",))


def test_a_dot_takes_the_search_list_away() -> None:
    assert not any(line.startswith(("search", "domain")) for line in lines(dns_search=(".",)))


def test_a_resolver_on_the_hosts_loopback_is_none() -> None:
    text = "nameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.2\nsearch x\n"
    assert etcfiles.reachable_nameservers(text) == "nameserver 10.0.0.2\nsearch x\n"
    only_local = etcfiles.reachable_nameservers("nameserver 127.0.0.53\nsearch x\n")
    assert only_local.splitlines() == [
        "search x",
        *(f"nameserver {ip}" for ip in etcfiles.PUBLIC_NAMESERVERS),
    ]


def test_the_files(tmp_path: Path) -> None:
    container = make_container(ContainerConfig(hostname="box", cmd=("sh",)))
    sources = etcfiles.write(container, tmp_path, ["172.17.0.2\tbox"])
    assert sorted(sources) == ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"]
    assert Path(sources["/etc/hostname"]).read_text() == "box\n"
    assert Path(sources["/etc/hosts"]).read_text().endswith("172.17.0.2\tbox\n")


def test_lines_are_changed_in_place(tmp_path: Path) -> None:
    """A bound file keeps its inode, or the container goes on seeing the old one."""
    path = tmp_path / "hosts"
    path.write_bytes(b"127.0.0.1\tlocalhost\n10.0.0.1\told # minid\nmine \xe9\n")
    inode = path.stat().st_ino
    etcfiles.replace_lines(path, lambda line: line.endswith("# minid"), ["10.0.0.2\tnew"])
    assert path.read_bytes() == b"127.0.0.1\tlocalhost\nmine \xe9\n10.0.0.2\tnew\n"
    assert path.stat().st_ino == inode


def test_a_file_of_any_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"x\n")
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    etcfiles.replace_lines(path, lambda line: False, ["10.0.0.2\tnew"])
    assert path.stat().st_size == 1 << 40
    etcfiles.replace_lines(tmp_path / "missing", lambda line: False, ["10.0.0.2\tnew"])
    assert not (tmp_path / "missing").exists()
