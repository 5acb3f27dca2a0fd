"""Health checks of running containers: one task for each container that has one; ``health`` has the rules.

A check is an exec like any other, except that its processes are in an enclosure (a cgroup inside the
container's), so that one that takes too long is killed with everything it has started.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable

from minid.containers import health
from minid.containers.execs import Execs, FailedExec
from minid.containers.groups import Enclosure, Groups
from minid.containers.model import Client, Container, ExecConfig, HealthResult
from minid.containers.news import News
from minid.containers.store import Store
from minid.errors import MinidError
from minid.kernel import process

KILLS, KILLED_S = 5, 1.0  # how often, and how long it may take; one in a system call that hangs is left alone

log = logging.getLogger(__name__)


class HealthChecks:
    """One per daemon. ``on_unhealthy`` is told the container each time that one becomes unhealthy."""

    def __init__(self, store: Store, execs: Execs, groups: Groups, news: News) -> None:
        self._store = store
        self._execs = execs
        self._groups = groups
        self._news = news
        self._watches: dict[str, asyncio.Task[None]] = {}
        self.on_unhealthy: Callable[[Container], None] = lambda container: None

    def start(self, container: Container) -> None:
        """Its run has begun: check it from now on, if it is to be checked."""
        self.stop(container.id)
        if health.checked(container):
            watch = asyncio.get_running_loop().create_task(self._watch(container.id, container.state.pid))
            self._watches[container.id] = watch
            watch.add_done_callback(lambda done: self._forget(container.id, done))

    def resume(self, container: Container) -> None:
        """It runs since before this daemon: go on, without what the last one has left unfinished."""
        if not health.checked(container):
            return
        enclosure = self._groups.enclosure(container.id)
        if enclosure is not None:
            enclosure.kill()
        if container.state.health is None:
            self._store.set_state(container.id, health=health.begun(container))
        self.start(self._store.get(container.id))
        if container.state.ended_by_health:
            self.on_unhealthy(container)

    def stop(self, container_id: str) -> None:
        """Its run has ended, or it is removed. Does not wait. Idempotent."""
        watch = self._watches.pop(container_id, None)
        if watch is not None:
            watch.cancel()

    async def close(self) -> None:
        """The daemon ends: checks that are under way are killed, the next daemon goes on."""
        watches = tuple(self._watches.values())
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    def _forget(self, container_id: str, watch: asyncio.Task[None]) -> None:
        if self._watches.get(container_id) is watch:
            del self._watches[container_id]
        if not watch.cancelled() and (error := watch.exception()) is not None:
            log.error("health checks have stopped", exc_info=error, extra={"container": container_id})

    async def _watch(self, container_id: str, pid: int) -> None:
        while (container := self._running(container_id, pid)) is not None:
            now_ns = time.time_ns()
            due_ns = health.next_check_ns(container, now_ns)
            if due_ns > now_ns:
                await asyncio.sleep((due_ns - now_ns) / 1e9)  # the check's own interval
                continue  # the interval may have become another one, or the container have been paused
            result = await self._check(container) if container.state.status == "running" else None
            if result is None:
                check = container.config.healthcheck
                assert check is not None
                await asyncio.sleep((check.interval or health.INTERVAL_NS) / 1e9)
            elif self._running(container_id, pid) is not None:
                self._record(container_id, result)

    def _running(self, container_id: str, pid: int) -> Container | None:
        container = self._store.find(container_id)
        if container is None or not container.state.running or container.state.pid != pid:
            return None
        return container

    def _record(self, container_id: str, result: HealthResult) -> None:
        container = self._store.get(container_id)
        before, check = container.state.health, container.config.healthcheck
        assert before is not None and check is not None
        now = health.after(before, check, result, container.state.started_at_ns)
        container = self._store.set_state(container_id, health=now)
        if now.status != before.status:
            self._news.publish(container, f"health_status: {now.status}")
            if now.status == "unhealthy":
                self.on_unhealthy(container)

    async def _check(self, container: Container) -> HealthResult | None:
        """Run it once; None if that says nothing about the container (it is paused, or has ended)."""
        check = container.config.healthcheck
        assert check is not None
        start_ns = time.time_ns()
        program = ExecConfig(attach_stdout=True, attach_stderr=True, cmd=health.command(container.config))
        output = bytearray()
        try:
            exec_id = self._execs.create(container, program)
        except MinidError:
            return None
        enclosure = self._groups.enclosure(container.id)
        ended = self._execs.end_of(exec_id)
        try:
            async with asyncio.timeout(health.timeout_ns(check) / 1e9):
                await self._run(exec_id, enclosure, output)
                exit_code, text = await ended, health.kept_output(bytes(output))
        except TimeoutError:
            if not await self._kill(enclosure, ended):
                log.warning("a health check cannot be killed", extra={"container": container.id})
                enclosure = None  # what is left of it stays where a later check's end finds it
            exit_code = health.NOT_RUN
            text = health.timeout_text(check, health.kept_output(bytes(output)))
        except FailedExec as failed:
            exit_code, text = health.NOT_RUN, str(failed)
        except MinidError as error:
            log.info("no health check: %s", error, extra={"container": container.id})
            return None
        except asyncio.CancelledError:
            if enclosure is not None:
                enclosure.kill()
            raise
        finally:
            if ended.done() or enclosure is not None:
                self._execs.drop(exec_id)
        if enclosure is not None:
            enclosure.open()  # what it has left to run on purpose is the container's now
        current = self._store.find(container.id)
        if current is None or current.state.status != "running":
            return None
        if exit_code and not process.exists(current.state.pid, current.state.pid_start_ticks):
            return None  # it failed because the container is at its end, of which we have not heard yet
        return HealthResult(start_ns, time.time_ns(), exit_code, text)

    async def _kill(self, enclosure: Enclosure | None, ended: "asyncio.Future[int]") -> bool:
        """Whether it has ended. One that has not even begun yet (the machine is slow) is killed when it has."""
        for _ in range(KILLS):
            if enclosure is not None:
                enclosure.kill()
            if (await asyncio.wait([ended], timeout=KILLED_S))[0]:
                return True
        return False

    async def _run(self, exec_id: str, enclosure: Enclosure | None, output: bytearray) -> None:
        """Until it has closed its output, of which the first part is kept."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            await self._execs.run(exec_id, Client(theirs.detach()), enclosure=enclosure, raw=True)
            loop = asyncio.get_running_loop()
            with contextlib.suppress(ConnectionError):
                while data := await loop.sock_recv(ours, 1 << 16):
                    output += data[: health.OUTPUT_BYTES + 1 - len(output)]
