"""Tasks: the running half of containers. A task is a shim and its connection; this module starts, finds and
ends them.

On disk, for the shim and for a later daemon: ``containers/<id>/bundle/config.json`` (OCI runtime spec),
``task.json`` (what the
specification has no word for: layers, log, user by name), ``exit.json`` (written by the shim when the
program has ended).
"""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minid.containers.model import Client
from minid.errors import MinidError
from minid.images.rootfs import Rootfs
from minid.kernel.files import remove_tree
from minid.layout import Layout
from minid.shim.client import Forkserver, ShimConnection
from minid.shim.sandbox import COMMON_NAMESPACES

SPARE_DELAY_S = 0.006  # measured: see decision 0019
RECONNECT_S = 10.0  # for a shim to say what it runs: more means that it hangs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a task ended. ``exit_code`` is 128 + signal number for a signal."""

    exit_code: int
    finished_at_ns: int
    oom_killed: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What the shim needs beside the OCI spec; ``seccomp`` is the path of a compiled filter, "" for none."""

    rootfs: Rootfs
    terminal: bool
    namespaces: Mapping[str, str]  # those the container does not share with the host: "" new, else whose
    subpaths: Mapping[str, str]  # destination → the part of a mount's source that lies inside a volume
    cgroup_paths: Mapping[str, str]
    cgroup_procs: tuple[str, ...]
    cgroup_fork: str | None
    oom_file: str
    seccomp: str
    seccomp_flags: int
    user: str
    group_add: tuple[str, ...]
    init: bool
    open_stdin: bool
    stdin_once: bool
    log: Mapping[str, Any]


@dataclass(slots=True)
class Task:
    """A live shim. ``pid`` is the container's first process as the host sees it."""

    container_id: str
    connection: ShimConnection
    pid: int = 0
    start_ticks: int = 0
    started: bool = False  # the program was let go, and the shim has answered
    exited: bool = False


class Tasks:
    """All tasks of this daemon; the callbacks tell the service what happened, each exit exactly once."""

    def __init__(self, layout: Layout, forkserver: Forkserver) -> None:
        self._layout = layout
        self._forkserver = forkserver
        self._tasks: dict[str, Task] = {}
        self._spare: ShimConnection | None = None
        self._closed = False
        self.on_exit: Callable[[str, ExitRecord], None] = lambda container_id, record: None
        self.on_exec_exit: Callable[[str, int], None] = lambda exec_id, exit_code: None
        self.on_detach: Callable[[str, str | None], None] = lambda container_id, exec_id: None

    def find(self, container_id: str) -> Task | None:
        return self._tasks.get(container_id)

    def catch_up(self, container_id: str) -> None:
        """Let what its shim has told already take effect."""
        task = self._tasks.get(container_id)
        if task is not None:
            task.connection.catch_up()

    def write_bundle(self, container_id: str, spec: Mapping[str, Any], options: TaskOptions) -> None:
        """Put ``config.json`` and ``task.json`` in place and clear what the last run left."""
        directory = self._layout.container(container_id)
        bundle = directory / "bundle"
        os.makedirs(bundle / "rootfs", exist_ok=True)
        _write_json(bundle / "config.json", spec)
        _write_json(directory / "task.json", asdict(options))
        for stale in ("exit.json", "exit.json.aside", "shim-error.txt"):
            (directory / stale).unlink(missing_ok=True)

    def spawn(self, container_id: str, spec: Mapping[str, Any]) -> Task:
        """A shim for a container whose bundle is written: the spare one if it fits, else a new one.

        Nothing that the container can be told by exists yet.
        """
        socket_path = self._socket_path(container_id)
        socket_path.unlink(missing_ok=True)
        directory = self._layout.container(container_id)
        connection = self._take_spare() if is_common(spec) else None
        if connection is not None:
            try:
                connection.adopt(directory, socket_path)
            except OSError:  # it was killed while it waited
                connection.close()
                connection = None
        if connection is None:
            connection = self._forkserver.fork_shim(ahead=False)
            connection.adopt(directory, socket_path)
        return self._adopt(container_id, connection)

    def ensure_spare(self) -> None:
        """Have a shim ready for the next start: what most of them need is then made already. An attempt."""
        if self._closed or (self._spare is not None and not self._spare.closed):
            return
        try:
            self._spare = self._forkserver.fork_shim(ahead=True)
        except (MinidError, OSError) as error:
            log.warning("no spare shim: %s", error)

    def ensure_spare_soon(self) -> None:
        """``ensure_spare`` when the container that has just started may have ended: most that are over quickly are
        over by then, and need not share the processors with what is made for the next.
        """
        asyncio.get_running_loop().call_later(SPARE_DELAY_S, self.ensure_spare)

    def _take_spare(self) -> ShimConnection | None:
        spare, self._spare = self._spare, None
        return None if spare is None or spare.closed else spare

    async def run(self, task: Task) -> None:
        """Build the sandbox; the program waits for ``start``. Raises JobError with the reason if that
        fails.
        """
        answer = await task.connection.request("run")
        task.pid, task.start_ticks = answer["pid"], answer["start_ticks"]

    async def start(self, task: Task) -> int:
        """Let the program run; its start in nanoseconds since the epoch. Raises JobError if it can't be
        executed.
        """
        answer = await task.connection.request("start")
        task.started = True
        if task.connection.closed:  # while this answer was on its way
            self._on_event(task, {"event": "closed"})
        started_at_ns: int = answer["started_at_ns"]
        return started_at_ns

    async def attach(
        self,
        task: Task,
        client: Client,
        *,
        wanted: Sequence[str],
        framed: bool,
        detach_keys: str,
        exec_id: str = "",
    ) -> None:
        """Hand a client's connection to the shim; this process's copy is closed in any case."""
        with _fds(client) as fds:
            await task.connection.request(
                "attach", fds, wanted=list(wanted), framed=framed, detach_keys=detach_keys, exec_id=exec_id
            )

    async def exec(
        self,
        task: Task,
        exec_id: str,
        body: Mapping[str, Any],
        client: Client | None,
        *,
        wanted: Sequence[str],
        framed: bool,
        detach_keys: str,
    ) -> int:
        """Start another program in the sandbox; its pid. ``body``: process, user, group_add, open_stdin,
        seccomp.
        """
        with _memfd(json.dumps(body).encode()) as body_fd, _fds(client) as fds:
            answer = await task.connection.request(
                "exec",
                [body_fd, *fds],
                exec_id=exec_id,
                wanted=list(wanted),
                framed=framed,
                detach_keys=detach_keys,
            )
        pid: int = answer["pid"]
        return pid

    async def signal(self, task: Task, number: int) -> None:
        """Send a signal to the container's first process; ProcessLookupError (as JobError) when it has
        ended.
        """
        await task.connection.request("signal", signal=number)

    async def resize(self, task: Task, *, height: int, width: int, exec_id: str = "") -> None:
        await task.connection.request("resize", height=height, width=width, exec_id=exec_id)

    def discard(self, container_id: str) -> None:
        """Forget a task whose start failed; its shim ends by itself when the connection closes."""
        task = self._tasks.pop(container_id, None)
        if task is not None:
            task.exited = True
            task.connection.close()

    async def reconnect(self, container_id: str) -> Task | ExitRecord:
        """Find the shim of a container that ran when the last daemon ended, or how it has ended since."""
        try:
            connection = ShimConnection.connect(self._socket_path(container_id))
        except OSError:
            return self.read_exit(container_id)
        task = self._adopt(container_id, connection)
        try:
            async with asyncio.timeout(RECONNECT_S):
                answer = await connection.request("state")
        except TimeoutError:
            log.error("the shim does not answer, and is left alone", extra={"container": container_id})
            task.started = True
            return task
        except ConnectionError:
            self.discard(container_id)
            return self.read_exit(container_id)
        if not answer["running"]:
            # it has ended and only flushes its last output to clients, or it never started
            self.discard(container_id)
            return self.read_exit(container_id)
        task.pid, task.started = answer["pid"], True
        return task

    def read_exit(self, container_id: str) -> ExitRecord:
        """The exit record on disk; one that says so if the shim was killed before it could write it."""
        try:
            data = json.loads((self._layout.container(container_id) / "exit.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return ExitRecord(
                137, 0, error="the container ended together with its shim (killed, or the machine stopped)"
            )
        return ExitRecord(data["exit_code"], data["finished_at_ns"], data["oom_killed"])

    def close(self) -> None:
        """Let go of all shims; they and their containers live on, the spare one ends."""
        self._closed = True
        if self._spare is not None:
            self._spare.close()
        for task in self._tasks.values():
            task.exited = True
            task.connection.close()
        self._tasks.clear()

    def remove_files(self, container_id: str) -> None:
        """The container's directory and socket, gone."""
        self._socket_path(container_id).unlink(missing_ok=True)
        remove_tree(str(self._layout.container(container_id)))

    def _socket_path(self, container_id: str) -> Path:
        # sun_path holds 107 bytes; 32 digits are as unique as 64 among the containers of one machine
        return self._layout.shims / f"{container_id[:32]}.sock"

    def _adopt(self, container_id: str, connection: ShimConnection) -> Task:
        task = Task(container_id, connection)
        self._tasks[container_id] = task
        connection.on_event = lambda message: self._on_event(task, message)
        return task

    def _on_event(self, task: Task, message: Mapping[str, Any]) -> None:
        event = message["event"]
        if event == "exec-exit":
            self.on_exec_exit(message["exec_id"], message["exit_code"])
        elif event == "detach":
            self.on_detach(task.container_id, message.get("exec_id"))
        elif not task.exited and (task.started or event == "exit"):
            # (a shim that ends before it has started anything fails the requests that wait for it)
            task.exited = True
            self._tasks.pop(task.container_id, None)
            if event == "exit":
                record = ExitRecord(message["exit_code"], message["finished_at_ns"], message["oom_killed"])
            else:
                record = self.read_exit(task.container_id)
            self.on_exit(task.container_id, record)


def is_common(spec: Mapping[str, Any]) -> bool:
    """Whether the container has the usual namespaces of its own, which a spare shim was made with."""
    fresh = {each["type"] for each in spec["linux"]["namespaces"] if not each.get("path")}
    return fresh >= COMMON_NAMESPACES


class _fds:
    """The descriptors of a client for one message: its connection, and a memfd with its early input if
    there is any.
    """

    def __init__(self, client: Client | None) -> None:
        self._fds = [] if client is None else [client.fd]
        if client is not None and client.initial:
            self._fds.append(_memfd(client.initial).fd)

    def __enter__(self) -> list[int]:
        return self._fds

    def __exit__(self, *error: object) -> None:
        for fd in self._fds:
            os.close(fd)


class _memfd:
    """A memfd holding ``data``, to be read from its beginning."""

    def __init__(self, data: bytes) -> None:
        self.fd = os.memfd_create("minid-message", os.MFD_CLOEXEC)
        os.write(self.fd, data)
        os.lseek(self.fd, 0, os.SEEK_SET)

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, separators=(",", ":")))
