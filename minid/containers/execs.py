"""Execs: further programs in running containers. They live in memory; one ends with its container at the
latest.

``Engine API v1.44 § Exec``.
"""

import asyncio
import dataclasses
import secrets
import time
from collections import deque

from minid.containers import lifecycle
from minid.containers.attachments import check_keys, detach_keys, wanted
from minid.containers.bundle import Bundles
from minid.containers.groups import Enclosure
from minid.containers.model import Client, Container, Exec, ExecConfig
from minid.containers.news import News
from minid.containers.startfailure import of_exec
from minid.containers.store import Store
from minid.containers.tasks import Task, Tasks
from minid.errors import Conflict, InvalidParameter, MinidError, NotFound
from minid.shim.client import JobError

KILLED = 137
KEPT_S = 300.0  # how long one that has ended can be inspected, at least; dockerd's time


class FailedExec(Exception):
    """The program could not be started; ``error`` says why."""

    def __init__(self, error: MinidError) -> None:
        super().__init__(str(error))
        self.error = error


class Execs:
    """All execs by id."""

    def __init__(self, store: Store, tasks: Tasks, bundles: Bundles, news: News) -> None:
        self._store = store
        self._tasks = tasks
        self._bundles = bundles
        self._news = news
        self._execs: dict[str, Exec] = {}
        self._awaited: dict[str, asyncio.Future[int]] = {}
        self._finished: deque[tuple[float, str]] = deque()
        tasks.on_exec_exit = self.ended

    def get(self, exec_id: str) -> Exec:
        """By id or unique prefix. Raises NotFound."""
        record = self._execs.get(exec_id)
        if record is None:
            matches = [found for key, found in self._execs.items() if exec_id and key.startswith(exec_id)]
            if len(matches) != 1:
                raise NotFound(f"No such exec instance: {exec_id}")
            record = matches[0]
        if record.running:
            self._tasks.catch_up(record.container_id)
            record = self._execs[record.id]
        return record

    def create(self, container: Container, config: ExecConfig) -> str:
        """Register a program to be run in a running container; its id."""
        lifecycle.after(container.state.status, "exec", ref=container.id)
        if not config.cmd:
            raise InvalidParameter("No exec command specified")
        check_keys(config.detach_keys)
        record = Exec(secrets.token_hex(32), container.id, config)
        self._execs[record.id] = record
        self._store.set_execs(container.id, (*container.exec_ids, record.id))
        self._news.publish(container, "exec_create: " + " ".join(config.cmd), {"execID": record.id})
        return record.id

    async def start(
        self, exec_id: str, client: Client | None, console_size: tuple[int, int] | None = None
    ) -> None:
        """Run it. Detached (no ``client``) an error is raised; else errors are told on the client's stream.

        ``client`` is closed or handed over in any case. ``console_size``: height, width.
        """
        try:
            await self.run(exec_id, client, console_size)
        except FailedExec as failed:
            if client is None:
                raise failed.error from failed.__cause__

    async def run(
        self,
        exec_id: str,
        client: Client | None,
        console_size: tuple[int, int] | None = None,
        enclosure: Enclosure | None = None,
        raw: bool = False,
    ) -> None:
        """``start``, but an error of the program's start is raised as FailedExec, told on the stream or not.

        ``enclosure``: where in the container's cgroup it is. ``raw``: both of its outputs as they come, unframed.
        """
        try:
            record, container, task = self._startable(exec_id)
            config = dataclasses.replace(
                record.config, console_size=console_size or record.config.console_size
            )
            body = self._bundles.exec_body(container, config)
        except BaseException:
            if client is not None:
                client.close()
            raise
        if enclosure is not None:
            body |= {"cgroup_fork": enclosure.fork_directory, "cgroup_procs": list(enclosure.procs_files)}
        self._execs[record.id] = dataclasses.replace(record, running=True)
        self._news.publish(container, "exec_start: " + " ".join(config.cmd), {"execID": record.id})
        try:
            pid = await self._tasks.exec(
                task,
                record.id,
                body,
                client,
                wanted=wanted(config.attach_stdin, config.attach_stdout, config.attach_stderr),
                framed=not (config.tty or raw),
                detach_keys=detach_keys(config.detach_keys, tty=config.tty),
            )
        except (JobError, OSError) as error:
            failure, exit_code = of_exec(error)
            self.ended(record.id, exit_code)
            raise FailedExec(failure) from error
        else:
            if record.id in self._execs:
                self._execs[record.id] = dataclasses.replace(self._execs[record.id], pid=pid)

    def end_of(self, exec_id: str) -> "asyncio.Future[int]":
        """A future of its exit code, for one that has not ended; one at a time."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._awaited[exec_id] = future
        return future

    def check_start(self, exec_id: str) -> Exec:
        """The exec, if it can be started. Raises NotFound, Conflict."""
        return self._startable(exec_id)[0]

    async def resize(self, exec_id: str, *, height: int, width: int) -> None:
        """In characters. Raises Conflict if it does not run or has no terminal."""
        record = self.get(exec_id)
        task = self._tasks.find(record.container_id)
        if task is None or not record.running:
            raise Conflict(f"exec {exec_id} is not running")
        await self._tasks.resize(task, height=height, width=width, exec_id=record.id)

    def ended(self, exec_id: str, exit_code: int) -> None:
        """Record how it ended; the first exit code counts."""
        record = self._execs.get(exec_id)
        if record is None or record.exit_code is not None:
            return
        self._execs[exec_id] = dataclasses.replace(
            record, running=False, exit_code=exit_code, can_remove=True
        )
        awaited = self._awaited.pop(exec_id, None)
        if awaited is None:
            self._forget_old()
            self._finished.append((time.monotonic(), exec_id))
        elif not awaited.done():
            awaited.set_result(exit_code)  # who waits for it also drops it
        container = self._store.find(record.container_id)
        if container is not None:
            left = tuple(other for other in container.exec_ids if other != exec_id)
            self._store.set_execs(container.id, left)
            self._news.publish(container, "exec_die", {"execID": exec_id, "exitCode": str(exit_code)})

    def _forget_old(self) -> None:
        """A probe that runs every second for a year must not fill the memory."""
        while self._finished and self._finished[0][0] < time.monotonic() - KEPT_S:
            self._execs.pop(self._finished.popleft()[1], None)

    def container_ended(self, container_id: str) -> None:
        """The kernel has killed what was still running in it."""
        for record in self._of(container_id):
            if record.running:
                self.ended(record.id, KILLED)

    def forget(self, container_id: str) -> None:
        """The container is removed."""
        for record in self._of(container_id):
            self.drop(record.id)

    def drop(self, exec_id: str) -> None:
        """Nobody will ask for it any more. Idempotent."""
        record = self._execs.pop(exec_id, None)
        container = self._store.find(record.container_id) if record is not None else None
        if container is not None and exec_id in container.exec_ids:
            left = tuple(other for other in container.exec_ids if other != exec_id)
            self._store.set_execs(container.id, left)
        awaited = self._awaited.pop(exec_id, None)
        if awaited is not None:
            awaited.cancel()

    def _of(self, container_id: str) -> list[Exec]:
        return [record for record in self._execs.values() if record.container_id == container_id]

    def _startable(self, exec_id: str) -> tuple[Exec, Container, Task]:
        record = self.get(exec_id)
        container = self._store.get(record.container_id)
        lifecycle.after(container.state.status, "exec", ref=container.id)
        if record.exit_code is not None:
            raise Conflict(f"exec {exec_id} has already run")
        if record.running:
            raise Conflict(f"exec {exec_id} is already running")
        task = self._tasks.find(container.id)
        if task is None:
            raise Conflict(f"container {container.id} is not running")
        return record, container, task
