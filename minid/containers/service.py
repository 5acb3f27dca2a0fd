"""Containers: the way in. Every operation on a container starts here; the hard parts are in the modules beside.

A record is replaced, never changed, so readers take what is there and do not wait. Writers of one container go one after the
other (``_locks``). What happens by itself (an exit, a detach) comes from ``Tasks`` and is dealt with at once; what follows from
it (clean-up, automatic removal, a restart by policy) runs as a task of its own.
"""

import asyncio
import dataclasses
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any

from minid.containers import filters, lifecycle, logs, names, processes, resources
from minid.containers.validate import parse_signal
from minid.containers.bundle import Bundles
from minid.containers.create import Creation
from minid.containers.execs import Execs
from minid.containers.host import Host
from minid.containers.model import (
    AttachOptions,
    Client,
    Container,
    Created,
    CreateRequest,
    Exec,
    ExecConfig,
    ListFilter,
    LogEntry,
    LogOptions,
    Resources,
    RestartPolicy,
    WaitResult,
)
from minid.containers.restarts import Restarts
from minid.containers.store import Store
from minid.containers.tasks import ExitRecord, Task, Tasks
from minid.containers.waits import Waits
from minid.errors import CommandNotExecutable, CommandNotFound, Conflict, Failed, InvalidParameter, MinidError, NotModified
from minid.events import EventBus
from minid.images.snapshots import Snapshots
from minid.containers.groups import Groups
from minid.layout import Layout
from minid.shim.client import JobError
from minid.shim.detach import parse_keys
from minid.volumes.service import Volumes

STOP_TIMEOUT_S = 10
KILL_TIMEOUT_S = 10.0
START_FAILED = 128
START_ERRORS: Mapping[str, tuple[type[MinidError], int]] = {
    "CommandNotFound": (CommandNotFound, 127),
    "CommandNotExecutable": (CommandNotExecutable, 126),
}


class Containers:
    """One per daemon."""

    def __init__(
        self,
        layout: Layout,
        store: Store,
        creation: Creation,
        bundles: Bundles,
        tasks: Tasks,
        snapshots: Snapshots,
        volumes: Volumes,
        groups: Groups,
        events: EventBus,
        host: Host,
    ) -> None:
        self._layout = layout
        self._store = store
        self._creation = creation
        self._bundles = bundles
        self._tasks = tasks
        self._snapshots = snapshots
        self._volumes = volumes
        self._groups = groups
        self._events = events
        self._host = host
        self._execs = Execs()
        self._waits = Waits()
        self._restarts = Restarts(self._start_again)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._pending: defaultdict[str, list[tuple[Client, AttachOptions]]] = defaultdict(list)
        self._ended: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._background: set[asyncio.Task[None]] = set()
        tasks.on_exit = self._on_exit
        tasks.on_exec_exit = self._on_exec_exit
        tasks.on_detach = self._on_detach

    # -- reading

    def get(self, ref: str) -> Container:
        """By id, unique prefix, name or /name. Raises NotFound."""
        return self._store.get(ref)

    def list(self, wanted: ListFilter) -> list[Container]:
        """Newest first, filters applied."""
        return filters.select(tuple(self._store.all()), wanted)

    def users_of_volume(self, name: str) -> list[str]:
        """Ids of the containers that mount the volume."""
        return [
            container.id
            for container in self._store.all()
            if any(point.type == "volume" and point.name == name for point in container.mounts)
        ]

    def users_of_image(self, image_id: str) -> list[str]:
        """Ids of the containers made from the image."""
        return [container.id for container in self._store.all() if container.image_id == image_id]

    def users_of_layer(self, diff_id: str) -> list[str]:
        """Ids of the containers whose root file system has the layer."""
        return [container.id for container in self._store.all() if diff_id in container.diff_ids]

    # -- life cycle

    async def create(self, request: CreateRequest) -> Created:
        """Make a container that does not run. Raises NotFound, InvalidParameter, Conflict."""
        draft = await self._creation.create(request)
        self._publish(draft.container, "create")
        return Created(draft.container.id, draft.warnings)

    async def start(self, ref: str) -> None:
        """Run the container's program. Raises NotModified if it runs already, CommandNotFound and others if it can't."""
        container = self.get(ref)
        async with self._locks[container.id]:
            lifecycle.after(self.get(container.id).state.status, "start", ref=ref)
            self._restarts.cancel(container.id)
            self._store.set_state(container.id, stopped_by_user=False)
            await self._start(self.get(container.id))

    async def stop(self, ref: str, *, timeout_s: int | None = None, signal: str = "") -> None:
        """Stop signal, then SIGKILL after ``timeout_s`` (negative: never). Raises NotModified if it does not run."""
        container = self.get(ref)
        if not container.state.running and container.state.status != "restarting":
            raise NotModified(f"container {ref} is already stopped")
        if container.state.status == "restarting":
            self._restarts.cancel(container.id)
            self._store.set_state(container.id, status="exited", stopped_by_user=True)
            self._waits.exited(container.id, WaitResult(container.state.exit_code))
            return
        await self._stop(container, timeout_s, signal)

    async def restart(self, ref: str, *, timeout_s: int | None = None, signal: str = "") -> None:
        """Stop (if it runs) and start."""
        container = self.get(ref)
        self._restarts.cancel(container.id)
        async with self._locks[container.id]:
            self._restarts.hold(container.id)
            try:
                if self.get(container.id).state.running:
                    await self._stop(container, timeout_s, signal)
            finally:
                self._restarts.release(container.id)
            self._store.set_state(container.id, stopped_by_user=False)
            await self._start(self.get(container.id))
        self._publish(container, "restart")

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Send a signal to the first process. Raises Conflict when the container does not run."""
        container = self.get(ref)
        number = _signal(signal or "SIGKILL")
        task = self._tasks.find(container.id)
        gone = Conflict(f"cannot kill container: {ref}: container {container.id} is not running")
        if task is None or not container.state.running:
            raise gone
        if number == 9 or number == _signal(container.config.stop_signal or "SIGTERM"):
            self._store.set_state(container.id, stopped_by_user=True)
        waiter = self._waits.register(container, "not-running")
        try:
            await self._signal(task, number)
        except (JobError, ConnectionError):
            raise gone from None
        self._publish(container, "kill", {"signal": str(number)})
        if number == 9:
            if container.state.status == "paused":
                await self._groups.thaw(container.id)
            await asyncio.wait_for(waiter, KILL_TIMEOUT_S)
        else:
            waiter.cancel()

    async def pause(self, ref: str) -> None:
        """Freeze every process (cgroup freezer)."""
        container = self.get(ref)
        async with self._locks[container.id]:
            status = lifecycle.after(self.get(container.id).state.status, "pause", ref=container.id)
            await self._groups.freeze(container.id)
            self._store.set_state(container.id, status=status)
        self._publish(container, "pause")

    async def unpause(self, ref: str) -> None:
        container = self.get(ref)
        async with self._locks[container.id]:
            status = lifecycle.after(self.get(container.id).state.status, "unpause", ref=container.id)
            await self._groups.thaw(container.id)
            self._store.set_state(container.id, status=status)
        self._publish(container, "unpause")

    def wait(self, ref: str, condition: str = "not-running") -> asyncio.Future[WaitResult]:
        """A future of the exit; registered when this returns."""
        return self._waits.register(self.get(ref), condition)

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove the container, its writable layer and (``volumes``) its anonymous volumes."""
        container = self.get(ref)
        self._restarts.cancel(container.id)
        if not force and container.state.status != "restarting":
            lifecycle.after(container.state.status, "remove", ref=ref)
        if container.state.running:
            try:
                await self.kill(container.id)
            except (Conflict, TimeoutError):
                pass
        async with self._locks[container.id]:
            if self._store.find(container.id) is not None:
                await self._remove(self.get(container.id), volumes=volumes)

    async def rename(self, ref: str, name: str) -> None:
        """Give the container another name. Raises InvalidParameter, Conflict."""
        container = self.get(ref)
        new = name.removeprefix("/")
        if not new:
            raise InvalidParameter("Neither old nor new names may be empty")
        names.check(new)
        if new == container.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        self._store.replace(dataclasses.replace(container, name=new))
        self._publish(self.get(container.id), "rename", {"oldName": "/" + container.name})

    async def update(self, ref: str, changes: Resources, restart_policy: RestartPolicy | None) -> tuple[str, ...]:
        """Change limits, at once if it runs; fields that are 0 or None stay. Warnings."""
        container = self.get(ref)
        warnings = resources.validate(changes, self._host, update=True)
        given = {
            field.name: getattr(changes, field.name)
            for field in dataclasses.fields(Resources)
            if getattr(changes, field.name) != field.default
        }
        host_config = dataclasses.replace(container.host_config, **given)
        if restart_policy is not None and restart_policy.name:
            host_config = dataclasses.replace(host_config, restart_policy=restart_policy)
        updated = dataclasses.replace(container, host_config=host_config)
        async with self._locks[container.id]:
            if container.state.running:
                await self._groups.update(container.id, self._bundles.resources(updated))
            self._store.replace(dataclasses.replace(self.get(container.id), host_config=host_config))
        self._publish(updated, "update")
        return tuple(warnings)

    async def prune(self, wanted: Mapping[str, tuple[str, ...]]) -> tuple[list[str], int]:
        """Remove every container that does not run; ids and bytes."""
        removed, reclaimed_bytes = [], 0
        for container in filters.select(tuple(self._store.all()), ListFilter(all=True, filters=wanted)):
            if not container.state.running and container.state.status != "restarting":
                reclaimed_bytes += (await self.size(container.id))[0]
                await self.remove(container.id)
                removed.append(container.id)
        return removed, reclaimed_bytes

    # -- streams

    async def attach(self, ref: str, options: AttachOptions, client: Client) -> None:
        """Hand the client's connection to the shim, or keep it for the next start."""
        container = self.get(ref)
        if options.logs:
            await logs.replay(container, options, client)
        if not options.stream:
            client.close()
            return
        task = self._tasks.find(container.id)
        if container.state.status == "paused":
            client.close()
            raise Conflict(f"container {container.name} is paused, unpause the container before attach")
        if task is None:
            self._pending[container.id].append((client, options))
        else:
            await self._attach(task, container, options, client)
        self._publish(container, "attach")

    def check_attach(self, ref: str, options: AttachOptions) -> Container:
        """What must be refused while an HTTP error is still possible: no such container, wrong keys."""
        container = self.get(ref)
        _check_keys(options.detach_keys)
        return container

    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[LogEntry]:
        """The log, from the file; works whether or not the container or its shim runs."""
        container = self.get(ref)
        if not container.log_path:
            raise Conflict("configured logging driver does not support reading")
        if container.state.running:
            self._ended[container.id].clear()
        else:
            self._ended[container.id].set()
        return logs.read(Path(container.log_path), options, self._ended[container.id])

    async def resize(self, ref: str, *, height: int, width: int) -> None:
        container = self.get(ref)
        task = self._tasks.find(container.id)
        if task is None:
            raise Conflict(f"Container {container.id} is not running")
        await self._resize(task, height, width, "")

    # -- exec

    def exec_create(self, ref: str, config: ExecConfig) -> str:
        """Register a program to be run in the container; its id."""
        container = self._running(ref)
        if not config.cmd:
            raise InvalidParameter("No exec command specified")
        _check_keys(config.detach_keys)
        record = self._execs.add(container.id, config)
        self._store.set_execs(container.id, (*container.exec_ids, record.id))
        self._publish(container, "exec_create: " + " ".join(config.cmd), {"execID": record.id})
        return record.id

    def exec_get(self, exec_id: str) -> Exec:
        return self._execs.get(exec_id)

    def check_exec_start(self, exec_id: str) -> Exec:
        """What must be refused while an HTTP error is still possible."""
        record = self._execs.get(exec_id)
        self._running(record.container_id)
        if record.exit_code is not None:
            raise Conflict(f"exec {exec_id} has already run")
        if record.running:
            raise Conflict(f"exec {exec_id} is already running")
        return record

    async def exec_start(
        self,
        exec_id: str,
        *,
        client: Client | None,
        tty: bool = False,
        console_size: tuple[int, int] | None = None,
    ) -> None:
        """Run it. Without ``client`` it is detached, and an error is raised; with one, errors are told on its stream."""
        try:
            record = self.check_exec_start(exec_id)
            task = self._tasks.find(record.container_id)
            assert task is not None
        except MinidError:
            if client is not None:
                client.close()
            raise
        container = self.get(record.container_id)
        self._execs.started(record.id)
        self._publish(container, "exec_start: " + " ".join(record.config.cmd), {"execID": record.id})
        config = record.config
        if console_size is not None:
            config = dataclasses.replace(config, console_size=console_size)
        wanted = _wanted(config.attach_stdin, config.attach_stdout, config.attach_stderr)
        try:
            pid = await self._tasks.exec(
                task,
                record.id,
                self._bundles.exec_body(container, config),
                client,
                wanted=wanted,
                framed=not config.tty,
                detach_keys=config.detach_keys or "ctrl-p,ctrl-q",
            )
            self._execs.set_pid(record.id, pid)
        except JobError as error:
            kind, exit_code = START_ERRORS.get(error.kind, (Failed, 126))
            self._on_exec_exit(record.id, exit_code)
            if client is None:
                raise kind(str(error)) from error

    async def exec_resize(self, exec_id: str, *, height: int, width: int) -> None:
        record = self._execs.get(exec_id)
        task = self._tasks.find(record.container_id)
        if task is None or not record.running:
            raise Conflict(f"exec {exec_id} is not running")
        await self._resize(task, height, width, record.id)

    # -- what is inside

    async def top(self, ref: str, ps_args: str = "-ef") -> tuple[list[str], list[list[str]]]:
        """Titles and rows of ps(1) for the container's processes."""
        container = self.get(ref)
        lifecycle.after(container.state.status, "top", ref=container.id)
        pids = self._groups.pids(container.id)
        result = await processes.table(pids, ps_args or "-ef")
        self._publish(container, "top")
        return result

    async def size(self, ref: str) -> tuple[int, int]:
        """Bytes of the writable layer, and of the whole root file system."""
        container = self.get(ref)
        return await self._snapshots.sizes(container.id, container.diff_ids)

    # -- the daemon's start and stop

    async def reconcile(self) -> None:
        """Find again what ran when the last daemon ended; deal with what has ended since."""
        await asyncio.gather(*(self._reconcile(container) for container in tuple(self._store.all())))

    async def _reconcile(self, container: Container) -> None:
        status = container.state.status
        if status == "removing" or (not container.state.running and container.host_config.auto_remove and status == "exited"):
            await self._remove(container, volumes=container.host_config.auto_remove)
        elif container.state.running:
            self._groups.restore(container.id, self._layout.container(container.id))
            found = await self._tasks.reconnect(container.id)
            if isinstance(found, ExitRecord):
                self._on_exit(container.id, found)
        elif status == "restarting" or lifecycle.starts_with_daemon(container.host_config.restart_policy, container.state):
            self._store.set_state(container.id, status="exited")
            self._spawn(self._start_again(container.id))

    async def close(self) -> None:
        """Let go: containers run on, waiting clients are told nothing more."""
        self._restarts.close()
        self._tasks.close()
        for pending in self._pending.values():
            for client, _ in pending:
                client.close()
        for task in tuple(self._background):
            task.cancel()

    # -- inside

    async def _start(self, container: Container) -> None:
        container_id = container.id
        rootfs = self._snapshots.rootfs(container_id, container.diff_ids)
        pending = self._pending.pop(container_id, [])
        self._ended[container_id].clear()
        try:
            cgroup = self._groups.create(container_id, self._bundles.resources(container))
            options = self._bundles.options(container, rootfs, cgroup)
            self._tasks.write_bundle(container_id, self._bundles.spec(container), options)
            task = self._tasks.spawn(container_id)
            while pending:
                client, attach = pending.pop(0)
                await self._attach(task, container, attach, client)
            await self._tasks.run(task)
            # from here on a new daemon would find the shim: the state says so before the program can do anything
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
            )
            await self._tasks.start(task)
        except (JobError, OSError, ValueError, MinidError) as error:
            for client, _ in pending:
                client.close()
            self._tasks.discard(container_id)
            await self._groups.remove(container_id)
            raise await self._start_failed(container, error) from error
        self._publish(self.get(container_id), "start")

    async def _start_failed(self, container: Container, error: Exception) -> MinidError:
        kind, exit_code = (type(error), START_FAILED) if isinstance(error, MinidError) else (Failed, START_FAILED)
        text = str(error)
        if isinstance(error, JobError):
            kind, exit_code = START_ERRORS.get(error.kind, (InvalidParameter if error.kind == "UserError" else Failed, START_FAILED))
            text = f"unable to start container process: {error}"
        message = f"failed to create task for container {container.name}: {text}"
        self._store.set_state(
            container.id, status="created" if not container.state.started_at_ns else "exited", exit_code=exit_code, error=message, pid=0
        )
        self._waits.exited(container.id, WaitResult(exit_code, message))
        self._publish(container, "die", {"exitCode": str(exit_code)})
        if container.host_config.auto_remove:
            await self._remove(self.get(container.id), volumes=True)
        return kind(message)

    async def _stop(self, container: Container, timeout_s: int | None, signal: str) -> None:
        number = _signal(signal or container.config.stop_signal or "SIGTERM")
        if timeout_s is None:
            timeout_s = STOP_TIMEOUT_S if container.config.stop_timeout is None else container.config.stop_timeout
        self._store.set_state(container.id, stopped_by_user=True)
        waiter = self._waits.register(self.get(container.id), "not-running")
        task = self._tasks.find(container.id)
        if task is not None:
            try:
                if container.state.status == "paused":
                    await self._groups.thaw(container.id)
                await self._signal(task, number)
                self._publish(container, "kill", {"signal": str(number)})
                await asyncio.wait_for(asyncio.shield(waiter), None if timeout_s < 0 else timeout_s)
            except TimeoutError:
                self._publish(container, "kill", {"signal": "9"})
                await self._signal(task, 9)
            except (JobError, ConnectionError):
                pass  # it has just ended
        await waiter
        self._publish(self.get(container.id), "stop")

    async def _signal(self, task: Task, number: int) -> None:
        await self._tasks.signal(task, number)

    async def _remove(self, container: Container, *, volumes: bool) -> None:
        self._store.set_state(container.id, status="removing")
        for client, _ in self._pending.pop(container.id, []):
            client.close()
        self._execs.forget(container.id)
        await self._groups.remove(container.id)
        await self._snapshots.remove_rootfs(container.id)
        await asyncio.to_thread(self._tasks.remove_files, container.id)
        self._store.remove(container.id)
        if volumes:
            await self._remove_anonymous_volumes(container)
        self._ended.pop(container.id, None)
        self._publish(container, "destroy")
        self._waits.removed(container.id, WaitResult(container.state.exit_code, container.state.error))

    async def _remove_anonymous_volumes(self, container: Container) -> None:
        for point in container.mounts:
            volume = self._volumes.find(point.name) if point.type == "volume" else None
            if volume is not None and volume.anonymous and not self.users_of_volume(point.name):
                await self._volumes.remove(point.name)

    async def _attach(self, task: Task, container: Container, options: AttachOptions, client: Client) -> None:
        stdin = options.stdin and container.config.open_stdin
        await self._tasks.attach(
            task,
            client,
            wanted=_wanted(stdin, options.stdout, options.stderr),
            framed=not container.config.tty,
            detach_keys=options.detach_keys or "ctrl-p,ctrl-q",
        )

    async def _resize(self, task: Task, height: int, width: int, exec_id: str) -> None:
        try:
            await self._tasks.resize(task, height=height, width=width, exec_id=exec_id)
        except JobError as error:
            raise Conflict(f"cannot resize: {error}") from error

    def _running(self, ref: str) -> Container:
        container = self.get(ref)
        lifecycle.after(container.state.status, "exec", ref=container.id)
        return container

    def _on_exit(self, container_id: str, record: ExitRecord) -> None:
        container = self._store.find(container_id)
        if container is None or not container.state.running:
            return
        container = self._store.set_state(
            container_id,
            status="exited",
            pid=0,
            pid_start_ticks=0,
            exit_code=record.exit_code,
            error=record.error,
            oom_killed=record.oom_killed,
            finished_at_ns=record.finished_at_ns or time.time_ns(),
        )
        for running in self._execs.of(container_id):
            if running.running:
                self._on_exec_exit(running.id, 137)
        if record.oom_killed:
            self._publish(container, "oom")
        self._ended[container_id].set()
        self._spawn(self._after_exit(container))

    async def _after_exit(self, container: Container) -> None:
        """Clean up, then tell: whoever hears of the exit finds nothing of the run left."""
        await self._groups.remove(container.id)
        ran_ns = container.state.finished_at_ns - container.state.started_at_ns
        self._publish(
            container,
            "die",
            {"exitCode": str(container.state.exit_code), "execDuration": str(ran_ns // 1_000_000_000)},
        )
        result = WaitResult(container.state.exit_code, container.state.error)
        if container.host_config.auto_remove:
            self._waits.exited(container.id, result)
            async with self._locks[container.id]:
                if self._store.find(container.id) is not None:
                    await self._remove(self.get(container.id), volumes=True)
            return
        if self._restarts.wanted(container, ran_ns):
            self._store.set_state(container.id, status="restarting", restart_count=container.state.restart_count + 1)
        self._waits.exited(container.id, result)

    async def _start_again(self, container_id: str) -> None:
        """A restart by policy; a failure is left in the state."""
        async with self._locks[container_id]:
            container = self._store.find(container_id)
            if container is None or container.state.running or container.state.stopped_by_user:
                return
            try:
                await self._start(container)
            except MinidError:
                return

    def _on_exec_exit(self, exec_id: str, exit_code: int) -> None:
        record = self._execs.ended(exec_id, exit_code)
        if record is None:
            return
        container = self._store.find(record.container_id)
        if container is not None:
            left = tuple(other for other in container.exec_ids if other != exec_id)
            self._store.set_execs(container.id, left)
            self._publish(container, "exec_die", {"execID": exec_id, "exitCode": str(exit_code)})

    def _on_detach(self, container_id: str, exec_id: str | None) -> None:
        container = self._store.find(container_id)
        if container is not None:
            self._publish(container, "exec_detach" if exec_id else "detach", {"execID": exec_id} if exec_id else {})

    def _publish(self, container: Container, action: str, attributes: Mapping[str, str] | None = None) -> None:
        self._events.publish(
            "container",
            action,
            container.id,
            {**container.config.labels, "image": container.config.image, "name": container.name, **(attributes or {})},
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _wanted(stdin: bool, stdout: bool, stderr: bool) -> list[str]:
    return [name for name, on in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)) if on]


def _signal(text: str) -> int:
    try:
        return parse_signal(text)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None


def _check_keys(text: str) -> None:
    try:
        parse_keys(text)
    except ValueError as error:
        raise InvalidParameter(f"Invalid detach keys ({text}) provided: {error}") from None
