"""Builds: the way in.

<data root>/build/   caches/<sha256 of the id>/   directories of RUN --mount=type=cache
                     asides/                      what lives as long as a build; emptied at start-up
<exec root>/build/                                secrets, for as long as the RUN that mounts them
"""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minid.build.builder import Build
from minid.build.cache import Cache, Entry
from minid.build.context import Context
from minid.build.copying import Copier
from minid.build.dockerfile import parse
from minid.build.dockerfile.checks import check, parse_options
from minid.build.dockerfile.model import Dockerfile
from minid.build.mounts import Mounts
from minid.build.progress import BuildWarning, Report
from minid.build.request import BuildRequest
from minid.build.runs import Runs
from minid.build.scratch import Scratch
from minid.build.sessions import Sessions
from minid.build.transfers import Transfers
from minid.containers.service import Containers
from minid.errors import InvalidParameter, NotFound, Unsupported
from minid.images.platform import host_platform
from minid.images.service import Images
from minid.images.snapshots import Snapshots
from minid.layout import Layout
from minid.shim.client import Jobs
from minid.state import Database

DOCKERFILE_MAX_BYTES = 4 << 20


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
        self._transfers = Transfers(copier, Scratch(layout, snapshots), self._making)
        self._mounts = Mounts(
            copier, self._transfers, self._root / "caches", layout.exec_root / "build", self.asides
        )
        self._private = layout.exec_root / "build"
        self.sessions = Sessions(self._private)

    @property
    def asides(self) -> Path:
        """Where contexts take their space."""
        return self._root / "asides"

    async def clean_up(self) -> None:
        """At start: remove what interrupted builds have left."""
        for directory in (self.asides, self._private):
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        self.asides.mkdir(mode=0o700, parents=True)
        (self._root / "caches").mkdir(mode=0o700, exist_ok=True)

    async def build(self, request: BuildRequest, context: Context, report: Report) -> str:
        """The id of the image that ``request`` describes. Cancel the task to stop it; the cache keeps what was done.

        Raises DockerfileError, StepFailed, InvalidParameter, NotFound and what pulls and containers raise.
        """
        if request.squash:
            raise Unsupported("--squash is not supported: use a multi-stage build to leave layers behind")
        dockerfile = parse(await self._dockerfile(request, context), name=request.dockerfile)
        self._warn(request, dockerfile, report)
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
        return await build.run()

    async def check(self, request: BuildRequest, context: Context) -> list[BuildWarning]:
        """The well-known mistakes in the Dockerfile. Raises DockerfileError."""
        dockerfile = parse(await self._dockerfile(request, context), name=request.dockerfile)
        return self._warnings(request, dockerfile)

    def _warnings(self, request: BuildRequest, dockerfile: Dockerfile) -> list[BuildWarning]:
        setting = request.arguments.get("BUILDKIT_DOCKERFILE_CHECK")
        options = parse_options(setting) if setting else None
        found = check(dockerfile, options=options)
        return [BuildWarning(each.rule, each.message, each.location.first) for each in found]

    def _warn(self, request: BuildRequest, dockerfile: Dockerfile, report: Report) -> None:
        """Tell the warnings; InvalidParameter if ``# check=error=true`` makes them errors."""
        warnings = self._warnings(request, dockerfile)
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

    async def prune(self, entries: Sequence[Entry]) -> Pruned:
        """Forget these, and remove the layers that nobody needs any more."""
        self.cache.remove([entry.key for entry in entries])
        left = self.cache.diff_ids()
        gone = {entry.diff_id for entry in entries if entry.diff_id} - left
        reclaimed_bytes = await self._making.collect(gone)
        return Pruned(tuple(entry.key for entry in entries), reclaimed_bytes)
