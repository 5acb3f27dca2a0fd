"""Pulls by a real daemon into a real layer store: killed, abandoned, without space, measured."""

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests import images
from tests.conftest import pull
from tests.engine import Engine
from tests.images import Image, Layer
from tests.registry import Registry
from tests.unit.images.in_process_registry import InProcessRegistry, layer_tar
from tests.wire import Response, Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only("it looks into minid's data root, and dockerd resumes nothing"),
]

BIG = 8_000_000


@pytest.fixture
def started(make_engine: Callable[..., Engine]) -> Engine:
    engine = make_engine()
    engine.start()
    return engine


@pytest.fixture
async def faulty() -> AsyncIterator[InProcessRegistry]:
    async with InProcessRegistry() as server:
        yield server


def files(engine: Engine) -> list[str]:
    """What the image stores have on disk: blobs, and layers that are there or on their way."""
    blobs = engine.data_root / "blobs"
    found = [path for path in blobs.rglob("*") if path.is_file() and path.name != "unsynced"]
    snapshots = engine.data_root / "snapshots"
    found += [path for pattern in ("*/layers/*", "*/aside/*") for path in snapshots.glob(pattern)]
    return sorted(str(path.relative_to(engine.data_root)) for path in found)


def create(engine: Engine, name: str) -> Response:
    query = {"fromImage": name, "tag": "latest"}
    return Wire(engine.socket, "1.44")("POST", "/images/create", query=query, timeout_s=60)


def errors(response: Response) -> list[str]:
    if response.status != 200:
        return [response.message]
    return [line["error"] for line in response.json_lines if "error" in line]


def abandoned_pull(engine: Engine, name: str) -> socket.socket:
    """A pull whose client never reads: close the socket to go away."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(str(engine.socket))
    client.sendall(
        f"POST /v1.44/images/create?fromImage={name}&tag=latest HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
    )
    return client


async def until(condition: Callable[[], bool], what: str) -> None:
    """For states of another process that nothing announces."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never happened: {what}")


async def test_a_killed_daemon_resumes_a_pull(started: Engine, faulty: InProcessRegistry) -> None:
    built = faulty.add_image("app", layers=[layer_tar("small"), layer_tar("a", BIG)], compression="none")
    small, big = built.layer_digests
    faulty.stall[big] = 5_000_000
    name = f"{faulty.address}/app"
    partial = started.data_root / "blobs/partial" / big[7:]
    layers = started.data_root / "snapshots"
    with contextlib.closing(abandoned_pull(started, name)):
        await faulty.stalled.wait()
        await until(
            lambda: partial.exists() and partial.stat().st_size > 3_000_000, "half of the layer is there"
        )
        await until(lambda: any(layers.glob(f"*/layers/{built.diff_ids[0][7:]}")), "the small layer is there")
        started.kill()
    faulty.released.set()
    kept = partial.stat().st_size
    faulty.stall.clear()
    started.start()
    assert Wire(started.socket, "1.44").get("/images/json") == []
    faulty.requests.clear()
    faulty.headers.clear()
    response = await asyncio.to_thread(create, started, name)
    assert errors(response) == []
    assert faulty.count("GET", small) == 0
    assert f"bytes={kept}-" in [headers.get("Range") for headers in faulty.headers]
    assert Wire(started.socket, "1.44").get("/images/json")[0]["Id"] == built.config_digest
    Wire(started.socket, "1.44")("DELETE", f"/images/{name}")
    assert files(started) == []


async def test_a_pull_without_client_stops_and_is_resumed(started: Engine, faulty: InProcessRegistry) -> None:
    built = faulty.add_image("app", layers=[layer_tar("a", BIG)])
    digest = built.layer_digests[0]
    faulty.stall[digest] = 5_000_000
    name = f"{faulty.address}/app"
    partial = started.data_root / "blobs/partial" / digest[7:]
    aside = started.data_root / "snapshots"
    with contextlib.closing(abandoned_pull(started, name)):
        await faulty.stalled.wait()
        await until(
            lambda: partial.exists() and partial.stat().st_size > 3_000_000, "half of the layer is there"
        )
        assert list(aside.glob("*/aside/*"))
    await until(lambda: not list(aside.glob("*/aside/*")), "the half unpacked layer is removed")
    assert files(started) == [f"blobs/partial/{digest[7:]}"]
    kept = partial.stat().st_size
    faulty.stall.clear()
    response = await asyncio.to_thread(create, started, name)
    assert errors(response) == []
    assert f"bytes={kept}-" in [headers.get("Range") for headers in faulty.headers]


@pytest.mark.parametrize("fault", ["digest", "diff-id", "truncated"])
async def test_a_wrong_layer_leaves_no_trace(started: Engine, faulty: InProcessRegistry, fault: str) -> None:
    def spoil(manifest: dict[str, object], config: dict[str, dict[str, list[str]]]) -> None:
        digest = manifest["layers"][1]["digest"]  # type: ignore[index]
        if fault == "digest":
            faulty.blobs[digest] = faulty.blobs[digest][:-1] + b"?"
        elif fault == "diff-id":
            config["rootfs"]["diff_ids"][1] = "sha256:" + "0" * 64
        else:
            faulty.blobs[digest] = faulty.blobs[digest][:-1000]

    faulty.add_image("bad", layers=[layer_tar("a"), layer_tar("b", BIG)], change=spoil)
    response = await asyncio.to_thread(create, started, f"{faulty.address}/bad")
    expected = {
        "digest": "received with another content",
        "diff-id": "but the image says",
        "truncated": "truncated",
    }
    assert expected[fault] in errors(response)[0]
    await until(lambda: files(started) == [], f"nothing is left (there is {files(started)})")
    assert Wire(started.socket, "1.44").get("/images/json") == []


@pytest.fixture
def full_disk(make_engine: Callable[..., Engine]) -> Iterator[Engine]:
    """A daemon whose data root has 48 MB."""
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    (root / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(root / "data")], check=True)
    engine = make_engine(root)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        subprocess.run(["umount", str(root / "data")], check=True)


async def test_a_full_disk_leaves_no_trace_and_room_for_less(full_disk: Engine, registry: Registry) -> None:
    random = os.urandom(1 << 20)
    large = Layer()
    for number in range(64):
        large.file(f"{number}", bytes([number]) + random)
    Image([Layer().file("small", b"x").done(), large.done()]).push(registry, "large")
    Image([Layer().file("f", random).done()]).push(registry, "less")
    message = errors(await asyncio.to_thread(create, full_disk, f"{registry.address}/large"))[0]
    assert "no space left on device" in message.lower()
    assert "layer" in message
    await until(lambda: files(full_disk) == [], "nothing is left")
    pull(Wire(full_disk.socket, "1.44"), f"{registry.address}/less:latest")


@pytest.mark.slow
@pytest.mark.skipif(not images.have_mmdebstrap(), reason="mmdebstrap is not installed")
def test_memory_during_a_large_pull(started: Engine, registry: Registry) -> None:
    """A Debian image of three layers: the daemon grows by less than 64 MB."""

    def peak_kb() -> int:
        for line in Path(f"/proc/{started.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        raise AssertionError("no VmHWM")

    images.debian().push(registry, "debian", form="docker")
    before = peak_kb()
    assert errors(create(started, f"{registry.address}/debian")) == []
    grown_mb = (peak_kb() - before) / 1024
    assert grown_mb < 64, f"grew by {grown_mb:.1f} MB"
