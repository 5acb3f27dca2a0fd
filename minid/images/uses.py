"""When each image was last used: made, pulled, pushed, or needed by a container.

    image_uses    image id → the time, in nanoseconds since the epoch

Recorded so that it costs nothing: the time is kept in memory and written when what is written is ``GRANULARITY_S`` old.
"""

import time
from collections.abc import Iterable

from minid.state import Database

SCHEMA = (
    """
    CREATE TABLE image_uses (
        image_id TEXT PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
        used_ns INTEGER NOT NULL
    ) WITHOUT ROWID;
    INSERT INTO image_uses SELECT id, CAST(strftime('%s', 'now') AS INTEGER) * 1000000000 FROM images
    """,
)
GRANULARITY_S = 600


class ImageUses:
    """Make it after the ``Catalog``, whose tables it refers to."""

    def __init__(self, database: Database) -> None:
        database.migrate("image_uses", SCHEMA)
        self._database = database
        self._written: dict[str, int] = {
            row["image_id"]: row["used_ns"]
            for row in database.connection.execute("SELECT image_id, used_ns FROM image_uses")
        }
        self._latest = dict(self._written)

    def touch(self, image_ids: Iterable[str], *, at_ns: int | None = None) -> None:
        """These images are used now (or at ``at_ns``). Those that do not exist are passed over when written."""
        now = time.time_ns() if at_ns is None else at_ns
        for image_id in image_ids:
            self._latest[image_id] = max(now, self._latest.get(image_id, 0))
            if now - self._written.get(image_id, 0) > GRANULARITY_S * 1_000_000_000:
                self._write([image_id])

    def last_ns(self, image_id: str) -> int:
        """0 if it is not known."""
        return self._latest.get(image_id, 0)

    def flush(self, existing: Iterable[str]) -> None:
        """Write what is only in memory, and forget all images but the ``existing``."""
        keep = set(existing)
        self._latest = {key: used_ns for key, used_ns in self._latest.items() if key in keep}
        self._written = {key: used_ns for key, used_ns in self._written.items() if key in keep}
        self._write([key for key, used_ns in self._latest.items() if self._written.get(key) != used_ns])

    def _write(self, image_ids: list[str]) -> None:
        if not image_ids:
            return
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO image_uses SELECT id, ? FROM images WHERE id = ?",
                [(self._latest[image_id], image_id) for image_id in image_ids],
            )
        self._written.update((image_id, self._latest[image_id]) for image_id in image_ids)
