"""The database keeps what must survive: no address twice, none lost, everything there for the next daemon."""

import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from minid.network.model import Endpoint, Network, Sandbox, Subnet
from minid.network.store import Store
from minid.state import Database

NETWORK = Network("n" * 64, "net", "bridge", 1, (Subnet("10.1.0.0/24", "10.1.0.1"),), labels={"a": "b"})


def endpoint(number: int, container: str = "c1") -> Endpoint:
    return Endpoint(
        id=f"e{number}",
        network_id=NETWORK.id,
        container_id=container,
        interface="eth0",
        device=f"veth{number}",
        mac="02:42:0a:01:00:02",
        ip4=f"10.1.0.{number}",
        prefix4=24,
        ip6=f"fd00::{number}",
        prefix6=64,
        names=("one", "two"),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path)
    yield database
    database.close()


def test_the_next_daemon_finds_everything(database: Database, path: Path):
    store = Store(database)
    store.add_network(NETWORK)
    sandbox = Sandbox("s1", "c1", "name", (endpoint(2),), ({"protocol": "tcp", "host_port": 80},))
    store.add_sandbox(sandbox)
    again = Database(path)
    found = Store(again)
    again.close()
    assert found.networks == {NETWORK.id: NETWORK}
    assert found.sandboxes == {"c1": sandbox}
    assert found.taken[NETWORK.id].numbers == store.taken[NETWORK.id].numbers
    assert len(found.taken[NETWORK.id].numbers[4]) == 1


def test_no_address_is_given_twice(database: Database):
    store = Store(database)
    store.add_network(NETWORK)
    store.add_sandbox(Sandbox("s1", "c1", "one", (endpoint(2),)))
    other = dataclasses.replace(endpoint(2, "c2"), id="other")
    with pytest.raises(sqlite3.IntegrityError):
        store.add_sandbox(Sandbox("s2", "c2", "two", (other,)))
    assert set(store.sandboxes) == {"c1"}
    assert [row["container_id"] for row in database.connection.execute("SELECT * FROM sandboxes")] == ["c1"]


def test_what_is_released_is_free(database: Database):
    store = Store(database)
    store.add_network(NETWORK)
    store.add_sandbox(Sandbox("s1", "c1", "one", (endpoint(2),)))
    assert store.remove_sandbox("c1") is not None
    assert store.remove_sandbox("c1") is None
    assert store.taken[NETWORK.id].numbers == {4: set(), 6: set()}
    for table in ("sandboxes", "endpoints", "addresses"):
        assert database.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0


def test_endpoints_come_and_go(database: Database):
    store = Store(database)
    store.add_network(NETWORK)
    second = dataclasses.replace(NETWORK, id="m" * 64, name="other")
    store.add_network(second)
    store.add_sandbox(Sandbox("s1", "c1", "one", (endpoint(2),)))
    more = dataclasses.replace(endpoint(3), network_id=second.id)
    assert [one.id for one in store.add_endpoint(more).endpoints] == ["e2", "e3"]
    renamed = dataclasses.replace(more, names=("three",))
    assert store.replace_endpoint(renamed).endpoint(second.id) == renamed
    assert [one.id for one in store.remove_endpoint(renamed).endpoints] == ["e2"]
    assert store.taken[second.id].numbers == {4: set(), 6: set()}
    store.remove_network(second.id)
    assert set(store.networks) == {NETWORK.id}


def test_a_network_with_endpoints_stays(database: Database):
    store = Store(database)
    store.add_network(NETWORK)
    store.add_sandbox(Sandbox("s1", "c1", "one", (endpoint(2),)))
    with pytest.raises(sqlite3.IntegrityError):
        store.remove_network(NETWORK.id)
