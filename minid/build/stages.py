"""One stage: its FROM, then its instructions, one after the other.

An instruction either changes the config (``state.apply``) or makes a layer (RUN by ``runs``; COPY, ADD and WORKDIR by
``transfers``), if the cache has none.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from minid.build import plan
from minid.build.bases import Bases
from minid.build.cache import key_of
from minid.build.context import Context
from minid.build.dockerfile import DockerfileError, parse_trigger, resolve
from minid.build.dockerfile.model import (
    Add,
    Arg,
    Copy,
    Dockerfile,
    Instruction,
    Run,
    Stage,
    Transfer,
    Workdir,
)
from minid.build.layers import BuildLayers, MakeLayer
from minid.build.mounts import Mounts
from minid.build.progress import CACHED, Report, Step, StepOutput, StepState
from minid.build.request import BuildRequest
from minid.build.runs import Command, Runs
from minid.build.scope import Scope
from minid.build.state import StageState, apply, from_image, from_scratch
from minid.build.steps import timed
from minid.build.transfers import Transfers
from minid.containers.model import HostConfig
from minid.errors import InvalidParameter
from minid.images.platform import Platform, parse_platform
from minid.images.timestamps import rfc3339

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all stages of a build work with. ``result`` waits for another stage."""

    request: BuildRequest
    dockerfile: Dockerfile
    context: Context
    report: Report
    layers: BuildLayers
    bases: Bases
    runs: Runs
    transfers: Transfers
    mounts: Mounts
    host: Platform
    globals: Scope
    result: Callable[[Stage], Awaitable[StageState]]

    @property
    def platform(self) -> Platform:
        """For which is built, where FROM says nothing else."""
        return self.request.platform or self.host

    @property
    def now(self) -> str:
        """RFC 3339; SOURCE_DATE_EPOCH if that was given."""
        epoch_s = self.request.epoch_s
        if epoch_s is None:
            return rfc3339(time.time_ns())
        return rfc3339(epoch_s * 1_000_000_000).replace(".000000000", "")


class StageWork:
    """The work on one stage; ``run`` once."""

    def __init__(self, shop: Workshop, stage: Stage, scope: Scope) -> None:
        self._shop = shop
        self._stage = stage
        self._scope = scope
        self._escape = shop.dockerfile.directives.escape

    async def run(self, steps: list[Step]) -> StageState:
        """The stage as it is in the end. ``steps``: FROM's, then one for each instruction."""
        shop, first = self._shop, steps[0]
        state, triggers = await timed(shop.report, first, self._stage.base, lambda: self._begin(first))
        for text in triggers:
            trigger = parse_trigger(text)
            state = await self._instruction(state, trigger, replace(first, name=f"ONBUILD {text}"))
        for step, instruction in zip(steps[1:], self._stage.instructions, strict=True):
            await self._sources_are_done(plan.sources_of(instruction))
            state = await self._instruction(state, instruction, step)
        return state

    async def _sources_are_done(self, words: list[str]) -> None:
        """A step that needs other stages begins when these have ended: it is not told to take so long itself."""
        for word in words:
            name = self._shop.bases.named(word)
            earlier = (
                None
                if isinstance(name, Context)
                else self._shop.dockerfile.find_stage(name, self._stage.index)
            )
            if earlier is not None:
                await self._shop.result(earlier)

    async def _begin(self, step: Step) -> tuple[StageState, list[str]]:
        """What the stage begins with, and the triggers that its base image has for it."""
        shop = self._shop
        base = resolve(self._stage.base, shop.globals.lookup, self._escape)
        platform = parse_platform(base.platform, shop.host) if base.platform else shop.platform
        name = shop.bases.named(base.image)
        if isinstance(name, Context):
            raise InvalidParameter(f"the build context {base.image!r} is a directory: FROM needs an image")
        earlier = plan.find_base(shop.dockerfile, self._stage, name)
        if earlier is not None:
            state = await shop.result(earlier)
            triggers = list(state.config.get("OnBuild") or ())
            config = {key: value for key, value in state.config.items() if key != "OnBuild"}
            return replace(state, config=config, cmd_set=False), triggers
        if name == SCRATCH:
            return from_scratch(platform.os, platform.architecture, platform.variant), []
        wanted = platform if base.platform or shop.request.platform else None
        image = await shop.bases.image(name, step, wanted)
        return from_image(image), list((image.config.get("config") or {}).get("OnBuild") or ())

    async def _instruction(self, state: StageState, instruction: Instruction, step: Step) -> StageState:
        self._scope.see(state.env)
        return await timed(
            self._shop.report, step, instruction, lambda: self._apply(state, instruction, step)
        )

    async def _apply(self, state: StageState, instruction: Instruction, step: Step) -> StageState:
        now = self._shop.now
        if isinstance(instruction, Arg):
            values = self._scope.declare(instruction)
            told = " ".join(name if value is None else f"{name}={value}" for name, value in values)
            return state.with_step(now, f"ARG {told}", None)
        final = resolve(instruction, self._scope.lookup, self._escape)
        if isinstance(final, Run):
            return await self._run(state, final, step)
        if isinstance(final, Copy | Add):
            return await self._transfer(state, final, step)
        try:
            changed, told = apply(state, final)
        except InvalidParameter as error:
            raise DockerfileError(str(error), instruction.location, instruction.original) from error
        if not isinstance(final, Workdir):
            return changed.with_step(now, told, None)
        key, make = self._shop.transfers.directory(changed, self._shop.request.epoch_s)
        return await self._layer(changed, step, key, told, make)

    async def _layer(self, state: StageState, step: Step, key: str, told: str, make: MakeLayer) -> StageState:
        """After a step that makes a layer, or changes no file after all."""
        diff_id, cached = await self._shop.layers.get(self._stage.name, key, told, make)
        if cached:
            self._shop.report(StepState(step, CACHED, layer=diff_id))
        state = replace(state, keys=(*state.keys, (key, diff_id)))
        return state.with_step(self._shop.now, told, diff_id or None)

    # -- RUN

    async def _run(self, state: StageState, run: Run, step: Step) -> StageState:
        shop, arguments = self._shop, self._scope.arguments()
        env = [f"{name}={value}" for name, value in {**arguments, **state.env}.items()]
        words, files = shop.mounts.command(run, state)
        told = "RUN " + (f"|{len(arguments)} " if arguments else "")
        told += " ".join([*(f"{name}={value}" for name, value in arguments.items()), *words])
        finder = self._finder(step)
        async with shop.mounts.prepared(run, state, files, finder, shop.request) as mounts:
            inputs = {
                "layers": state.diff_ids,
                "argv": words,
                "env": sorted(env),
                "user": state.user,
                "workdir": state.workdir,
                "mounts": mounts.keys,
                "security": run.security,
                "network": run.network,
                "epoch": shop.request.epoch_s,
                "platform": str(shop.platform),
            }

            def output(fd: int, data: bytes) -> None:
                shop.report(StepOutput(step, fd, data))

            async def make() -> str | None:
                async with mounts.ready():
                    proxies = (f"{name}={value}" for name, value in self._scope.proxies().items())
                    command = Command(
                        argv=tuple(words),
                        env=(*env, *proxies, *mounts.env),
                        diff_ids=state.diff_ids,
                        user=state.user,
                        workdir=state.workdir,
                        mounts=mounts.points,
                        host_config=_host_config(run, shop.request),
                        latest_s=shop.request.epoch_s,
                    )
                    return await shop.runs.run(command, output)

            return await self._layer(state, step, key_of("run", inputs), told, make)

    # -- COPY, ADD

    async def _transfer(self, state: StageState, transfer: Transfer, step: Step) -> StageState:
        shop, finder = self._shop, self._finder(step)
        async with shop.transfers.prepared(transfer, state, finder, shop.request) as (key, told, make):
            return await self._layer(state, step, key, told, make)

    def _finder(self, step: Step) -> Callable[[str], Awaitable[Context | StageState]]:
        """What a ``from`` names: "" the context, else a context with a name, an earlier stage, an image."""
        shop = self._shop

        async def find(word: str) -> Context | StageState:
            if not word:
                return shop.context
            name = shop.bases.named(word)
            if isinstance(name, Context):
                return name
            earlier = shop.dockerfile.find_stage(name, self._stage.index)
            if earlier is not None:
                return await shop.result(earlier)
            if name == SCRATCH:
                platform = shop.platform
                return from_scratch(platform.os, platform.architecture, platform.variant)
            return from_image(await shop.bases.image(name, step, shop.request.platform))

        return find


def _host_config(run: Run, request: BuildRequest) -> HostConfig:
    """The build's limits, with what this RUN asks for, as far as the client allows it. InvalidParameter."""
    host_config = request.host_config
    if run.devices:
        raise InvalidParameter("RUN --device is not supported: there are no CDI devices here")
    if run.network == "host" and not (request.host_network or host_config.network_mode == "host"):
        raise InvalidParameter(
            "network.host is not allowed: build with --allow network.host to let RUN use the host's network"
        )
    if run.network in ("none", "host"):
        host_config = replace(host_config, network_mode=run.network)
    if run.security == "insecure":
        if not request.privileged:
            raise InvalidParameter(
                "security.insecure is not allowed: build with --allow security.insecure to let RUN be privileged"
            )
        host_config = replace(host_config, privileged=True)
    return host_config
