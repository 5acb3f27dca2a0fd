"""Conformance tests share one daemon, so each leaves it without containers and volumes, and as it was before."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.engine import Engine
from tests.leaks import Machine
from tests.tidiness import remove_everything
from tests.wire import Wire


@pytest.fixture(autouse=True)
def tidy(
    request: pytest.FixtureRequest, engine_kind: str, no_idle_connections: Callable[[], None]
) -> Iterator[None]:
    """After the test no container and no volume is left, and (minid) nothing at all that was not there before it."""
    if not {"wire", "engine"} & set(request.fixturenames):
        yield
        return
    if shutil.which("docker-registry"):
        request.getfixturevalue("busybox")
    wire: Wire = request.getfixturevalue("wire")
    engine: Engine = request.getfixturevalue("engine")
    assert engine.running, f"the daemon has ended:\n{engine.log_tail()}"
    before = None
    if engine_kind == "minid":
        before = Machine.snapshot(engine.data_root, engine.exec_root, engine.cgroup_parent, engine.pid)
    yield
    assert engine.running, f"the daemon ended in this test:\n{engine.log_tail()}"
    remove_everything(wire)
    if before is not None:
        no_idle_connections()
        leaks = Machine.leaks(before)
        assert not leaks, "left behind:\n" + "\n".join(leaks)
