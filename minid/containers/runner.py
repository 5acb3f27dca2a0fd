"""What runs: starting, stopping, ending and removing containers, and what follows by itself from an exit.

Nothing here locks; ``service`` calls one operation of a container after the other. An exit is told by the
shim at any time: the
record changes at once, what follows (clean-up, automatic removal, a restart by policy) is a task of its own.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

from minid.containers import health, lifecycle, startfailure
from minid.containers.attachments import Attachments
from minid.containers.bundle import Bundles
from minid.containers.execs import Execs
from minid.containers.groups import Groups
from minid.containers.healthchecks import HealthChecks
from minid.containers.model import Container, WaitResult
from minid.containers.networking import Networking
from minid.containers.news import News
from minid.containers.restarts import Restarts
from minid.containers.store import Store
from minid.containers.tasks import ExitRecord, Tasks
from minid.containers.validate import parse_signal
from minid.containers.waits import Waits
from minid.errors import InvalidParameter, MinidError, NotFound
from minid.images.snapshots import Snapshots
from minid.layout import Layout
from minid.shim.client import JobError
from minid.volumes.service import Volumes

STOP_TIMEOUT_S = 10
SIGKILL = 9

log = logging.getLogger(__name__)


class Runner:
    """One per daemon."""

    def __init__(
        self,
        layout: Layout,
        store: Store,
        bundles: Bundles,
        tasks: Tasks,
        snapshots: Snapshots,
        volumes: Volumes,
        groups: Groups,
        execs: Execs,
        networking: Networking,
        news: News,
        health_checks: HealthChecks,
    ) -> None:
        self._layout = layout
        self._store = store
        self._bundles = bundles
        self._tasks = tasks
        self._snapshots = snapshots
        self._volumes = volumes
        self._groups = groups
        self._execs = execs
        self._networking = networking
        self._news = news
        self._health_checks = health_checks
        self._background: set[asyncio.Task[None]] = set()
        self._ended: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._settling: dict[str, asyncio.Event] = {}  # what follows from an exit is still being done
        self.waits = Waits()
        self.attachments = Attachments(tasks)
        self.restarts = Restarts(lambda container_id: self._spawn(self._start_again(container_id)))
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        tasks.on_exit = self._on_exit
        health_checks.on_unhealthy = lambda container: self._spawn(self._end_unhealthy(container))

    async def start(self, container: Container) -> None:
        """Sandbox, clients, program, in this order. Raises a MinidError, with everything put back."""
        container_id = container.id
        rootfs = self._snapshots.rootfs(container_id, container.diff_ids)
        self._ended[container_id].clear()
        try:
            group = self._groups.create(
                container_id, self._bundles.resources(container), container.host_config.cgroup_parent
            )
            await self._networking.reserve(container)
            spec = self._bundles.spec(container)
            options = self._bundles.options(container, spec, rootfs, group)
            self._tasks.write_bundle(container_id, spec, options)
            task = self._tasks.spawn(container_id, spec)
            await self.attachments.hand_over_pending(task, container)
            await self._tasks.run(task)
            await self._networking.plumb(container, task.pid, task.start_ticks)
            # The state says so before the program can do anything: a new daemon would find the shim from
            # here on.
            self._store.set_state(
                container_id,
                status="running",
                pid=task.pid,
                pid_start_ticks=task.start_ticks,
                exit_code=0,
                error="",
                oom_killed=False,
                started_at_ns=time.time_ns(),
                finished_at_ns=0,
                health=health.begun(container),
                ended_by_health="",
            )
            await self._tasks.start(task)
        except (JobError, OSError, ValueError, MinidError) as error:
            failure = await self._undo_start(container, error)
            raise failure from error
        finally:
            self._tasks.ensure_spare_soon()
        started = self._store.get(container_id)
        self._news.publish(started, "start")
        self._health_checks.start(started)

    async def _undo_start(self, container: Container, error: Exception) -> MinidError:
        self.attachments.drop_pending(container.id)
        self._tasks.discard(container.id)
        await self._networking.release(container.id)
        await self._groups.remove(container.id)
        failure, exit_code = startfailure.of_container(container.name, error)
        status = lifecycle.after(container.state.status, "fail", ref=container.id)
        self._store.set_state(
            container.id,
            status=status,
            exit_code=exit_code,
            error=str(failure),
            pid=0,
            pid_start_ticks=0,
            health=container.state.health,
        )
        self._ended[container.id].set()
        self._news.publish(container, "die", {"exitCode": str(exit_code)})
        self.waits.exited(container.id, WaitResult(exit_code))
        if container.host_config.auto_remove:
            await self.remove(self._store.get(container.id), volumes=True)
        return failure

    async def stop(
        self, container: Container, timeout_s: int | None, signal: str, *, by_user: bool = True
    ) -> None:
        """Stop signal, then SIGKILL after ``timeout_s`` (None: the container's own; negative: never)."""
        number = signal_number(signal or container.config.stop_signal or "SIGTERM")
        if timeout_s is None:
            configured = container.config.stop_timeout
            timeout_s = STOP_TIMEOUT_S if configured is None else configured
        if by_user:
            self._store.set_state(container.id, stopped_by_user=True)
        ended = self.waits.register(self._store.get(container.id), "not-running")
        try:
            if container.state.status == "paused":
                await self._groups.thaw(container.id)
            await self.signal(container, number)
            await asyncio.wait_for(asyncio.shield(ended), None if timeout_s < 0 else timeout_s)
        except TimeoutError:
            await self.signal(container, SIGKILL)
        await ended
        self._news.publish(self._store.get(container.id), "stop")

    async def signal(self, container: Container, number: int) -> bool:
        """Send it to the first process, and say so; False if that has ended already."""
        task = self._tasks.find(container.id)
        if task is None:
            return False
        try:
            await self._tasks.signal(task, number)
        except (JobError, ConnectionError):
            return False
        self._news.publish(container, "kill", {"signal": str(number)})
        return True

    async def remove(self, container: Container, *, volumes: bool) -> None:
        """Take away everything of a container that does not run; its row goes last. Can be repeated after a
        crash or a failure, which leaves it "dead".
        """
        self._store.set_state(container.id, status="removing")
        try:
            await self._remove(container, volumes=volumes)
        except Exception as error:
            if self._store.find(container.id) is not None:
                self._store.set_state(container.id, status="dead", error=f"removal failed: {error}")
            raise

    async def _remove(self, container: Container, *, volumes: bool) -> None:
        self.attachments.drop_pending(container.id)
        self._health_checks.stop(container.id)
        self._execs.forget(container.id)
        await self._networking.release(container.id)
        await self._groups.remove(container.id)
        await self._snapshots.remove_rootfs(container.id)
        self._tasks.remove_files(container.id)
        self._store.remove(container.id)
        if volumes:
            await self._remove_anonymous_volumes(container)
        self._ended.pop(container.id, None)
        self.locks.pop(container.id, None)
        self._news.publish(container, "destroy")
        # As dockerd: an error here would be the removal's; why it did not start is told to who started it.
        self.waits.removed(container.id, WaitResult(container.state.exit_code))

    async def _remove_anonymous_volumes(self, container: Container) -> None:
        for point in container.mounts:
            volume = self._volumes.find(point.name) if point.type == "volume" else None
            if volume is not None and volume.anonymous and not self._volumes.users(point.name):
                try:
                    await self._volumes.remove(point.name)
                except (MinidError, OSError) as error:
                    log.warning("an anonymous volume stays: %s", error, extra={"volume": point.name})

    async def settled(self, container_id: str) -> None:
        """Wait until everything is done that follows from the last run's end; a next start may find no rest
        of it. What follows from an end that is heard of later is not waited for.
        """
        self._tasks.catch_up(container_id)
        settling = self._settling.get(container_id)
        if settling is not None:
            await settling.wait()

    def ended(self, container: Container) -> asyncio.Event:
        """Set while the container does not run: what a reader of its log waits for."""
        event = self._ended[container.id]
        if container.state.running:
            event.clear()
        else:
            event.set()
        return event

    async def remove_leftovers(self) -> None:
        """Directories of containers that never came to exist, or were being removed when the power went."""
        for directory in tuple(self._layout.containers.iterdir()):
            if self._store.find(directory.name) is None:
                await self._snapshots.remove_rootfs(directory.name)
                self._tasks.remove_files(directory.name)

    async def reconcile(self, container: Container) -> None:
        """Bring a record that an earlier daemon left in line with what really runs. One container's trouble
        is logged, and not the others'.
        """
        try:
            await self._reconcile(container)
        except Exception:
            log.exception("cannot tell what became of a container", extra={"container": container.id})

    async def _reconcile(self, container: Container) -> None:
        state, host_config = container.state, container.host_config
        if container.hidden:
            await self._end(container)
            return
        self._groups.restore(container.id, self._layout.container(container.id))
        if not state.running:
            await self._groups.remove(container.id)  # the last daemon may not have come to it
        if state.status == "removing" or (host_config.auto_remove and state.status == "exited"):
            await self.remove(container, volumes=host_config.auto_remove)
        elif state.running:
            found = await self._tasks.reconnect(container.id)
            ended = self._record_exit(container.id, found) if isinstance(found, ExitRecord) else None
            if ended is not None:
                await self._after_exit(ended)
            else:
                self._health_checks.resume(container)
        elif lifecycle.starts_with_daemon(host_config.restart_policy, state):
            self._spawn(self._start_again(container.id))
        elif state.status == "restarting":
            self._store.set_state(container.id, status="exited")

    async def _end(self, container: Container) -> None:
        """Remove what no daemon waits for any more: a step of a build that was interrupted."""
        self._groups.restore(container.id, self._layout.container(container.id))
        if container.state.running:
            ended = self.waits.register(container, "not-running")
            found = await self._tasks.reconnect(container.id)
            if isinstance(found, ExitRecord):
                self._on_exit(container.id, found)
            else:
                await self.signal(container, SIGKILL)
            await ended
            await self.settled(container.id)
        await self.remove(self._store.get(container.id), volumes=True)

    async def close(self) -> None:
        """Let go of everything; what runs, runs on."""
        self.restarts.close()
        await self._health_checks.close()
        if self._background:
            await asyncio.wait(tuple(self._background), timeout=STOP_TIMEOUT_S)
        self._tasks.close()
        self.attachments.close()
        self._groups.close()

    # -- what happens by itself

    def _on_exit(self, container_id: str, record: ExitRecord) -> None:
        container = self._record_exit(container_id, record)
        if container is not None:
            self._spawn(self._after_exit(container))

    def _record_exit(self, container_id: str, record: ExitRecord) -> Container | None:
        """The container in its new state; None if there is no such run (any more)."""
        container = self._store.find(container_id)
        if container is None or not container.state.running:
            return None
        container = self._store.set_state(
            container_id,
            status="exited",
            pid=0,
            pid_start_ticks=0,
            exit_code=record.exit_code,
            error=record.error,
            oom_killed=record.oom_killed,
            finished_at_ns=record.finished_at_ns or time.time_ns(),
            health=health.interrupted(container.state.health),
        )
        self._execs.container_ended(container_id)
        self._health_checks.stop(container_id)
        self._ended[container_id].set()
        self._settling[container_id] = asyncio.Event()
        return container

    async def _after_exit(self, container: Container) -> None:
        try:
            await self._settle(container)
            restarted = self.restarts.held(container.id)
        finally:
            self._settling.pop(container.id).set()
        if container.host_config.auto_remove and not restarted:
            async with self.locks[container.id]:
                if self._store.find(container.id) is not None:
                    await self.remove(container, volumes=True)

    async def _settle(self, container: Container) -> None:
        """Clean up, then tell: whoever hears of the exit finds nothing left of the run."""
        state = container.state
        ran_ns = state.finished_at_ns - state.started_at_ns
        for clean_up in (self._networking.release, self._groups.remove):
            try:
                await clean_up(container.id)
            except (MinidError, OSError) as error:  # an unkillable process, say, must not hide the exit
                log.error("cannot clean up after a run: %s", error, extra={"container": container.id})
        if state.oom_killed:
            self._news.publish(container, "oom")
        told = {"exitCode": str(state.exit_code), "execDuration": str(ran_ns // 1_000_000_000)}
        self._news.publish(container, "die", told)
        if not container.host_config.auto_remove and self.restarts.wanted(container, ran_ns):
            self._store.set_state(
                container.id, status="restarting", restart_count=container.state.restart_count + 1
            )
        self.waits.exited(container.id, WaitResult(state.exit_code, state.error))

    async def _start_again(self, container_id: str) -> None:
        """A restart by policy; a failure is left in the state."""
        await self._linked_first(container_id)
        async with self.locks[container_id]:
            try:
                container = self._store.get(container_id)
                if not container.state.running and not container.state.stopped_by_user:
                    await self.start(container)
            except NotFound:
                pass
            except MinidError as error:
                log.warning("restart by policy failed: %s", error, extra={"container": container_id})

    async def _linked_first(self, container_id: str) -> None:
        """Those that it is linked to may be starting at this moment too, when a daemon starts."""
        container = self._store.find(container_id)
        for other, _ in self._networking.links.legacy(container) if container is not None else ():
            async with self.locks[other.id]:
                pass

    async def _end_unhealthy(self, container: Container) -> None:
        """``--health-on-failure``: what is done about a run that has become unhealthy."""
        action = container.host_config.health_on_failure
        if action not in ("kill", "stop", "restart"):
            return
        async with self.locks[container.id]:
            current = self._store.find(container.id)
            if current is None or not current.state.running or current.state.pid != container.state.pid:
                return
            if current.state.stopped_by_user:  # it is being stopped anyway, and not to come back
                return
            log.info("unhealthy: %s", action, extra={"container": container.id})
            current = self._store.set_state(container.id, ended_by_health=action)
            if action == "kill":
                await self.signal(current, SIGKILL)
            else:
                await self.stop(current, None, "", by_user=action == "stop")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._forget_background)

    def _forget_background(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", exc_info=error)


def signal_number(text: str) -> int:
    """``SIGTERM``, ``TERM``, ``15``. Raises InvalidParameter."""
    try:
        return parse_signal(text)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None
