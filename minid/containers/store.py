"""The containers that exist: records in memory for readers, rows in SQLite for the next daemon.

A row has two halves, because one never changes after creation and the other at every step of the life:
``record`` (JSON of the
``Container`` without its state) and ``state``.
"""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from minid.containers.model import Container
from minid.errors import Conflict, InvalidParameter, NotFound
from minid.records import decode, encode
from minid.state import Database

SCHEMA = (
    """
    CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        record TEXT NOT NULL,
        state TEXT NOT NULL
    )
    """,
)


class Store:
    """All containers by id and name. Every change is in the database when the call returns."""

    def __init__(self, database: Database) -> None:
        database.migrate("containers", SCHEMA)
        self._database = database
        self._containers: dict[str, Container] = {}
        self._ids_by_name: dict[str, str] = {}
        for row in database.connection.execute("SELECT name, record, state FROM containers"):
            record = json.loads(row["record"]) | {"name": row["name"], "state": json.loads(row["state"])}
            self._remember(decode(Container, record))

    def all(self) -> Iterable[Container]:
        return self._containers.values()

    def visible(self) -> Iterable[Container]:
        """All but the steps of builds."""
        return (container for container in self._containers.values() if not container.hidden)

    def find(self, container_id: str) -> Container | None:
        """By full id only."""
        return self._containers.get(container_id)

    def get(self, ref: str) -> Container:
        """By id, name (with or without its slash) or unique id prefix, in this order. Raises NotFound,
        InvalidParameter.
        """
        name = ref.removeprefix("/")
        found = self._containers.get(ref) or self._containers.get(self._ids_by_name.get(name, ""))
        if found is not None:
            return found
        matches = [container for key, container in self._containers.items() if ref and key.startswith(ref)]
        if len(matches) > 1:
            raise InvalidParameter(f"multiple IDs found with provided prefix: {ref}")
        if not matches:
            raise NotFound(f"No such container: {ref}")
        return matches[0]

    def diff_ids(self) -> set[str]:
        """The layers that containers stand on."""
        return {diff_id for container in self._containers.values() for diff_id in container.diff_ids}

    def check_name_free(self, name: str) -> None:
        """Raises Conflict, in the words that kubelets and Compose look for."""
        holder = self._ids_by_name.get(name)
        if holder is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def name_taken(self, name: str) -> bool:
        return name in self._ids_by_name

    def add(self, container: Container) -> None:
        """Make ``container`` exist; raises Conflict if its name is taken."""
        self.check_name_free(container.name)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO containers VALUES (?, ?, ?, ?)",
                (container.id, container.name, _record(container), _json(encode(container.state))),
            )
        self._remember(container)

    def replace(self, container: Container) -> None:
        """A new record for an existing container (its name may be new)."""
        old = self._containers[container.id]
        if old.name != container.name:
            self.check_name_free(container.name)
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE containers SET name = ?, record = ?, state = ? WHERE id = ?",
                (container.name, _record(container), _json(encode(container.state)), container.id),
            )
        del self._ids_by_name[old.name]
        self._remember(container)

    def set_state(self, container_id: str, **changes: Any) -> Container:
        """The record with a changed state; see ``model.State``."""
        old = self._containers[container_id]
        container = dataclasses.replace(old, state=dataclasses.replace(old.state, **changes))
        self._database.connection.execute(
            "UPDATE containers SET state = ? WHERE id = ?", (_json(encode(container.state)), container_id)
        )
        self._containers[container_id] = container
        return container

    def set_execs(self, container_id: str, exec_ids: tuple[str, ...]) -> None:
        """Execs live in memory only: they end with their container's run."""
        self._containers[container_id] = dataclasses.replace(
            self._containers[container_id], exec_ids=exec_ids
        )

    def remove(self, container_id: str) -> None:
        self._database.connection.execute("DELETE FROM containers WHERE id = ?", (container_id,))
        container = self._containers.pop(container_id)
        self._ids_by_name.pop(container.name, None)

    def _remember(self, container: Container) -> None:
        self._containers[container.id] = container
        self._ids_by_name[container.name] = container.id


def _json(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"))


def _record(container: Container) -> str:
    data = encode(container)
    if container.hidden:
        data["config"]["env"] = []  # a build's secrets may be among it, and nobody reads it again
    for kept_elsewhere in ("name", "state", "exec_ids"):
        del data[kept_elsewhere]
    return _json(data)
