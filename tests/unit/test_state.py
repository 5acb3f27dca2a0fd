import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minid.exits import StartupError
from minid.state import Database

ONE = ("CREATE TABLE things (name TEXT PRIMARY KEY); INSERT INTO things VALUES ('first');",)
TWO = (*ONE, "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "x.db")
    yield database
    database.close()


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in database.connection.execute(query)]


def test_migrations_are_applied_once_and_in_order(database: Database, tmp_path: Path) -> None:
    database.migrate("things", ONE)
    database.migrate("things", ONE)
    database.migrate("things", TWO)
    later = Database(tmp_path / "x.db")
    later.migrate("things", TWO)
    assert rows(later, "SELECT * FROM things") == [("first", 7)]
    assert rows(later, "SELECT * FROM schema_version") == [("things", 2)]
    later.close()


def test_components_have_versions_of_their_own(database: Database) -> None:
    database.migrate("a", ("CREATE TABLE a (x)",))
    database.migrate("b", ("CREATE TABLE b (x)", "CREATE TABLE c (x)"))
    assert rows(database, "SELECT * FROM schema_version ORDER BY 1") == [("a", 1), ("b", 2)]


def test_a_migration_that_fails_changes_nothing(database: Database) -> None:
    database.migrate("things", ONE)
    with pytest.raises(sqlite3.OperationalError):
        database.migrate("things", (*ONE, "CREATE TABLE half (x); CREATE TABLE things (x)"))
    assert rows(database, "SELECT * FROM schema_version") == [("things", 1)]
    assert rows(database, "SELECT name FROM sqlite_master WHERE name = 'half'") == []


def test_a_newer_data_root_is_refused(database: Database) -> None:
    database.migrate("things", TWO)
    with pytest.raises(StartupError, match=r"newer minid: it has things 2; this minid knows things 1"):
        database.migrate("things", ONE)


@pytest.mark.parametrize("durable", [False, True])
def test_a_transaction_is_all_or_nothing(database: Database, durable: bool) -> None:
    database.migrate("things", ONE)
    with pytest.raises(ZeroDivisionError), database.transaction(durable=durable) as connection:
        connection.execute("INSERT INTO things VALUES ('second')")
        raise ZeroDivisionError
    assert rows(database, "SELECT * FROM things") == [("first",)]
    with database.transaction(durable=durable) as connection:
        connection.execute("INSERT INTO things VALUES ('second')")
    assert len(rows(database, "SELECT * FROM things")) == 2
    assert rows(database, "PRAGMA synchronous") == [(1,)], "NORMAL again"


def test_what_is_committed_is_seen_by_others_and_what_is_not_is_not(
    database: Database, tmp_path: Path
) -> None:
    database.migrate("things", ONE)
    reader = Database(tmp_path / "x.db")
    with database.transaction() as connection:
        connection.execute("INSERT INTO things VALUES ('second')")
        assert rows(reader, "SELECT count(*) FROM things") == [(1,)]
    assert rows(reader, "SELECT count(*) FROM things") == [(2,)]
    reader.close()


def test_only_root_reads_it(database: Database, tmp_path: Path) -> None:
    assert (tmp_path / "x.db").stat().st_mode & 0o777 == 0o600


def test_only_the_thread_that_opened_it_may_use_it(database: Database) -> None:
    caught: list[Exception] = []

    def use() -> None:
        try:
            database.connection.execute("SELECT 1")
        except sqlite3.ProgrammingError as error:
            caught.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert caught
