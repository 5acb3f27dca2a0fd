"""Execs: further programs in running containers. They live in memory, and are forgotten when their container stops.

``Engine API v1.44 § Exec``.
"""

import dataclasses
import secrets

from minid.containers.model import Exec, ExecConfig
from minid.errors import NotFound


class Execs:
    """All execs by id."""

    def __init__(self) -> None:
        self._execs: dict[str, Exec] = {}

    def add(self, container_id: str, config: ExecConfig) -> Exec:
        record = Exec(secrets.token_hex(32), container_id, config)
        self._execs[record.id] = record
        return record

    def get(self, exec_id: str) -> Exec:
        """By id or unique prefix."""
        record = self._execs.get(exec_id)
        if record is None:
            matches = [found for key, found in self._execs.items() if exec_id and key.startswith(exec_id)]
            if len(matches) != 1:
                raise NotFound(f"No such exec instance: {exec_id}")
            record = matches[0]
        return record

    def started(self, exec_id: str) -> None:
        self._execs[exec_id] = dataclasses.replace(self._execs[exec_id], running=True)

    def set_pid(self, exec_id: str, pid: int) -> None:
        if exec_id in self._execs:
            self._execs[exec_id] = dataclasses.replace(self._execs[exec_id], pid=pid)

    def ended(self, exec_id: str, exit_code: int) -> Exec | None:
        """Record how it ended; None if that is known already (the first exit code counts)."""
        record = self._execs.get(exec_id)
        if record is None or record.exit_code is not None:
            return None
        record = dataclasses.replace(record, running=False, exit_code=exit_code, can_remove=True)
        self._execs[exec_id] = record
        return record

    def of(self, container_id: str) -> list[Exec]:
        return [record for record in self._execs.values() if record.container_id == container_id]

    def forget(self, container_id: str) -> None:
        for record in self.of(container_id):
            del self._execs[record.id]
