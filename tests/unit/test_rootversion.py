"""Versions of a data root: an old one is brought up to date, a newer one is left alone, a crash leaves one or the other."""

import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from minid import rootversion, tables
from minid.exits import ExitStatus, StartupError
from minid.rootversion import Versions
from minid.state import Database

TOP = Path(__file__).parents[2]
FIRST_RELEASE = Path(__file__).parent / "data_roots" / "tables-0.1.0.sql"
KNOWN = Versions("0.1.0", {"data-root": 1, "things": 1})
NEWER = Versions("0.3.0", {"data-root": 1, "things": 2})


def shape(database: sqlite3.Connection) -> dict[str, str]:
    rows = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {name: re.sub(r"\s+", " ", sql).strip() for name, sql in rows if name != "schema_version"}


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}


def test_a_new_data_root_is_of_the_newest_version(tmp_path):
    rootversion.bring_up(tmp_path, KNOWN, ())
    assert rootversion.find(tmp_path) == KNOWN
    assert (tmp_path / "version").stat().st_mode & 0o777 == 0o600
    before = contents(tmp_path)
    rootversion.bring_up(tmp_path, Versions("0.1.1", KNOWN.numbers), ())
    assert contents(tmp_path) == before, "the same versions: the file stays as it was"


def test_steps_of_files_run_once_and_not_for_a_new_data_root(tmp_path):
    done: list[int] = []
    steps = (lambda root: done.append(2), lambda root: done.append(3))
    known = rootversion.known("0.2.0", {"things": ("x",)}, steps)
    assert known.numbers == {"data-root": 3, "things": 1}
    (tmp_path / "new").mkdir()
    rootversion.bring_up(tmp_path / "new", known, steps)
    assert done == []
    old = tmp_path / "old"
    old.mkdir()
    (old / "minid.db").touch()  # of a minid that wrote no version file
    rootversion.bring_up(old, known, steps)
    rootversion.bring_up(old, known, steps)
    assert done == [2, 3]
    assert rootversion.find(old) == known


def test_a_step_of_files_that_fails_is_done_again_and_those_before_it_are_not(tmp_path):
    done: list[int] = []

    def fails_once(root: Path) -> None:
        done.append(3)
        if done.count(3) == 1:
            raise OSError(28, "No space left on device")

    steps = (lambda root: done.append(2), fails_once)
    known = rootversion.known("0.2.0", {}, steps)
    (tmp_path / "minid.db").touch()
    with pytest.raises(OSError, match="No space"):
        rootversion.bring_up(tmp_path, known, steps)
    assert rootversion.find(tmp_path) == Versions("0.2.0", {"data-root": 2})
    rootversion.bring_up(tmp_path, known, steps)
    assert done == [2, 3, 3]
    assert rootversion.find(tmp_path) == known


@pytest.mark.parametrize(
    ("newer", "has", "knows"),
    [
        ({"data-root": 2, "things": 1}, "data-root 2", "data-root 1"),
        ({"data-root": 1, "things": 2}, "things 2", "things 1"),
        ({"data-root": 1, "things": 1, "others": 1}, "others 1", "others not at all"),
    ],
)
def test_a_newer_one_is_refused_and_left_as_it_is(tmp_path, newer, has, knows):
    rootversion.bring_up(tmp_path, Versions("0.3.0", newer), (lambda root: None,) * (newer["data-root"] - 1))
    before = contents(tmp_path)
    for refuse in (rootversion.check, rootversion.bring_up):
        with pytest.raises(StartupError) as refused:
            refuse(tmp_path, KNOWN)
        assert refused.value.status is ExitStatus.DATA_ROOT_NEWER
        assert str(refused.value) == (
            f"{tmp_path}: written by a newer minid (0.3.0): it has {has}; minid 0.1.0 knows {knows}: "
            "install minid 0.3.0 or newer again, or use another directory with --data-root; nothing was changed"
        )
    assert contents(tmp_path) == before


def test_a_form_of_the_file_that_is_not_known_is_refused(tmp_path):
    (tmp_path / "version").write_text('{"format": 7}\n')
    with pytest.raises(StartupError, match="does not understand the line") as refused:
        rootversion.check(tmp_path, KNOWN)
    assert refused.value.status is ExitStatus.DATA_ROOT_NEWER


# -- the database


def test_all_sets_of_tables_are_known_and_only_those():
    """A service that migrates a set of its own without minid.tables would be outside of the versions."""
    sources = [path.read_text() for path in (TOP / "minid").rglob("*.py")]
    named = {name for text in sources for name in re.findall(r'database\.migrate\("(\w+)"', text)}
    assert named == set(tables.SCHEMAS)


def test_the_first_steps_are_those_of_the_first_release(tmp_path):
    """Data roots with these are in use: a change is a new step, never another first one."""
    released = sqlite3.connect(":memory:")
    released.executescript(FIRST_RELEASE.read_text())
    now = Database(tmp_path / "now.db")
    now.migrate_all({name: steps[:1] for name, steps in tables.SCHEMAS.items()}, tables.KNOWN)
    made = shape(now.connection)
    assert {name: made[name] for name in shape(released)} == shape(released)
    now.close()
    released.close()


def test_a_data_root_of_an_earlier_commit_is_migrated(tmp_path):
    """As minid wrote it before it kept times of use (d203438 and older), and before the file `version`."""
    old = sqlite3.connect(tmp_path / "minid.db")
    old.executescript(FIRST_RELEASE.read_text())
    old.executescript(
        "DROP TABLE image_uses; DROP TABLE build_cache; DROP TABLE built_images;"
        "CREATE TABLE schema_version (component TEXT PRIMARY KEY, version INTEGER NOT NULL);"
        "INSERT INTO schema_version VALUES ('images', 1), ('image_sources', 1), ('made_layers', 1), ('volumes', 1),"
        " ('containers', 1), ('networks', 1);"
        "INSERT INTO images VALUES ('sha256:a', 'sha256:m', 't', '', '[]', '', 0, 1);"
        "INSERT INTO containers VALUES ('c1', 'web', '{}', '{}');"
    )
    old.close()
    rootversion.bring_up(tmp_path, tables.KNOWN)
    database = Database(tmp_path / "minid.db")
    database.migrate_all(tables.SCHEMAS, tables.KNOWN)
    assert database.versions() == {name: len(steps) for name, steps in tables.SCHEMAS.items()}
    assert [row["image_id"] for row in database.connection.execute("SELECT * FROM image_uses")] == [
        "sha256:a"
    ]
    assert [row["name"] for row in database.connection.execute("SELECT * FROM containers")] == ["web"]
    database.close()
    assert rootversion.find(tmp_path) == tables.KNOWN


def test_newer_tables_are_refused_even_without_the_file(tmp_path):
    database = Database(tmp_path / "minid.db")
    database.migrate_all({"things": ("CREATE TABLE a (x)", "CREATE TABLE b (x)")}, NEWER)
    before = shape(database.connection)
    with pytest.raises(StartupError, match=r"the database: .* it has things 2; minid 0\.1\.0 knows things 1"):
        database.migrate_all({"things": ("CREATE TABLE a (x)",), "more": ("CREATE TABLE c (x)",)}, KNOWN)
    assert shape(database.connection) == before
    database.close()


@pytest.mark.parametrize("statement", [0, 1, 2, 3])
def test_a_kill_in_the_middle_of_a_migration_leaves_the_old_tables(tmp_path, statement):
    """Killed after each of the statements; then the new minid brings all to its versions."""
    old = {"one": ("CREATE TABLE one (x); INSERT INTO one VALUES (1)",), "two": ("CREATE TABLE two (x)",)}
    texts = ["ALTER TABLE one ADD COLUMN y", "UPDATE one SET y = 2", "CREATE TABLE three (x)"]
    texts.insert(statement, "SELECT die()")
    program = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from minid.rootversion import Versions\nfrom minid.state import Database\n"
        "database = Database(Path(sys.argv[1]))\n"
        "database.connection.create_function('die', 0, lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        f"schemas = {{'one': ({old['one'][0]!r}, {'; '.join(texts[:3])!r}), 'two': ({old['two'][0]!r}, {texts[3]!r})}}\n"
        "database.migrate_all(schemas, Versions('2', {'one': 2, 'two': 2}))\n"
    )
    database = Database(tmp_path / "x.db")
    database.migrate_all(old, Versions("1", {"one": 1, "two": 1}))
    before = shape(database.connection)
    database.close()
    command = [sys.executable, "-c", program, str(tmp_path / "x.db")]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    database = Database(tmp_path / "x.db")
    assert (shape(database.connection), database.versions()) == (before, {"one": 1, "two": 1})
    del texts[statement]
    new = {"one": (*old["one"], "; ".join(texts[:2])), "two": (*old["two"], texts[2])}
    database.migrate_all(new, Versions("2", {"one": 2, "two": 2}))
    assert [tuple(row) for row in database.connection.execute("SELECT * FROM one")] == [(1, 2)]
    assert database.versions() == {"one": 2, "two": 2}
    database.close()
