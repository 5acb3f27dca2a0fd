"""commit, import, image prune, system prune and system df."""

import gzip
import http.server
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests import images
from tests.cli import Cli
from tests.images import Image, Layer
from tests.registry import Registry
from tests.tidiness import remove_everything
from tests.wire import Wire

NONE = ("run", "--rm", "--network", "none")
FOREVER = ("--network", "none", "-d")


@pytest.fixture(autouse=True)
def forget(wire: Wire, busybox: str) -> Iterator[None]:
    """Remove the images that a test has made, children first."""
    before = {image["Id"]: image["RepoTags"] for image in wire.get("/images/json", all="1")}
    yield
    remove_everything(wire)
    assert wire.post("/images/prune").status == 200
    after = wire.get("/images/json", all="1")
    for image in sorted(after, key=lambda each: each["Created"], reverse=True):
        if image["Id"] not in before:
            assert wire("DELETE", f"/images/{image['Id']}", query={"force": "1"}).status in (200, 404)


def made(cli: Cli, busybox: str, script: str, *flags: str) -> str:
    """A running container in which ``script`` has been run; its id."""
    container = cli.ok("run", *FOREVER, *flags, busybox, "sleep", "1000").splitlines()[-1]
    cli.ok("exec", container, "sh", "-c", script)
    return container


SCRIPT = (
    "echo hi > /new; ln /new /new2; rm /etc/replaced; rm -r /opaque; mkdir /opaque; echo z > /opaque/z; "
    "mkdir -p '/d/with space'; ln -s ../new /d/link; chmod 700 /home/app; chown 1000:1000 /new; mkfifo /fifo"
)


@pytest.mark.parametrize("stopped", [False, True])
def test_commit_keeps_what_was_changed(cli: Cli, wire: Wire, busybox: str, stopped: bool) -> None:
    container = made(cli, busybox, SCRIPT)
    if stopped:
        cli.ok("kill", container)
    image_id = cli.ok("commit", "-m", "the message", "-a", "the author", container, "committed:v1")
    look = (
        "cat /new; stat -c '%u %h' /new2; ls /etc/replaced; ls -a /opaque; readlink /d/link; ls -d '/d/with space'; "
        "stat -c %a /home/app; test -p /fifo && echo fifo; cat /etc/hostname"
    )
    result = cli(*NONE, "--hostname", "other", "committed:v1", "sh", "-c", look)
    assert result.out.splitlines() == [
        *("hi", "1000 2", ".", "..", "z", "../new", "/d/with space", "700", "fifo", "other"),
    ]
    assert "/etc/replaced: No such file" in result.err
    inspected = wire.get("/images/committed:v1/json")
    assert (inspected["Id"], inspected["Comment"], inspected["Author"]) == (
        image_id,
        "the message",
        "the author",
    )
    base = wire.get(f"/images/{busybox}/json")
    assert inspected["Parent"] == base["Id"]
    assert inspected["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    assert inspected["Config"]["Cmd"] == ["sleep", "1000"]
    newest = wire.get("/images/committed:v1/history")[0]
    assert (newest["CreatedBy"], newest["Comment"]) == ("sleep 1000", "the message")
    state = wire.get(f"/containers/{container}/json")["State"]
    assert state["Status"] == ("exited" if stopped else "running") and not state["Paused"]


def test_commit_of_nothing(cli: Cli, wire: Wire, busybox: str) -> None:
    container = cli.ok("create", "--network", "none", busybox, "true")
    image_id = cli.ok("commit", container)
    inspected = wire.get(f"/images/{image_id}/json")
    base = wire.get(f"/images/{busybox}/json")
    assert inspected["Size"] == base["Size"]
    assert inspected["RepoTags"] in (None, [])
    cli.ok(*NONE, image_id)


CHANGES: dict[str, dict[str, Any]] = {
    'CMD ["a", "b c"]': {"Cmd": ["a", "b c"]},
    "CMD a $B": {"Cmd": ["/bin/sh", "-c", "a $B"]},
    'ENTRYPOINT ["/e"]': {"Entrypoint": ["/e"], "Cmd": None},
    "ENV A=1 B='x y' C=$FROM": {"Env": ["FROM=run", "A=1", "B=x y", "C=run"]},
    "ENV OLD form of it": {"Env": ["FROM=run", "OLD=form of it"]},
    "EXPOSE 80 53/udp": {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}},
    'LABEL a=1 "b c"="d e"': {"Labels": {"a": "1", "b c": "d e", "own": "label"}},
    "USER app:www": {"User": "app:www"},
    "VOLUME /x /y": {"Volumes": {"/x": {}, "/y": {}}},
    "WORKDIR sub": {"WorkingDir": "/srv/sub"},
    "STOPSIGNAL SIGINT": {"StopSignal": "SIGINT"},
    "ONBUILD RUN true": {"OnBuild": ["RUN true"]},
    "HEALTHCHECK --interval=5s CMD true": {
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9}
    },
    "healthcheck none": {"Healthcheck": {"Test": ["NONE"]}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_commit_changes(cli: Cli, wire: Wire, busybox: str, change: str, engine_kind: str) -> None:
    if engine_kind == "dockerd" and change.startswith("STOPSIGNAL"):
        pytest.skip("STOPSIGNAL is no change for Docker")
    options = ("-e", "FROM=run", "--label", "own=label", "-w", "/srv")
    container = cli.ok("create", "--network", "none", *options, busybox, "sh")
    image_id = cli.ok("commit", "-c", change, container)
    config = wire.get(f"/images/{image_id}/json")["Config"]
    for key, value in CHANGES[change].items():
        shown = config.get(key)
        if key == "Env":
            shown = [item for item in shown if not item.startswith("PATH=")]
        assert shown == value


def test_commit_errors(cli: Cli, wire: Wire, busybox: str) -> None:
    container = cli.ok("create", "--network", "none", busybox, "sh")
    assert wire.post("/commit", container="nope").status == 404
    for change in ("RUN true", "FROM x", "COPY a b", "ENV", "nonsense"):
        response = wire.post("/commit", container=container, changes=change)
        assert response.status in (400, 500), (change, response.body)
    assert wire.post("/commit", container=container, repo="UPPER").status in (400, 500)
    assert wire.get("/containers/json", all="1")[0]["State"] == "created"


@pytest.mark.minid_only("dockerd knows the image no more")
@pytest.mark.parametrize("running", [False, True])
def test_commit_of_a_container_whose_image_is_gone(
    cli: Cli, wire: Wire, busybox: str, registry: Registry, running: bool
) -> None:
    base = images.busybox()
    own = Layer().file("etc/of-the-image", "mine").done()
    Image([*base.layers, own], {**base.config, "Env": ["KEPT=1"], "Labels": {"a": "b"}}).push(
        registry, "going"
    )
    name = f"{registry.address}/going:latest"
    cli.ok("pull", name)
    container = cli.ok(
        "create",
        "--network",
        "none",
        name,
        "sh",
        "-c",
        "echo new >/new; rm /etc/of-the-image; exec sleep 1000",
    )
    cli.ok("start", container)
    for _ in range(100):
        if cli("exec", container, "test", "!", "-e", "/etc/of-the-image").code == 0:
            break
        time.sleep(0.05)
    cli.ok("kill", container)
    cli.ok("rmi", "-f", wire.get(f"/images/{name}/json")["Id"])
    if running:
        cli.ok("start", container)
    image_id = cli.ok("commit", "-m", "said", "-c", "ENV MORE=2", container, f"whole-{running}:1".lower())
    inspected = wire.get(f"/images/{image_id}/json")
    assert len(inspected["RootFS"]["Layers"]) == 1 and inspected["Parent"] == ""
    assert inspected["Config"]["Env"] == ["KEPT=1", "MORE=2"] and inspected["Config"]["Labels"] == {"a": "b"}
    assert inspected["Comment"] == "said"
    out = cli.ok(
        *NONE, image_id, "sh", "-c", "cat /new; test ! -e /etc/of-the-image; echo $?; stat -c %a /home/app"
    )
    assert out.split() == ["new", "0", "750"]
    cli.ok("rm", "-f", container)
    cli.ok("rmi", image_id)
    collected = wire.post("/minid/images/gc", **{"max-age": "0"}).json["Collected"]
    assert [each["Kind"] for each in collected] == ["layer"]  # what only the container had still needed


class _Server(http.server.BaseHTTPRequestHandler):
    """``/rootfs.tar.gz``, redirects to it, and what is wrong in several ways."""

    data = b""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/rootfs.tar.gz")
            self.end_headers()
        elif self.path in ("/rootfs.tar.gz", "/cut"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.data) + (100 if self.path == "/cut" else 0)))
            self.end_headers()
            self.wfile.write(self.data)
        else:
            self.send_error(404)

    def log_message(self, *arguments: Any) -> None:
        return None


def test_import_from_a_url(cli: Cli, wire: Wire, engine_kind: str) -> None:
    _Server.data = gzip.compress(Layer().file("hello", "from afar").done())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            for path in ("/rootfs.tar.gz", "/moved"):
                out = cli.ok("import", f"{address}{path}", "imported-url:1")
                assert f"Downloading from {address}{path}" in out and "sha256:" in out
                inspected = wire.get("/images/imported-url:1/json")
                assert inspected["Comment"] == f"Imported from {address}{path}"
                cli.ok("rmi", "imported-url:1")
            before = {image["Id"] for image in wire.get("/images/json")}
            for path in ("/nothing", "/cut"):
                result = cli("import", f"{address}{path}", "imported-url:2")
                assert result.code != 0, result.out
            assert "404" in cli("import", f"{address}/nothing").err
            assert cli("import", "http://127.0.0.1:1/x").code != 0
            assert {image["Id"] for image in wire.get("/images/json")} == before
        finally:
            server.shutdown()
            thread.join()
    if engine_kind == "minid":
        assert wire.post("/images/create", fromSrc="ftp://x/y").status == 400


def test_commit_pauses(cli: Cli, wire: Wire, busybox: str) -> None:
    container = made(cli, busybox, "true")
    since = str(time.time())
    cli.ok("commit", container, "paused:v1")
    assert wire.post("/commit", container=container, pause="0").status == 201
    events = wire("GET", "/events", query={"since": since, "until": str(time.time())}).json_lines
    actions = [event["Action"] for event in events if event["Type"] == "container"]
    assert actions[0] == "pause" and sorted(actions) == ["commit", "commit", "pause", "unpause"]


def rootfs_tar() -> bytes:
    layer = (
        Layer().directory("bin").file("bin/hello", b"#!/bin/busybox\n", 0o755).symlink("hello", "bin/hello")
    )
    return layer.done()


@pytest.mark.parametrize("packed", ["plain", "gzip"])
def test_import_of_an_export(cli: Cli, wire: Wire, busybox: str, packed: str) -> None:
    container = made(cli, busybox, "echo imported > /file; chown 1000:1000 /file")
    data = cli("export", container).raw_out
    if packed == "gzip":
        data = gzip.compress(data)
    image_id = cli.ok(
        "import", "-c", 'CMD ["cat", "/file"]', "-m", "from export", "-", "imported:v1", stdin=data
    )
    assert cli.ok(*NONE, "imported:v1") == "imported"
    assert cli.ok(*NONE, "imported:v1", "stat", "-c", "%u:%g", "/file") == "1000:1000"
    inspected = wire.get("/images/imported:v1/json")
    assert inspected["Id"] == image_id.splitlines()[-1]
    assert (inspected["Comment"], len(inspected["RootFS"]["Layers"])) == ("from export", 1)
    assert inspected["Architecture"] == "amd64" and inspected["Os"] == "linux"


def test_import_platform_and_no_name(wire: Wire, engine_kind: str) -> None:
    query = {"fromSrc": "-", "platform": "linux/arm64"}
    response = wire(
        "POST", "/images/create", rootfs_tar(), query=query, headers={"Content-Type": "text/plain"}
    )
    assert response.status == 200, response.body
    image_id = response.json_lines[-1]["status"]
    inspected = wire.get(f"/images/{image_id}/json")
    assert inspected["RepoTags"] in (None, [])
    assert (
        engine_kind == "dockerd" or inspected["Architecture"] == "arm64"
    )  # 20.10 takes only the system from it
    assert inspected["Comment"] == "Imported from -"


@pytest.mark.minid_only("Docker takes anything, and says what is wrong with it in other words")
@pytest.mark.parametrize("what", ["no tar", "cut", "cut gzip", "out"])
def test_import_of_rubbish(wire: Wire, what: str) -> None:
    data = {
        "no tar": b"hello " * 1000,
        "cut": rootfs_tar()[:700],
        "cut gzip": gzip.compress(rootfs_tar())[:-20],
        "out": _escaping(),
    }[what]
    before = wire.get("/images/json", all="1")
    response = wire("POST", "/images/create", data, query={"fromSrc": "-", "repo": "rubbish"})
    assert response.status == 400, response.body
    assert response.message.startswith("invalid archive: ")
    assert wire.get("/images/json", all="1") == before


def _escaping() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../escaped"))
    return data.getvalue()


# cleaning


def load(wire: Wire, name: str, *, label: str = "") -> str:
    """An image of its own by import; its id."""
    data = Layer().file(f"only-{name.replace(':', '-')}", name * 1000).done()
    query = {"fromSrc": "-"}
    if label:
        query["changes"] = f"LABEL {label}"
    if name:
        query["repo"] = name
    response = wire("POST", "/images/create", data, query=query)
    assert response.status == 200, response.body
    return str(response.json_lines[-1]["status"])


def ids(wire: Wire) -> set[str]:
    return {image["Id"] for image in wire.get("/images/json", all="1")}


def test_prune_dangling(cli: Cli, wire: Wire, busybox: str) -> None:
    wire.post("/images/prune")
    before = ids(wire)
    dangling = load(wire, "")
    tagged = load(wire, "kept:v1")
    container = cli.ok("create", "--network", "none", busybox, "sh")
    used = cli.ok("commit", container)
    user = cli.ok("create", "--network", "none", used, "sh")
    out = cli.ok("image", "prune", "-f")
    assert f"deleted: {dangling}" in out and "Total reclaimed space: " in out
    assert ids(wire) == before | {tagged, used}
    cli.ok("rm", user)
    answer = wire.post("/images/prune").json
    assert {"Deleted": used} in answer["ImagesDeleted"]
    assert wire.post("/images/prune").json == {"ImagesDeleted": None, "SpaceReclaimed": 0}


def test_prune_filters(wire: Wire) -> None:
    kept, gone = load(wire, "kept:v1", label="keep=1"), load(wire, "gone:v1", label="go=1")

    def prune(**filters: list[str]) -> set[str]:
        response = wire(
            "POST", "/images/prune", query={"filters": json.dumps({"dangling": ["false"], **filters})}
        )
        assert response.status == 200, response.body
        return {entry.get("Deleted") or entry["Untagged"] for entry in response.json["ImagesDeleted"] or []}

    assert prune(label=["go=2"]) == set()
    assert prune(label=["go"], until=["1h"]) == set()
    assert {gone, "gone:v1"} <= prune(label=["go"])
    assert gone not in ids(wire) and kept in ids(wire)
    response = wire("POST", "/images/prune", query={"filters": '{"nonsense":["x"]}'})
    assert response.status == 400


@pytest.mark.minid_only("the images of the other tests would have to be pulled again")
def test_prune_all_and_system_prune(cli: Cli, wire: Wire, busybox: str) -> None:
    load(wire, "all:v1")
    kept = wire.get(f"/images/{busybox}/json")["Id"]
    everything = {"dangling": ["false"], "label!": ["nothing-has-this"]}
    container = cli.ok("create", "--network", "none", busybox, "sh")
    others = [
        tag for image in wire.get("/images/json") for tag in image["RepoTags"] if not tag.startswith("all")
    ]
    users = [cli.ok("create", "--network", "none", name, "sh") for name in others if name != busybox]
    response = wire("POST", "/images/prune", query={"filters": json.dumps(everything)})
    assert {"Untagged": "all:v1"} in response.json["ImagesDeleted"]
    assert response.json["SpaceReclaimed"] > 5000
    assert kept in ids(wire)
    out = cli.ok("system", "prune", "-f")
    assert container in out and all(user in out for user in users)
    assert "Total reclaimed space: " in out


def test_system_df_counts_each_layer_once(cli: Cli, wire: Wire, busybox: str) -> None:
    before = wire.get("/system/df")
    container = made(cli, busybox, "head -c 100000 /dev/zero > /zeros")
    image_id = cli.ok("commit", container)
    after = wire.get("/system/df")
    assert after["LayersSize"] - before["LayersSize"] == 100000
    base = next(
        image for image in after["Images"] if image["Id"] == wire.get(f"/images/{busybox}/json")["Id"]
    )
    (made_image,) = [image for image in after["Images"] if image["Id"] == image_id]
    assert made_image["Size"] - made_image["SharedSize"] == 100000
    assert base["Containers"] == 1 and made_image["Containers"] == 0
    assert "Images" in cli.ok("system", "df")
