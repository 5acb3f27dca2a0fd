"""``RUN --mount``: what is mounted, what of it counts for the cache, and where it comes from.

    bind     files of the context, a stage or an image: copied aside for this build; what RUN writes is thrown away
    cache    a directory under the data root that outlives builds, shared by its id
    tmpfs    memory
    secret   the client's bytes, in a file under the exec root (memory), or a variable; in no key, layer or history
    ssh      a socket that leads to the client's agent

Source: docs.docker.com/reference/dockerfile § RUN --mount.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minid.build.copying import Copier, Copy
from minid.build.dockerfile.model import ExecForm, Mount, Run
from minid.build.request import BuildRequest
from minid.build.state import StageState, resolve_path
from minid.build.transfers import Find, Transfers
from minid.containers import model as containers
from minid.errors import InvalidParameter
from minid.images.retention import KeyedLocks
from minid.images.rootfs import Rootfs
from minid.images.threads import settle

SECRETS = "/run/secrets"
AGENT = "/run/buildkit/ssh_agent.{}"
SCRIPTS = "/dev/pipes"  # where a heredoc that is a program of its own is put

Files = Mapping[str, bytes]


@dataclass(slots=True)
class Prepared:
    """``keys`` count for the cache. ``ready()`` makes the mounts; ``points`` and ``env`` are complete inside it."""

    locks: KeyedLocks
    keys: list[Any] = field(default_factory=list)
    points: tuple[containers.Mount, ...] = ()
    env: tuple[str, ...] = ()
    makers: list[Callable[[contextlib.AsyncExitStack], Awaitable[containers.Mount | None]]] = field(
        default_factory=list
    )
    locked: set[str] = field(default_factory=set)  # caches that nobody else has meanwhile

    @contextlib.asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        """Make everything that is to be mounted; take it away afterwards."""
        async with contextlib.AsyncExitStack() as stack:
            # In one order everywhere, and each once, so that nobody waits in a circle.
            for name in sorted(self.locked):
                await stack.enter_async_context(self.locks.hold(name))
            made = [await make(stack) for make in self.makers]
            self.points = tuple(point for point in made if point is not None)
            yield


class Mounts:
    """One a daemon. ``caches`` is the directory of cache mounts; ``private`` one in memory, ``asides`` one on disk."""

    def __init__(
        self, copier: Copier, transfers: Transfers, caches: Path, private: Path, asides: Path
    ) -> None:
        self._copier = copier
        self._transfers = transfers
        self._caches = caches
        self._private = private
        self._asides = asides
        self._locks = KeyedLocks()
        self._in_use: Counter[Path] = Counter()

    def is_used(self, cache: Path) -> bool:
        """Whether a RUN has this cache mount at the moment."""
        return self._in_use[cache] > 0

    def command(self, run: Run, state: StageState) -> tuple[list[str], Files]:
        """The words to execute, and files that they need."""
        if isinstance(run.command, ExecForm):
            return list(run.command.args), {}
        script = run.script
        assert script is not None
        if script.own_interpreter:
            path = f"{SCRIPTS}/{script.name}"
            return [path], {path: script.text.encode("utf-8", "surrogateescape")}
        return [*state.shell, script.text], {}

    @contextlib.asynccontextmanager
    async def prepared(
        self, run: Run, state: StageState, files: Files, find: Find, request: BuildRequest
    ) -> AsyncIterator[Prepared]:
        """Everything that ``run`` mounts, as long as the context lasts. Raises InvalidParameter, NotFound."""
        prepared = Prepared(self._locks)
        async with contextlib.AsyncExitStack() as stack:
            for mount in run.mounts:
                await self._prepare(prepared, mount, state, find, request, stack)
            for path, content in files.items():
                prepared.keys.append({"file": path, "digest": hashlib.sha256(content).hexdigest()})
                prepared.makers.append(self._file(path, content, 0o755, 0, 0))
            yield prepared

    async def _prepare(
        self,
        prepared: Prepared,
        mount: Mount,
        state: StageState,
        find: Find,
        request: BuildRequest,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        target = resolve_path(state, mount.target) if mount.target else ""
        key = {"type": mount.type, "target": target, "readonly": mount.readonly}
        if mount.type == "bind":
            source = await self._transfers.source(await find(mount.from_), stack)
            wanted = mount.source.strip("/") or "."
            copy = Copy((wanted,), "/", parents=wanted != ".", instruction="RUN --mount")
            key["digest"] = await self._copier.digest(source, copy)

            async def bind(inner: contextlib.AsyncExitStack) -> containers.Mount:
                directory = await inner.enter_async_context(self._aside())
                await self._copier.copy(Rootfs("bind", source=str(directory)), source, copy)
                path = str(directory) if wanted == "." else str(directory / wanted)
                return containers.Mount("bind", path, target, read_only=mount.readonly)

            prepared.makers.append(bind)
        elif mount.type == "cache":
            prepared.makers.append(self._cache(prepared, mount, target))
        elif mount.type == "tmpfs":
            options = containers.TmpfsOptions(size_bytes=mount.size_bytes or 0)

            async def tmpfs(inner: contextlib.AsyncExitStack) -> containers.Mount:
                return containers.Mount("tmpfs", "", target, tmpfs_options=options)

            prepared.makers.append(tmpfs)
        elif mount.type == "secret":
            self._secret(prepared, mount, target, request)
        elif mount.type == "ssh":
            self._agent(prepared, mount, target, request)
        else:
            raise InvalidParameter(f"RUN --mount: unknown type {mount.type!r}")
        prepared.keys.append(key)

    def _secret(self, prepared: Prepared, mount: Mount, target: str, request: BuildRequest) -> None:
        name = mount.id or os.path.basename(target)
        content = request.session.secrets.get(name)
        if content is None:
            if mount.required:
                raise InvalidParameter(
                    f"secret {name} is not there: give it with --secret id={name},src=FILE (or env=VARIABLE)"
                )
            return
        if mount.env:
            prepared.env = (*prepared.env, f"{mount.env}={content.decode('utf-8', 'surrogateescape')}")
        if target or not mount.env:
            mode = 0o400 if mount.mode is None else mount.mode
            path = target or f"{SECRETS}/{name}"
            prepared.makers.append(self._file(path, content, mode, mount.uid or 0, mount.gid or 0))

    def _agent(self, prepared: Prepared, mount: Mount, target: str, request: BuildRequest) -> None:
        name = mount.id or "default"
        socket = request.session.agents.get(name)
        if socket is None:
            if mount.required:
                raise InvalidParameter(f"no ssh agent {name} is forwarded: give it with --ssh {name}")
            return
        path = target or AGENT.format(sum("SSH_AUTH_SOCK" in item for item in prepared.env))
        prepared.env = (*prepared.env, f"SSH_AUTH_SOCK={path}")

        async def agent(inner: contextlib.AsyncExitStack) -> containers.Mount:
            os.chown(socket, mount.uid or 0, mount.gid or 0)
            os.chmod(socket, 0o600 if mount.mode is None else mount.mode)
            return containers.Mount("bind", socket, path)

        prepared.makers.append(agent)

    def _file(
        self, target: str, content: bytes, mode: int, uid: int, gid: int
    ) -> Callable[[contextlib.AsyncExitStack], Awaitable[containers.Mount]]:
        async def make(stack: contextlib.AsyncExitStack) -> containers.Mount:
            path = self._private / secrets.token_hex(8)
            stack.callback(path.unlink, missing_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.fchown(fd, uid, gid)
                os.fchmod(fd, mode)
                with os.fdopen(os.dup(fd), "wb") as file:
                    file.write(content)
            finally:
                os.close(fd)
            return containers.Mount("bind", str(path), target, read_only=True)

        return make

    def _cache(
        self, prepared: Prepared, mount: Mount, target: str
    ) -> Callable[[contextlib.AsyncExitStack], Awaitable[containers.Mount]]:
        name = hashlib.sha256((mount.id or target).encode("utf-8", "surrogateescape")).hexdigest()
        if mount.sharing == "locked":
            prepared.locked.add(name)

        async def make(stack: contextlib.AsyncExitStack) -> containers.Mount:
            directory = self._caches / name
            if mount.sharing == "private":
                number = 0
                while self._in_use[directory]:
                    number += 1
                    directory = self._caches / f"{name}-{number}"
            self._in_use[directory] += 1
            stack.callback(self._in_use.subtract, [directory])
            if not directory.exists():
                aside = self._caches / f".{secrets.token_hex(8)}"
                aside.mkdir(mode=0o700, parents=True)
                os.chown(aside, mount.uid or 0, mount.gid or 0)
                os.chmod(aside, 0o755 if mount.mode is None else mount.mode)
                os.rename(aside, directory)
            return containers.Mount("bind", str(directory), target, read_only=mount.readonly)

        return make

    @contextlib.asynccontextmanager
    async def _aside(self) -> AsyncIterator[Path]:
        directory = self._asides / secrets.token_hex(8)
        directory.mkdir(mode=0o755, parents=True)
        try:
            yield directory
        finally:
            await settle(
                asyncio.ensure_future(asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True))
            )
