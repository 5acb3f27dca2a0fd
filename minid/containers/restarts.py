"""Restarts by policy: after which delay, and who may stop them. ``Engine API v1.44 RestartPolicy``."""

import asyncio
from collections.abc import Callable

from minid.containers import lifecycle
from minid.containers.model import Container


class Restarts:
    """The timers of containers that will be started again; ``start`` is called when one is due, and does not
    wait.
    """

    def __init__(self, start: Callable[[str], None]) -> None:
        self._start = start
        self._closed = False
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._delays_ns: dict[str, int] = {}
        self._held: set[str] = set()

    def wanted(self, container: Container, ran_ns: int) -> bool:
        """Whether its policy restarts the container now; if so the timer runs."""
        if container.id in self._held:
            return False
        state = container.state
        restart = lifecycle.restart(
            container.host_config.restart_policy,
            exit_code=state.exit_code,
            restart_count=state.restart_count,
            previous_delay_ns=self._delays_ns.get(container.id, 0),
            ran_ns=ran_ns,
            stopped_by_user=state.stopped_by_user,
            due=state.ended_by_health == "restart",
            recovered=not state.ended_by_health or (state.health is not None and state.health.was_healthy),
        )
        if restart is None:
            self._delays_ns.pop(container.id, None)
            return False
        self._delays_ns[container.id] = restart.delay_ns
        if self._closed:
            return True  # by the next daemon
        later = self._later(container.id, restart.delay_ns / 1e9)
        self._timers[container.id] = asyncio.get_running_loop().create_task(later)
        return True

    async def _later(self, container_id: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)  # the policy's own delay, not a wait for something
        self._timers.pop(container_id, None)
        self._start(container_id)

    def hold(self, container_id: str) -> None:
        """No restart by policy until ``release``: somebody is restarting it by hand."""
        self._held.add(container_id)

    def held(self, container_id: str) -> bool:
        return container_id in self._held

    def release(self, container_id: str) -> None:
        self._held.discard(container_id)

    def cancel(self, container_id: str) -> None:
        """Idempotent."""
        timer = self._timers.pop(container_id, None)
        if timer is not None:
            timer.cancel()
        self._delays_ns.pop(container_id, None)

    def close(self) -> None:
        """No timer runs any more, and none will."""
        self._closed = True
        for container_id in tuple(self._timers):
            self.cancel(container_id)
