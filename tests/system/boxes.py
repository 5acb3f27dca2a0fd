"""Containers run through ``Tasks`` alone: an OCI bundle, a shim, a cgroup; no daemon, no API, no image."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minid.containers import host, resources, spec
from minid.containers.model import Client, ContainerConfig, HostConfig
from minid.containers.tasks import ExitRecord, Task, TaskOptions, Tasks
from minid.images.rootfs import Rootfs
from minid.kernel import process
from minid.kernel.cgroups import Tree
from minid.kernel.cgroups.cgroup import Cgroup
from minid.layout import Layout
from minid.shim.client import Forkserver
from tests.unit.containers.conftest import make_container

BUSYBOX = "/bin/busybox"
TIMEOUT_S = 20


@dataclass
class Box:
    """One container. ``out`` collects what its client gets."""

    boxes: "Boxes"
    id: str
    group: Cgroup
    spec: dict[str, Any]
    tty: bool
    exited: "asyncio.Future[ExitRecord]"
    task: Task | None = None
    exec_exits: "dict[str, asyncio.Future[int]]" = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        return self.boxes.layout.container(self.id)

    @property
    def socket_path(self) -> Path:
        return self.boxes.layout.shims / f"{self.id[:32]}.sock"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def spawn(self) -> Task:
        self.boxes.running[self.id] = self
        self.task = self.boxes.tasks.spawn(self.id, self.spec)
        return self.task

    async def attach(self, *wanted: str, exec_id: str = "", keys: str = "") -> socket.socket:
        """The client's end of a connection (non-blocking)."""
        assert self.task is not None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        await self.boxes.tasks.attach(
            self.task,
            Client(theirs.detach()),
            wanted=list(wanted),
            framed=False,
            detach_keys=keys,
            exec_id=exec_id,
        )
        return ours

    async def start(self, *wanted: str) -> socket.socket:
        """Run it with a client attached from the beginning."""
        task = self.spawn()
        client = await self.attach(*(wanted or ("stdout", "stderr")))
        try:
            await self.boxes.tasks.run(task)
            await self.boxes.tasks.start(task)
        except BaseException:
            client.close()
            raise
        return client

    async def end(self) -> ExitRecord:
        return await asyncio.wait_for(asyncio.shield(self.exited), TIMEOUT_S)

    async def exec(self, *command: str, client: socket.socket | None = None, **process_fields: Any) -> str:
        """Start another program; its id. ``client``: the shim's end of a connection, handed over."""
        assert self.task is not None
        exec_id = os.urandom(8).hex()
        self.exec_exits[exec_id] = asyncio.get_running_loop().create_future()
        described = {
            "args": list(command),
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": self.spec["process"]["capabilities"],
            **process_fields,
        }
        body = {"process": described, "user": "", "group_add": [], "open_stdin": True, "seccomp": False}
        await self.boxes.tasks.exec(
            self.task,
            exec_id,
            body,
            Client(client.detach()) if client is not None else None,
            wanted=["stdin", "stdout", "stderr"],
            framed=False,
            detach_keys="",
        )
        return exec_id

    async def exec_output(self, *command: str, **process_fields: Any) -> tuple[int, bytes]:
        """Exit code and output."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours:
            exec_id = await self.exec(*command, client=theirs, **process_fields)
            output = await receive_all(ours)
            return await asyncio.wait_for(self.exec_exits[exec_id], TIMEOUT_S), output

    def shim(self) -> int:
        """The pid of the shim's keeper."""
        assert self.task is not None and self.task.pid
        return int(process.stat_fields(self.task.pid)[1])

    def worker(self) -> int:
        """The pid of the shim's worker; 0 while it rests."""
        for pid in process.list_children(self.shim()):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                if Path(f"/proc/{pid}/comm").read_text() == "minid-worker\n":
                    return pid
        return 0

    async def rest(self) -> None:
        """Until the shim rests."""
        while worker := self.worker():
            await ended(worker)

    def next_run(self) -> "Box":
        """The same container once more."""
        return self.boxes.prepare(self.id, self.spec, self.boxes.options[self.id], self.group, self.tty)


class Boxes:
    """Where they live; ``Boxes.open`` cleans up and checks that nothing is left."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = Layout(root / "data", root / "run")
        for directory in (self.layout.containers, self.layout.shims):
            directory.mkdir(parents=True)
        self.lower = root / "lower"
        make_rootfs(self.lower)
        self.tree = Tree.open(f"mt-{root.name}")
        self.host = host.gather(self.tree)
        self.forkserver = Forkserver()
        self.tasks = Tasks(self.layout, self.forkserver)
        self.running: dict[str, Box] = {}
        self.options: dict[str, TaskOptions] = {}
        self.tasks.on_exit = lambda container_id, record: self._on_exit(self.running[container_id], record)
        self.tasks.on_exec_exit = self._on_exec_exit

    def _on_exit(self, box: Box, record: ExitRecord) -> None:
        assert not box.exited.done(), "an exit is told once"
        box.exited.set_result(record)

    def _on_exec_exit(self, exec_id: str, exit_code: int) -> None:
        for box in self.running.values():
            if exec_id in box.exec_exits:
                box.exec_exits[exec_id].set_result(exit_code)

    def make(
        self,
        *command: str,
        limits: dict[str, Any] | None = None,
        tty: bool = False,
        host_config: HostConfig | None = None,
        **options: Any,
    ) -> Box:
        """A container that is ready to be run. ``limits``: OCI ``linux.resources``; ``options``: of TaskOptions."""
        container_id = os.urandom(32).hex()
        directory = self.layout.container(container_id)
        for name in ("rw", "work"):
            (directory / name).mkdir(parents=True)
        config = ContainerConfig(cmd=command, tty=tty, env=("PATH=/bin",))
        container = make_container(
            config, replace(host_config or HostConfig(), network_mode="none"), self.host, id=container_id
        )
        group = self.tree.create(
            container_id, limits or resources.section(container.host_config, [], self.host)
        )
        described = spec.build(
            container, host=self.host, rootfs_path="rootfs", etc_files={}, cgroup_path=f"/{container_id}"
        )
        settings: dict[str, Any] = {
            "rootfs": Rootfs("overlay", (str(self.lower),), str(directory / "rw"), str(directory / "work")),
            "terminal": tty,
            "namespaces": {each["type"]: each.get("path", "") for each in described["linux"]["namespaces"]},
            "subpaths": {},
            "cgroup_paths": dict(group.paths),
            "cgroup_procs": tuple(group.procs_files),
            "cgroup_fork": group.fork_directory,
            "oom_file": group.oom_file or "",
            "seccomp": "",
            "seccomp_flags": 0,
            "user": "",
            "group_add": (),
            "init": False,
            "open_stdin": False,
            "stdin_once": False,
            "log": {"path": str(directory / "log"), "config": {}, "attributes": {}},
        }
        return self.prepare(container_id, described, TaskOptions(**(settings | options)), group, tty)

    def prepare(
        self, container_id: str, described: dict[str, Any], options: TaskOptions, group: Cgroup, tty: bool
    ) -> Box:
        self.options[container_id] = options
        self.tasks.write_bundle(container_id, described, options)
        return Box(self, container_id, group, described, tty, asyncio.get_running_loop().create_future())

    def processes(self) -> list[str]:
        """Shims of these containers, as ps shows them, and the pids in their cgroups."""
        found = [str(pid) for name in self.tree.list() for pid in (self.tree.find(name) or _nothing()).pids()]
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                title = Path(f"/proc/{name}/cmdline").read_bytes().rstrip(b"\0").decode()
            except OSError:
                continue
            if any(title == f"minid: shim of {container_id[:12]}" for container_id in self.options):
                found.append(f"{name} {title}")
        if self.tasks._spare is None:  # one that has not yet heard whose it is
            shims = process.list_children(self.forkserver.pid)
            found += [f"{pid} shim" for pid in shims if not any(each.startswith(f"{pid} ") for each in found)]
        return found

    async def all_gone(self) -> None:
        """Until no shim and no process of a container is left; fails if that takes long."""
        probe = self.forkserver.fork_shim(ahead=False)
        await probe.request("state")  # the forkserver has dealt with everything before
        probe.close()
        async with asyncio.timeout(TIMEOUT_S):
            while left := self.processes():
                await ended(int(left[0].split()[0]))

    async def close(self) -> None:
        self.tasks.close()
        for name in self.tree.list():
            group = self.tree.find(name)
            assert group is not None
            group.kill()
            group.remove()
        await self.all_gone()
        self.forkserver.close()
        self.tree.prune()


def _nothing() -> Cgroup:
    raise AssertionError("a cgroup disappeared while it was looked at")


@asynccontextmanager
async def open_boxes() -> AsyncIterator[Boxes]:
    """Everything is taken away at the end, sockets of shims and mounts that are left fail the test."""
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    boxes = Boxes(root)
    try:
        yield boxes
        await boxes.close()
        left = [path.name for path in boxes.layout.shims.iterdir()]
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(root) in line]
        errors = [path.read_text() for path in boxes.layout.containers.glob("*/shim-error.txt")]
        assert not left and not mounts and not errors, (left, mounts, errors)
    finally:
        boxes.forkserver.close()
        shutil.rmtree(root)


def make_rootfs(lower: Path) -> None:
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (lower / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, lower / "bin/busybox")
    for name in [
        "sh",
        "ls",
        "cat",
        "echo",
        "true",
        "false",
        "id",
        "ps",
        "sleep",
        "env",
        "tty",
        "stty",
        "head",
        "tail",
        "kill",
        "tee",
        "dd",
        "wc",
        "yes",
        "readlink",
        "test",
        "md5sum",
        "umask",
    ]:
        os.link(lower / "bin/busybox", lower / "bin" / name)
    (lower / "bin/not-executable").write_text("x")
    (lower / "bin/no-format").write_text("x")
    (lower / "bin/no-format").chmod(0o755)
    (lower / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n")
    (lower / "etc/group").write_text("root:x:0:\nbob:x:1000:\n")


async def receive_all(sock: socket.socket) -> bytes:
    """To the end of the stream."""
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(TIMEOUT_S):
        while piece := await loop.sock_recv(sock, 1 << 16):
            data += piece
    return data


async def receive_until(sock: socket.socket, wanted: bytes) -> bytes:
    """Until ``wanted`` has come."""
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(TIMEOUT_S):
        while wanted not in data:
            piece = await loop.sock_recv(sock, 1 << 16)
            assert piece, f"the end after {data!r}"
            data += piece
    return data


async def ended(pid: int) -> None:
    """Until the process has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(pidfd, over.set)
    try:
        await asyncio.wait_for(over.wait(), TIMEOUT_S)
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
