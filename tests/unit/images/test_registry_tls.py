"""HTTPS registries: which certificates are believed. The registry's name resolves to this machine for the test only."""

import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from minid.errors import Failed, MinidError, NotFound
from minid.images.reference import parse
from minid.images.registry.authorizer import Auth
from minid.images.registry.client import Repository
from minid.images.registry.endpoint import Certificates, InsecureRules
from minid.images.registry.transport import Transport

NAME = "registry.test"


def openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ca.pem`` and a certificate for ``registry.test`` that it signed."""
    place = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.pem", cwd=place)
    openssl("req", *key, "-subj", f"/CN={NAME}", "-keyout", "key.pem", "-out", "request.pem", cwd=place)
    (place / "names").write_text(f"subjectAltName=DNS:{NAME}\n")
    openssl(
        *("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-extfile", "names", "-out", "cert.pem"),
        cwd=place,
    )
    return place


@pytest.fixture(autouse=True)
def names_resolve_here(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any, **named: Any) -> Any:
        return real("127.0.0.1" if str(host).endswith(".test") else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


class Server:
    """Answers every request with 404 (a registry without images); ``seen`` has the Authorization headers."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self.seen: list[str] = []

    async def __aenter__(self) -> "Server":
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
        self.seen.append(request.headers.get("Authorization", ""))
        challenge = {"WWW-Authenticate": 'Basic realm="x"'}
        if not self.seen[-1]:
            return web.Response(status=401, headers=challenge)
        return web.Response(status=404)


@pytest.fixture
async def https(certificates: Path) -> AsyncIterator[Server]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    async with Server(context) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[Server]:
    async with Server(None) as server:
        yield server


async def ask(host: str, *insecure: str, certs: Path | None = None) -> MinidError:
    """The error that a request ends with; ``NotFound`` means that the registry has answered."""
    transport = Transport(InsecureRules.parse(insecure), Certificates([certs] if certs else []))
    try:
        repository = Repository(transport, parse(f"{host}/app"), Auth("me", "secret"), retry_delays_s=(0.01,))
        with pytest.raises(MinidError) as caught:
            await repository.manifest("latest")
        return caught.value
    finally:
        await transport.close()


async def test_an_unknown_ca_is_not_believed(https: Server) -> None:
    error = await ask(f"{NAME}:{https.port}")
    assert isinstance(error, Failed)
    assert f"registry {NAME}:{https.port}: its certificate is not trusted" in str(error)
    assert f"certs.d/{NAME}:{https.port}/ca.crt" in str(error)
    assert https.seen == []


async def test_a_ca_in_certs_d_is_believed_for_its_host_only(
    https: Server, certificates: Path, tmp_path: Path
) -> None:
    directory = tmp_path / f"{NAME}:{https.port}"
    directory.mkdir()
    (directory / "ca.crt").write_bytes((certificates / "ca.pem").read_bytes())
    assert isinstance(await ask(f"{NAME}:{https.port}", certs=tmp_path), NotFound)
    error = await ask(f"other.test:{https.port}", certs=tmp_path)
    assert "certificate is not trusted" in str(error)


async def test_a_certificate_for_another_name(https: Server, certificates: Path, tmp_path: Path) -> None:
    directory = tmp_path / f"other.test:{https.port}"
    directory.mkdir()
    (directory / "ca.crt").write_bytes((certificates / "ca.pem").read_bytes())
    error = await ask(f"other.test:{https.port}", certs=tmp_path)
    assert "certificate is not trusted, it is for another name (Hostname mismatch" in str(error)


async def test_an_insecure_registry_needs_no_certificate(https: Server) -> None:
    assert isinstance(await ask(f"{NAME}:{https.port}", f"{NAME}:{https.port}"), NotFound)
    assert https.seen[-1].startswith("Basic ")
    assert isinstance(await ask(f"127.0.0.1:{https.port}"), NotFound)


async def test_plain_http_is_for_insecure_registries_only(http: Server) -> None:
    error = await ask(f"{NAME}:{http.port}")
    assert "server gave HTTP response to HTTPS client" in str(error)
    assert f"--insecure-registry {NAME}:{http.port}" in str(error)
    assert http.seen == []
    assert isinstance(await ask(f"{NAME}:{http.port}", f"{NAME}:{http.port}"), NotFound)
    assert isinstance(await ask(f"localhost:{http.port}"), NotFound)


async def test_a_trusted_ca_does_not_allow_plain_http(
    http: Server, certificates: Path, tmp_path: Path
) -> None:
    directory = tmp_path / f"{NAME}:{http.port}"
    directory.mkdir()
    (directory / "ca.crt").write_bytes((certificates / "ca.pem").read_bytes())
    assert isinstance(await ask(f"{NAME}:{http.port}", certs=tmp_path), Failed)
    assert http.seen == []


async def test_a_network_makes_a_name_insecure_by_its_address(http: Server) -> None:
    assert isinstance(await ask(f"{NAME}:{http.port}", "127.0.0.0/8"), NotFound)
    assert isinstance(await ask(f"{NAME}:{http.port}", "10.0.0.0/8"), Failed)


async def test_a_redirect_from_https_to_plain_http_is_refused(certificates: Path, http: Server) -> None:
    class Redirecting(Server):
        async def _answer(self, request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"http://evil.test:{http.port}/blob"})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    async with Redirecting(context) as server:
        error = await ask(f"{NAME}:{server.port}", f"{NAME}:{server.port}")
    assert "would be reached by plain HTTP, which is not allowed" in str(error)
    assert http.seen == []
