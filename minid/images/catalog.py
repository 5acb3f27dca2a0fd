"""The image tables: a row in ``images`` is what makes an image exist.

    images        one a config digest         image_layers   which diff IDs it needs
    image_names   reference → image           image_blobs    which blobs it keeps
    layers        the snapshots that are unpacked, with their sizes

Blobs and layers belong to all images that name them: one is garbage when no row does (see ``retention``). No
transaction here waits for the disk (see ``durability``, and ``synced``).
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minid.errors import Conflict, InvalidParameter, NotFound
from minid.images import document
from minid.images.content import ContentStore
from minid.images.model import Image
from minid.images.reference import Reference, is_identifier, parse, parse_exact
from minid.state import Database

SCHEMA = (
    """
    CREATE TABLE images (
        id TEXT PRIMARY KEY,
        manifest_digest TEXT NOT NULL,
        media_type TEXT NOT NULL,
        created TEXT NOT NULL,
        diff_ids TEXT NOT NULL,
        parent_id TEXT NOT NULL DEFAULT '',
        last_tagged_ns INTEGER NOT NULL DEFAULT 0,
        synced INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE image_names (
        reference TEXT PRIMARY KEY,
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
    ) WITHOUT ROWID;
    CREATE INDEX image_names_by_image ON image_names (image_id);
    CREATE TABLE image_blobs (
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        digest TEXT NOT NULL,
        PRIMARY KEY (image_id, digest)
    ) WITHOUT ROWID;
    CREATE INDEX image_blobs_by_digest ON image_blobs (digest);
    CREATE TABLE image_layers (
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        diff_id TEXT NOT NULL,
        PRIMARY KEY (image_id, diff_id)
    ) WITHOUT ROWID;
    CREATE INDEX image_layers_by_diff_id ON image_layers (diff_id);
    CREATE TABLE layers (
        diff_id TEXT PRIMARY KEY,
        size_bytes INTEGER NOT NULL,
        entries INTEGER NOT NULL,
        unpacked_ns INTEGER NOT NULL,
        synced INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID
    """,
)
CONFIGS_CACHED = 256


class Catalog:
    """The images that there are. All methods are for the event loop's thread and quick."""

    def __init__(self, database: Database, content: ContentStore) -> None:
        database.migrate("images", SCHEMA)
        self._database = database
        self._content = content
        self._configs: dict[str, Mapping[str, Any]] = {}

    # images

    def add(
        self,
        image_id: str,
        *,
        manifest_digest: str,
        media_type: str,
        created: str,
        diff_ids: Sequence[str],
        blobs: Iterable[str],
        names: Iterable[Reference],
        parent_id: str = "",
    ) -> None:
        """Make the image exist (or add ``blobs`` and ``names`` to it), at once."""
        now = time.time_ns()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO images (id, manifest_digest, media_type, created, diff_ids, parent_id) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (image_id, manifest_digest, media_type, created, json.dumps(list(diff_ids)), parent_id),
            )
            connection.executemany(
                "INSERT OR IGNORE INTO image_layers VALUES (?, ?)", [(image_id, item) for item in diff_ids]
            )
            connection.executemany(
                "INSERT OR IGNORE INTO image_blobs VALUES (?, ?)", [(image_id, item) for item in blobs]
            )
            for name in names:
                _point(connection, name, image_id, now)

    def name(self, reference: Reference, image_id: str) -> None:
        """Let ``reference`` mean ``image_id`` from now on."""
        with self._database.transaction() as connection:
            _point(connection, reference, image_id, time.time_ns())

    def unname(self, reference: Reference) -> bool:
        """Remove a name; False when there was none."""
        with self._database.transaction() as connection:
            cursor = connection.execute("DELETE FROM image_names WHERE reference = ?", (str(reference),))
            return cursor.rowcount > 0

    def remove(self, image_id: str) -> tuple[list[str], list[str]]:
        """Remove an image and its names; returns the diff IDs and blobs that it had. Idempotent."""
        with self._database.transaction() as connection:
            diff_ids = _column(connection, "SELECT diff_id FROM image_layers WHERE image_id = ?", image_id)
            blobs = _column(connection, "SELECT digest FROM image_blobs WHERE image_id = ?", image_id)
            connection.execute("DELETE FROM images WHERE id = ?", (image_id,))
        self._configs.pop(image_id, None)
        return diff_ids, blobs

    def get(self, image_id: str) -> Image:
        """The image with exactly this id. ``NotFound``; ``Failed`` when its config cannot be read."""
        row = self._database.connection.execute("SELECT * FROM images WHERE id = ?", (image_id,)).fetchone()
        if row is None:
            raise NotFound(f"No such image: {image_id}")
        diff_ids = tuple(json.loads(row["diff_ids"]))
        sizes = self.layer_sizes(diff_ids)
        names = self.names(image_id)
        return Image(
            id=row["id"],
            manifest_digest=row["manifest_digest"],
            config=self._config(image_id),
            size_bytes=sum(sizes.get(diff_id, 0) for diff_id in diff_ids),
            diff_ids=diff_ids,
            tags=tuple(name.familiar for name in names if not name.digest),
            digests=tuple(name.familiar for name in names if name.digest),
            created=row["created"],
            last_tagged_ns=row["last_tagged_ns"],
            media_type=row["media_type"],
            parent_id=row["parent_id"],
        )

    def manifest_digest(self, image_id: str) -> str:
        """``NotFound``."""
        found = _column(
            self._database.connection, "SELECT manifest_digest FROM images WHERE id = ?", image_id
        )
        if not found:
            raise NotFound(f"No such image: {image_id}")
        return found[0]

    def exists(self, image_id: str) -> bool:
        return bool(_column(self._database.connection, "SELECT id FROM images WHERE id = ?", image_id))

    def parent(self, image_id: str) -> str:
        """The id of the image that it was made from here, "" if from none."""
        found = _column(self._database.connection, "SELECT parent_id FROM images WHERE id = ?", image_id)
        return found[0] if found else ""

    def replace_manifest(self, image_id: str, digest: str, media_type: str) -> None:
        """Let another manifest that the image has be its own from now on."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE images SET manifest_digest = ?, media_type = ?, synced = 0 WHERE id = ?",
                (digest, media_type, image_id),
            )

    def drop_blobs(self, image_id: str, digests: Iterable[str]) -> None:
        """The image needs these no more."""
        with self._database.transaction() as connection:
            connection.executemany(
                "DELETE FROM image_blobs WHERE image_id = ? AND digest = ?",
                [(image_id, digest) for digest in digests],
            )

    def set_manifest(self, image_id: str, digest: str, blobs: Iterable[str]) -> None:
        """Let the manifest ``digest`` be the image's own from now on; ``blobs`` are kept beside those that it has."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE images SET manifest_digest = ?, synced = 0 WHERE id = ?", (digest, image_id)
            )
            connection.executemany(
                "INSERT OR IGNORE INTO image_blobs VALUES (?, ?)", [(image_id, item) for item in blobs]
            )

    def diff_ids(self, image_id: str) -> tuple[str, ...]:
        """Base first; needs no config. ``NotFound``."""
        found = _column(self._database.connection, "SELECT diff_ids FROM images WHERE id = ?", image_id)
        if not found:
            raise NotFound(f"No such image: {image_id}")
        return tuple(json.loads(found[0]))

    def ids(self) -> list[str]:
        return _column(self._database.connection, "SELECT id FROM images")

    def names(self, image_id: str) -> list[Reference]:
        """The references that mean this image, sorted: each has a tag or a digest."""
        rows = _column(
            self._database.connection,
            "SELECT reference FROM image_names WHERE image_id = ? ORDER BY reference",
            image_id,
        )
        return [parse_exact(text) for text in rows]

    def names_in(self, repository: Reference) -> list[Reference]:
        """The references of one repository, sorted."""
        name = repository.name
        rows = self._database.connection.execute(
            "SELECT reference FROM image_names WHERE (reference > ?1 || ':' AND reference < ?1 || ';') "
            "OR (reference > ?1 || '@' AND reference < ?1 || 'A') ORDER BY reference",
            (name,),
        )
        return [parse_exact(row["reference"]) for row in rows]

    def children(self, image_id: str) -> list[str]:
        return _column(self._database.connection, "SELECT id FROM images WHERE parent_id = ?", image_id)

    def find_name(self, reference: Reference) -> str | None:
        """The id of the image that ``reference`` (with a tag or a digest) means."""
        found = _column(
            self._database.connection, "SELECT image_id FROM image_names WHERE reference = ?", str(reference)
        )
        return found[0] if found else None

    def resolve(self, name_or_id: str) -> str:
        """The image id for a reference, an id, the beginning of an id, or a digest.

        Raises ``NotFound`` ("No such image: …") and ``Conflict`` (the id is ambiguous), ``InvalidParameter``
        when it can be none of these.
        """
        text = name_or_id
        prefix = text.removeprefix("sha256:")
        if is_identifier(prefix):
            found = _column(
                self._database.connection,
                "SELECT id FROM images WHERE id = ?1 OR manifest_digest = ?1 ORDER BY id <> ?1 LIMIT 1",
                f"sha256:{prefix}",
            )
            if found:
                return found[0]
            raise NotFound(f"No such image: {text}")
        try:
            reference = parse(text).with_default_tag()
        except InvalidParameter:
            if _is_hex(prefix) and (by_prefix := self._by_prefix(prefix, text)):
                return by_prefix
            raise
        wanted = reference.trimmed().with_digest(reference.digest) if reference.digest else reference
        if named := self.find_name(wanted):
            return named
        if _is_hex(prefix) and (by_prefix := self._by_prefix(prefix, text)):
            return by_prefix
        raise NotFound(f"No such image: {wanted.familiar}")

    def _by_prefix(self, prefix: str, shown: str) -> str | None:
        found = _column(
            self._database.connection,
            "SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2",
            f"sha256:{prefix}",
            f"sha256:{prefix}g",  # "g" is behind all hex digits
        )
        if len(found) > 1:
            raise Conflict(f"{shown!r} is the beginning of more than one image's id: give more digits")
        return found[0] if found else None

    def _config(self, image_id: str) -> Mapping[str, Any]:
        config = self._configs.get(image_id)
        if config is None:
            data = self._content.read(image_id, document.SIZE_MAX)
            config = document.load(data, f"config of image {image_id}")
            if len(self._configs) >= CONFIGS_CACHED:
                self._configs.pop(next(iter(self._configs)))
            self._configs[image_id] = config
        return config

    # layers and blobs

    def add_layer(self, diff_id: str, size_bytes: int, entries: int) -> None:
        """Remember that a layer is unpacked."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO layers (diff_id, size_bytes, entries, unpacked_ns) VALUES (?, ?, ?, ?)",
                (diff_id, size_bytes, entries, time.time_ns()),
            )

    def remove_layer(self, diff_id: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM layers WHERE diff_id = ?", (diff_id,))

    def has_layer(self, diff_id: str) -> bool:
        return bool(
            _column(self._database.connection, "SELECT diff_id FROM layers WHERE diff_id = ?", diff_id)
        )

    def layer_sizes(self, diff_ids: Iterable[str]) -> dict[str, int]:
        """Unpacked sizes in bytes of those that are unpacked."""
        sizes: dict[str, int] = {}
        for diff_id in diff_ids:
            row = self._database.connection.execute(
                "SELECT size_bytes FROM layers WHERE diff_id = ?", (diff_id,)
            ).fetchone()
            if row is not None:
                sizes[diff_id] = row["size_bytes"]
        return sizes

    def unused_layers(self, before_ns: int) -> list[str]:
        """Unpacked layers that no image needs and that are older."""
        return _column(
            self._database.connection,
            "SELECT diff_id FROM layers WHERE unpacked_ns < ? "
            "AND diff_id NOT IN (SELECT diff_id FROM image_layers)",
            before_ns,
        )

    def unpacked_layers(self) -> dict[str, tuple[int, int]]:
        """All that are unpacked: diff ID → size in bytes, time of unpacking in nanoseconds."""
        rows = self._database.connection.execute("SELECT diff_id, size_bytes, unpacked_ns FROM layers")
        return {row["diff_id"]: (row["size_bytes"], row["unpacked_ns"]) for row in rows}

    def layers_of(self, image_id: str) -> list[str]:
        """The diff IDs that the image needs, each once."""
        return _column(
            self._database.connection, "SELECT diff_id FROM image_layers WHERE image_id = ?", image_id
        )

    def layers(self) -> list[str]:
        """All that are unpacked."""
        return _column(self._database.connection, "SELECT diff_id FROM layers")

    def blobs(self, image_id: str) -> list[str]:
        """What the image keeps: manifest, indexes, config, layers."""
        return _column(
            self._database.connection, "SELECT digest FROM image_blobs WHERE image_id = ?", image_id
        )

    def unsynced(self) -> tuple[list[str], list[str]]:
        """Images and layers (diff IDs) that may not be on the disk yet."""
        connection = self._database.connection
        return (
            _column(connection, "SELECT id FROM images WHERE NOT synced"),
            _column(connection, "SELECT diff_id FROM layers WHERE NOT synced"),
        )

    def mark_synced(self, image_ids: Iterable[str], diff_ids: Iterable[str]) -> None:
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE images SET synced = 1 WHERE id = ?", [(item,) for item in image_ids]
            )
            connection.executemany(
                "UPDATE layers SET synced = 1 WHERE diff_id = ?", [(item,) for item in diff_ids]
            )

    def layer_is_used(self, diff_id: str) -> bool:
        query = "SELECT 1 FROM image_layers WHERE diff_id = ? LIMIT 1"
        return self._database.connection.execute(query, (diff_id,)).fetchone() is not None

    def blob_is_used(self, digest: str) -> bool:
        query = "SELECT 1 FROM image_blobs WHERE digest = ? LIMIT 1"
        return self._database.connection.execute(query, (digest,)).fetchone() is not None


def _point(connection: sqlite3.Connection, reference: Reference, image_id: str, now_ns: int) -> None:
    connection.execute(
        "INSERT INTO image_names VALUES (?, ?) "
        "ON CONFLICT (reference) DO UPDATE SET image_id = excluded.image_id",
        (str(reference), image_id),
    )
    if reference.tag:
        connection.execute("UPDATE images SET last_tagged_ns = ? WHERE id = ?", (now_ns, image_id))


def _column(connection: sqlite3.Connection, query: str, *values: str | int) -> list[str]:
    return [row[0] for row in connection.execute(query, values)]


def _is_hex(text: str) -> bool:
    return bool(text) and all(character in "0123456789abcdef" for character in text)
