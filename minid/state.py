"""The database: one SQLite file in WAL mode; a row in it is what makes a thing exist.

Each service owns its tables and brings its own ``SCHEMA``: a tuple of SQL scripts, one a version, applied
in order
and only once. All calls are made from the event loop's thread; they take microseconds.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from minid.errors import Failed


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

    def migrate(self, component: str, steps: Sequence[str]) -> None:
        """Bring ``component``'s tables to version ``len(steps)``. A newer version on disk raises
        ``Failed``.
        """
        row = self.connection.execute(
            "SELECT version FROM schema_version WHERE component = ?", (component,)
        ).fetchone()
        version: int = row["version"] if row else 0
        if version > len(steps):
            raise Failed(
                f"the data root was written by a newer minid ({component} schema {version}, this one knows "
                f"{len(steps)}): install that version again, or use another --data-root"
            )
        for number, script in enumerate(steps[version:], version + 1):
            with self.transaction():
                for statement in script.split(";"):
                    if statement.strip():
                        self.connection.execute(statement)
                self.connection.execute(
                    "INSERT OR REPLACE INTO schema_version VALUES (?, ?)", (component, number)
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
