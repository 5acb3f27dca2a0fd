"""The database: one SQLite file in WAL mode; a row in it is what makes a thing exist.

Each service owns its tables and brings its own ``SCHEMA``: a tuple of SQL scripts, one a version, applied in order
and only once (``minid.tables`` has them all). All calls are made from the event loop's thread; they take microseconds.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from minid.rootversion import Versions, refusal


class Database:
    """A connection to ``path`` (created 0600 if missing). Rows come back as ``sqlite3.Row``."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=True)
        path.chmod(0o600)
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (component TEXT PRIMARY KEY, version INTEGER NOT NULL)"
        )

    def versions(self) -> dict[str, int]:
        """The version of each set of tables that is here."""
        rows = self.connection.execute("SELECT component, version FROM schema_version")
        return {row["component"]: row["version"] for row in rows}

    def migrate(self, component: str, steps: Sequence[str]) -> None:
        """Bring ``component``'s tables to version ``len(steps)``, in one transaction.

        Raises ``StartupError`` (DATA_ROOT_NEWER) if they are of a newer version.
        """
        if (version := self.versions().get(component, 0)) > len(steps):
            raise refusal("the database", {component: version}, Versions("", {component: len(steps)}))
        self._apply({component: steps})

    def migrate_all(self, schemas: Mapping[str, Sequence[str]], known: Versions) -> None:
        """Bring all sets of tables to their newest versions: all of them, or after a crash none.

        Raises ``StartupError`` (DATA_ROOT_NEWER), with nothing changed, if one is newer than ``known`` or not known.
        """
        if newer := Versions("", self.versions()).newer_than(known):
            raise refusal("the database", newer, known)
        self._apply(schemas)

    def _apply(self, schemas: Mapping[str, Sequence[str]]) -> None:
        versions = self.versions()
        missing = {name: steps for name, steps in schemas.items() if versions.get(name, 0) < len(steps)}
        if not missing:
            return
        with self.transaction(durable=True):
            for name, steps in missing.items():
                for script in steps[versions.get(name, 0) :]:
                    for statement in script.split(";"):
                        if statement.strip():
                            self.connection.execute(statement)
                self.connection.execute(
                    "INSERT OR REPLACE INTO schema_version VALUES (?, ?)", (name, len(steps))
                )

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """One atomic change; ``durable`` also survives a power cut from the moment it returns (fsync)."""
        if durable:
            self.connection.execute("PRAGMA synchronous = FULL")
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")
        finally:
            if durable:
                self.connection.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        self.connection.close()
