"""Builds: the way in.

<data root>/build/   caches/<sha256 of the id>/   directories of RUN --mount=type=cache
                     asides/                      what lives as long as a build; emptied at start-up
<exec root>/build/                                secrets, for as long as the RUN that mounts them
"""

import asyncio
import logging
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from minid.build import context as contexts
from minid.build.builder import Build
from minid.build.cache import Cache
from minid.build.context import Context
from minid.build.copying import Copier
from minid.build.dockerfile import parse
from minid.build.dockerfile.checks import check, parse_options
from minid.build.dockerfile.model import Dockerfile
from minid.build.downloads import Downloads
from minid.build.mounts import Mounts
from minid.build.patterns import Patterns, read_ignore_file
from minid.build.progress import BuildWarning, Report
from minid.build.pruning import CACHE_MOUNT, LAYER, SOURCE, Record, Wanted, choose
from minid.build.request import BuildRequest, Session
from minid.build.runs import Runs
from minid.build.scratch import Scratch
from minid.build.sessions import Sessions
from minid.build.transfers import Transfers
from minid.config.builder import BuilderGc
from minid.containers.service import Containers
from minid.errors import InvalidParameter, NotFound, Unsupported
from minid.images.platform import host_platform
from minid.images.service import Images
from minid.images.snapshots import Snapshots
from minid.kernel.trees import tree_size
from minid.layout import Layout
from minid.shim.client import Jobs
from minid.state import Database

DOCKERFILE_MAX_BYTES = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What ``POST /build/prune`` took away."""

    keys: tuple[str, ...]
    reclaimed_bytes: int


class Builds:
    """One a daemon."""

    def __init__(
        self,
        database: Database,
        layout: Layout,
        images: Images,
        containers: Containers,
        snapshots: Snapshots,
        jobs: Jobs,
        policy: BuilderGc,
    ) -> None:
        if images.making is None:
            raise Unsupported("building images is not possible here")
        self._images = images
        self._making = images.making
        self.jobs = jobs
        self._root = layout.data_root / "build"
        self.cache = Cache(database)
        self._runs = Runs(containers, self._making)
        copier = Copier(jobs)
        self._downloads = Downloads(self._root / "downloads", self.asides, jobs)
        self._transfers = Transfers(copier, self._downloads, Scratch(layout, snapshots), self._making)
        self._mounts = Mounts(
            copier, self._transfers, self._root / "caches", layout.exec_root / "build", self.asides
        )
        self._caches = self._root / "caches"
        self._private = layout.exec_root / "build"
        self.policy = policy
        self.sessions = Sessions(self._private)

    @property
    def asides(self) -> Path:
        """Where contexts take their space."""
        return self._root / "asides"

    async def clean_up(self) -> None:
        """At start: remove what interrupted builds have left."""
        for directory in (self.asides, self._private):
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        self._private.mkdir(mode=0o700, exist_ok=True)
        self.asides.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._root / "caches").mkdir(mode=0o700, exist_ok=True)

    async def receive(self, stream: AsyncIterator[bytes]) -> Context:
        """The context whose tar ``stream`` brings. InvalidParameter."""
        return await contexts.receive(stream, self.asides, self.jobs)

    async def fetch(self, remote: str, dockerfile: str, session: Session) -> tuple[Context, bool]:
        """The context at a URL or in a git repository, without what its .dockerignore excludes; true if it is only a
        Dockerfile, of that name. InvalidParameter, Failed.
        """
        context, is_dockerfile = await self._downloads.fetch_context(
            remote, agent=session.agents.get("default", "")
        )
        try:
            if not is_dockerfile:
                await self._exclude(context, dockerfile)
        except BaseException:
            context.close()
            raise
        return context, is_dockerfile

    async def _exclude(self, context: Context, dockerfile: str) -> None:
        """As clients do it before they send a context; the Dockerfile and .dockerignore stay."""
        for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
            text = await context.find(name)
            if text is not None:
                lines = read_ignore_file(text.decode("utf-8", "replace"))
                await context.exclude(Patterns([*lines, f"!{dockerfile}", f"!{name}"]))
                return

    async def close(self) -> None:
        self.sessions.close()
        await self._downloads.close()

    async def build(self, request: BuildRequest, context: Context, report: Report) -> str:
        """The id of the image that ``request`` describes. Cancel the task to stop it; the cache keeps what was done.

        Raises DockerfileError, StepFailed, InvalidParameter, NotFound and what pulls and containers raise.
        """
        if request.squash:
            raise Unsupported("--squash is not supported: use a multi-stage build to leave layers behind")
        dockerfile = await self._parse(request, context)
        await self._warn(request, dockerfile, report)
        await self._take_out_ignored(request, context)
        build = Build(
            request,
            dockerfile,
            context,
            report,
            images=self._images,
            making=self._making,
            runs=self._runs,
            transfers=self._transfers,
            mounts=self._mounts,
            cache=self.cache,
            host=host_platform(),
        )
        try:
            return await build.run()
        finally:
            await self._keep_small()

    async def check(self, request: BuildRequest, context: Context) -> list[BuildWarning]:
        """The well-known mistakes in the Dockerfile. Raises DockerfileError."""
        return await self._warnings(request, await self._parse(request, context))

    async def _parse(self, request: BuildRequest, context: Context) -> Dockerfile:
        """In a thread: a large file takes its time."""
        text = await self._dockerfile(request, context)
        return await asyncio.to_thread(parse, text, name=request.dockerfile)

    async def _warnings(self, request: BuildRequest, dockerfile: Dockerfile) -> list[BuildWarning]:
        setting = request.arguments.get("BUILDKIT_DOCKERFILE_CHECK")
        options = parse_options(setting) if setting else None
        found = await asyncio.to_thread(check, dockerfile, options=options)
        return [BuildWarning(each.rule, each.message, each.location.first) for each in found]

    async def _warn(self, request: BuildRequest, dockerfile: Dockerfile, report: Report) -> None:
        """Tell the warnings; InvalidParameter if ``# check=error=true`` makes them errors."""
        warnings = await self._warnings(request, dockerfile)
        for warning in warnings:
            report(warning)
        setting = request.arguments.get("BUILDKIT_DOCKERFILE_CHECK") or dockerfile.directives.check
        if warnings and parse_options(setting).error:
            first = warnings[0]
            raise InvalidParameter(
                f"lint violation found for rules: {', '.join(sorted({each.rule for each in warnings}))} "
                f"({request.dockerfile}:{first.line}: {first.message})"
            )

    async def _dockerfile(self, request: BuildRequest, context: Context) -> bytes:
        if request.text is not None:
            return request.text
        text = await context.find(request.dockerfile, DOCKERFILE_MAX_BYTES)
        if text is None:
            raise NotFound(
                f"Cannot locate specified Dockerfile: {request.dockerfile}: it is not in the build context"
            )
        if not text.strip():
            raise InvalidParameter(f"the Dockerfile ({request.dockerfile}) cannot be empty")
        return text

    async def _take_out_ignored(self, request: BuildRequest, context: Context) -> None:
        """Clients send the Dockerfile and the ignore file in any case: out with them where that one says so.

        All else that is ignored has stayed with the client.
        """
        for ignore_file in (f"{request.dockerfile}.dockerignore", ".dockerignore"):
            text = await context.find(ignore_file, DOCKERFILE_MAX_BYTES)
            if text is not None:
                patterns = Patterns(read_ignore_file(text.decode("utf-8", "surrogateescape")))
                for name in (request.dockerfile, ignore_file):
                    if patterns.matches(name):
                        await context.remove(name)
                return

    # -- the cache

    async def records(self) -> list[Record]:
        """What the cache has, layers, cache mounts and downloads, in no order."""
        entries = self.cache.all()
        found = [
            Record(
                entry.key,
                LAYER,
                entry.description,
                entry.size_bytes,
                entry.created_ns,
                entry.last_used_ns,
                entry.uses,
                shared=not entry.diff_id or self._making.is_of_image(entry.diff_id),
            )
            for entry in entries
        ]
        return found + await asyncio.to_thread(self._cache_mounts) + await asyncio.to_thread(self._sources)

    def _sources(self) -> list[Record]:
        return [
            Record(key, SOURCE, "downloaded", size_bytes, created_ns, used_ns, 0)
            for key, size_bytes, created_ns, used_ns in self._downloads.kept.all()
        ]

    def _cache_mounts(self) -> list[Record]:
        found = []
        for directory in self._caches.iterdir():
            info = directory.stat()
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                size_bytes = tree_size(fd)
            finally:
                os.close(fd)
            found.append(
                Record(
                    directory.name,
                    CACHE_MOUNT,
                    "RUN --mount=type=cache",
                    size_bytes,
                    info.st_ctime_ns,
                    info.st_mtime_ns,
                    0,
                    in_use=self._mounts.is_used(directory),
                )
            )
        return found

    async def prune(self, wanted: Wanted) -> Pruned:
        """Forget what ``wanted`` says, and remove the layers that nobody needs any more. InvalidParameter."""
        chosen = choose(await self.records(), wanted)
        mounts = [record for record in chosen if record.kind == CACHE_MOUNT]
        reclaimed_bytes = 0
        for record in mounts:
            directory = self._caches / record.id
            if not self._mounts.is_used(directory):
                aside = self.asides / secrets.token_hex(8)
                os.rename(directory, aside)
                await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
                reclaimed_bytes += record.size_bytes
        for record in chosen:
            if record.kind == SOURCE:
                await asyncio.to_thread(self._downloads.kept.remove, record.id)
                reclaimed_bytes += record.size_bytes
        entries = {entry.key: entry for entry in self.cache.all()}
        keys = [record.id for record in chosen if record.id in entries]
        self.cache.remove(keys)
        left = self.cache.diff_ids()
        gone = {entries[key].diff_id for key in keys if entries[key].diff_id} - left
        reclaimed_bytes += await self._making.collect(gone)
        return Pruned(tuple(record.id for record in chosen), reclaimed_bytes)

    async def _keep_small(self) -> None:
        """After a build: remove what is too much, as the configuration has it."""
        policy = self.policy
        if policy.enabled and sum(entry.size_bytes for entry in self.cache.all()) > policy.keep_bytes:
            pruned = await self.prune(Wanted(keep_bytes=policy.keep_bytes))
            log.info("build cache pruned", extra={"freed_bytes": pruned.reclaimed_bytes})
