"""How registries are reached and believed: every row of the table in docs/registries.md, with real registries.

Names that end in ``.test`` resolve to this machine's own address (not a loopback one) for the tests only.
"""

import asyncio
import shutil
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from minid.errors import Failed, MinidError
from minid.images.registry.endpoint import Certificates, InsecureRules
from minid.images.registry.hosts import Access
from minid.images.registry.probe import Probe
from minid.images.registry.step import Step
from minid.images.registry.transport import Transport
from tests.certificates import Authority, Certificate, self_signed
from tests.registry import PROGRAM, Registry

pytestmark = pytest.mark.skipif(not Path(PROGRAM).exists(), reason="docker-registry is not installed")

PAGE = Path(__file__).parents[2] / "docs/registries.md"
NAME = "registry.test"


@dataclass(frozen=True)
class Row:
    host: str
    serves: str
    certificate: str
    configuration: str
    verdict: str

    def __str__(self) -> str:
        return "; ".join(
            part for part in (self.host, self.serves, self.certificate, self.configuration) if part
        )


def rows() -> list[Row]:
    lines = PAGE.read_text().splitlines()
    start = lines.index("| host | serves | certificate | configuration | what happens |") + 2
    cells = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split("|")])
    return [Row(*row) for row in cells]


def own_address() -> str:
    """An address of this machine that is not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            address = str(probe.getsockname()[0])
        except OSError:
            address = ""
    if not address or address.startswith("127."):
        pytest.skip("this machine has no address but the loopback's")
    return address


@pytest.fixture(scope="module")
def address() -> str:
    return own_address()


@pytest.fixture(autouse=True)
def names_resolve_here(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any, **named: Any) -> Any:
        return real(address if str(host).endswith(".test") else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@dataclass
class World:
    """Registry processes by what they serve, and the certificates."""

    place: Path
    authority: Authority
    stranger: Authority
    self_signed: Certificate
    client: Certificate
    ports: dict[tuple[str, str], int] = field(default_factory=dict)
    registries: list[Registry] = field(default_factory=list)


@pytest.fixture(scope="module")
def world(address: str) -> Iterator[World]:
    place = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    names = f"DNS:{NAME},IP:{address}"
    authority = Authority(place / "ca")
    own = self_signed(place / "own", names)
    world = World(
        place,
        authority,
        Authority(place / "stranger", "another CA"),
        own,
        authority.issue("client", "DNS:client"),
    )
    good = authority.issue("good", names)
    served: dict[tuple[str, str], Certificate | None] = {
        ("HTTPS", "by a system CA"): good,
        ("HTTPS", "by an unknown CA"): good,
        ("HTTPS", "self-signed"): own,
        ("HTTPS", "for another name"): authority.issue("other", "DNS:other.example,IP:192.0.2.77"),
        ("HTTPS", "expired"): authority.issue("expired", names, expired=True),
        ("HTTPS, wants a client certificate", "by an unknown CA"): good,
        ("HTTP", ""): None,
    }
    try:
        for (serves, kind), certificate in served.items():
            registry = Registry(place / f"registry-{len(world.registries)}")
            http: dict[str, Any] = {"addr": f":{registry.port}"}
            if certificate is not None:
                http["tls"] = {"certificate": str(certificate.certificate), "key": str(certificate.key)}
                if "client" in serves:
                    http["tls"]["clientcas"] = [str(authority.certificate)]
            registry.extra = {"http": http}
            registry.start()
            world.registries.append(registry)
            world.ports[serves, kind] = registry.port
        yield world
    finally:
        for registry in world.registries:
            registry.stop()
        shutil.rmtree(place)


class RecordingCertificates(Certificates):
    """Remembers whether the last TLS connection was to be verified."""

    verified: bool | None = None

    async def context(self, host_port: str, *, verify: bool, **files: Any) -> ssl.SSLContext:
        self.verified = verify
        return await super().context(host_port, verify=verify, **files)


@dataclass
class Setting:
    """A configuration: insecure registries, and two directories as /etc/minid/certs.d and /etc/docker/certs.d."""

    root: Path
    world: World
    host: str
    insecure: list[str] = field(default_factory=list)

    @property
    def directories(self) -> list[Path]:
        return [self.root / "minid", self.root / "docker"]

    def put(self, name: str, source: Path, *, host: str = "", below: str = "minid") -> None:
        directory = self.root / below / (host or self.host)
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, directory / name)

    def apply(self, words: str, address: str) -> None:
        world, host = self.world, self.host
        ca = world.authority.certificate
        for part in words.split("; "):
            match part:
                case "":
                    pass
                case "insecure: host and port":
                    self.insecure.append(host)
                case "insecure: host without port":
                    self.insecure.append(host.rpartition(":")[0])
                case "insecure: its network":
                    self.insecure.append(f"{address}/24")
                case "insecure: another network":
                    self.insecure.append("198.51.100.0/24")
                case "its CA in certs.d":
                    self.put("ca.crt", ca)
                case "its CA in docker's certs.d":
                    self.put("ca.crt", ca, below="docker")
                case "its CA in certs.d, for another port":
                    self.put("ca.crt", ca, host=f"{host.rpartition(':')[0]}:1")
                case "another CA in certs.d":
                    self.put("ca.crt", world.stranger.certificate)
                case "itself in certs.d":
                    self.put("registry.crt", world.self_signed.certificate)
                case "its CA and a client's pair in certs.d":
                    self.put("ca.crt", ca)
                    self.put("client.cert", world.client.certificate)
                    self.put("client.key", world.client.key)
                case "its CA and only .cert in certs.d" | "only .cert in certs.d":
                    self.put("ca.crt", ca)
                    self.put("client.cert", world.client.certificate)
                case "its CA and only .key in certs.d":
                    self.put("ca.crt", ca)
                    self.put("client.key", world.client.key)
                case _:
                    raise AssertionError(f"the tests know no configuration {part!r}")


def host_of(row: Row, world: World, address: str) -> str:
    port = world.ports[row.serves, row.certificate]
    hosts = {"a name": NAME, "an address": address, "::1": "[::1]"}
    return f"{hosts.get(row.host, row.host)}:{port}"


async def verdict(host: str, setting: Setting) -> str:
    certificates = RecordingCertificates(setting.directories)
    transport = Transport(InsecureRules.parse(setting.insecure), certificates)
    try:
        response = await transport.registry("GET", Access(host), "/v2/", headers={})
        async with response:
            assert response.status == 200
            if response.url.scheme == "http":
                return "HTTP"
        return f"HTTPS, {'verified' if certificates.verified else 'not verified'}"
    except MinidError as error:
        return str(error)
    finally:
        await transport.close()


@pytest.mark.parametrize("row", rows(), ids=str)
async def test_the_table(
    row: Row, world: World, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = host_of(row, world, address)
    setting = Setting(tmp_path, world, host)
    setting.apply(row.configuration, address)
    if row.certificate == "by a system CA":
        monkeypatch.setenv("SSL_CERT_FILE", str(world.authority.certificate))
    got = await verdict(host, setting)
    expected, _, reason = row.verdict.partition(": ")
    if expected != "refused":
        assert got == row.verdict
        return
    assert got.startswith(f"registry {host}: ")
    assert reason in got
    if reason.startswith("missing"):
        assert str(setting.root / "minid" / host) in got  # which file
    elif "client" in reason and "HTTP" not in reason:
        assert f"certs.d/{host}/client.cert" in got
    else:
        assert f"add {host} to insecure-registries" in got and f"--insecure-registry {host}" in got
        ways = {
            "signed by": f"/etc/minid/certs.d/{host}/ca.crt",
            "self-signed": f"/etc/minid/certs.d/{host}/ca.crt",
        }
        for beginning, way in ways.items():
            assert not reason.startswith(beginning) or way in got


async def test_the_table_has_every_kind(world: World) -> None:
    assert {(row.serves, row.certificate) for row in rows()} == set(world.ports)
    assert {row.host for row in rows()} >= {"a name", "an address", "localhost", "127.0.0.1", "::1"}


@pytest.fixture
async def transport(tmp_path: Path) -> AsyncIterator[Transport]:
    transport = Transport(InsecureRules.parse([]), Certificates([tmp_path]))
    yield transport
    await transport.close()


async def reached(transport: Transport, host: str) -> bool:
    try:
        response = await transport.registry("GET", Access(host), "/v2/", headers={})
    except Failed:
        return False
    response.release()
    return response.status == 200


async def test_a_new_certificate_counts_at_once(world: World, tmp_path: Path, transport: Transport) -> None:
    host = f"{NAME}:{world.ports['HTTPS', 'by an unknown CA']}"
    setting = Setting(tmp_path.parent, world, host)
    assert not await reached(transport, host)
    setting.put("ca.crt", world.authority.certificate, below=tmp_path.name)
    assert await reached(transport, host)
    setting.put("ca.crt", world.stranger.certificate, below=tmp_path.name)
    assert not await reached(transport, host)
    shutil.rmtree(tmp_path / host)
    assert not await reached(transport, host)


async def test_a_reload_changes_what_is_insecure(world: World, transport: Transport) -> None:
    host = f"{NAME}:{world.ports['HTTP', '']}"
    assert not await reached(transport, host)
    transport.reload(InsecureRules.parse([host]))
    assert await reached(transport, host)
    transport.reload(InsecureRules.parse([]))
    assert not await reached(transport, host)


async def test_a_key_with_a_password_is_an_error_and_no_question(
    world: World, tmp_path: Path, transport: Transport
) -> None:
    host = f"{NAME}:{world.ports['HTTPS', 'by an unknown CA']}"
    setting = Setting(tmp_path.parent, world, host)
    setting.put("client.cert", world.client.certificate, below=tmp_path.name)
    process = await asyncio.create_subprocess_exec(
        *("openssl", "ec", "-in", str(world.client.key), "-aes256", "-passout", "pass:x"),
        *("-out", str(tmp_path / host / "client.key")),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0
    with pytest.raises(Failed, match=f"registry {host}: cannot use .*client.cert"):
        await transport.registry("GET", Access(host), "/v2/", headers={})


async def probed(
    row: Row, world: World, address: str, place: Path, path: str = ""
) -> tuple[str, dict[str, Step]]:
    """The steps of ``minictl registry test`` by name; the host."""
    host = host_of(row, world, address)
    setting = Setting(place, world, host)
    setting.apply(row.configuration, address)
    transport = Transport(InsecureRules.parse(setting.insecure), Certificates(setting.directories))
    try:
        probe = Probe(transport, host, path, "", None, try_push=True)
        return host, {step.name: step async for step in probe.steps()}
    finally:
        await transport.close()


@pytest.mark.parametrize("row", rows(), ids=str)
async def test_the_probe_agrees_with_the_table(
    row: Row, world: World, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if row.certificate == "by a system CA":
        monkeypatch.setenv("SSL_CERT_FILE", str(world.authority.certificate))
    _, steps = await probed(row, world, address, tmp_path, "some/repository")
    assert steps["rule"].rule or steps["rule"].result == "failed"
    last = list(steps.values())[-1]
    if row.verdict.startswith("refused"):
        reason = row.verdict.removeprefix("refused: ")
        assert last.result == "failed" and last.advice
        assert reason in last.detail or reason in last.advice
        assert sum(step.result == "failed" for step in steps.values()) == 1
        assert "some/repository" not in last.detail
        return
    assert all(step.result in ("ok", "note") for step in steps.values()), steps
    assert f"by {row.verdict.partition(',')[0]}" in steps["/v2/"].detail
    if row.verdict == "HTTPS, verified":
        assert steps["TLS"].result == "ok" and steps["TLS"].detail.endswith(": verified")
    else:
        assert steps["TLS"].rule == steps["rule"].rule or steps["TLS"].result == "ok"
        assert "insecure" in steps["rule"].detail
    assert steps["pull"].result == "note" and "not there (yet)" in steps["pull"].detail
    assert steps["push"].result == "ok"


async def test_the_probe_names_the_names(world: World, address: str, tmp_path: Path) -> None:
    row = Row("a name", "HTTPS", "for another name", "its CA in certs.d", "")
    _, steps = await probed(row, world, address, tmp_path)
    assert "it is for other.example, 192.0.2.77" in steps["TLS"].detail


async def test_the_probe_leaves_no_upload_behind(world: World, address: str, tmp_path: Path) -> None:
    row = Row("127.0.0.1", "HTTP", "", "", "")
    _, steps = await probed(row, world, address, tmp_path, "probed")
    assert steps["push"].result == "ok"
    left = [path for registry in world.registries for path in registry.root.rglob("_uploads/*/startedat")]
    assert left == []


@pytest.mark.parametrize(
    ("host", "name", "detail"),
    [
        ("nowhere.invalid:5000", "name", "cannot be resolved"),
        ("127.0.0.1:1", "TCP", "127.0.0.1: connection refused"),
    ],
)
async def test_the_probe_ends_where_nothing_is(
    transport: Transport, host: str, name: str, detail: str
) -> None:
    steps = [step async for step in Probe(transport, host, "a", "", None, try_push=True).steps()]
    assert (steps[-1].name, steps[-1].result) == (name, "failed")
    assert detail in steps[-1].detail and steps[-1].advice


async def test_the_probe_of_something_else(transport: Transport) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.read(65536)).startswith(b"GET "):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        steps = [step async for step in Probe(transport, host, "a", "", None, try_push=True).steps()]
    assert (steps[-1].name, steps[-1].result) == ("/v2/", "failed")
    assert "something answers 404, which no registry does" in steps[-1].detail
