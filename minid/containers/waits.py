"""Who waits for which container to end. ``Engine API v1.44 POST /containers/{id}/wait``."""

import asyncio
from collections import defaultdict

from minid.containers.model import Container, WaitResult
from minid.errors import InvalidParameter

CONDITIONS = ("not-running", "next-exit", "removed")


class Waits:
    """Futures by container; registered at once, so no exit between asking and waiting is missed."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[str, asyncio.Future[WaitResult]]]] = defaultdict(list)

    def register(self, container: Container, condition: str) -> asyncio.Future[WaitResult]:
        """A future for ``condition``; already done for "not-running" of a container that does not run."""
        if condition not in CONDITIONS:
            raise InvalidParameter(f'invalid condition: "{condition}"')
        future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        if (
            condition == "not-running"
            and not container.state.running
            and container.state.status != "restarting"
        ):
            future.set_result(WaitResult(container.state.exit_code, container.state.error))
            return future
        entry = (condition, future)
        self._waiting[container.id].append(entry)
        future.add_done_callback(lambda _: self._forget(container.id, entry))
        return future

    def exited(self, container_id: str, result: WaitResult) -> None:
        self._settle(container_id, ("not-running", "next-exit"), result)

    def removed(self, container_id: str, result: WaitResult) -> None:
        self._settle(container_id, CONDITIONS, result)

    def _settle(self, container_id: str, conditions: tuple[str, ...], result: WaitResult) -> None:
        for condition, future in tuple(self._waiting.get(container_id, ())):
            if condition in conditions and not future.done():
                future.set_result(result)

    def _forget(self, container_id: str, entry: tuple[str, asyncio.Future[WaitResult]]) -> None:
        entries = self._waiting.get(container_id)
        if entries is not None and entry in entries:
            entries.remove(entry)
            if not entries:
                del self._waiting[container_id]
