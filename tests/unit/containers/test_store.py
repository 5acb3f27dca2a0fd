from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from minid.containers.model import Container, ContainerConfig, HostConfig, MountPoint, RestartPolicy
from minid.containers.store import Store
from minid.errors import Conflict, InvalidParameter, NotFound
from minid.state import Database
from tests.unit.containers.conftest import ID, make_container

OTHER = "0123456789ff" + "1" * 52


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "minid.db")
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


def full_container() -> Container:
    config = ContainerConfig(
        cmd=("sh",), env=("A=\udce9", "B=ü"), labels={"x": "y"}, stop_timeout=3, volumes={"/v": {}}
    )
    host_config = HostConfig(
        restart_policy=RestartPolicy("on-failure", 3), binds=("/a:/b:ro",), memory=1 << 30
    )
    point = MountPoint("volume", "/volumes/v/_data", "/v", name="v", driver="local")
    return make_container(config, host_config, diff_ids=("sha256:" + "b" * 64,), mounts=(point,))


def test_everything_is_there_for_the_next_daemon(store: Store, database: Database) -> None:
    container = full_container()
    store.add(container)
    running = store.set_state(ID, status="running", pid=7, pid_start_ticks=99, started_at_ns=5)
    assert store.get(ID) == running == replace(container, state=running.state)
    assert Store(database).get(ID) == running


def test_execs_do_not_outlive_the_daemon(store: Store, database: Database) -> None:
    store.add(make_container())
    store.set_execs(ID, ("e1",))
    assert store.get(ID).exec_ids == ("e1",)
    assert Store(database).get(ID).exec_ids == ()


def test_references(store: Store) -> None:
    one = make_container()
    two = make_container(id=OTHER, name="0123")
    store.add(one)
    store.add(two)
    assert store.get(ID) == one
    assert store.get("one") == store.get("/one") == one
    assert store.get("0123456789a") == one
    assert store.get("0123") == two, "a name goes before a prefix"
    with pytest.raises(InvalidParameter, match="multiple IDs found with provided prefix: 0123456"):
        store.get("0123456")
    for missing in ("", "/", "nosuch", "0123456789abc"):
        with pytest.raises(NotFound, match="No such container"):
            store.get(missing)
    assert store.find("one") is None and store.find(ID) == one, "find takes full ids only"


def test_a_full_id_goes_before_another_ones_name(store: Store) -> None:
    one = make_container()
    store.add(make_container(id=OTHER, name=ID))
    store.add(one)
    assert store.get(ID) == one


def test_a_name_is_taken_once(store: Store, database: Database) -> None:
    store.add(make_container())
    with pytest.raises(Conflict, match=f'name "/one" is already in use by container "{ID}"'):
        store.add(make_container(id=OTHER))
    assert store.find(OTHER) is None and Store(database).find(OTHER) is None


def test_rename(store: Store, database: Database) -> None:
    store.add(make_container())
    store.add(make_container(id=OTHER, name="two"))
    with pytest.raises(Conflict):
        store.replace(replace(store.get(ID), name="two"))
    assert store.get("one").id == ID and store.get("two").id == OTHER, "nothing has changed"
    store.replace(replace(store.get(ID), name="three"))
    assert not store.name_taken("one") and store.get("three").id == ID
    assert Store(database).get("three").id == ID


def test_removal_frees_the_name(store: Store, database: Database) -> None:
    store.add(make_container())
    store.remove(ID)
    assert not list(store.all()) and not list(Store(database).all())
    store.add(make_container(id=OTHER))
    assert store.get("one").id == OTHER


def test_a_record_once_read_does_not_change(store: Store) -> None:
    store.add(make_container())
    before = store.get(ID)
    store.set_state(ID, status="running")
    assert before.state.status == "created" and store.get(ID).state.status == "running"


def test_layers_in_use(store: Store) -> None:
    store.add(make_container(diff_ids=("a", "b")))
    store.add(make_container(id=OTHER, name="two", diff_ids=("b", "c")))
    assert store.diff_ids() == {"a", "b", "c"}


def test_fields_of_an_older_or_newer_minid_are_no_trouble(store: Store, database: Database) -> None:
    store.add(make_container())
    database.connection.execute(
        "UPDATE containers SET record = json_insert(json_remove(record, '$.log_path'), '$.newer', 1), "
        "state = json_remove(state, '$.restart_count')"
    )
    with pytest.raises(TypeError):
        Store(database)  # a field without default: a version that has dropped it needs a migration
    database.connection.execute("UPDATE containers SET record = json_insert(record, '$.log_path', '/x')")
    assert Store(database).get("one").log_path == "/x"
