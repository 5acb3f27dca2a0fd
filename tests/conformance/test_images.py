"""Pull from a real registry in every form, list, inspect, tag, remove, history; hostile and broken images."""

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.cli import Cli
from tests.conformance.test_lifecycle import create
from tests.images import Image, Layer
from tests.registry import Registry, digest_of
from tests.wire import Wire

NONE = ("run", "--rm", "--network", "none")


@pytest.fixture(scope="session")
def small(registry: Registry) -> Image:
    """A second, small image: two layers on busybox's own base."""
    base = images.busybox()
    extra = Layer().directory("extra").file("extra/file", "extra\n").done()
    return Image([*base.layers, extra], {**base.config, "Cmd": ["cat", "/extra/file"]})


@pytest.fixture(autouse=True)
def forget(request: pytest.FixtureRequest) -> Any:
    """Remove the images that a test pulled, so that each starts without them."""
    wire: Wire | None = request.getfixturevalue("wire") if "wire" in request.fixturenames else None
    before = {image["Id"] for image in wire.get("/images/json")} if wire else set()
    kept = {tag for image in (wire.get("/images/json") if wire else []) for tag in image["RepoTags"] or []}
    yield
    if wire is None:
        return
    for container in wire.get("/containers/json", all="1"):
        wire("DELETE", f"/containers/{container['Id']}", query={"force": "1"})
    for image in wire.get("/images/json"):
        for tag in image["RepoTags"] or []:
            if tag not in kept and tag != "<none>:<none>":
                assert wire("DELETE", f"/images/{tag}").status == 200
    for image in wire.get("/images/json"):
        if image["Id"] not in before:
            assert wire("DELETE", f"/images/{image['Id']}", query={"force": "1"}).status == 200


@pytest.mark.parametrize(
    ("form", "compression"),
    [
        ("oci", "gzip"),
        ("docker", "gzip"),
        pytest.param(
            "oci", "zstd", marks=pytest.mark.minid_only("Docker reads zstd layers since version 23")
        ),
        ("oci", "none"),
        pytest.param(
            "docker", "none", marks=pytest.mark.minid_only("Docker 20.10 does not know that media type")
        ),
    ],
)
def test_every_form_of_image(
    cli: Cli, wire: Wire, registry: Registry, small: Image, form: str, compression: str
) -> None:
    repository = f"forms/{form}/{compression}"
    descriptor = small.push(registry, repository, "v1", form=form, compression=compression)
    name = f"{registry.address}/{repository}:v1"
    out = cli.ok("pull", name)
    assert f"Digest: {descriptor.digest}" in out
    assert f"Status: Downloaded newer image for {name}" in out
    assert cli.ok(*NONE, name) == "extra"
    inspected = wire.get(f"/images/{name}/json")
    assert inspected["Id"] == digest_of(json.dumps(small.config_json()).encode())
    assert inspected["RepoDigests"] == [f"{registry.address}/{repository}@{descriptor.digest}"]
    again = cli.ok("pull", name)
    assert f"Status: Image is up to date for {name}" in again


def test_pull_by_digest(cli: Cli, wire: Wire, registry: Registry, small: Image) -> None:
    descriptor = small.push(registry, "by-digest", "v1")
    name = f"{registry.address}/by-digest@{descriptor.digest}"
    assert cli.ok("pull", "-q", name) == name
    assert cli.ok(*NONE, name) == "extra"
    (image,) = wire.get("/images/json", filters={"reference": [f"{registry.address}/by-digest"]})
    assert image["RepoTags"] in (None, [], ["<none>:<none>"]) and image["RepoDigests"] == [name]
    assert wire("DELETE", f"/images/{name}").status == 200
    assert wire("GET", f"/images/{name}/json").status == 404


def test_index_chooses_the_platform(cli: Cli, wire: Wire, registry: Registry, small: Image) -> None:
    base = images.busybox()
    other = Image(base.layers, {**base.config, "Cmd": ["echo", "other"]}, architecture="arm64")
    for form in ("oci", "docker"):
        images.push_index(
            registry, f"multi-{form}", "v1", {"linux/arm64/v8": other, "linux/amd64": small}, form=form
        )
        name = f"{registry.address}/multi-{form}:v1"
        cli.ok("pull", name)
        assert wire.get(f"/images/{name}/json")["Architecture"] == "amd64"
        assert cli.ok(*NONE, name) == "extra"
    images.push_index(registry, "only-arm", "v1", {"linux/arm64/v8": other})
    result = cli("pull", f"{registry.address}/only-arm:v1")
    assert result.code == 1
    assert "no matching manifest for linux/amd64" in result.err
    cli.ok("pull", "--platform", "linux/arm64", f"{registry.address}/only-arm:v1")
    assert wire.get(f"/images/{registry.address}/only-arm:v1/json")["Architecture"] == "arm64"


def test_run_pulls_what_is_missing(cli: Cli, wire: Wire, registry: Registry, small: Image) -> None:
    small.push(registry, "missing", "v1")
    name = f"{registry.address}/missing:v1"
    result = cli(*NONE, name)
    assert (result.code, result.out) == (0, "extra\n")
    assert f"Unable to find image '{name}' locally" in result.err
    quiet = cli(*NONE, name)
    assert (quiet.out, quiet.err) == ("extra\n", "")
    refreshed = cli("run", "--pull", "always", "--rm", "--network", "none", name)
    assert refreshed.out.endswith("extra\n") and "Image is up to date" in refreshed.out + refreshed.err


def test_pull_asks_the_registry_for_a_newer_one(
    cli: Cli, wire: Wire, registry: Registry, small: Image
) -> None:
    name = f"{registry.address}/moving:latest"
    small.push(registry, "moving")
    cli.ok("pull", name)
    old = wire.get(f"/images/{name}/json")["Id"]
    newer = small.variant(Cmd=["echo", "newer"])
    newer.push(registry, "moving")
    assert cli.ok(*NONE, name) == "extra", "run uses what is there"
    cli.ok("pull", f"{registry.address}/moving")
    assert cli.ok(*NONE, name) == "newer"
    listed = {image["Id"]: image for image in wire.get("/images/json")}
    assert old in listed and listed[old]["RepoTags"] in (None, [], ["<none>:<none>"])
    assert old in [image["Id"] for image in wire.get("/images/json", filters={"dangling": ["true"]})]


def test_all_tags(cli: Cli, wire: Wire, registry: Registry, small: Image) -> None:
    for tag in ("t1", "t2"):
        small.push(registry, "tags", tag)
    cli.ok("pull", "-a", f"{registry.address}/tags")
    found = wire.get("/images/json", filters={"reference": [f"{registry.address}/tags"]})
    assert {tag for image in found for tag in image["RepoTags"]} == {
        f"{registry.address}/tags:t1",
        f"{registry.address}/tags:t2",
    }


def test_progress_lines(wire: Wire, registry: Registry, small: Image) -> None:
    descriptor = small.push(registry, "progress", "v1")
    response = wire.post("/images/create", fromImage=f"{registry.address}/progress", tag="v1")
    assert response.status == 200 and response.headers["Content-Type"] == "application/json"
    lines = response.json_lines
    assert lines[0] == {"status": "Pulling from progress", "id": "v1"}
    statuses = [line["status"] for line in lines]
    assert statuses[-2:] == [
        f"Digest: {descriptor.digest}",
        f"Status: Downloaded newer image for {registry.address}/progress:v1",
    ]
    layers = {line["id"] for line in lines[1:] if "id" in line}
    assert len(layers) == 3 and all(re.fullmatch(r"[0-9a-f]{12}", layer) for layer in layers)
    for layer in layers:
        mine = [line["status"] for line in lines if line.get("id") == layer]
        assert mine[-1] in ("Pull complete", "Already exists"), mine
    assert all(
        "progressDetail" in line
        for line in lines
        if line["status"] in ("Downloading", "Extracting", "Pull complete")
    )


def test_pull_errors(cli: Cli, wire: Wire, registry: Registry, small: Image) -> None:
    missing = cli("pull", f"{registry.address}/no/such/image:v1")
    assert missing.code == 1
    assert re.search("manifest unknown|not found|repository does not exist", missing.err), missing.err
    response = wire.post("/images/create", fromImage=f"{registry.address}/no/such/image", tag="v1")
    assert (response.status in (404, 200, 500) and b"error" in response.body) or response.status == 404
    for bad in ("Upper", "bad//name", "a:b:c", f"{registry.address}/x@sha256:123"):
        refused = cli("pull", bad)
        assert (
            refused.code in (1, 125) and "invalid reference format" in refused.err
        ) or "must be lowercase" in refused.err, bad
    nobody = cli("pull", "127.0.0.1:1/x")
    assert nobody.code == 1 and re.search("connection refused|[Cc]onnect call failed|dial tcp", nobody.err)


def corrupt(registry: Registry, digest: str, change: Any) -> Path:
    """Change a blob where the registry has it on disk; returns its path."""
    hex_digest = digest.removeprefix("sha256:")
    path = registry.root / "store/docker/registry/v2/blobs/sha256" / hex_digest[:2] / hex_digest / "data"
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize("how", ["digest", "truncated", "not-a-tar", "diff-id", "config"])
def test_a_broken_image_leaves_no_trace(wire: Wire, registry: Registry, how: str) -> None:
    base = images.busybox()
    unique = Layer().file("unique", f"{how}\n" * 50_000).done()
    image = Image([*base.layers, unique], {**base.config, "Labels": {"how": how}})
    if how == "not-a-tar":
        image.layers = [*base.layers, b"this is no tar archive " * 1000]
    if how == "diff-id":
        config = image.config_json()
        config["rootfs"]["diff_ids"][-1] = "sha256:" + "0" * 64
        image.config_json = lambda: config  # type: ignore[method-assign]
    image.push(registry, f"broken-{how}", "v1")
    _, _, manifest = registry.request(
        "GET", f"/v2/broken-{how}/manifests/v1", Accept="application/vnd.oci.image.manifest.v1+json"
    )
    described = json.loads(manifest)
    if how == "digest":
        corrupt(registry, described["layers"][-1]["digest"], lambda data: data[:-20] + bytes(20))
    if how == "truncated":
        corrupt(registry, described["layers"][-1]["digest"], lambda data: data[: len(data) // 2])
    if how == "config":
        corrupt(
            registry,
            described["config"]["digest"],
            lambda data: data.replace(b"broken", b"BROKEN").replace(b"layer 0", b"LAYER 0"),
        )
    before = {image["Id"] for image in wire.get("/images/json", all="1")}
    response = wire(
        "POST",
        "/images/create",
        query={"fromImage": f"{registry.address}/broken-{how}", "tag": "v1"},
        timeout_s=110,
    )
    error = response.message if response.status != 200 else response.json_lines[-1]["error"]
    assert error
    assert {image["Id"] for image in wire.get("/images/json", all="1")} == before
    assert wire("GET", f"/images/{registry.address}/broken-{how}:v1/json").status == 404


HOSTILE: dict[str, Layer] = {
    "dotdot": Layer().file("../../../../../../../tmp/minid-escape-1", "x"),
    "absolute": Layer().file("/tmp/minid-escape-2", "x"),
    "symlink": Layer().symlink("up", "../../../../../../../../../tmp").file("up/minid-escape-3", "x"),
    "absolute-symlink": Layer().symlink("up", "/tmp").file("up/minid-escape-4", "x"),
    "hardlink": Layer()
    .hardlink("passwd", "/etc/passwd")
    .hardlink("shadow", "../../../../../../../etc/shadow"),
    "whiteout-of-parent": Layer().file(".wh...", "").file(".wh..", ""),
    "whiteout-through-link": Layer().symlink("up", "/tmp").file("up/.wh.minid-precious", ""),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_layer_touches_nothing_outside(
    docker_cli: Cli, wire: Wire, registry: Registry, kind: str
) -> None:
    """It is refused, or what it says happens inside the image; nothing outside changes either way."""
    precious = Path("/tmp/minid-precious")
    precious.write_text("precious")
    before = {path for path in Path("/tmp").iterdir() if path.name.startswith("minid-escape")}
    passwd_links = Path("/etc/passwd").stat().st_nlink
    base = images.busybox()
    layer = HOSTILE[kind]
    Image([*base.layers, layer.done()], base.config).push(registry, f"hostile-{kind}", "v1")
    try:
        pulled = docker_cli("pull", f"{registry.address}/hostile-{kind}:v1")
        if pulled.code == 0:
            docker_cli(*NONE, f"{registry.address}/hostile-{kind}:v1", "true")
        assert precious.read_text() == "precious"
        assert {path for path in Path("/tmp").iterdir() if path.name.startswith("minid-escape")} == before
        assert Path("/etc/passwd").stat().st_nlink == passwd_links
    finally:
        precious.unlink()


def test_every_kind_of_entry_survives(docker_cli: Cli, registry: Registry, wire: Wire) -> None:
    base = images.busybox()
    layer = Layer()
    layer.directory("all", 0o2751, uid=3, gid=4).file("all/setuid", "x", 0o4755, uid=5, gid=6).file(
        "all/time", mtime=1234567890
    )
    layer.symlink("all/dangling", "no/where")
    layer.add("all/hard", tarfile.LNKTYPE, mode=0o4755, uid=5, gid=6, linkname="all/setuid")
    layer.add("all/fifo", tarfile.FIFOTYPE, mode=0o640).add(
        "all/char", tarfile.CHRTYPE, mode=0o600, devmajor=1, devminor=3
    )
    layer.add("all/block", tarfile.BLKTYPE, mode=0o600, devmajor=7, devminor=0)
    layer.file(b"all/latin-\xe9".decode(errors="surrogateescape"), "x").file("all/" + "n" * 250, "long")
    layer.file(
        "all/capable",
        "x",
        0o755,
        pax_headers={
            "SCHILY.xattr.security.capability": bytes.fromhex(
                "0100000200200000000000000000000000000000"
            ).decode("latin-1")
        },
    )
    layer.file("all/attribute", "x", pax_headers={"SCHILY.xattr.user.note": "kept"})
    Image([*base.layers, layer.done()], base.config).push(registry, "entries", "v1")
    script = (
        "cd /all; stat -c '%n %F %a %u:%g %h' . setuid hard fifo char block; "
        "stat -c '%t:%T' char block; stat -c %Y time; readlink dangling; "
        "echo latin-* | od -An -c | grep -c 351; ls | grep -c nnnnnnnn"
    )
    name = f"{registry.address}/entries:v1"
    docker_cli.ok("pull", name)
    lines = docker_cli.ok(*NONE, name, "sh", "-c", script).splitlines()
    assert lines[0] == ". directory 2751 3:4 2"
    assert lines[1] == "setuid regular file 4755 5:6 2" and lines[2] == "hard regular file 4755 5:6 2"
    assert lines[3:6] == [
        "fifo fifo 640 0:0 1",
        "char character special file 600 0:0 1",
        "block block special file 600 0:0 1",
    ]
    assert lines[6:] == ["1:3", "7:0", "1234567890", "no/where", "1", "1"]


def test_listing_and_tags(cli: Cli, wire: Wire, registry: Registry, small: Image) -> None:
    small.push(registry, "listed", "v1")
    name = f"{registry.address}/listed:v1"
    cli.ok("pull", "-q", name)
    cli.ok("tag", name, "local/name:one")
    cli.ok("tag", "local/name:one", "local/name")
    image_id = wire.get(f"/images/{name}/json")["Id"]
    short = image_id.removeprefix("sha256:")[:12]
    lines = cli.ok("images").splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    mine = [line.split()[:3] for line in lines[1:] if short in line]
    assert sorted(mine) == sorted(
        [
            [f"{registry.address}/listed", "v1", short],
            ["local/name", "one", short],
            ["local/name", "latest", short],
        ]
    )
    assert set(cli.ok("images", "-q", "local/name").split()) == {short}
    assert cli.ok("images", "--format", "{{.Repository}}:{{.Tag}}", "local/name:one") == "local/name:one"
    assert cli.ok("images", "--no-trunc", "-q", "local/name:one") == image_id
    assert cli.ok("inspect", "-f", "{{.Id}}", short) == image_id
    (entry,) = [image for image in wire.get("/images/json") if image["Id"] == image_id]
    assert sorted(entry["RepoTags"]) == sorted([name, "local/name:one", "local/name:latest"])
    assert entry["Size"] > 1_000_000 and isinstance(entry["Created"], int) and entry["ParentId"] == ""
    assert cli("tag", "nosuch:x", "y").code == 1
    bad = wire("POST", f"/images/{name}/tag", query={"repo": "Bad/Name", "tag": "x"})
    assert bad.status in (400, 500)
    assert wire("POST", f"/images/{name}/tag", query={"repo": "good", "tag": "x"}).status == 201


def test_removal(cli: Cli, wire: Wire, registry: Registry, small: Image) -> None:
    small.push(registry, "removed", "v1")
    name = f"{registry.address}/removed:v1"
    cli.ok("pull", "-q", name)
    image_id = wire.get(f"/images/{name}/json")["Id"]
    cli.ok("tag", name, "second:tag")
    assert cli.ok("rmi", "second:tag") == "Untagged: second:tag"
    cli.ok("tag", name, "second:tag")
    refused = cli("rmi", image_id)
    assert refused.code == 1 and "image is referenced in multiple repositories" in refused.err
    cli.ok("rmi", "second:tag")
    container = create(wire, name, "true")
    in_use = cli("rmi", name)
    assert in_use.code == 1 and re.search(
        r"conflict: unable to remove repository reference .* \(must force\) "
        r"- container [0-9a-f]{12} is using its referenced image",
        in_use.err,
    )
    assert wire("DELETE", f"/images/{name}").status == 409
    wire("DELETE", f"/containers/{container}")
    out = cli.ok("rmi", name).splitlines()
    assert out[0] == f"Untagged: {name}" and f"Deleted: {image_id}" in out
    gone = cli("rmi", name)
    assert gone.code == 1 and f"No such image: {name}" in gone.err


def test_history_and_inspect(cli: Cli, wire: Wire, registry: Registry, small: Image) -> None:
    small.push(registry, "history", "v1")
    name = f"{registry.address}/history:v1"
    cli.ok("pull", "-q", name)
    lines = cli.ok("history", name).splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert len(lines) == 5 and 'CMD ["sh"]' in lines[1] and "layer 0" in lines[4]
    assert lines[2].startswith("<missing>")
    entries = wire.get(f"/images/{name}/history")
    assert entries[0]["Id"] == wire.get(f"/images/{name}/json")["Id"] and entries[0]["Tags"] == [name]
    assert (
        entries[0]["Size"] == 0 and entries[3]["Size"] > 1_000_000 and entries[1]["Comment"] == "minid tests"
    )
    seen = wire.get(f"/images/{name}/json")
    assert (seen["Os"], seen["Architecture"], seen["RepoTags"], seen["Created"]) == (
        "linux",
        "amd64",
        [name],
        images.CREATED,
    )
    assert seen["RootFS"] == {"Type": "layers", "Layers": small.config_json()["rootfs"]["diff_ids"]}
    assert (
        seen["Config"]["Cmd"] == ["cat", "/extra/file"]
        and seen["GraphDriver"]["Name"]
        and seen["Size"] > 1_000_000
    )


def test_shared_layers_are_downloaded_once(
    wire: Wire, registry: Registry, busybox: str, small: Image
) -> None:
    small.push(registry, "sharing", "v1", form="docker")
    response = wire.post("/images/create", fromImage=f"{registry.address}/sharing", tag="v1")
    exists = [line for line in response.json_lines if line["status"] == "Already exists"]
    assert len(exists) == 2, "busybox's two layers are there"


def test_image_events(wire: Wire, registry: Registry, small: Image) -> None:
    small.push(registry, "eventful", "v1")
    name = f"{registry.address}/eventful:v1"
    with wire.stream("GET", "/events", query={"filters": {"type": ["image"]}}, upgrade=False) as stream:
        wire.post("/images/create", fromImage=f"{registry.address}/eventful", tag="v1")
        wire.post(f"/images/{name}/tag", repo="eventful-too", tag="x")
        wire("DELETE", "/images/eventful-too:x")
        wire("DELETE", f"/images/{name}")
        text = stream.read_until(b'"delete"')
        while text.rfind(b"\n") < text.rfind(b'"delete"'):
            text += stream.read(65536)
    actions = [json.loads(line)["Action"] for line in text.splitlines() if line.startswith(b"{")]
    assert actions == ["pull", "tag", "untag", "untag", "delete"]
