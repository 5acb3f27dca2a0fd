"""The build cache: what a step with these inputs came to.

    build_cache    key → the layer's diff ID ("" where the step changed no file), its size, when it was last used
    built_images   key → the image that was made of such layers and such a config, whenever that was

A key is a digest of all that a step's result follows from: the layers below, the command with its environment, the
contents that are copied; never times, names of files outside or of builds. So it is the same in another directory,
branch or daemon. A layer is kept from being collected as long as a row names it.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minid.images.retention import KeyedLocks
from minid.state import Database

SCHEMA = (
    """
    CREATE TABLE build_cache (
        key TEXT PRIMARY KEY,
        diff_id TEXT NOT NULL,
        description TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        created_ns INTEGER NOT NULL,
        last_used_ns INTEGER NOT NULL,
        uses INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE INDEX build_cache_by_diff_id ON build_cache (diff_id);
    CREATE TABLE built_images (
        key TEXT PRIMARY KEY,
        image_id TEXT NOT NULL
    ) WITHOUT ROWID
    """,
)
VERSION = (
    1  # part of every key: a change of what a key is made of, or of how a step is done, makes it another
)


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    diff_id: str  # "" for a step that changed no file
    description: str
    size_bytes: int
    created_ns: int
    last_used_ns: int
    uses: int


def key_of(kind: str, inputs: Mapping[str, Any]) -> str:
    """The key of a step; ``inputs`` is JSON of everything that it depends on."""
    text = json.dumps([VERSION, kind, inputs], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class Cache:
    """One a daemon; for the event loop's thread."""

    def __init__(self, database: Database) -> None:
        database.migrate("build_cache", SCHEMA)
        self._database = database
        self._locks = KeyedLocks()

    @contextlib.asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """While the context lasts, nobody else makes what ``key`` stands for: they wait, and then find it."""
        async with self._locks.hold(key):
            yield

    def find(self, key: str) -> Entry | None:
        """What is known of ``key``; this counts as a use."""
        row = self._database.connection.execute("SELECT * FROM build_cache WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE build_cache SET last_used_ns = ?, uses = uses + 1 WHERE key = ?",
                (time.time_ns(), key),
            )
        return Entry(**dict(row))

    def add(self, key: str, diff_id: str, description: str, size_bytes: int) -> None:
        """Remember (or replace) what ``key`` came to."""
        now = time.time_ns()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO build_cache VALUES (?, ?, ?, ?, ?, ?, 0)",
                (key, diff_id, description, size_bytes, now, now),
            )

    def find_image(self, key: str) -> str:
        """The id of the image that was made before of the same, "" if none was; it may be gone by now."""
        query = "SELECT image_id FROM built_images WHERE key = ?"
        row = self._database.connection.execute(query, (key,)).fetchone()
        return row["image_id"] if row else ""

    def add_image(self, key: str, image_id: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO built_images VALUES (?, ?)", (key, image_id))

    def remove(self, keys: Sequence[str]) -> None:
        """Forget these; idempotent."""
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM build_cache WHERE key = ?", [(key,) for key in keys])

    def all(self) -> list[Entry]:
        """The least recently used first."""
        rows = self._database.connection.execute("SELECT * FROM build_cache ORDER BY last_used_ns, key")
        return [Entry(**dict(row)) for row in rows]

    def diff_ids(self) -> set[str]:
        """The layers that entries name."""
        rows = self._database.connection.execute(
            "SELECT DISTINCT diff_id FROM build_cache WHERE diff_id <> ''"
        )
        return {row["diff_id"] for row in rows}
