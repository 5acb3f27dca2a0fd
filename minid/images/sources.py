"""Where images have been pulled from and pushed to: a registry can take a blob from another of its repositories.

    image_sources    image id, domain, path: the repository has (or had) all that the image consists of

Only a hint: what a registry says of itself counts.
"""

import time

from minid.images.reference import Reference
from minid.state import Database

SCHEMA = (
    """
    CREATE TABLE image_sources (
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        domain TEXT NOT NULL,
        path TEXT NOT NULL,
        seen_ns INTEGER NOT NULL,
        PRIMARY KEY (image_id, domain, path)
    ) WITHOUT ROWID
    """,
)
CANDIDATES_MAX = 5


class ImageSources:
    """Make it after the ``Catalog``, whose tables it refers to."""

    def __init__(self, database: Database) -> None:
        database.migrate("image_sources", SCHEMA)
        self._database = database

    def remember(self, image_id: str, repository: Reference) -> None:
        """``repository`` has the image now. Forgotten with the image."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO image_sources VALUES (?, ?, ?, ?)",
                (image_id, repository.domain, repository.path, time.time_ns()),
            )

    def of_image(self, image_id: str) -> list[Reference]:
        """The repositories that have the image, the latest first."""
        rows = self._database.connection.execute(
            "SELECT domain, path FROM image_sources WHERE image_id = ? ORDER BY seen_ns DESC", (image_id,)
        )
        return [Reference(row["domain"], row["path"]) for row in rows]

    def of_blob(self, digest: str, domain: str) -> list[str]:
        """The paths of repositories at ``domain`` that probably have the blob, the latest first."""
        rows = self._database.connection.execute(
            "SELECT path FROM image_sources JOIN image_blobs USING (image_id) "
            "WHERE digest = ? AND domain = ? GROUP BY path ORDER BY max(seen_ns) DESC LIMIT ?",
            (digest, domain, CANDIDATES_MAX),
        )
        return [row["path"] for row in rows]
