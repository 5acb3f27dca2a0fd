"""The volumes of one daemon: directories with names, that outlive containers.

    <volumes>/<name>/_data               the data (0755); a link to the host's directory for a volume with
    o=bind <volumes>/.removed-<hex>/            on its way out; what start-up finds of these it removes

A row is what makes a volume exist; but data that has no row (a lost database) becomes a volume again at
start-up.
"""

import asyncio
import contextlib
import json
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from minid.errors import Conflict, Failed, NotFound
from minid.events import EventBus
from minid.kernel.files import remove_tree
from minid.kernel.trees import tree_size
from minid.layout import Layout
from minid.state import Database
from minid.volumes.model import ANONYMOUS_LABEL, Volume, bound_directory, check_driver, check_name, new_name

SCHEMA = (
    """
    CREATE TABLE volumes (
        name TEXT PRIMARY KEY, driver TEXT NOT NULL, created_ns INTEGER NOT NULL, labels TEXT NOT NULL,
        options TEXT NOT NULL, anonymous INTEGER NOT NULL
    )
    """,
)
_REMOVED = ".removed-"
_NOTHING: Mapping[str, str] = {}
_NO_FILTERS: Mapping[str, tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True)
class Pruned:
    names: tuple[str, ...]
    reclaimed_bytes: int


class Volumes:
    """One per daemon. ``users`` is set by it: the ids of the containers that use the volume of that name."""

    def __init__(self, layout: Layout, database: Database, events: EventBus) -> None:
        self._root = layout.volumes
        self._events = events
        self._database = database
        database.migrate("volumes", SCHEMA)
        self._root.mkdir(mode=0o710, exist_ok=True)
        self.users: Callable[[str], list[str]] = lambda name: []
        rows = database.connection.execute("SELECT * FROM volumes")
        self._volumes = {row["name"]: self._from_row(row) for row in rows}
        self._recover()

    def _recover(self) -> None:
        """Complete what a crash has interrupted."""
        for name in [name for name in self._volumes if not (self._root / name).exists()]:
            self._delete_row(name)  # its removal had begun
        for entry in sorted(os.listdir(self._root)):
            if entry.startswith(_REMOVED):
                with contextlib.suppress(OSError):
                    remove_tree(str(self._root / entry))
            elif entry not in self._volumes and os.path.lexists(self._mountpoint(entry)):
                anonymous = re.fullmatch("[0-9a-f]{64}", entry) is not None
                created_ns = (self._root / entry).stat().st_mtime_ns
                self._insert(Volume(entry, "local", self._mountpoint(entry), created_ns, {}, {}, anonymous))

    def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        labels: Mapping[str, str] = _NOTHING,
        options: Mapping[str, str] = _NOTHING,
    ) -> Volume:
        """The volume ``name``, made if it is missing; "" makes one with a name of 64 hex digits.

        Raises InvalidParameter, NotFound (no such driver), Unsupported, Failed.
        """
        anonymous = not name
        name = name or new_name()
        check_name(name)
        check_driver(name, driver or "local")
        existing = self._volumes.get(name)
        if existing is not None:
            return existing
        bound = bound_directory(name, options)
        if anonymous:
            labels = {**labels, ANONYMOUS_LABEL: ""}
        volume = Volume(
            name, "local", self._mountpoint(name), time.time_ns(), dict(labels), dict(options), anonymous
        )
        try:
            self._make(volume, bound)
        except OSError as error:
            raise Failed(f"create {name}: {error.strerror}: {error.filename}") from error
        self._insert(volume)
        self._events.publish("volume", "create", name, {"driver": volume.driver})
        return volume

    def find(self, name: str) -> Volume | None:
        return self._volumes.get(name)

    def get(self, name: str) -> Volume:
        """Raises NotFound."""
        volume = self._volumes.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def list(self, filters: Mapping[str, tuple[str, ...]] = _NO_FILTERS) -> list[Volume]:
        """By name; ``filters``: dangling, driver, label, name (``Engine API v1.44 GET /volumes``)."""
        return [volume for _, volume in sorted(self._volumes.items()) if self._matches(volume, filters)]

    async def size(self, name: str) -> int:
        """The bytes of the files in the volume."""
        return await asyncio.to_thread(_size, self.get(name).mountpoint)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove the volume and its data. Raises NotFound (not with ``force``), Conflict when it is in use,
        Failed.
        """
        volume = self._volumes.get(name)
        if volume is None:
            if force:
                return
            raise NotFound(f"get {name}: no such volume")
        users = self.users(name)
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        aside = self._root / f"{_REMOVED}{secrets.token_hex(8)}"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._root / name, aside)
            self._delete_row(name)
            self._events.publish("volume", "destroy", name, {"driver": volume.driver})
            await asyncio.to_thread(remove_tree, str(aside))
        except OSError as error:
            raise Failed(f"remove {name}: {error.strerror}: {error.filename}") from error

    async def prune(
        self, *, all: bool = False, filters: Mapping[str, tuple[str, ...]] = _NO_FILTERS
    ) -> Pruned:
        """Remove the volumes that no container uses: the anonymous ones, with ``all`` the named ones too.

        ``filters``: label, label!.
        """
        names, reclaimed_bytes = [], 0
        for volume in self.list(filters):
            if (all or volume.anonymous) and not self.users(volume.name):
                size_bytes = await self.size(volume.name)
                try:
                    await self.remove(volume.name)
                except (Conflict, NotFound):
                    continue  # somebody was quicker
                names.append(volume.name)
                reclaimed_bytes += size_bytes
        self._events.publish("volume", "prune", "", {"reclaimed": str(reclaimed_bytes)})
        return Pruned(tuple(names), reclaimed_bytes)

    def _matches(self, volume: Volume, filters: Mapping[str, tuple[str, ...]]) -> bool:
        for key, values in filters.items():
            if not values:
                continue
            if key == "name":
                matches = any(value in volume.name for value in values)
            elif key == "driver":
                matches = volume.driver in values
            elif key == "label":
                matches = all(_has_label(volume, value) for value in values)
            elif key == "label!":
                matches = not any(_has_label(volume, value) for value in values)
            elif key == "dangling":
                matches = bool(self.users(volume.name)) != _truth(values[0])
            else:
                continue
            if not matches:
                return False
        return True

    def _mountpoint(self, name: str) -> str:
        return str(self._root / name / "_data")

    def _make(self, volume: Volume, bound: str) -> None:
        """Safe to repeat: what a crash left half made is completed."""
        directory = self._root / volume.name
        directory.mkdir(mode=0o701, exist_ok=True)
        directory.chmod(0o701)
        with contextlib.suppress(FileExistsError):
            if bound:
                os.symlink(bound, volume.mountpoint)
            else:
                os.mkdir(volume.mountpoint, 0o755)
                os.chmod(volume.mountpoint, 0o755)

    def _insert(self, volume: Volume) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO volumes VALUES (?, ?, ?, ?, ?, ?)",
                (
                    volume.name,
                    volume.driver,
                    volume.created_ns,
                    json.dumps(dict(volume.labels)),
                    json.dumps(dict(volume.options)),
                    int(volume.anonymous),
                ),
            )
        self._volumes[volume.name] = volume

    def _delete_row(self, name: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
        del self._volumes[name]

    def _from_row(self, row: sqlite3.Row) -> Volume:
        return Volume(
            row["name"],
            row["driver"],
            self._mountpoint(row["name"]),
            row["created_ns"],
            json.loads(row["labels"]),
            json.loads(row["options"]),
            bool(row["anonymous"]),
        )


def _size(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0  # the data is elsewhere (o=bind): not ours to count or to free
    try:
        return tree_size(fd)
    finally:
        os.close(fd)


def _has_label(volume: Volume, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in volume.labels and (not equals or volume.labels[key] == value)


def _truth(value: str) -> bool:
    return value.lower() in ("1", "true", "t")
