"""Pushes by a real daemon to Debian's docker-registry: broken off, abandoned, killed, measured."""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import make_cli, pull
from tests.cutting_proxy import CuttingProxy
from tests.engine import Engine
from tests.images import Image, Layer
from tests.registry import Registry, digest_of
from tests.wire import Response, Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only("it looks into minid's data root, and dockerd begins broken uploads anew"),
]

MB = 1 << 20
TYPES = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def big(registry: Registry) -> str:
    """An image of 40 MB that does not compress, and a small layer."""
    Image([Layer().file("small", b"x").done(), Layer().file("big", os.urandom(40 * MB)).done()]).push(
        registry, "big"
    )
    return f"{registry.address}/big:latest"


@pytest.fixture
def other() -> Iterator[Registry]:
    """An empty registry: nothing can be mounted."""
    registry = Registry(Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp")))
    registry.start()
    yield registry
    registry.destroy()


@pytest.fixture
def started(make_engine: Callable[..., Engine], big: str) -> Engine:
    engine = make_engine()
    engine.start()
    pull(Wire(engine.socket, "1.44"), big)
    return engine


def push(engine: Engine, source: str, name: str) -> Response:
    wire = Wire(engine.socket, "1.44")
    repository, _, tag = name.rpartition(":")
    assert wire("POST", f"/images/{source}/tag", query={"repo": repository, "tag": tag}).status == 201
    return wire("POST", f"/images/{repository}/push", query={"tag": tag}, timeout_s=100)


def statuses(response: Response) -> list[str]:
    assert response.status == 200
    errors = [line["error"] for line in response.json_lines if "error" in line]
    assert not errors, errors
    return [str(line.get("status", "")) for line in response.json_lines]


def check(registry: Registry, name: str, tag: str) -> None:
    """All blobs of the manifest are there and right."""
    manifest = registry.request("GET", f"/v2/{name}/manifests/{tag}", Accept=TYPES)[2]
    document = json.loads(manifest)
    for item in (document["config"], *document["layers"]):
        body = registry.request("GET", f"/v2/{name}/blobs/{item['digest']}")[2]
        assert digest_of(body) == item["digest"]


def test_broken_connections(started: Engine, other: Registry, big: str) -> None:
    with CuttingProxy(other.port) as proxy:
        proxy.cuts = [10 * MB, 5 * MB, 5 * MB]
        lines = statuses(push(started, big, f"{proxy.address}/big:1"))
        assert not proxy.cuts
    assert [line for line in lines if line.startswith("Retrying in")]
    check(other, "big", "1")


@contextlib.contextmanager
def half_way(started: Engine, big: str, proxy: CuttingProxy) -> Iterator[None]:
    """A push through ``proxy`` that has sent something; its client goes away at the end."""
    Wire(started.socket, "1.44")(
        "POST", f"/images/{big}/tag", query={"repo": f"{proxy.address}/big", "tag": "1"}
    )
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(client):
        client.connect(str(started.socket))
        path = f"/v1.44/images/{proxy.address}/big/push?tag=1"
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        proxy.wait_for(MB)
        yield


def test_a_client_that_goes_away_stops_its_push(started: Engine, other: Registry, big: str) -> None:
    with CuttingProxy(other.port) as proxy:
        with half_way(started, big, proxy):
            pass
        assert other.request("GET", "/v2/big/tags/list")[0] == 404
        assert statuses(push(started, big, f"{proxy.address}/big:1"))[-2].startswith("1: digest: sha256:")
    check(other, "big", "1")


def test_a_killed_daemon_pushes_later(started: Engine, other: Registry, big: str) -> None:
    with CuttingProxy(other.port) as proxy:
        with half_way(started, big, proxy):
            started.kill()
        started.start()
        statuses(push(started, big, f"{proxy.address}/big:1"))
    check(other, "big", "1")


def test_an_image_that_is_removed_in_the_middle(started: Engine, other: Registry, big: str) -> None:
    """The push holds what it reads: it ends well or with an error, and the registry has all or nothing."""
    wire = Wire(started.socket, "1.44")
    with CuttingProxy(other.port) as proxy:
        name = f"{proxy.address}/big"
        wire("POST", f"/images/{big}/tag", query={"repo": name, "tag": "1"})
        with wire.stream("POST", f"/images/{name}/push", query={"tag": "1"}, upgrade=False) as stream:
            proxy.wait_for(MB)
            for reference in (big, f"{name}:1"):
                assert wire("DELETE", f"/images/{reference}").status == 200
            stream.read_all()
    if other.request("GET", "/v2/big/tags/list")[0] == 200:
        check(other, "big", "1")
    assert wire.get("/images/json") == []


def test_another_engine_believes_it(started: Engine, other: Registry, big: str) -> None:
    statuses(push(started, big, f"{other.address}/big:1"))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        subprocess.run(
            [
                "skopeo",
                "copy",
                "-q",
                "--src-tls-verify=false",
                f"docker://{other.address}/big:1",
                f"dir:{place}",
            ],
            check=True,
        )


def test_memory_during_a_push(started: Engine, other: Registry, big: str) -> None:
    def peak_kb() -> int:
        for line in Path(f"/proc/{started.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        raise AssertionError("no VmHWM")

    started.restart()
    before = peak_kb()
    statuses(push(started, big, f"{other.address}/big:1"))
    grown_mb = (peak_kb() - before) / 1024
    assert grown_mb < 32, f"grew by {grown_mb:.1f} MB"


@pytest.mark.parametrize("client", ["docker", "minictl"])
def test_uploads_at_once(
    client: str, make_engine: Callable[..., Engine], other: Registry, big: str, tmp_path: Path
) -> None:
    """``max-concurrent-uploads`` is obeyed, and 1 works."""
    engine = make_engine(extra=("--max-concurrent-uploads", "1"))
    engine.start()
    pull(Wire(engine.socket, "1.44"), big)
    cli = make_cli(client, engine, tmp_path)
    cli.ok("tag", big, f"{other.address}/big:1")
    out = cli.ok("push", f"{other.address}/big:1")
    assert out.count(": Waiting") == 1 and out.count(": Pushed") == 2


def test_a_registry_that_restarts_in_the_middle(started: Engine, other: Registry, big: str) -> None:
    """It is refused for a moment; nothing is lost."""
    wire = Wire(started.socket, "1.44")
    with CuttingProxy(other.port) as proxy:
        name = f"{proxy.address}/big"
        wire("POST", f"/images/{big}/tag", query={"repo": name, "tag": "1"})
        with wire.stream("POST", f"/images/{name}/push", query={"tag": "1"}, upgrade=False) as stream:
            proxy.wait_for(MB)
            other.stop()
            other.start()
            answer = stream.read_all()
    assert b'"aux"' in answer and b"errorDetail" not in answer, answer[-500:]
    check(other, "big", "1")
