"""Containers: the way in. Every operation on a container starts here; the hard parts are in the modules
beside.

A record is replaced, never changed, so readers take what is there and do not wait. Writers of one container
go one
after the other, by its lock.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minid.containers import filters, health, lifecycle, logs, names, processes, resources
from minid.containers.attachments import check_keys
from minid.containers.bundle import Bundles
from minid.containers.contents import Contents
from minid.containers.create import Creation
from minid.containers.execs import Execs
from minid.containers.files import Files
from minid.containers.groups import Groups
from minid.containers.host import Host
from minid.containers.model import (
    AttachOptions,
    Client,
    Container,
    Created,
    CreateRequest,
    ListFilter,
    LogEntry,
    LogOptions,
    Resources,
    RestartPolicy,
    WaitResult,
)
from minid.containers.networking import Networking
from minid.containers.news import News
from minid.containers.ports import Bindings
from minid.containers.runner import SIGKILL, Runner, signal_number
from minid.containers.stats import Stats
from minid.containers.store import Store
from minid.containers.tasks import Tasks
from minid.errors import Conflict, Failed, InvalidParameter, NotModified
from minid.images.model import Image

Ids = list[str]
Rows = list[list[str]]
ContainerList = list[Container]


class Containers:
    """One per daemon."""

    def __init__(
        self,
        store: Store,
        creation: Creation,
        bundles: Bundles,
        tasks: Tasks,
        groups: Groups,
        execs: Execs,
        runner: Runner,
        contents: Contents,
        networking: Networking,
        news: News,
        host: Host,
        images_named: filters.Lookups,
    ) -> None:
        self._store = store
        self._creation = creation
        self._bundles = bundles
        self._tasks = tasks
        self._groups = groups
        self._runner = runner
        self._networking = networking
        self._news = news
        self._host = host
        self._lookups = images_named
        self.execs = execs
        self.stats = Stats(store, groups, networking, runner.waits)
        self.files = Files(self.get, store, contents, groups, runner.locks, news)
        tasks.on_detach = self._on_detach

    # -- reading

    def get(self, ref: str) -> Container:
        """By id, unique prefix, name or /name. Raises NotFound."""
        container = self._store.get(ref)
        if container.state.running:
            self._tasks.catch_up(container.id)
            container = self._store.find(container.id) or container
        return container

    def list(self, wanted: ListFilter) -> ContainerList:
        """Newest first, filters applied."""
        return filters.select(self._store.visible(), wanted, self._lookups)

    def users_of_volume(self, name: str) -> Ids:
        """Ids of the containers that mount the volume."""
        return [
            container.id
            for container in self._store.all()
            if any(point.type == "volume" and point.name == name for point in container.mounts)
        ]

    def users_of_image(self, image_id: str) -> Ids:
        """Ids of the containers made from the image."""
        return [container.id for container in self._store.all() if container.image_id == image_id]

    # -- life cycle

    async def create(self, request: CreateRequest, base: Image | None = None) -> Created:
        """Make a container that does not run. Raises NotFound, InvalidParameter, Conflict.

        With ``base`` (layers and a config that need not be an image) it is hidden: a step of a build.
        """
        draft = await self._creation.create(request, base)
        self._news.publish(draft.container, "create")
        return Created(draft.container.id, draft.warnings)

    async def start(self, ref: str) -> None:
        """Run the container's program.

        Raises NotModified if it runs already, CommandNotFound and others if it can't.
        """
        container_id = self.get(ref).id
        async with self._runner.locks[container_id]:
            await self._runner.settled(container_id)
            container = self._store.get(container_id)
            lifecycle.after(container.state.status, "start", ref=ref)
            if container.state.status == "exited" and container.host_config.auto_remove:
                raise Conflict(f"removal of container {ref} is already in progress")
            self._runner.restarts.cancel(container_id)
            await self._runner.start(self._store.set_state(container_id, stopped_by_user=False))

    async def stop(self, ref: str, *, timeout_s: int | None = None, signal: str = "") -> None:
        """Stop signal, then SIGKILL after ``timeout_s`` (negative: never). NotModified if it does not run."""
        container = self.get(ref)
        if container.state.status == "restarting":
            self._store.set_state(container.id, stopped_by_user=True)
            async with self._runner.locks[container.id]:  # a start that is under way comes first
                container = self.get(container.id)
                if container.state.status == "restarting":
                    self._runner.restarts.cancel(container.id)
                    self._store.set_state(container.id, status="exited")
                    self._runner.waits.exited(container.id, WaitResult(container.state.exit_code))
                    return
        if container.state.running:
            await self._runner.stop(container, timeout_s, signal)
        else:
            raise NotModified(f"container {ref} is already stopped")

    async def restart(self, ref: str, *, timeout_s: int | None = None, signal: str = "") -> None:
        """Stop (if it runs) and start."""
        container = self.get(ref)
        restarts = self._runner.restarts
        restarts.cancel(container.id)
        async with self._runner.locks[container.id]:
            restarts.hold(container.id)
            try:
                if self.get(container.id).state.running:
                    await self._runner.stop(self.get(container.id), timeout_s, signal)
            finally:
                restarts.release(container.id)
            await self._runner.settled(container.id)
            await self._runner.start(self._store.set_state(container.id, stopped_by_user=False))
        self._news.publish(container, "restart")

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Send a signal to the first process; after SIGKILL, wait for the end. Conflict when it does not
        run.
        """
        container = self.get(ref)
        number = signal_number(signal or "SIGKILL")
        if container.state.status == "restarting":
            await self.stop(ref)
            return
        if not container.state.running:
            lifecycle.after(container.state.status, "kill", ref=ref)
        if number in (SIGKILL, signal_number(container.config.stop_signal or "SIGTERM")):
            self._store.set_state(container.id, stopped_by_user=True)
        ended = self._runner.waits.register(container, "not-running")
        if not await self._runner.signal(container, number):
            ended.cancel()
            raise Conflict(f"cannot kill container: {ref}: container {container.id} is not running")
        if number != SIGKILL:
            ended.cancel()
            return
        if container.state.status == "paused":
            await self._groups.thaw(container.id)
        await ended

    async def pause(self, ref: str) -> None:
        """Freeze every process (cgroup freezer)."""
        container = self.get(ref)
        async with self._runner.locks[container.id]:
            status = lifecycle.after(self.get(container.id).state.status, "pause", ref=container.id)
            await self._groups.freeze(container.id)
            current = self.get(container.id)
            if current.state.running:  # it may have been killed meanwhile
                paused_health = health.interrupted(current.state.health)
                self._store.set_state(container.id, status=status, health=paused_health)
        self._news.publish(container, "pause")

    async def unpause(self, ref: str) -> None:
        """Let a frozen container run on."""
        container = self.get(ref)
        async with self._runner.locks[container.id]:
            status = lifecycle.after(self.get(container.id).state.status, "unpause", ref=container.id)
            await self._groups.thaw(container.id)
            if self.get(container.id).state.running:  # it may have been killed meanwhile
                self._store.set_state(container.id, status=status)
        self._news.publish(container, "unpause")

    def wait(self, ref: str, condition: str = "not-running") -> asyncio.Future[WaitResult]:
        """A future of the exit; registered when this returns."""
        return self._runner.waits.register(self.get(ref), condition)

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove the container, its writable layer and (``volumes``) its anonymous volumes."""
        container = self.get(ref)
        if container.state.status == "restarting" and force:
            with contextlib.suppress(NotModified):
                await self.stop(container.id, timeout_s=0)
        elif container.state.running and force:
            try:
                await self.kill(container.id)
            except Conflict:
                pass  # it has just ended
        else:
            lifecycle.after(container.state.status, "remove", ref=ref)
        async with self._runner.locks[container.id]:
            await self._runner.settled(container.id)
            if self._store.find(container.id) is not None:
                await self._runner.remove(self.get(container.id), volumes=volumes)

    async def rename(self, ref: str, name: str) -> None:
        """Give the container another name. Raises InvalidParameter, Conflict."""
        container = self.get(ref)
        if not name.removeprefix("/"):
            raise InvalidParameter("Neither old nor new names may be empty")
        new = names.check(name)
        if new == container.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        self._store.replace(dataclasses.replace(container, name=new))
        self._networking.renamed(self.get(container.id), container.name)
        self._news.publish(self.get(container.id), "rename", {"oldName": "/" + container.name})

    async def update(
        self, ref: str, changes: Resources, restart_policy: RestartPolicy | None
    ) -> tuple[str, ...]:
        """Change limits, at once if it runs; fields left at their default stay. Returns warnings."""
        container_id = self.get(ref).id
        warnings = resources.validate(changes, self._host, update=True)
        given = {
            field.name: getattr(changes, field.name)
            for field in dataclasses.fields(Resources)
            if getattr(changes, field.name) != field.default
        }
        if restart_policy is not None and restart_policy.name:
            given["restart_policy"] = restart_policy
        async with self._runner.locks[container_id]:
            container = self.get(container_id)
            host_config = dataclasses.replace(container.host_config, **given)
            updated = dataclasses.replace(container, host_config=host_config)
            if updated.state.running:
                warnings += await self._groups.update(container_id, self._bundles.resources(updated))
            # it may have ended meanwhile: its state is that of now
            self._store.replace(dataclasses.replace(self.get(container_id), host_config=host_config))
        self._news.publish(updated, "update")
        return tuple(warnings)

    async def edit_ports(self, ref: str, add: Bindings, remove: Bindings) -> None:
        """Publish other ports, at once if it runs (not in Docker's API). Raises InvalidParameter, NotFound, Failed."""
        container_id = self.get(ref).id
        async with self._runner.locks[container_id]:
            host_config = await self._networking.edit_ports(self.get(container_id), add, remove)
            self._store.replace(dataclasses.replace(self.get(container_id), host_config=host_config))

    async def unlink(self, path: str) -> None:
        """Take a link away, ``container/alias``. Raises NotFound; Failed for a container's own name."""
        ref, _, alias = path.removeprefix("/").partition("/")
        container_id = self.get(ref).id
        if not alias:
            raise Failed("Conflict, cannot remove the default link name of the container")
        async with self._runner.locks[container_id]:
            await self._networking.unlink(self.get(container_id), alias)

    async def connect(self, ref: str, network: str, settings: Any) -> None:
        """Join a network; ``settings`` is the API's ``EndpointSettings``. Raises NotFound, Forbidden and others."""
        container_id = self.get(ref).id
        async with self._runner.locks[container_id]:
            await self._networking.connect(self.get(container_id), network, settings)

    async def disconnect(self, ref: str, network: str) -> None:
        """Leave a network."""
        container_id = self.get(ref).id
        async with self._runner.locks[container_id]:
            await self._networking.disconnect(self.get(container_id), network)

    async def prune(self, wanted: Mapping[str, Sequence[str]]) -> tuple[Ids, int]:
        """Remove every container that does not run and matches; ids and bytes."""
        removed, reclaimed_bytes = [], 0
        for container in filters.prunable(self._store.visible(), wanted):
            reclaimed_bytes += (await self.files.size(container.id))[0]
            await self.remove(container.id)
            removed.append(container.id)
        return removed, reclaimed_bytes

    # -- streams

    def check_attach(self, ref: str, options: AttachOptions) -> Container:
        """What must be refused while an HTTP error is still possible: no such container, wrong keys, paused."""
        container = self.get(ref)
        check_keys(options.detach_keys)
        if container.state.status == "paused":
            raise Conflict(f"container {ref} is paused, unpause the container before attach")
        if container.state.status == "restarting":
            raise Conflict(f"container {ref} is restarting, wait until the container is running")
        return container

    async def attach(self, ref: str, options: AttachOptions, client: Client) -> None:
        """Hand the client's connection to the shim, or keep it for the next start."""
        container = self.get(ref)
        await self._runner.attachments.attach(container, options, client)
        self._news.publish(container, "attach")

    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[LogEntry]:
        """The log, from the file; works whether or not the container or its shim runs."""
        container = self.get(ref)
        if not container.log_path:
            raise InvalidParameter("configured logging driver does not support reading")
        return logs.read(Path(container.log_path), options, self._runner.ended(container))

    async def resize(self, ref: str, *, height: int, width: int) -> None:
        """Of the container's terminal, in characters."""
        container = self.get(ref)
        task = self._tasks.find(container.id)
        if task is None:
            raise Conflict(f"Container {container.id} is not running")
        await self._tasks.resize(task, height=height, width=width)

    # -- what is inside

    async def top(self, ref: str, ps_args: str = "-ef") -> tuple[Ids, Rows]:
        """Titles and rows of ps(1) for the container's processes."""
        container = self.get(ref)
        lifecycle.after(container.state.status, "top", ref=container.id)
        result = await processes.table(self._groups.pids(container.id), ps_args or "-ef")
        self._news.publish(container, "top")
        return result

    # -- the daemon's start and stop

    async def reconcile(self) -> None:
        """Find again what ran when the last daemon ended; deal with what has ended since."""
        await self._runner.remove_leftovers()
        await asyncio.gather(*(self._runner.reconcile(container) for container in tuple(self._store.all())))

    async def close(self) -> None:
        """Let go: containers run on."""
        await self._runner.close()

    def _on_detach(self, container_id: str, exec_id: str | None) -> None:
        container = self._store.find(container_id)
        if container is not None:
            if exec_id:
                self._news.publish(container, "exec_detach", {"execID": exec_id})
            else:
                self._news.publish(container, "detach")
