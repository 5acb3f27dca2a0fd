"""Fixtures for all tests. Nothing is started unless a test asks for it."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests import images
from tests.cli import Cli
from tests.engine import ENGINES, REPOSITORY, Engine
from tests.registry import PROGRAM as REGISTRY_PROGRAM
from tests.registry import Registry
from tests.wire import Wire


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        choices=sorted(ENGINES),
        default=os.environ.get("MINID_TEST_ENGINE", "minid"),
        help="the daemon that the conformance and system tests run on",
    )
    parser.addoption("--long", action="store_true", help="run what takes minutes, too")


def pytest_configure(config: pytest.Config) -> None:
    # Started by nohup, or by a shell that ignores it, every program of the tests would ignore it, too.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.addinivalue_line(
        "markers", "minid_only(reason): a promise of minid that dockerd does not make or keep here"
    )
    config.addinivalue_line("markers", "dockerd_only(reason): holds for dockerd and not (yet) for minid")
    # docker-py lets its connection pool drop sockets without closing them.
    config.addinivalue_line("filterwarnings", "ignore:unclosed <socket.*engine\\.sock:ResourceWarning")
    config.addinivalue_line("markers", "slow: makes or pulls a large image, or runs hundreds of containers")
    config.addinivalue_line("markers", "long: takes minutes; only with --long (scripts/test --long)")


def pytest_report_header(config: pytest.Config) -> str:
    return f"engine under test: {config.getoption('engine')}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    engine = config.getoption("engine")
    if not config.getoption("long"):
        left_out = [item for item in items if item.get_closest_marker("long") is not None]
        items[:] = [item for item in items if item.get_closest_marker("long") is None]
        config.hook.pytest_deselected(items=left_out)
    for item in items:
        for name, other in (("minid_only", "dockerd"), ("dockerd_only", "minid")):
            marker = item.get_closest_marker(name)
            if marker is not None and engine == other:
                item.add_marker(pytest.mark.skip(reason=f"{name}: {marker.args[0]}"))


@pytest.fixture(scope="session")
def engine_kind(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("engine"))


def _root() -> Path:
    """Short, because a socket's path has 107 bytes; on a disk, because overlay does not stack well on tmpfs."""
    return Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))


@pytest.fixture(scope="session")
def privileged() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes namespaces, mounts and cgroups")


@pytest.fixture
def make_engine(privileged: None, engine_kind: str) -> Iterator[Callable[..., Engine]]:
    """Engines of the chosen kind for one test, not started; all are destroyed after it."""
    made: list[Engine] = []

    def make(root: Path | None = None, *, extra: tuple[str, ...] = ()) -> Engine:
        engine = ENGINES[engine_kind](root or _root(), extra=extra)
        made.append(engine)
        return engine

    yield make
    for engine in reversed(made):
        if engine.root.exists():
            engine.destroy()


@pytest.fixture(scope="session")
def engine(privileged: None, engine_kind: str) -> Iterator[Engine]:
    """The daemon that all conformance tests share."""
    program = {"dockerd": "dockerd", "minid": sys.executable}[engine_kind]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    engine = ENGINES[engine_kind](_root())
    try:
        engine.start()
        yield engine
    finally:
        if os.environ.get("MINID_TEST_KEEP"):
            print(f"kept: {engine.root}")
            engine.stop()
        else:
            engine.destroy()


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """A registry with the busybox image and its variants in it."""
    if not Path(REGISTRY_PROGRAM).exists():
        pytest.skip("docker-registry is not installed")
    registry = Registry(_root())
    try:
        registry.start()
        base = images.busybox()
        base.push(registry, "busybox", form="docker")
        for name, image in images.busybox_variants(base).items():
            image.push(registry, f"busybox-{name}")
        yield registry
    finally:
        registry.destroy()


@pytest.fixture(scope="session")
def wire(engine: Engine) -> Wire:
    """Requests at the version that the daemon advertises: 1.44 for minid, 1.41 for Debian's dockerd."""
    return Wire(engine.socket, Wire(engine.socket, "").get("/version")["ApiVersion"])


def pull(wire: Wire, name: str) -> None:
    repository, _, tag = name.rpartition(":")
    response = wire.post("/images/create", fromImage=repository, tag=tag)
    assert response.status == 200, response.body
    errors = [line for line in response.json_lines if "error" in line]
    assert not errors, errors


def run_once(wire: Wire, image: str) -> None:
    """One container's life, so that what a daemon makes once and keeps is there before a leak check looks."""
    body = {"Image": image, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
    container = wire.post("/containers/create", body).json["Id"]
    assert wire.post(f"/containers/{container}/start").status == 204
    assert wire.post(f"/containers/{container}/wait").status == 200
    assert wire("DELETE", f"/containers/{container}").status == 204


@pytest.fixture(scope="session")
def busybox(registry: Registry, wire: Wire) -> str:
    """The busybox image's name; it and its variants are there."""
    name = f"{registry.address}/busybox:latest"
    pull(wire, name)
    for other in images.VARIANTS:
        pull(wire, f"{registry.address}/busybox-{other}:latest")
    run_once(wire, name)
    return name


@pytest.fixture(scope="session")
def variant(registry: Registry, busybox: str) -> Callable[[str], str]:
    """Name of a variant of the busybox image (tests.images.busybox_variants)."""
    return lambda name: f"{registry.address}/busybox-{name}:latest"


def make_cli(name: str, engine: Engine, config: Path) -> Cli:
    environment = {"DOCKER_CONFIG": str(config), "DOCKER_CLI_HINTS": "false", "DOCKER_HOST": ""}
    if name == "minictl":
        if (
            not (REPOSITORY / "minictl/__main__.py").exists()
            and not (REPOSITORY / "minictl/main.py").exists()
        ):
            pytest.skip("minictl is not there yet")
        environment["PYTHONPATH"] = str(REPOSITORY)
        module = "minictl" if (REPOSITORY / "minictl/__main__.py").exists() else "minictl.main"
        return Cli(name, (sys.executable, "-m", module, "-H", engine.host), environment)
    program = os.environ.get("MINID_TEST_DOCKER", "docker")
    if shutil.which(program) is None:
        pytest.skip(f"the docker CLI ({program}) is not installed")
    return Cli(name, (program, "-H", engine.host), environment)


@pytest.fixture(scope="session")
def client_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ``DOCKER_CONFIG``: no credentials, no contexts, no user's settings."""
    return tmp_path_factory.mktemp("docker-config")


@pytest.fixture(scope="session")
def docker_cli(engine: Engine, client_config: Path) -> Cli:
    return make_cli("docker", engine, client_config)


@pytest.fixture(scope="session", params=["docker", "minictl"])
def cli(request: pytest.FixtureRequest, engine: Engine, client_config: Path) -> Cli:
    """Every command line client in turn."""
    return make_cli(request.param, engine, client_config)


@pytest.fixture(scope="session")
def dockerpy(engine: Engine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=engine.host, version="auto", timeout=60)
    yield client
    client.close()


@pytest.fixture
def no_idle_connections(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Closes what docker-py keeps open for its next request (a leak check counts the daemon's sockets)."""
    client = request.getfixturevalue("dockerpy") if "dockerpy" in request.fixturenames else None
    return client.api.close if client is not None else lambda: None
