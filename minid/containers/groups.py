"""The cgroups of containers by container id: made at a start, gone at the end, found again by a later daemon.

The kernel's side is ``minid.kernel.cgroups``; what can block there runs in a thread.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minid.errors import Conflict, MinidError
from minid.kernel import cgroups
from minid.kernel.cgroups import Cgroup, Tree

ENCLOSURE = "minid-health"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Enclosure:
    """A cgroup inside a container's, and what a process needs to get there: ``fork_directory`` to be born in
    (cgroup v2) or ``procs_files`` to write to.
    """

    inner: Cgroup
    fork_directory: str | None
    procs_files: tuple[str, ...]

    def kill(self) -> None:
        """SIGKILL to all that is in it. Idempotent."""
        with contextlib.suppress(OSError):
            self.inner.kill()

    def open(self) -> None:
        """What is in it goes on as part of the container."""
        with contextlib.suppress(OSError):
            self.inner.lift()


class Groups:
    """One per daemon."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._groups: dict[str, Cgroup] = {}
        self._trees: dict[str, Tree] = {}  # of containers with a parent of their own

    def create(self, container_id: str, resources: Mapping[str, Any], parent: str = "") -> Cgroup:
        """Make and limit the container's cgroup; a left-over of a crashed run is removed first.

        ``parent``: the container's own ``--cgroup-parent``, "" for the daemon's.
        """
        tree = self._tree
        if parent:
            tree = self._trees[container_id] = Tree.open(parent)
        stale = tree.find(container_id)
        if stale is not None:
            stale.try_remove()
        group = self._groups[container_id] = tree.create(container_id, resources)
        return group

    def restore(self, container_id: str, directory: Path) -> None:
        """Find the cgroup of a container that an earlier daemon started, wherever that daemon's own cgroup
        was.
        """
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            paths = json.loads((directory / "task.json").read_bytes())["cgroup_paths"]
            self._groups[container_id] = cgroups.reopen(paths)

    def get(self, container_id: str) -> Cgroup:
        group = self._groups.get(container_id) or self._tree.find(container_id)
        if group is None:
            raise Conflict(f"container {container_id} has no cgroup: it is not running")
        return group

    async def remove(self, container_id: str) -> None:
        """Kill what is left in it and remove it. Idempotent."""
        group = self._groups.pop(container_id, None) or self._tree.find(container_id)
        if group is not None and not group.try_remove():
            group.kill()
            await asyncio.to_thread(group.remove)
        own_tree = self._trees.pop(container_id, None)
        if own_tree is not None:
            own_tree.prune()

    def enclosure(self, container_id: str) -> Enclosure | None:
        """Where a health check's processes are put; None where that can't be made."""
        try:
            group = self.get(container_id)
            inner = group.inner(ENCLOSURE)
        except (MinidError, OSError) as error:
            log.info("no cgroup for a health check: %s", error, extra={"container": container_id})
            return None
        return Enclosure(inner, inner.fork_directory, group.procs_files_with(inner))

    def close(self) -> None:
        """The daemon ends: take away the parent directories if nothing runs in them."""
        self._tree.prune()

    async def freeze(self, container_id: str) -> None:
        await asyncio.to_thread(self.get(container_id).freeze)

    async def thaw(self, container_id: str) -> None:
        await asyncio.to_thread(self.get(container_id).thaw)

    async def update(self, container_id: str, resources: Mapping[str, Any]) -> list[str]:
        return await asyncio.to_thread(self.get(container_id).update, resources)

    def pids(self, container_id: str) -> list[int]:
        return self.get(container_id).pids()

    def stats(self, container_id: str) -> dict[str, Any]:
        return self.get(container_id).stats()
