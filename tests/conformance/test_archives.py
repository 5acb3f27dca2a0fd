"""save and load: round trips, every form of archive, other tools' archives and ours with other tools, hostile ones."""

import gzip
import io
import json
import lzma
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests import archives
from tests.cli import Cli
from tests.engine import Dockerd, Engine
from tests.images import Image, Layer
from tests.images import busybox as busybox_image
from tests.registry import Registry, digest_of
from tests.tidiness import remove_everything
from tests.wire import Wire

NONE = ("run", "--rm", "--network", "none")


@pytest.fixture(scope="session")
def small() -> Image:
    base = busybox_image()
    extra = Layer().directory("extra").file("extra/file", "extra\n").done()
    return Image([*base.layers, extra, extra], {**base.config, "Cmd": ["cat", "/extra/file"]})


@pytest.fixture(autouse=True)
def forget(wire: Wire, busybox: str) -> Iterator[None]:
    """Remove the images that a test has made."""
    kept = {tag for image in wire.get("/images/json") for tag in image["RepoTags"] or []}
    before = {image["Id"] for image in wire.get("/images/json")}
    yield
    remove_everything(wire)
    for image in wire.get("/images/json"):
        for tag in image["RepoTags"] or []:
            if tag not in kept and tag != "<none>:<none>":
                assert wire("DELETE", f"/images/{tag}").status == 200
    for image in wire.get("/images/json"):
        if image["Id"] not in before:
            assert wire("DELETE", f"/images/{image['Id']}", query={"force": "1"}).status == 200


def stored(engine: Engine) -> set[str]:
    """Every file of minid's store but the marker of what is not synced yet."""
    found = set()
    for folder in ("blobs", "snapshots"):
        for directory, _, files in os.walk(engine.data_root / folder):
            found |= {os.path.join(directory, name) for name in files if name != "unsynced"}
    return found


def settled(engine: Engine, before: set[str]) -> set[str]:
    """What is there beyond ``before``, once removals in the background are through."""
    deadline = time.monotonic() + 5
    while (more := stored(engine) - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    return more


def load(wire: Wire, data: bytes, **query: str) -> Any:
    return wire("POST", "/images/load", data, query=query, headers={"Content-Type": "application/x-tar"})


# round trips


def test_round_trip(cli: Cli, wire: Wire, small: Image) -> None:
    cli.ok("load", stdin=archives.tar(archives.legacy_members(small, "round/trip:v1", "round/trip:v2")))
    saved = cli("save", "round/trip:v1").raw_out
    cli.ok("rmi", "round/trip:v1", "round/trip:v2")
    assert wire("GET", "/images/round/trip:v1/json").status == 404
    assert "Loaded image: round/trip:v1" in cli.ok("load", stdin=saved)
    assert wire.get("/images/round/trip:v1/json")["Id"] == archives.image_id(small)
    assert wire("GET", "/images/round/trip:v2/json").status == 404, "only the name that was asked for"
    assert cli.ok(*NONE, "round/trip:v1") == "extra"


def test_several_images_and_all_tags(cli: Cli, wire: Wire, small: Image, tmp_path: Path) -> None:
    other = small.variant(Cmd=["echo", "other"])
    cli.ok("load", stdin=archives.tar(archives.legacy_members(small, "many/one:a", "many/one:latest")))
    cli.ok("load", stdin=archives.tar(archives.legacy_members(other, "many/two:b")))
    path = tmp_path / "many.tar"
    cli.ok("save", "-o", str(path), "many/one", "many/two:b")
    cli.ok("rmi", "many/one:a", "many/one:latest", "many/two:b")
    out = cli.ok("load", "-i", str(path))
    for name in ("many/one:a", "many/one:latest", "many/two:b"):
        assert f"Loaded image: {name}" in out.splitlines()
    assert wire.get("/images/many/one:a/json")["Id"] == archives.image_id(small)
    assert wire.get("/images/many/two:b/json")["Id"] == archives.image_id(other)


def test_save_by_id_has_no_name(cli: Cli, wire: Wire, small: Image) -> None:
    image_id = archives.image_id(small)
    cli.ok("load", stdin=archives.tar(archives.legacy_members(small, "by/id:v1")))
    saved = cli("save", image_id).raw_out
    cli.ok("rmi", "by/id:v1")
    assert cli.ok("load", stdin=saved) == f"Loaded image ID: {image_id}"
    assert wire.get(f"/images/{image_id}/json")["RepoTags"] in (None, [])


def test_load_moves_the_name(cli: Cli, wire: Wire, small: Image) -> None:
    cli.ok("load", stdin=archives.tar(archives.legacy_members(small, "moved:v1")))
    other = small.variant(Cmd=["echo", "moved"])
    out = cli.ok("load", stdin=archives.tar(archives.legacy_members(other, "moved:v1")))
    assert (
        f"The image moved:v1 already exists, renaming the old one with ID {archives.image_id(small)} to empty string"
        in out
    )
    assert cli.ok(*NONE, "moved:v1") == "moved"
    assert archives.image_id(small) in [item["Id"] for item in wire.get("/images/json")]


def test_pulled_digests_are_kept(wire: Wire, registry: Registry, small: Image, engine_kind: str) -> None:
    if engine_kind == "dockerd":
        pytest.skip("dockerd 20.10 writes its own layers, uncompressed")
    descriptor = small.push(registry, "kept", "v1", form="docker")
    name = f"{registry.address}/kept:v1"
    wire.post("/images/create", fromImage=name)
    saved = wire("GET", "/images/get", query={"names": name}).body
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        names = archive.getnames()
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    assert f"blobs/{descriptor.digest.replace(':', '/')}" in names
    assert [item["digest"] for item in index["manifests"]] == [descriptor.digest]
    assert wire("DELETE", f"/images/{name}").status == 200
    assert load(wire, saved).status == 200
    assert wire("GET", "/images/get", query={"names": name}).body == saved, "the same archive, byte for byte"


def test_save_of_what_is_not_there(cli: Cli, wire: Wire) -> None:
    result = cli("save", "no/such:image")
    assert result.code == 1 and not result.raw_out
    assert "no/such:image" in result.err or "reference does not exist" in result.err
    assert wire("GET", "/images/no/such:image/get").status == 404


# forms

FORMS: dict[str, Callable[[Image], dict[str, Any]]] = {
    "docker before 25": lambda image: archives.legacy_members(image, "form:v1"),
    "jib": lambda image: archives.jib_members(image, "form:v1"),
    "names with ./": lambda image: {f"./{k}": v for k, v in archives.jib_members(image, "form:v1").items()},
    "oci": lambda image: archives.oci_members(image, "docker.io/library/form:v1"),
    "oci zstd": lambda image: archives.oci_members(image, "docker.io/library/form:v1", compression="zstd"),
    "oci plain": lambda image: archives.oci_members(image, "docker.io/library/form:v1", compression="none"),
    "oci nested": lambda image: archives.oci_members(image, "docker.io/library/form:v1", nested=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form(cli: Cli, wire: Wire, small: Image, form: str, engine_kind: str) -> None:
    if engine_kind == "dockerd" and form.startswith("oci"):
        pytest.skip("dockerd reads OCI layouts since version 25")
    out = cli.ok("load", stdin=archives.tar(FORMS[form](small)))
    assert out.splitlines()[-1] == "Loaded image: form:v1"
    assert wire.get("/images/form:v1/json")["Id"] == archives.image_id(small)
    assert cli.ok(*NONE, "form:v1") == "extra"


OUTER: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "xz": lzma.compress,
}


@pytest.mark.parametrize("outer", OUTER)
def test_outer_compression(cli: Cli, wire: Wire, small: Image, outer: str, engine_kind: str) -> None:
    if engine_kind == "dockerd" and outer == "zstd":
        pytest.skip("Docker reads zstd since version 23")
    data = OUTER[outer](archives.tar(archives.legacy_members(small, "outer:v1")))
    assert cli.ok("load", stdin=data) == "Loaded image: outer:v1"
    assert wire.get("/images/outer:v1/json")["Id"] == archives.image_id(small)


def test_progress_and_events(wire: Wire, small: Image) -> None:
    since = str(time.time())
    lines = load(wire, archives.tar(archives.legacy_members(small, "told:v1")), quiet="0").json_lines
    assert {"stream": "Loaded image: told:v1\n"} in lines
    layers = [line for line in lines if line.get("status") == "Loading layer"]
    assert layers and all(len(line["id"]) == 12 and line["progressDetail"]["total"] for line in layers)
    quiet = load(wire, archives.tar(archives.legacy_members(small, "told:v1")), quiet="1").json_lines
    assert quiet == [{"stream": "Loaded image: told:v1\n"}]
    events = wire(
        "GET", "/events", query={"since": since, "until": str(time.time()), "filters": '{"event":["load"]}'}
    )
    assert [event["Actor"]["ID"] for event in events.json_lines] == [archives.image_id(small)] * 2


# other tools


@pytest.fixture(scope="module")
def other_docker(client_config: Path) -> Iterator[Cli]:
    """A dockerd beside the engine under test."""
    if shutil.which("dockerd") is None:
        pytest.skip("dockerd is not installed")
    dockerd = Dockerd(Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp")))
    try:
        dockerd.start()
        yield Cli("docker", ("docker", "-H", dockerd.host), {"DOCKER_CONFIG": str(client_config)})
    finally:
        dockerd.destroy()


def test_dockerd_and_back(docker_cli: Cli, other_docker: Cli, wire: Wire, small: Image) -> None:
    docker_cli.ok("load", stdin=archives.tar(archives.jib_members(small, "there/and:back")))
    assert other_docker.ok("load", stdin=docker_cli("save", "there/and:back").raw_out)
    image_id = other_docker.ok("inspect", "-f", "{{.Id}}", "there/and:back")
    assert image_id == archives.image_id(small)
    docker_cli.ok("rmi", "there/and:back")
    assert (
        docker_cli.ok("load", stdin=other_docker("save", "there/and:back").raw_out)
        == "Loaded image: there/and:back"
    )
    assert wire.get("/images/there/and:back/json")["Id"] == image_id
    assert docker_cli.ok(*NONE, "there/and:back") == "extra"


@pytest.fixture(scope="module")
def skopeo() -> Callable[..., str]:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")

    def run(*args: str) -> str:
        done = subprocess.run(["skopeo", *args], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_skopeo_and_back(
    docker_cli: Cli,
    wire: Wire,
    registry: Registry,
    small: Image,
    skopeo: Callable[..., str],
    tmp_path: Path,
    transport: str,
    engine_kind: str,
) -> None:
    if engine_kind == "dockerd" and transport == "oci-archive":
        pytest.skip("dockerd reads OCI layouts since version 25")
    small.push(registry, "skopeo", "v1")
    path = tmp_path / "skopeo.tar"
    source = f"docker://{registry.address}/skopeo:v1"
    skopeo("copy", "--src-tls-verify=false", source, f"{transport}:{path}:skopeo/image:v1")
    assert docker_cli.ok("load", "-i", str(path)) == "Loaded image: skopeo/image:v1"
    assert docker_cli.ok(*NONE, "skopeo/image:v1") == "extra"
    saved = tmp_path / "ours.tar"
    docker_cli.ok("save", "-o", str(saved), "skopeo/image:v1")
    image_id = wire.get("/images/skopeo/image:v1/json")["Id"]
    shown = json.loads(skopeo("inspect", "--config", f"docker-archive:{saved}"))
    assert shown["rootfs"]["diff_ids"] == [digest_of(archives.layer_bytes(layer)) for layer in small.layers]
    if engine_kind == "minid":
        shown = skopeo("inspect", "--raw", "--config", f"oci-archive:{saved}")
        assert digest_of(shown.encode()) == image_id


# bad archives


def broken(image: Image, what: str) -> bytes:
    members = archives.legacy_members(image, "bad:v1")
    layer = next(name for name in members if name.endswith("layer.tar"))
    config = next(name for name in members if name.endswith(".json") and name != "manifest.json")
    manifest = json.loads(members["manifest.json"])  # type: ignore[arg-type]
    oci = archives.oci_members(image, "bad:v1")
    blobs = [name for name in oci if name.startswith("blobs/")]
    blob = blobs[len(image.layers) - 2]  # of the last layers, which are one; the others are here already
    if what == "truncated":
        return archives.tar(members)[:700_000]
    if what == "truncated gzip":
        return gzip.compress(archives.tar(members))[:-5000]
    if what == "not a tar":
        return b"hello " * 5000
    if what == "empty":
        return archives.tar({})
    if what == "a file system":
        return archives.tar({"etc/passwd": b"root:x:0:0::/:/bin/sh\n"})
    if what == "parent":
        return archives.tar({"../escaped": b"x", **members})
    if what == "absolute":
        return archives.tar({"/tmp/escaped": b"x", **members})
    if what == "link out":
        return archives.tar({**members, layer: archives.link(layer, "../../../../etc/passwd")})
    if what == "absolute link":
        return archives.tar({**members, layer: archives.link(layer, "/etc/passwd")})
    if what == "hard link out":
        return archives.tar({**members, layer: archives.link(layer, "/etc/passwd", tarfile.LNKTYPE)})
    if what == "link to itself":
        return archives.tar({**members, layer: archives.link(layer, "layer.tar")})
    if what == "device":
        return archives.tar({**members, layer: archives.entry(layer, tarfile.CHRTYPE)})
    if what == "other layer":
        return archives.tar({**members, layer: Layer().file("evil", "evil").done()})
    if what == "layer is no tar":
        return archives.tar({**members, layer: b"evil" * 1000})
    if what == "missing layer":
        return archives.tar({name: data for name, data in members.items() if name != layer})
    if what == "missing config":
        return archives.tar({name: data for name, data in members.items() if name != config})
    if what == "config out":
        manifest[0]["Config"] = "../../../../../../etc/passwd"
    if what == "absolute config":
        manifest[0]["Config"] = "/etc/passwd"
    if what == "layer twice named":
        manifest[0]["Layers"].append(manifest[0]["Layers"][0])
    if what == "bad tag":
        manifest[0]["RepoTags"] = ["Upper:v1"]
    if what == "tag is digest":
        manifest[0]["RepoTags"] = [f"bad@{digest_of(b'')}"]
    if what == "wrong types":
        manifest[0]["Layers"] = {"a": 1}
    if what == "huge manifest":
        manifest[0]["Comment"] = "x" * (5 << 20)
    if what == "manifest is no list":
        return archives.tar({**members, "manifest.json": b'{"Config":"x"}'})
    if what == "manifest is no json":
        return archives.tar({**members, "manifest.json": b"[{]"})
    if what == "config is no json":
        return archives.tar({**members, config: b"{"})
    if what == "wrong digest":
        return archives.tar({**oci, blob: b"something else"})
    if what == "missing blob":
        return archives.tar({name: data for name, data in oci.items() if name != blob})
    if what == "index is no json":
        return archives.tar({**oci, "index.json": b"\xff"})
    if what == "windows":
        return archives.tar(
            archives.legacy_members(Image(image.layers, image.config, os="windows"), "bad:v1")
        )
    return archives.tar({**members, "manifest.json": json.dumps(manifest).encode()})


BAD = {
    "truncated": "ends in the middle",
    "truncated gzip": "gzip data ends too early",
    "not a tar": "a header's checksum is not a number",
    "empty": "not an archive of images",
    "a file system": "`import`",
    "parent": "leads out of the archive",
    "absolute": "absolute path",
    "link out": "leads out of the archive",
    "absolute link": "not in the archive",
    "hard link out": "absolute path",
    "link to itself": "not in the archive",
    "device": "only files, directories and links",
    "other layer": "has the digest",
    "layer is no tar": "has the digest",
    "missing layer": "not in the archive",
    "missing config": "not in the archive",
    "config out": "not in the archive",
    "absolute config": "not in the archive",
    "layer twice named": "diff IDs",
    "bad tag": "must be lowercase",
    "tag is digest": "invalid tag",
    "wrong types": "not a list",
    "huge manifest": "more than the 4194304",
    "manifest is no list": "not a list",
    "manifest is no json": "not valid JSON",
    "config is no json": "not valid JSON",
    "wrong digest": "has another content",
    "missing blob": "not in the archive",
    "index is no json": "not UTF-8",
    "windows": "cannot load a windows image on linux",
}


@pytest.mark.minid_only("Docker's words are others, and what it leaves behind is its own affair")
@pytest.mark.parametrize("what", BAD)
def test_bad_archives_are_refused_without_a_trace(
    wire: Wire, engine: Engine, small: Image, what: str
) -> None:
    assert not Path("/tmp/escaped").exists()
    before = stored(engine)
    images = wire.get("/images/json", all="1")
    response = load(wire, broken(small, what))
    assert response.status == 400, response.body
    assert BAD[what] in response.message
    assert wire.get("/images/json", all="1") == images
    assert not settled(engine, before)
    assert not Path("/tmp/escaped").exists()


@pytest.mark.minid_only("Docker keeps what it has of a layer")
def test_damaged_layer_leaves_nothing(wire: Wire, engine: Engine, small: Image) -> None:
    """The digests are right, so the damage shows only when the layer is unpacked."""
    before = stored(engine)
    bad = Image([*small.layers, b"no tar at all" * 1000], small.config)
    response = load(wire, archives.tar(archives.oci_members(bad, "bad:v1", compression="none")), quiet="1")
    assert response.status == 500
    assert "can't be unpacked" in response.message
    assert not settled(engine, before)


@pytest.mark.minid_only("where Docker keeps it is its own affair")
def test_client_that_goes_away_leaves_nothing(wire: Wire, engine: Engine, small: Image) -> None:
    before = stored(engine)
    data = archives.tar(archives.legacy_members(small, "cut:v1"))
    head = f"POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    for size in (0, 100, 512, 300_000, len(data) - 600):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(engine.socket))
            client.sendall(head + data[:size])
        assert not settled(engine, before), size
    assert wire("GET", "/images/cut:v1/json").status == 404


@pytest.mark.minid_only("dockerd's digests are those of what it writes")
def test_changed_blob_breaks_the_archive_off(wire: Wire, engine: Engine, small: Image) -> None:
    """Before a byte is trusted twice: what the disk has changed is not handed on as if it were whole."""
    assert load(wire, archives.tar(archives.jib_members(small, "changed:v1"))).status == 200
    layer = gzip.compress(archives.layer_bytes(small.layers[2]), mtime=0)
    path = engine.data_root / "blobs" / digest_of(layer).replace(":", "/")
    path.write_bytes(layer[:-1] + bytes([layer[-1] ^ 1]))
    with pytest.raises(Exception, match=r"IncompleteRead|incomplete|reset"):
        wire("GET", "/images/get", query={"names": "changed:v1"})


@pytest.mark.minid_only("dockerd 20.10 reads no OCI layouts")
def test_layers_that_are_here_may_be_left_out(
    wire: Wire, docker_cli: Cli, busybox: str, small: Image
) -> None:
    """What ``minictl image copy`` sends: the manifest names blobs that only this daemon has."""
    layout = archives.oci_members(small, "docker.io/library/left-out:1")
    inherited = [f"blobs/{digest_of(_gzip(layer)).replace(':', '/')}" for layer in small.layers[:-2]]
    assert all(name in layout for name in inherited)
    response = load(
        wire, archives.tar({name: data for name, data in layout.items() if name not in inherited})
    )
    assert response.status == 200 and "Loaded image: left-out:1" in response.body.decode()
    assert wire.get("/images/left-out:1/json")["Id"] == archives.image_id(small)
    assert docker_cli.ok(*NONE, "left-out:1") == "extra"


def _gzip(layer: bytes | Path) -> bytes:
    return gzip.compress(archives.layer_bytes(layer), mtime=0)


@pytest.mark.minid_only("dockerd 20.10 reads no OCI layouts")
def test_a_plain_layer_is_what_it_says_uncompressed(wire: Wire, small: Image) -> None:
    """A blob whose digest is the diff ID, and which is compressed all the same: its files are not what was named."""
    data = gzip.compress(Layer().file("evil", b"evil").done(), mtime=0)
    config = {
        **small.config_json(),
        "rootfs": {"type": "layers", "diff_ids": [digest_of(data)]},
        "history": [],
    }
    layout: dict[str, Any] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(content: bytes, media_type: str) -> dict[str, Any]:
        layout[f"blobs/{digest_of(content).replace(':', '/')}"] = content
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(data, "application/vnd.oci.image.layer.v1.tar")],
    }
    top = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    layout["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    response = load(wire, archives.tar(layout))
    assert "have the digest" in response.body.decode()
    assert wire("GET", f"/images/{digest_of(json.dumps(config).encode())}/json").status == 404
