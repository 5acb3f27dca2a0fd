"""System tests start daemons of their own; whatever they do, nothing may be left on the machine afterwards."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.cli import Cli
from tests.conftest import make_cli, pull, run_once
from tests.engine import Engine
from tests.leaks import Machine
from tests.registry import Registry
from tests.tidiness import remove_everything
from tests.wire import Wire


class Running:
    """A daemon with the busybox image, and clients for it."""

    def __init__(self, engine: Engine, image: str, docker: Cli, wire: Wire) -> None:
        self.engine = engine
        self.image = image
        self.docker = docker
        self.wire = wire


@pytest.fixture
def running(
    make_engine: Callable[..., Engine], registry: Registry, client_config: object, engine_kind: str
) -> Iterator[Running]:
    """Started, and checked for leaks after the test: against the running daemon if it is the same process still, and
    always with the daemon stopped, when no process of it may be left.
    """
    engine = make_engine()
    engine.start()
    wire = Wire(engine.socket)
    wire = Wire(engine.socket, Wire(engine.socket, "").get("/version")["ApiVersion"])
    image = f"{registry.address}/busybox:latest"
    pull(wire, image)
    run_once(wire, image)
    engine.restart()
    run_once(wire, image)
    scope = (engine.data_root, engine.exec_root, engine.cgroup_parent)
    pid, alive = engine.pid, Machine.snapshot(*scope, engine.pid)
    yield Running(engine, image, make_cli("docker", engine, client_config), wire)  # type: ignore[arg-type]
    if not engine.running:
        engine.start()
    remove_everything(wire)
    if engine_kind != "minid":
        return
    if engine.pid == pid:
        leaks = Machine.leaks(alive)
        assert not leaks, "left behind:\n" + "\n".join(leaks)
    engine.stop()
    deadline = time.monotonic() + 15
    while (engine.exec_root / "ports.sock").exists() and time.monotonic() < deadline:
        time.sleep(0.1)  # the holder of published ports ends ten seconds after the last port
    stopped = Machine.snapshot(*scope)
    assert not stopped.processes and not stopped.cgroups and not stopped.mounts, stopped
    gone = {str(engine.socket), str(engine.pidfile)}
    files = {path for path in stopped.files - alive.files if path not in gone}
    assert not files, "left behind:\n" + "\n".join(sorted(files))
