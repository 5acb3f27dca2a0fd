"""What running containers use of the machine, sampled. ``Engine API v1.44 GET /containers/{id}/stats``.

Every client's stream takes its own samples; between two of them nothing is kept and nothing runs.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from minid.containers.groups import Groups
from minid.containers.model import Container
from minid.containers.networking import Networking
from minid.containers.store import Store
from minid.containers.waits import Waits
from minid.errors import MinidError
from minid.kernel import process, usage
from minid.kernel.usage import CpuTime

INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. ``group``: what ``Cgroup.stats`` says, whose fields depend on ``cgroup_version``.

    ``interfaces``: by name, see ``kernel.usage``. ``machine_memory_bytes``: what a container without a limit
    may use.
    """

    read_ns: int  # since the epoch
    cgroup_version: int
    group: Mapping[str, Any]
    machine: CpuTime
    machine_memory_bytes: int
    interfaces: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Usage:
    """A container's sample and the one before; None where it did not run, or there was none."""

    container: Container
    now: Sample | None = None
    before: Sample | None = None


class Stats:
    """Takes samples of containers by id."""

    def __init__(self, store: Store, groups: Groups, networking: Networking, waits: Waits) -> None:
        self._store = store
        self._groups = groups
        self._networking = networking
        self._waits = waits
        self._machine_memory_bytes = usage.machine_memory_bytes()

    async def once(self, container: Container, *, at_once: bool = False) -> Usage:
        """What it uses now, and a second ago unless ``at_once``; nothing if it does not run."""
        before = None
        if not at_once and container.state.running:
            before = await self._sample(container)
            await asyncio.sleep(INTERVAL_S)  # the distance of the two samples, not a wait for something
            container = self._store.find(container.id) or container
        return Usage(container, await self._sample(container), before)

    async def follow(self, container: Container) -> AsyncGenerator[Usage, None]:
        """A usage a second, whether or not it runs, until the container is removed."""
        removed = self._waits.register(container, "removed")
        try:
            before = None
            next_s = time.monotonic()
            while (current := self._store.find(container.id)) is not None:
                now = await self._sample(current)
                yield Usage(current, now, before)
                before = now
                next_s = max(next_s + INTERVAL_S, time.monotonic())
                done, _ = await asyncio.wait([removed], timeout=next_s - time.monotonic())
                if done:
                    return
        finally:
            removed.cancel()

    async def _sample(self, container: Container) -> Sample | None:
        if not container.state.running:
            return None
        names = self._interface_names(container)
        sample = await asyncio.to_thread(self._read, container, names)
        current = self._store.find(container.id)
        same_run = current is not None and current.state.pid == container.state.pid
        return sample if same_run else None  # else it is of a cgroup that was being taken away

    def _read(self, container: Container, names: frozenset[str]) -> Sample | None:
        state = container.state
        try:
            group = self._groups.get(container.id)
            numbers = group.stats()
        except (MinidError, OSError):
            return None
        found = usage.interfaces(state.pid, names) if names else {}
        if not process.exists(state.pid, state.pid_start_ticks):
            return None
        return Sample(
            time.time_ns(), group.version, numbers, usage.cpu_time(), self._machine_memory_bytes, found
        )

    def _interface_names(self, container: Container) -> frozenset[str]:
        """Of its networks' interfaces; of those of the container whose network it shares."""
        owner, seen = container, {container.id}
        while owner.host_config.network_mode.startswith("container:"):
            try:
                owner = self._store.get(owner.host_config.network_mode.partition(":")[2])
            except MinidError:
                return frozenset()
            if owner.id in seen:
                return frozenset()
            seen.add(owner.id)
        sandbox = self._networking.sandbox(owner)
        return frozenset(one.interface for one in sandbox.endpoints) if sandbox is not None else frozenset()
