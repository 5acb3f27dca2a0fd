from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minid.containers import execs as execs_module
from minid.containers.execs import Execs
from minid.containers.model import ExecConfig, State
from minid.containers.news import News
from minid.containers.store import Store
from minid.containers.tasks import Tasks
from minid.errors import Conflict, InvalidParameter, NotFound
from minid.events import EventBus
from minid.layout import Layout
from minid.state import Database
from tests.unit.containers.conftest import ID, make_container

CONFIG = ExecConfig(cmd=("true",))
NOTHING: Any = None  # no process is started here, and no bundle made


class Rig:
    def __init__(self, root: Path) -> None:
        self.database = Database(root / "x.db")
        self.store = Store(self.database)
        self.bus = EventBus()
        self.execs = Execs(self.store, Tasks(Layout(root, root), NOTHING), NOTHING, News(self.bus))
        self.store.add(make_container(state=State(status="running", pid=1)))

    def create(self) -> str:
        return self.execs.create(self.store.get(ID), CONFIG)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.database.close()


def test_the_life_of_an_exec(rig: Rig) -> None:
    exec_id = rig.create()
    assert rig.store.get(ID).exec_ids == (exec_id,)
    assert rig.execs.get(exec_id[:10]).id == exec_id
    rig.execs.ended(exec_id, 3)
    rig.execs.ended(exec_id, 137)
    record = rig.execs.get(exec_id)
    assert (record.running, record.exit_code, record.can_remove) == (False, 3, True), "the first code counts"
    assert rig.store.get(ID).exec_ids == ()
    assert [event.action for event in rig.bus.history(lambda event: True)] == [
        "exec_create: true",
        "exec_die",
    ]
    with pytest.raises(Conflict, match="already run"):
        rig.execs.check_start(exec_id)


def test_ended_execs_do_not_pile_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that runs every second for a year."""
    waiting = rig.create()
    recent = rig.create()
    rig.execs.ended(recent, 0)
    assert rig.execs.get(recent).exit_code == 0, "for some minutes it can be inspected"
    monkeypatch.setattr(execs_module, "KEPT_S", 0.0)
    for _ in range(100):
        rig.execs.ended(rig.create(), 0)
    assert len(rig.execs._execs) == 2, "the one that has not run, and the last"
    assert rig.execs.get(waiting).exit_code is None
    with pytest.raises(NotFound):
        rig.execs.get(recent)


def test_what_runs_ends_with_the_container(rig: Rig) -> None:
    exec_id = rig.create()
    rig.execs._execs[exec_id] = execs_module.dataclasses.replace(rig.execs.get(exec_id), running=True)
    never_started = rig.create()
    rig.execs.container_ended(ID)
    assert rig.execs.get(exec_id).exit_code == 137
    assert rig.execs.get(never_started).exit_code is None
    rig.execs.forget(ID)
    for each in (exec_id, never_started):
        with pytest.raises(NotFound):
            rig.execs.get(each)


def test_refusals(rig: Rig) -> None:
    with pytest.raises(InvalidParameter, match="No exec command"):
        rig.execs.create(rig.store.get(ID), ExecConfig())
    with pytest.raises(InvalidParameter, match="detach keys"):
        rig.execs.create(rig.store.get(ID), ExecConfig(cmd=("a",), detach_keys="ctrl-!"))
    for status, words in (("paused", "paused"), ("exited", "not running"), ("restarting", "restarting")):
        with pytest.raises(Conflict, match=words):
            rig.execs.create(rig.store.set_state(ID, status=status), CONFIG)
    with pytest.raises(NotFound, match="No such exec instance"):
        rig.execs.get("")


async def test_what_is_awaited_is_dropped_by_who_awaits_it(rig: Rig) -> None:
    """A health check every second leaves nothing behind."""
    exec_id = rig.create()
    end = rig.execs.end_of(exec_id)
    rig.execs.ended(exec_id, 4)
    rig.execs.ended(exec_id, 137)
    assert await end == 4
    rig.execs.drop(exec_id)
    rig.execs.drop(exec_id)
    unstarted = rig.create()
    waiting = rig.execs.end_of(unstarted)
    rig.execs.drop(unstarted)
    assert waiting.cancelled() and rig.store.get(ID).exec_ids == ()
    assert not rig.execs._execs and not rig.execs._finished and not rig.execs._awaited
