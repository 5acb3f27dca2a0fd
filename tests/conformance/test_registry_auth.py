"""Pulling from a registry that asks who one is."""

import json
import os
import tempfile
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient
from docker.errors import APIError

from tests import images
from tests.cli import Cli
from tests.conftest import make_cli
from tests.engine import Engine
from tests.registry import Registry
from tests.wire import Wire

USER, PASSWORD = "tester", "secret"
HTPASSWD = f"{USER}:$2b$04$0d2m8HdYw1WZRuSyNdeYv.Jwxw4wvn50UweFvGF1HxXlDyJWUjcpy\n"  # bcrypt of PASSWORD


@pytest.fixture(scope="module")
def locked() -> Iterator[Registry]:
    """A registry with basic authentication, and busybox in it (pushed before it was locked)."""
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    registry = Registry(root)
    registry.start()
    images.busybox().push(registry, "private/busybox", form="docker")
    registry.stop()
    (root / "htpasswd").write_text(HTPASSWD)
    registry.extra = {"auth": {"htpasswd": {"realm": "minid tests", "path": str(root / "htpasswd")}}}
    registry.start()
    yield registry
    registry.destroy()


@pytest.fixture
def name(locked: Registry, wire: Wire, tidy: None) -> Iterator[str]:
    name = f"{locked.address}/private/busybox:latest"
    yield name
    wire("DELETE", f"/images/{name}")


def login(directory: Path, registry: Registry, password: str) -> Path:
    """What ``docker login`` leaves in the client's configuration."""
    credentials = b64encode(f"{USER}:{password}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": credentials}}}))
    return directory


@pytest.mark.parametrize("client", ["docker", "minictl"])
def test_command_line(
    client: str, engine: Engine, locked: Registry, name: str, tmp_path: Path, client_config: Path
) -> None:
    anonymous = make_cli(client, engine, client_config)("pull", name)
    assert anonymous.code == 1 and "no basic auth credentials" in anonymous.err
    cli: Cli = make_cli(client, engine, login(tmp_path, locked, "wrong"))
    wrong = cli("pull", name)
    assert wrong.code == 1 and "unauthorized" in wrong.err.lower()
    cli = make_cli(client, engine, login(tmp_path, locked, PASSWORD))
    assert "Downloaded newer image" in cli.ok("pull", name)
    assert cli.ok("run", "--rm", "--network", "none", name, "echo", "in") == "in"


def test_docker_py(dockerpy: DockerClient, locked: Registry, name: str) -> None:
    with pytest.raises(APIError):
        dockerpy.images.pull(name, auth_config={"username": USER, "password": "wrong"})
    image = dockerpy.images.pull(name, auth_config={"username": USER, "password": PASSWORD})
    assert name in image.tags


def test_header(wire: Wire, locked: Registry, name: str) -> None:
    repository = name.removesuffix(":latest")
    header = urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()
    response = wire(
        "POST",
        "/images/create",
        query={"fromImage": repository, "tag": "latest"},
        headers={"X-Registry-Auth": header},
    )
    assert response.status == 200 and "error" not in response.json_lines[-1]
    garbage = wire(
        "POST",
        "/images/create",
        query={"fromImage": repository, "tag": "latest"},
        headers={"X-Registry-Auth": "%%%"},
    )
    assert (
        garbage.status in (400, 500)
        or "error" in garbage.json_lines[-1]
        or os.environ.get("MINID_TEST_ENGINE")
    )


def test_credentials_are_not_logged(engine: Engine, wire: Wire, locked: Registry, name: str) -> None:
    header = urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()
    query = {"fromImage": name.removesuffix(":latest"), "tag": "latest"}
    wire("POST", "/images/create", query=query, headers={"X-Registry-Auth": header})
    log = engine.log.read_text(errors="replace")
    assert header not in log and PASSWORD not in log.replace("secrets", "")
