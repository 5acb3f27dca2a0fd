"""The scripts that make a base image, run a registry and push to it: what quickstart is made of."""

import json
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(name: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert not check or done.returncode == 0, done.stderr
    return done


def get(url: str, accept: str = "*/*") -> tuple[bytes, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as answer:
        return answer.read(), answer.headers.get("Docker-Content-Digest", "")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not Path("/bin/busybox").exists():
        pytest.skip("busybox-static is not installed")
    directory = tmp_path_factory.mktemp("layout")
    run("make-image", directory)
    return directory


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed")
    directory = tmp_path / "registry"
    yield run("registry", "start", directory).stdout.strip()
    run("registry", "stop", directory)
    assert run("registry", "address", directory, check=False).returncode != 0


def test_the_same_image_every_time(layout, tmp_path):
    again = tmp_path / "again"
    assert run("make-image", again).stdout.strip() == run("make-image", layout).stdout.strip()


def test_what_is_in_the_image(layout):
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    assert config["config"]["Cmd"] == ["sh"]
    with tarfile.open(blobs / manifest["layers"][0]["digest"][7:]) as tar:
        entries = {entry.name: entry for entry in tar}
    assert entries["tmp"].mode == 0o1777
    assert entries["bin/sh"].linkname == "bin/busybox"
    assert entries["etc/passwd"].isreg()
    assert {entry.uid for entry in entries.values()} == {0, 1000}
    assert not any(name.startswith(("/", "..")) for name in entries)


def test_push_sends_what_is_missing(layout, registry):
    name = f"{registry}/some/where/busybox:1.0"
    first = run("push-image", layout, name).stdout
    second = run("push-image", layout, name).stdout
    assert (first.count(": pushed"), second.count(": already there")) == (2, 2)
    digest = first.splitlines()[-1].split(": ")[1]
    assert digest == json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    body, told = get(
        f"http://127.0.0.1:{registry.rpartition(':')[2]}/v2/some/where/busybox/manifests/1.0",
        "application/vnd.oci.image.manifest.v1+json",
    )
    assert told == digest
    assert len(json.loads(body)["layers"]) == 1


def test_two_registries_side_by_side(registry, tmp_path):
    other = run("registry", "start", tmp_path / "other").stdout.strip()
    try:
        assert other != registry
        assert run("registry", "start", tmp_path / "other").stdout.strip() == other
        assert get(f"http://127.0.0.1:{other.rpartition(':')[2]}/v2/")[0] == b"{}"
    finally:
        run("registry", "stop", tmp_path / "other")
    again = run("registry", "start", tmp_path / "other").stdout.strip()
    run("registry", "stop", tmp_path / "other")
    assert again == other, "a registry keeps its port"


def test_push_failures_are_told(layout, registry):
    assert "write it as host:port/name:tag" in run("push-image", layout, "busybox", check=False).stderr
    refused = run("push-image", layout, f"{registry}/UPPER:x", check=False)
    assert refused.returncode == 1
    assert "/v2/UPPER/" in refused.stderr
    assert "127.0.0.1:1:" in run("push-image", layout, "127.0.0.1:1/x:y", check=False).stderr
