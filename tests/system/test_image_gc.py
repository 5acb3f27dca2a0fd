"""Collections of images by a real daemon: beside a container being made, killed in the middle, by its configuration."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import images
from tests.conftest import make_cli, pull, run_once
from tests.engine import Engine
from tests.images import Image, Layer
from tests.registry import Registry
from tests.wire import Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only("collecting by policy is minid's own"),
]

COUNT = 12


def gc(wire: Wire, **query: int) -> dict[str, list[dict[str, str]]]:
    response = wire(
        "POST", "/minid/images/gc", query={name.replace("_", "-"): v for name, v in query.items()}
    )
    assert response.status == 200, response.body
    answer: dict[str, list[dict[str, str]]] = response.json
    return answer


def leftovers(engine: Engine, wire: Wire) -> set[str]:
    """Blobs and layers on disk that no image names."""
    needed: set[str] = set()
    for image in wire.get("/images/json", all=1):
        needed |= {item[7:] for item in wire.get(f"/images/{image['Id']}/json")["RootFS"]["Layers"]}
    layers = {path.name for path in (engine.data_root / "snapshots").glob("*/layers/*")}
    return layers - needed


@pytest.fixture
def started(make_engine: Callable[..., Engine]) -> Engine:
    engine = make_engine()
    engine.start()
    return engine


@pytest.fixture
def many(registry: Registry, started: Engine) -> Iterator[list[str]]:
    """Images of the busybox layer and one or two of their own."""
    base = images.busybox()
    names = []
    wire = Wire(started.socket, "1.44")
    for number in range(COUNT):
        own = [
            Layer().file(f"own/{part}", f"{number} {part}".encode() * 1000).done()
            for part in range(1 + number % 2)
        ]
        Image([*base.layers, *own], {**base.config, "Labels": {"n": str(number)}}).push(
            registry, f"gc-{number}", form="oci"
        )
        names.append(f"{registry.address}/gc-{number}:latest")
        pull(wire, names[-1])
    yield names


def test_images_for_containers_being_made_stay(started: Engine, many: list[str]) -> None:
    """Containers are created, run and removed while one collection after the other wants everything gone."""
    wire = Wire(started.socket, "1.44")
    failures: list[str] = []
    stop = threading.Event()

    def live(name: str) -> None:
        """Two containers in turn, so that the image is in use or held at any moment."""
        own = Wire(started.socket, "1.44")
        body = {"Image": name, "Cmd": ["cat", "/own/0"], "HostConfig": {"NetworkMode": "none"}}
        last = ""
        try:
            while not stop.is_set():
                response = own.post("/containers/create", body)
                assert response.status == 201, response.body
                container = response.json["Id"]
                assert own.post(f"/containers/{container}/start").status == 204
                assert own.post(f"/containers/{container}/wait").json["StatusCode"] == 0
                if last:
                    assert own("DELETE", f"/containers/{last}").status == 204
                last = container
        except AssertionError as error:
            failures.append(str(error))

    kept = many[:2]
    for name in kept:
        assert (
            wire.post("/containers/create", {"Image": name, "Cmd": ["true"]}, name="x" + name[-8]).status
            == 201
        )
    threads = [threading.Thread(target=live, args=(name,)) for name in kept]
    for thread in threads:
        thread.start()
    removed: set[str] = set()
    try:
        for _ in range(15):
            removed |= {each["Names"][0] for each in gc(wire, max_age=0, tagged=1)["Collected"]}
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert removed == set(many[2:])
    assert leftovers(started, wire) == set()


def test_an_image_is_whole_or_gone(started: Engine, many: list[str]) -> None:
    """A create at any moment of a collection gives a container that runs, or says that there is no such image."""
    wire = Wire(started.socket, "1.44")
    collecting = threading.Thread(target=gc, args=(wire,), kwargs={"max_age": 0, "tagged": 1})
    own = Wire(started.socket, "1.44")
    statuses = []
    collecting.start()
    for name in reversed(many):
        body = {"Image": name, "Cmd": ["cat", "/own/0"], "HostConfig": {"NetworkMode": "none"}}
        response = own.post("/containers/create", body)
        statuses.append(response.status)
        if response.status == 201:
            container = response.json["Id"]
            assert own.post(f"/containers/{container}/start").status == 204
            assert own.post(f"/containers/{container}/wait").json["StatusCode"] == 0
    collecting.join()
    assert set(statuses) <= {201, 404}
    assert len(wire.get("/images/json")) == statuses.count(201)


def test_killed_in_the_middle(started: Engine, many: list[str]) -> None:
    wire = Wire(started.socket, "1.44")
    with wire.stream("GET", "/events", query={"filters": {"event": ["delete"]}}, upgrade=False) as events:
        collecting = threading.Thread(
            target=lambda: subprocess.run(
                [
                    *("curl", "-s", "--unix-socket", str(started.socket), "-X", "POST"),
                    "http://x/v1.44/minid/images/gc?max-age=0&tagged=1",
                ],
                check=False,
            )
        )
        collecting.start()
        for _ in range(4):
            events.read_until(b"\n")
        started.kill()
        collecting.join()
    started.start()
    left = wire.get("/images/json")
    assert 0 < len(left) <= COUNT - 4
    for image in left:  # what is there runs
        run_once(wire, image["Id"])
    report = gc(wire, max_age=0, tagged=1)
    assert {each["Id"] for each in report["Collected"] if each["Kind"] == "image"} == {
        each["Id"] for each in left
    }
    assert wire.get("/images/json") == []
    assert leftovers(started, wire) == set()
    assert not list((started.data_root / "blobs/sha256").iterdir())


def test_by_configuration_and_sighup(
    make_engine: Callable[..., Engine], registry: Registry, tmp_path: Path, client_config: Path
) -> None:
    config = tmp_path / "minid.yaml"
    config.write_text("image-gc: {max-age: 2s, interval: 1s}\n")
    engine = make_engine(extra=("--config-file", str(config)))
    engine.start()
    wire = Wire(engine.socket, "1.44")
    first, second = f"{registry.address}/busybox:latest", f"{registry.address}/busybox-user:latest"
    pull(wire, first)
    pull(wire, second)
    stays = wire.get(f"/images/{second}/json")["Id"]
    goes = wire.get(f"/images/{first}/json")["Id"]
    body = {"Image": first, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
    container = wire.post("/containers/create", body).json["Id"]
    minictl = make_cli("minictl", engine, client_config)

    assert minictl("tag", first, "moved:1").code == 0
    assert minictl("tag", second, first).code == 0  # the name that the image had means another one now
    assert minictl("rmi", "moved:1").code == 0  # its digest is left, which does not keep it
    time.sleep(3.5)
    assert wire("GET", f"/images/{goes}/json").status == 200  # its container keeps it
    wire("DELETE", f"/containers/{container}")
    deadline = time.monotonic() + 15
    while wire("GET", f"/images/{goes}/json").status == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert wire("GET", f"/images/{goes}/json").status == 404
    assert wire("GET", f"/images/{stays}/json").status == 200  # it has a tag
    assert "collected" in engine.log_tail() and "more than 2 seconds is too long" in engine.log_tail()

    config.write_text("image-gc: {max-age: 2s, interval: 1s, tagged: true}\n")
    os.kill(engine.pid, 1)
    while wire("GET", f"/images/{stays}/json").status == 200 and time.monotonic() < deadline + 15:
        time.sleep(0.1)
    assert wire.get("/images/json") == []


def test_minictl_tells(started: Engine, many: list[str], client_config: Path) -> None:
    minictl = make_cli("minictl", started, client_config)
    wire = Wire(started.socket, "1.44")
    assert wire.post("/containers/create", {"Image": many[0], "Cmd": ["true"]}).status == 201
    missing = minictl("image", "gc")
    assert missing.code == 1 and "no limit is given" in missing.err
    kept = minictl("image", "gc", "--max-age", "0", "--dry-run")
    assert kept.code == 0, kept.err
    assert "has the tag" in kept.out and "would be reclaimed" in kept.out
    assert "remove " not in kept.out
    dry = minictl(
        "image", "gc", "--max-age", "0", "--tagged", "--dry-run", "--format", "{{.Action}} {{.Name}}"
    )
    assert sorted(dry.lines) == sorted([f"keep {many[0]}", *(f"remove {name}" for name in many[1:])])
    assert len(wire.get("/images/json")) == COUNT
    done = minictl("image", "gc", "--max-size", "0", "--tagged", "--format", "json")
    rows = [json.loads(line) for line in done.lines]
    assert {row["Name"] for row in rows if row["Action"] == "removed"} == set(many[1:])
    assert "container" in next(row["Reason"] for row in rows if row["Action"] == "keep")
    assert len(wire.get("/images/json")) == 1
    wrong = minictl("image", "gc", "--max-age", "soon")
    assert wrong.code == 1 and "invalid --max-age" in wrong.err
