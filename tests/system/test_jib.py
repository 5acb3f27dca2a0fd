"""JIB with a registry that runs as a container of minid, and with minid as its Docker daemon.

Once as a Python client that repeats its requests (``tests/jib.py``), once with Maven and the plugin, where they are.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import archives, images, jib
from tests.images import Image, Layer
from tests.registry import PROGRAM, digest_of
from tests.system.test_registry_story import Story
from tests.system.test_registry_story import story as story
from tests.wire import Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path(PROGRAM).exists(), reason="docker-registry is not installed"),
    pytest.mark.minid_only("the engines of the tests give dockerd no networks"),
]

FILE = "app/hello.txt"


@pytest.fixture
def local(story: Story) -> str:
    """The address of the registry in the container, with the image ``base`` in it."""
    address = f"127.0.0.1:{story.port}"
    story.docker.ok("tag", story.image, f"{address}/base")
    story.docker.ok("push", f"{address}/base")
    return address


def test_build_to_a_registry_in_a_container(story: Story, local: str) -> None:
    client = jib.RegistryClient(local)
    try:
        digest = client.build("base", "app/hello", "1", {FILE: b"hello from jib\n"})
        first = list(client.log)
        again = client.build("base", "app/hello", "2", {FILE: b"hello from jib\n"})
    finally:
        client.close()
    assert again == digest
    assert [line.split()[0] for line in first].count("PATCH") == 2  # the layer and the config
    assert "PATCH" not in " ".join(client.log[len(first) :])  # all of it is there
    name = f"{local}/app/hello:1"
    pulled = story.minictl("run", "--rm", "--network", "none", name)
    assert pulled.out.endswith("hello from jib\n"), pulled.err
    assert f"{local}/app/hello@{digest}" in story.docker.ok("image", "inspect", name)


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_docker_build_through_the_docker_command(story: Story, form: str) -> None:
    """``jib:dockerBuild``: info, load on stdin; and as a base image ``docker://…``: inspect and save."""
    docker = story.docker
    info = json.loads(docker.ok("info", "-f", "{{json .}}"))
    assert (info["OSType"], info["Architecture"]) == ("linux", os.uname().machine)
    base = images.busybox()
    layer = Layer().directory("app", mtime=1).file(FILE, b"hello from jib\n", mtime=1).done()
    image = Image([*base.layers, layer], {"Entrypoint": ["cat", f"/{FILE}"]})
    if form == "docker":
        members = archives.jib_members(image, "app/hello:1", "app/hello:latest")
    else:
        members = archives.oci_members(image, "docker.io/app/hello:1")
    loaded = docker("load", stdin=archives.tar(members))
    assert loaded.code == 0 and "Loaded image: app/hello:1" in loaded.out, loaded.err
    assert docker.ok("run", "--rm", "--network", "none", "app/hello:1") == "hello from jib"

    inspected = json.loads(docker.ok("inspect", "-f", "{{json .}}", "--type", "image", "app/hello:1"))
    diff_ids = [digest_of(archives.layer_bytes(each)) for each in image.layers]
    assert inspected["RootFS"]["Layers"] == diff_ids
    assert inspected["Id"] == archives.image_id(image) and inspected["Size"] > 0
    saved = subprocess.run(
        [*docker.argv, "save", "app/hello:1"],
        capture_output=True,
        check=True,
        env={**os.environ, **docker.environment},
    )
    assert b"manifest.json" in saved.stdout


# with Maven


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project in which ``jib`` can be called; skips where Maven or the plugin cannot be had."""
    if shutil.which("mvn") is None:
        pytest.skip("Maven is not installed (Debian: maven, default-jdk-headless)")
    place = tmp_path / "hello"
    jib.write_project(place)
    compiled = maven(place, story_host="", goals=["compile", f"{jib.PLUGIN}:{jib.VERSION}:_skaffold-init"])
    if compiled.returncode != 0:
        pytest.skip(f"Maven cannot get {jib.PLUGIN}:{jib.VERSION} here: {compiled.stdout[-300:]}")
    yield place


def maven(
    place: Path, *, story_host: str, goals: list[str], base: str = "base", target: str = "hello"
) -> subprocess.CompletedProcess[str]:
    defined = {"base": base, "target": target, "jib.console": "plain", "jib.disableUpdateChecks": "true"}
    defined |= {
        "jib.baseImageCache": str(place.parent / "cache/base"),
        "jib.applicationCache": str(place.parent / "cache/application"),
    }
    return subprocess.run(
        ["mvn", "-B", *goals, *(f"-D{key}={value}" for key, value in defined.items())],
        cwd=place,
        env={**os.environ, "DOCKER_HOST": story_host},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.mark.long
def test_maven_builds_to_the_registry_and_to_the_daemon(project: Path, story: Story, local: str) -> None:
    goal = f"{jib.PLUGIN}:{jib.VERSION}"
    target = f"localhost:{story.port}/app/hello:1"
    built = maven(
        project,
        story_host="",
        goals=["compile", f"{goal}:build"],
        base=f"localhost:{story.port}/base",
        target=target,
    )
    assert built.returncode == 0, built.stdout
    assert "Main.class" in story.minictl.ok("run", "--rm", "--network", "none", target)

    loaded = maven(
        project,
        story_host=story.engine.host,
        goals=["compile", f"{goal}:dockerBuild"],
        base=f"localhost:{story.port}/base",
        target="loaded:1",
    )
    assert loaded.returncode == 0, loaded.stdout
    assert "Main.class" in story.docker.ok("run", "--rm", "--network", "none", "loaded:1")
    ids = {
        Wire(story.engine.socket, "1.44").get(f"/images/{name}/json")["Id"] for name in (target, "loaded:1")
    }
    assert len(ids) == 1  # the same image by either way
