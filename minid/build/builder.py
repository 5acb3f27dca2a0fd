"""One build: from a Dockerfile and a context to an image.

    target ──▶ the stages that it needs, each a task of its own ──▶ their instructions, one after the other

A stage that needs another one waits for its task, so what is independent goes on side by side. An instruction either
changes the config (``state.apply``) or makes a layer (RUN here; COPY, ADD and WORKDIR in ``transfers``), if the cache
has none.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from minid.build import plan
from minid.build.cache import Cache, key_of
from minid.build.context import Context
from minid.build.dockerfile import DockerfileError, parse_trigger, platform_args, resolve
from minid.build.dockerfile.model import (
    Add,
    Arg,
    Copy,
    Dockerfile,
    Instruction,
    Label,
    Location,
    Pair,
    Run,
    Stage,
    Transfer,
    Workdir,
)
from minid.build.mounts import Mounts
from minid.build.progress import (
    CACHED,
    CANCELED,
    DONE,
    FAILED,
    STARTED,
    Report,
    Step,
    StepOutput,
    StepPull,
    StepState,
)
from minid.build.request import BuildRequest
from minid.build.runs import Command, Runs
from minid.build.scope import Scope
from minid.build.state import StageState, apply, from_image, from_scratch
from minid.build.transfers import Transfers
from minid.errors import InvalidParameter, MinidError
from minid.images.making import Making
from minid.images.model import Image, Progress
from minid.images.platform import Platform, parse_platform
from minid.images.reference import Reference, parse
from minid.images.service import Images
from minid.images.threads import settle
from minid.images.timestamps import rfc3339

SCRATCH = "scratch"
INLINE_CACHE = "minid.build.cache.v1"

T = TypeVar("T")
MakeLayer = Callable[[], Awaitable[str | None]]


class Build:
    """Everything of one build while it goes on; ``run`` once."""

    def __init__(
        self,
        request: BuildRequest,
        dockerfile: Dockerfile,
        context: Context,
        report: Report,
        *,
        images: Images,
        making: Making,
        runs: Runs,
        transfers: Transfers,
        mounts: Mounts,
        cache: Cache,
        host: Platform,
    ) -> None:
        self._request = request
        self._dockerfile = dockerfile
        self._context = context
        self._report = report
        self._images = images
        self._making = making
        self._runs = runs
        self._transfers = transfers
        self._mounts = mounts
        self._cache = cache
        self._host = host
        self._platform = request.platform or host
        self._escape = dockerfile.directives.escape
        self._arguments = platform_args(self._platform, host)
        self._globals = Scope(request.arguments, self._arguments, escape=self._escape)
        for each in dockerfile.args:
            self._globals.declare(each)
        self._stages: dict[int, asyncio.Task[StageState]] = {}
        self._group = asyncio.TaskGroup()
        self._scopes: dict[int, Scope] = {}
        self._steps: dict[int, list[Step]] = {}
        self._pulls: dict[str, asyncio.Lock] = {}
        self._held = contextlib.ExitStack()
        self._made: set[str] = set()
        self._started_ns = time.time_ns()

    async def run(self) -> str:
        """The image's id. Raises DockerfileError, StepFailed, NotFound and what else images and containers raise."""
        target = plan.find_target(self._dockerfile, self._request.target)
        wanted = plan.needed(self._dockerfile, target, self._base_word)
        self._steps = _steps(wanted)
        names = [_name(text) for text in self._request.names]
        try:
            return await self._solve(target, wanted, names)
        finally:
            # what somebody has pruned from the cache meanwhile could not go while it was held
            if pruned := self._made - self._cache.diff_ids():
                await settle(asyncio.ensure_future(self._making.collect(pruned)))

    async def _solve(self, target: Stage, wanted: list[Stage], names: list[Reference]) -> str:
        with self._held:
            for text in self._request.cache_from:
                self._import_cache(text)
            try:
                async with self._group:
                    for stage in wanted:
                        self._stages[stage.index] = self._group.create_task(self._stage(stage))
            except BaseExceptionGroup as errors:
                raise _first(errors) from None
            state = self._stages[target.index].result()
            return await self._compose(self._label(state), names)

    # -- stages

    def _base_word(self, stage: Stage) -> str:
        return resolve(stage.base, self._globals.lookup, self._escape).image

    async def _stage(self, stage: Stage) -> StageState:
        steps = iter(self._steps[stage.index])
        step = next(steps)
        state, triggers = await self._timed(step, stage.base, lambda: self._begin(stage, step))
        scope = Scope(self._request.arguments, self._arguments, self._globals, escape=self._escape)
        earlier = plan.find_base(self._dockerfile, stage, self._base_word(stage))
        if earlier is not None and earlier.index in self._scopes:
            scope.inherit(self._scopes[earlier.index])
        self._scopes[stage.index] = scope
        for text in triggers:
            trigger = parse_trigger(text)
            state = await self._instruction(
                stage, state, trigger, scope, replace(step, name=f"ONBUILD {text}")
            )
        for instruction in stage.instructions:
            state = await self._instruction(stage, state, instruction, scope, next(steps))
        return state

    async def _begin(self, stage: Stage, step: Step) -> tuple[StageState, list[str]]:
        """FROM: what the stage begins with, and the triggers that its base image has for it."""
        base = resolve(stage.base, self._globals.lookup, self._escape)
        platform = parse_platform(base.platform, self._host) if base.platform else self._platform
        named = self._request.session.contexts.get(base.image.lower())
        if isinstance(named, Context):
            raise InvalidParameter(f"the build context {base.image!r} is a directory: FROM needs an image")
        if named:
            base = replace(base, image=_meant(named))
        earlier = plan.find_base(self._dockerfile, stage, base.image)
        if earlier is not None:
            state = await self._result(earlier)
            triggers = list(state.config.get("OnBuild") or ())
            config = {key: value for key, value in state.config.items() if key != "OnBuild"}
            return replace(state, config=config, cmd_set=False), triggers
        if base.image == SCRATCH:
            return from_scratch(platform.os, platform.architecture, platform.variant), []
        image = await self._image(
            base.image, step, platform if base.platform or self._request.platform else None
        )
        return from_image(image), list((image.config.get("config") or {}).get("OnBuild") or ())

    async def _result(self, stage: Stage) -> StageState:
        if stage.index not in self._stages:  # named by a trigger, of which nobody knew before
            self._steps |= _steps([stage])
            self._stages[stage.index] = self._group.create_task(self._stage(stage))
        return await asyncio.shield(self._stages[stage.index])

    async def _image(self, name: str, step: Step, platform: Platform | None) -> Image:
        """The base image, pulled if it is missing or the client wants it fresh; held until the build ends."""
        async with self._pulls.setdefault(name, asyncio.Lock()):
            image = self._images.find(name)
            if image is not None and platform is not None and not _is_for(image, platform):
                image = None
            if image is None or self._request.pull:
                image = await self._pull(name, step, platform)
        self._held.enter_context(self._images.hold(image))
        return image

    async def _pull(self, name: str, step: Step, platform: Platform | None) -> Image:
        def tell(progress: Progress) -> None:
            self._report(StepPull(step, progress))

        auth = self._request.auth.get(parse(name).domain)
        return await self._images.pull(
            name, platform=str(platform) if platform else "", auth=auth, progress=tell
        )

    # -- instructions

    async def _instruction(
        self, stage: Stage, state: StageState, instruction: Instruction, scope: Scope, step: Step
    ) -> StageState:
        scope.see(state.env)
        return await self._timed(
            step, instruction, lambda: self._apply(stage, state, instruction, scope, step)
        )

    async def _apply(
        self, stage: Stage, state: StageState, instruction: Instruction, scope: Scope, step: Step
    ) -> StageState:
        if isinstance(instruction, Arg):
            told = " ".join(
                name if value is None else f"{name}={value}" for name, value in scope.declare(instruction)
            )
            return state.with_step(self._now(), f"ARG {told}", None)
        final = resolve(instruction, scope.lookup, self._escape)
        if isinstance(final, Run):
            return await self._run(stage, state, final, scope, step)
        if isinstance(final, Copy | Add):
            return await self._transfer(stage, state, final, step)
        try:
            changed, told = apply(state, final)
        except InvalidParameter as error:
            raise DockerfileError(str(error), instruction.location, instruction.original) from error
        diff_id = None
        if isinstance(final, Workdir):
            key, make = self._transfers.directory(changed, self._request.epoch_s)
            changed, diff_id = await self._layer(stage, changed, step, key, told, make)
        return changed.with_step(self._now(), told, diff_id)

    async def _run(self, stage: Stage, state: StageState, run: Run, scope: Scope, step: Step) -> StageState:
        arguments = scope.arguments()
        env = [f"{name}={value}" for name, value in {**arguments, **state.env}.items()]
        words, files = self._mounts.command(run, state)
        told = "RUN " + (f"|{len(arguments)} " if arguments else "")
        told += " ".join([*(f"{name}={value}" for name, value in arguments.items()), *words])
        async with self._mounts.prepared(
            run, state, files, self._source_of(stage, step), self._request
        ) as mounts:
            inputs = {
                "layers": state.diff_ids,
                "argv": words,
                "env": sorted(env),
                "user": state.user,
                "workdir": state.workdir,
                "mounts": mounts.keys,
                "security": run.security,
                "network": run.network,
                "epoch": self._request.epoch_s,
                "platform": str(self._platform),
            }

            def output(fd: int, data: bytes) -> None:
                self._report(StepOutput(step, fd, data))

            async def make() -> str | None:
                async with mounts.ready():
                    command = Command(
                        argv=tuple(words),
                        env=(
                            *env,
                            *(f"{name}={value}" for name, value in scope.proxies().items()),
                            *mounts.env,
                        ),
                        diff_ids=state.diff_ids,
                        user=state.user,
                        workdir=state.workdir,
                        mounts=mounts.points,
                        host_config=self._host_config(run),
                        latest_s=self._request.epoch_s,
                    )
                    return await self._runs.run(command, output)

            state, diff_id = await self._layer(stage, state, step, key_of("run", inputs), told, make)
        return state.with_step(self._now(), told, diff_id)

    def _host_config(self, run: Run) -> Any:
        host_config = self._request.host_config
        if run.devices:
            raise InvalidParameter("RUN --device is not supported: there are no CDI devices here")
        if run.network == "host" and not (self._request.host_network or host_config.network_mode == "host"):
            raise InvalidParameter(
                "network.host is not allowed: build with --allow network.host to let RUN use the host's network"
            )
        if run.network in ("none", "host"):
            host_config = replace(host_config, network_mode=run.network)
        if run.security == "insecure":
            if not self._request.privileged:
                raise InvalidParameter(
                    "security.insecure is not allowed: build with --allow security.insecure to let RUN be privileged"
                )
            host_config = replace(host_config, privileged=True)
        return host_config

    async def _transfer(self, stage: Stage, state: StageState, transfer: Transfer, step: Step) -> StageState:
        source = self._source_of(stage, step)
        async with self._transfers.prepared(transfer, state, source, self._request) as (key, told, make):
            state, diff_id = await self._layer(stage, state, step, key, told, make)
        return state.with_step(self._now(), told, diff_id)

    def _source_of(self, stage: Stage, step: Step) -> Callable[[str], Awaitable[Context | StageState]]:
        """What a ``from`` names: "" the context, else an earlier stage, else an image."""

        async def find(word: str) -> Context | StageState:
            if not word:
                return self._context
            named = self._request.session.contexts.get(word.lower())
            if isinstance(named, Context):
                return named
            word = _meant(named) if named else word
            earlier = self._dockerfile.find_stage(word, stage.index)
            if earlier is not None:
                return await self._result(earlier)
            if word == SCRATCH:
                return from_scratch(self._platform.os, self._platform.architecture, self._platform.variant)
            return from_image(await self._image(word, step, self._request.platform))

        return find

    async def _layer(
        self, stage: Stage, state: StageState, step: Step, key: str, told: str, make: MakeLayer
    ) -> tuple[StageState, str | None]:
        """The layer that ``key`` stands for, from the cache or made now; None if the step changes no file."""
        async with self._cache.alone(key):
            diff_id, cached = self._cached(stage, key), True
            if diff_id is None:
                cached = False
                diff_id = await make() or ""
                if diff_id:
                    self._made.add(diff_id)
                    self._held.enter_context(self._making.hold([diff_id]))
                size_bytes = self._making.layer_bytes(diff_id) if diff_id else 0
                self._cache.add(key, diff_id, told, size_bytes)
            elif diff_id:
                self._held.enter_context(self._making.hold([diff_id]))
        if cached:
            self._report(StepState(step, CACHED, layer=diff_id))
        return replace(state, keys=(*state.keys, (key, diff_id))), diff_id or None

    def _cached(self, stage: Stage, key: str) -> str | None:
        if not self._request.use_cache or stage.name in self._request.no_cache_stages:
            return None
        entry = self._cache.find(key)
        if entry is None or (entry.diff_id and not self._making.has_layer(entry.diff_id)):
            return None
        return entry.diff_id

    async def _timed(self, step: Step, instruction: Instruction, work: Callable[[], Awaitable[T]]) -> T:
        begun = time.monotonic()
        self._report(StepState(step, STARTED))
        try:
            result = await work()
        except asyncio.CancelledError:
            self._report(StepState(step, CANCELED, time.monotonic() - begun))
            raise
        except Exception as error:
            self._report(StepState(step, FAILED, time.monotonic() - begun))
            if isinstance(error, MinidError) and not hasattr(error, "__notes__"):
                error.add_note(f"{instruction.location}: {instruction.original}")
            raise
        layer = result.diff_ids[-1] if isinstance(result, StageState) and result.diff_ids else ""
        self._report(StepState(step, DONE, time.monotonic() - begun, layer))
        return result

    # -- the end

    def _now(self) -> str:
        """RFC 3339; SOURCE_DATE_EPOCH if that was given."""
        epoch_s = self._request.epoch_s
        if epoch_s is None:
            return rfc3339(time.time_ns())
        return rfc3339(epoch_s * 1_000_000_000).replace(".000000000", "")

    def _label(self, state: StageState) -> StageState:
        """``--label``, as if the Dockerfile ended with it."""
        if not self._request.labels:
            return state
        pairs = tuple(Pair(key, value) for key, value in self._request.labels.items())
        location = Location(self._dockerfile.name, 0, 0)
        changed, told = apply(state, Label(location=location, original="LABEL", pairs=pairs))
        return changed.with_step(self._now(), told, None)

    async def _compose(self, state: StageState, names: list[Reference]) -> str:
        """The image; the one that was made before, if it differs in nothing but the time."""
        document = state.image_document(self._now())
        if self._request.inline_cache:
            document[INLINE_CACHE] = [list(pair) for pair in state.keys]
        key = key_of("image", _without_times(document))
        if self._request.use_cache and self._request.epoch_s is None:
            image = self._images.find(self._cache.find_image(key) or "-")
            if image is not None:
                for name in names:
                    self._images.tag(image.id, str(name))
                return image.id
        image_id = await self._making.compose(
            document, bases=state.bases, names=names, parent_id=state.parent_id
        )
        self._cache.add_image(key, image_id)
        return image_id

    def _import_cache(self, name: str) -> None:
        """Take over what an image with an inline cache knows about layers that are here."""
        image = self._images.find(name)
        known = image.config.get(INLINE_CACHE) if image is not None else None
        for entry in known if isinstance(known, list) else ():
            if isinstance(entry, list) and len(entry) == 2 and all(isinstance(item, str) for item in entry):
                key, diff_id = entry
                if self._cache.find(key) is None and (not diff_id or self._making.has_layer(diff_id)):
                    size_bytes = self._making.layer_bytes(diff_id) if diff_id else 0
                    self._cache.add(key, diff_id, f"from {name}", size_bytes)


def _steps(stages: list[Stage]) -> dict[int, list[Step]]:
    """The steps of these stages, FROM first, numbered."""
    count = sum(1 + len(stage.instructions) for stage in stages)
    numbers = iter(range(1, count + 1))
    return {
        stage.index: [
            Step(
                next(numbers),
                count,
                stage.name or f"stage-{stage.index}",
                index,
                1 + len(stage.instructions),
                instruction.original,
                instruction.location.first,
            )
            for index, instruction in enumerate((stage.base, *stage.instructions), 1)
        ]
        for stage in stages
    }


def _without_times(document: Mapping[str, Any]) -> dict[str, Any]:
    history = [
        {key: value for key, value in step.items() if key != "created"} for step in document["history"]
    ]
    return {**{key: value for key, value in document.items() if key != "created"}, "history": history}


def _name(text: str) -> Reference:
    reference = parse(text)
    if reference.digest:
        raise InvalidParameter(f"invalid tag {text!r}: an image is not built under a digest")
    return reference.with_default_tag()


def _meant(place: str) -> str:
    """The image or stage that a named context stands for."""
    for prefix in ("docker-image://", "target:"):
        if place.startswith(prefix):
            return place.removeprefix(prefix)
    raise InvalidParameter(
        f"--build-context …={place}: only directories, docker-image:// and target: are supported"
    )


def _is_for(image: Image, platform: Platform) -> bool:
    config: Mapping[str, Any] = image.config
    return config.get("os", "linux") == platform.os and config.get("architecture") == platform.architecture


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure that made the other stages be cancelled."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
