"""``minictl image copy`` between real daemons and registries: the digests stay, and only what is missing is sent."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import images
from tests.cli import Cli
from tests.conftest import make_cli, pull
from tests.engine import Dockerd, Engine
from tests.images import Image, Layer, push_index
from tests.registry import Descriptor, Registry
from tests.wire import Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only("copying is minid's own"),
]

BIG = 3 << 20


class Relay:
    """A unix socket before another one that counts the bytes that go to that."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.sent_bytes = 0
        self._target = target
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._start(self._accept)

    def __enter__(self) -> "Relay":
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._server, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._server, *self._sockets):
            sock.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                target = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._sockets += [client, target]
                target.connect(str(self._target))
                for source, sink, counts in ((client, target, True), (target, client, False)):
                    self._start(self._carry, source, sink, counts)

    def _carry(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counts:
                    self.sent_bytes += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def two(make_engine: Callable[..., Engine]) -> tuple[Engine, Engine]:
    first, second = make_engine(), make_engine()
    first.start()
    second.start()
    return first, second


@pytest.fixture
def other_registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path / "other")
    registry.start()
    yield registry
    registry.destroy()


@pytest.fixture
def minictl(two: tuple[Engine, Engine], client_config: Path) -> Cli:
    return make_cli("minictl", two[0], client_config)


def layers(version: int) -> Image:
    """Three layers; the last one depends on ``version``."""
    base = images.busybox()
    big = Layer().file("big.bin", (b"big" * BIG)[:BIG]).done()
    own = Layer().file("version", f"{version}\n".encode() * 1000).done()
    return Image([*base.layers, big, own], base.config)


def manifest(registry: Registry, repository: str, reference: str) -> tuple[bytes, str]:
    """Bytes and media type."""
    accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
    status, headers, data = registry.request("GET", f"/v2/{repository}/manifests/{reference}", Accept=accept)
    assert status == 200, data
    return data, headers["content-type"]


def uploads(registry: Registry) -> int:
    """How many blobs have been uploaded to it so far."""
    return len(re.findall(r'"PUT /v2/\S+/blobs/uploads/\S+ HTTP/1.1" 201', registry.log.read_text()))


def run(engine: Engine, client_config: Path, image: str) -> str:
    cli = make_cli("minictl", engine, client_config)
    done = cli("run", "--rm", "--network", "none", image, "head", "-n1", "/version")
    assert done.code == 0, done.err
    return done.out.strip()


def test_between_daemons_only_the_changed_layer_is_sent(
    two: tuple[Engine, Engine], minictl: Cli, registry: Registry, client_config: Path, tmp_path: Path
) -> None:
    first, second = two
    with Relay(tmp_path / "relay.sock", second.socket) as relay:
        _copy_twice(relay, first, second, minictl, registry, client_config)

    other = Wire(second.socket, "1.44")
    # pushed on from there, it is the same still
    target = f"registry://{registry.address}/again:2"
    assert minictl("image", "copy", f"unix://{second.socket}::app:2", target, "-q").code == 0
    assert manifest(registry, "again", "2")[0] == manifest(registry, "copied", "2")[0]
    assert [image["RepoTags"] for image in other.get("/images/json")].count(
        [f"{registry.address}/again:2"]
    ) == 0


def _copy_twice(
    relay: Relay, first: Engine, second: Engine, minictl: Cli, registry: Registry, client_config: Path
) -> None:
    there = f"unix://{relay.path}"
    ids = []
    for version in (1, 2):
        layers(version).push(registry, "copied", str(version), compression="none")
        name = f"{registry.address}/copied:{version}"
        pull(Wire(first.socket, "1.44"), name)
        before = relay.sent_bytes
        done = minictl("image", "copy", name, f"{there}::app:{version}")
        assert done.code == 0, done.err
        sent = relay.sent_bytes - before
        if version == 1:
            assert done.lines[0] == "Copied: app:1"
            assert sent > BIG
        else:
            assert re.fullmatch(r"1 of \d layers sent, .* of .*", done.lines[1]), done.out
            assert sent < 40_000
        ids.append(Wire(first.socket, "1.44").get(f"/images/{name}/json")["Id"])
    other = Wire(second.socket, "1.44")
    assert [other.get(f"/images/app:{version}/json")["Id"] for version in (1, 2)] == ids
    assert [image["RepoTags"] for image in other.get("/images/json")].count(["app:2"]) == 1
    assert run(second, client_config, "app:1") == "1" and run(second, client_config, "app:2") == "2"

    before = relay.sent_bytes
    done = minictl("image", "copy", f"{registry.address}/copied:2", f"{there}::")
    assert done.code == 0, done.err
    assert done.lines[0] == f"Copied: {registry.address}/copied:2" and done.lines[1].startswith("0 of ")
    assert relay.sent_bytes - before < 20_000


def test_a_layer_that_is_lost_meanwhile_is_sent_after_all(
    two: tuple[Engine, Engine], minictl: Cli, registry: Registry
) -> None:
    """What the daemon says without its layers is what makes minictl ask again."""
    first, second = two
    layers(1).push(registry, "lost", "1")
    name = f"{registry.address}/lost:1"
    pull(Wire(first.socket, "1.44"), name)
    wire = Wire(first.socket, "1.44")
    contents = wire.get(f"/minid/images/{name}/contents")
    assert contents["Names"] == [name]
    without = [each["Digest"] for each in contents["Layers"]]
    archive = wire("POST", f"/minid/images/{name}/save", {"Without": without})
    assert archive.status == 200 and len(archive.body) < 40_000
    loaded = Wire(second.socket, "1.44")("POST", "/images/load", archive.body)
    assert loaded.status == 400 and "that layer is not here either" in loaded.message
    assert Wire(second.socket, "1.44").get("/images/json") == []
    assert minictl("image", "copy", name, f"unix://{second.socket}::").code == 0
    again = Wire(second.socket, "1.44")("POST", "/images/load", archive.body)
    assert again.status == 200 and "errorDetail" not in again.body.decode()


def test_from_registry_to_registry(
    two: tuple[Engine, Engine], minictl: Cli, registry: Registry, other_registry: Registry
) -> None:
    pushed = [layers(version).push(registry, "from", str(version)) for version in (1, 2)]
    target = f"registry://{other_registry.address}/to/here"
    for version, expected in ((1, 5), (2, 2)):  # config and layers; then the config and the last layer
        before = uploads(other_registry)
        done = minictl(
            "image", "copy", f"registry://{registry.address}/from:{version}", f"{target}:{version}"
        )
        assert done.code == 0, done.err
        count = len(layers(version).layers) + 1
        sent = min(expected, count) if version == 2 else count
        assert uploads(other_registry) - before == sent
        assert f"Copied {sent} of {count} blobs" in done.out
        data, media_type = manifest(other_registry, "to/here", str(version))
        assert (data, media_type) == manifest(registry, "from", str(version))
        assert f"digest: {pushed[version - 1].digest}" in done.out
    assert Wire(two[0].socket, "1.44").get("/images/json") == []  # nothing stays here
    assert not list((two[0].data_root / "blobs/sha256").iterdir())

    before = uploads(registry)
    done = minictl(
        "image",
        "copy",
        f"registry://{registry.address}/from:2",
        f"registry://{registry.address}/team/other:2",
    )
    assert done.code == 0 and "Mounted from from" in done.out, done.out
    assert uploads(registry) == before
    assert manifest(registry, "team/other", "2") == manifest(registry, "from", "2")

    wrong = minictl("image", "copy", f"registry://{registry.address}/nothing:1", f"{target}:1")
    assert wrong.code == 1 and "not found" in wrong.err


def test_all_platforms_and_one(
    two: tuple[Engine, Engine], minictl: Cli, registry: Registry, other_registry: Registry
) -> None:
    base = images.busybox()
    of_arm = Image([Layer().file("arm", b"arm").done()], {}, architecture="arm64")
    index = push_index(registry, "multi", "1", {"linux/amd64": base, "linux/arm64": of_arm})
    entries: list[dict[str, object]] = json.loads(manifest(registry, "multi", "1")[0])["manifests"]
    attestation = _attestation(registry, "multi")
    whole = registry.push_manifest(
        "multi",
        "2",
        {
            "schemaVersion": 2,
            "mediaType": index.media_type,
            "manifests": [
                *entries,
                attestation.as_json(platform={"os": "unknown", "architecture": "unknown"}),
            ],
        },
    )
    source, target = f"registry://{registry.address}/multi", f"registry://{other_registry.address}/multi"
    assert minictl("image", "copy", "--all", f"{source}:2", f"{target}:2").code == 0
    assert manifest(other_registry, "multi", "2") == manifest(registry, "multi", "2")
    for digest in [*(str(entry["digest"]) for entry in entries), attestation.digest]:
        assert manifest(other_registry, "multi", digest) == manifest(registry, "multi", digest)
    assert whole.digest != index.digest
    done = minictl("image", "copy", "--platform", "linux/arm64", f"{source}:1", f"{target}:arm")
    assert done.code == 0, done.err
    assert manifest(other_registry, "multi", "arm") == manifest(registry, "multi", str(entries[1]["digest"]))
    assert minictl("image", "copy", f"{source}:1", f"{target}:host").code == 0
    assert manifest(other_registry, "multi", "host") == manifest(registry, "multi", str(entries[0]["digest"]))
    assert minictl("image", "copy", "--all", f"{source}:1", "here:1").code == 1
    if shutil.which("skopeo"):
        address = f"docker://{other_registry.address}/multi:2"
        done_by = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", address], capture_output=True, check=True
        )
        assert done_by.stdout == manifest(registry, "multi", "2")[0]


def _attestation(registry: Registry, repository: str) -> Descriptor:
    """A manifest that is no image, as buildx adds it."""
    config = registry.push_blob(
        repository, b'{"architecture":"unknown","os":"unknown"}', "application/vnd.oci.image.config.v1+json"
    )
    layer = registry.push_blob(
        repository, b'{"_type":"https://in-toto.io/Statement/v0.1"}', "application/vnd.in-toto+json"
    )
    media_type = "application/vnd.oci.image.manifest.v1+json"
    return registry.push_manifest(
        repository,
        "",
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.as_json(),
            "layers": [layer.as_json()],
        },
    )


def test_from_a_registry_and_within_a_daemon(
    two: tuple[Engine, Engine], minictl: Cli, registry: Registry, client_config: Path
) -> None:
    layers(7).push(registry, "seven", "1")
    first, second = (Wire(engine.socket, "1.44") for engine in two)
    there = f"unix://{two[1].socket}"
    assert (
        minictl("image", "copy", "-q", f"registry://{registry.address}/seven:1", f"{there}::mine:7").code == 0
    )
    assert [image["RepoTags"] for image in second.get("/images/json")] == [["mine:7"]]
    assert first.get("/images/json") == []
    assert minictl("image", "copy", "-q", f"registry://{registry.address}/seven:1", f"{there}::").code == 0
    assert sorted(second.get("/images/json")[0]["RepoTags"]) == sorted(
        ["mine:7", f"{registry.address}/seven:1"]
    )
    assert run(two[1], client_config, "mine:7") == "7"
    assert minictl("image", "copy", f"{there}::mine:7", "fetched:7").code == 0
    assert minictl("image", "copy", "fetched:7", "another:7").code == 0
    assert sorted(first.get("/images/json")[0]["RepoTags"]) == ["another:7", "fetched:7"]
    for wrong, said in (
        ((f"{there}::nothing:1", "x:1"), "No such image"),
        ((there, "x:1"), "::NAME"),
        (("fetched:7", "registry://Wrong Name"), "invalid reference"),
        (("--all", "fetched:7", f"{there}::"), "--all is for copies from registry to registry"),
        (("fetched:7", "unix:///nowhere.sock::"), "Cannot connect"),
    ):
        done = minictl("image", "copy", *wrong)
        assert done.code == 1 and said in done.err, (wrong, done.err)


def test_to_the_daemon_of_a_context(
    two: tuple[Engine, Engine], minictl: Cli, registry: Registry, tmp_path: Path
) -> None:
    """And what a context says of a daemon that is not there, or is no context."""
    layers(5).push(registry, "five", "1")
    pull(Wire(two[0].socket, "1.44"), f"{registry.address}/five:1")
    own = make_cli("minictl", two[0], tmp_path)
    docker = make_cli("docker", two[0], tmp_path)
    assert docker("context", "create", "there", "--docker", f"host=unix://{two[1].socket}").code == 0
    done = own("image", "copy", f"{registry.address}/five:1", "there::five:5")
    assert done.code == 0 and done.lines[0] == "Copied: five:5", done.err
    assert run(two[1], tmp_path, "five:5") == "5"
    assert own("image", "copy", "there::five:5", "default::back:5").code == 0
    missing = own("image", "copy", "there::five:5", "nowhere::")
    assert missing.code == 1 and "context not found" in missing.err


def test_to_and_from_dockerd(
    two: tuple[Engine, Engine], minictl: Cli, registry: Registry, client_config: Path, tmp_path: Path
) -> None:
    """dockerd knows neither question nor save without layers: it gets and gives everything."""
    if shutil.which("dockerd") is None:
        pytest.skip("dockerd is not installed")
    dockerd = Dockerd(Path("/var/tmp") / f"mt-copy-{os.getpid()}")
    try:
        dockerd.start()
        layers(3).push(registry, "three", "1")
        pull(Wire(two[0].socket, "1.44"), f"{registry.address}/three:1")
        there = f"unix://{dockerd.socket}"
        done = minictl("image", "copy", f"{registry.address}/three:1", f"{there}::three:1")
        assert done.code == 0, done.err
        docker = make_cli("docker", dockerd, client_config)
        assert docker("image", "inspect", "three:1").code == 0
        done = minictl("image", "copy", f"{there}::three:1", f"unix://{two[1].socket}::back:3")
        assert done.code == 0, done.err
        assert run(two[1], client_config, "back:3") == "3"
        refused = minictl("image", "copy", f"{there}::three:1", f"registry://{registry.address}/x:1")
        assert refused.code == 1 and "minid's own" in refused.err
    finally:
        dockerd.destroy()


def test_memory_stays_bounded(two: tuple[Engine, Engine], minictl: Cli, registry: Registry) -> None:
    """A layer of 200 MB goes through minictl; what it has held at most is told by the kernel."""
    big = Layer().file("big.bin", os.urandom(200 << 20)).done()
    Image([big], {}).push(registry, "large", "1", compression="none")
    pull(Wire(two[0].socket, "1.44"), f"{registry.address}/large:1")
    script = (
        "import re, sys; from minictl.main import main; status = main(sys.argv[1:]); "
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", script, "-H", two[0].host),
            *("image", "copy", f"{registry.address}/large:1", f"unix://{two[1].socket}::"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, **minictl.environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) < 60_000  # KiB
