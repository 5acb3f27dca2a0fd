"""Credentials go to the registry that they are for, and nowhere else: no other host, no plain HTTP, no log, no error."""

import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from minid.errors import MinidError
from minid.images.model import Progress
from minid.images.reference import parse
from minid.images.registry.authorizer import Auth
from minid.images.registry.client import Repository
from minid.images.registry.endpoint import Certificates, InsecureRules
from minid.images.registry.login import host_to_log_in, log_in
from minid.images.registry.probe import Probe
from minid.images.registry.transport import Transport
from minid.images.registry.uploads import Destination
from tests.certificates import Authority
from tests.unit.images.conftest import Place
from tests.unit.images.in_process_registry import layer_tar

# found by tests/unit/images/test_registry_tls.py too
from tests.unit.images.test_registry_tls import names_resolve_here as names_resolve_here
from tests.unit.images.uploading_registry import UploadingRegistry

SECRETS = ("the-password", "the-identity", "the-registry-token", "dGhlLXVzZXI6dGhlLXBhc3N3b3Jk")
PASSWORD = Auth("the-user", "the-password")
KINDS = [PASSWORD, Auth(identity_token="the-identity"), Auth(registry_token="the-registry-token")]


class Recorder:
    """A server that keeps what is sent to it, and answers as it is told."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.answer: dict[str, web.Response] = {}
        self.received: list[str] = []

    async def __aenter__(self) -> "Recorder":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.received.append(f"{request.method} {request.path_qs} {dict(request.headers)} {body}")
        status, headers = self.responses(request)
        return web.Response(status=status, headers=headers)

    def responses(self, request: web.Request) -> tuple[int, dict[str, str]]:
        return 404, {}

    def leaked(self) -> list[str]:
        return [line for line in self.received if any(secret in line for secret in SECRETS)]


@pytest.fixture
async def other() -> AsyncIterator[Recorder]:
    """A plain HTTP server, which is not insecure by configuration when it is called other.test."""
    async with Recorder() as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "ca")


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    issued = authority.issue("server", "DNS:registry.test")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


def trusting(authority: Authority, place: Path, port: int) -> Transport:
    directory = place / f"registry.test:{port}"
    directory.mkdir()
    (directory / "ca.crt").write_bytes(authority.certificate.read_bytes())
    return Transport(InsecureRules.parse([]), Certificates([place]))


@pytest.mark.parametrize("auth", KINDS, ids=["password", "identity token", "registry token"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_token_server_by_plain_http_gets_nothing(
    auth: Auth, scheme: str, other: Recorder, authority: Authority, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """A secure registry that names a token server by HTTP, or one whose certificate nobody knows."""

    class Registry(Recorder):
        def responses(self, request: web.Request) -> tuple[int, dict[str, str]]:
            realm = f'Bearer realm="{scheme}://other.test:{other.port}/token",service="x"'
            return 401, {"WWW-Authenticate": realm}

    async with Registry(context) as registry:
        host = f"registry.test:{registry.port}"
        transport = trusting(authority, tmp_path, registry.port)
        try:
            reference = parse(f"{host}/app:1")
            for ask in (
                lambda: Repository(transport, reference, auth, retry_delays_s=()).manifest("1"),
                lambda: Destination(transport, reference, auth).begin(),
                lambda: log_in(transport, host, auth),
            ):
                with pytest.raises(MinidError) as caught:
                    await ask()  # type: ignore[no-untyped-call]
                assert not any(secret in str(caught.value) for secret in SECRETS)
            found = [step async for step in Probe(transport, host, "app", "1", auth, try_push=True).steps()]
            assert not any(secret in str(found) for secret in SECRETS)
        finally:
            await transport.close()
        assert registry.received
    assert other.received == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_goes_without_them(status: int, other: Recorder) -> None:
    class Registry(Recorder):
        def responses(self, request: web.Request) -> tuple[int, dict[str, str]]:
            if "Authorization" not in request.headers:
                return 401, {"WWW-Authenticate": 'Basic realm="x"'}
            return status, {"Location": f"http://localhost:{other.port}{request.path}"}

    async with Registry() as registry:
        transport = Transport(InsecureRules.parse([]), Certificates([]))
        reference = parse(f"127.0.0.1:{registry.port}/app:1")
        try:
            with pytest.raises(MinidError):
                await Repository(transport, reference, PASSWORD, retry_delays_s=()).manifest("1")
            with pytest.raises(MinidError):
                await Destination(transport, reference, PASSWORD).begin()
        finally:
            await transport.close()
        assert registry.leaked()
    assert other.received and not other.leaked()


async def test_a_plain_registry_that_must_be_secure_gets_nothing(other: Recorder) -> None:
    transport = Transport(InsecureRules.parse([]), Certificates([]))
    try:
        with pytest.raises(MinidError):
            await log_in(transport, f"registry.test:{other.port}", PASSWORD)
    finally:
        await transport.close()
    assert other.received == []


async def test_nothing_is_logged(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """At the lowest level, with every kind of credentials, refused and accepted."""
    caplog.set_level(logging.DEBUG)
    lines: list[Progress] = []
    async with UploadingRegistry() as registry:
        registry.put_image("app", layers=[layer_tar("a")])
        name = f"{registry.address}/app"
        await place.images.pull(name, progress=lines.append)
        registry.basic = ("the-user", "the-password")
        place.images.tag(name, f"{registry.address}/copy:1")
        for auth in (*KINDS, Auth("the-user", "the-password-is-wrong")):
            for attempt in (
                lambda auth=auth: place.images.push(
                    f"{registry.address}/copy:1", auth=auth, progress=lines.append
                ),
                lambda auth=auth: place.images.pull(name, auth=auth, progress=lines.append),
                lambda auth=auth: place.images.registries.log_in(auth),
            ):
                try:
                    await attempt()
                except MinidError as error:
                    assert not any(secret in str(error) for secret in SECRETS)
        assert registry.manifests.get(("copy", "1")) is not None
    events = place.events.history(lambda event: True)
    seen = f"{caplog.text} {lines} {events} {KINDS}"
    assert not [secret for secret in SECRETS if secret in seen]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("", "registry-1.docker.io"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("localhost:5000", "localhost:5000"),
        ("https://r.example/v2/", "r.example"),
        ("http://[::1]:5000", "[::1]:5000"),
    ],
)
def test_what_clients_send_as_server_address(address: str, host: str) -> None:
    assert host_to_log_in(address) == host


@pytest.mark.parametrize("address", ["a b", "https://", "../etc", "x@y", "x?y", "a\nb"])
def test_what_is_no_server_address(address: str) -> None:
    with pytest.raises(MinidError, match="is not the address of a registry"):
        host_to_log_in(address)
