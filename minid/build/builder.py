"""One build: from a Dockerfile and a context to an image.

    target ──▶ the stages that it needs, each a task of its own (``stages``) ──▶ the target's state ──▶ image

A stage that needs another one waits for its task, so what is independent goes on side by side.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from minid.build import plan, steps
from minid.build.bases import Bases
from minid.build.cache import Cache, key_of
from minid.build.context import Context
from minid.build.dockerfile import platform_args, resolve
from minid.build.dockerfile.model import Dockerfile, Label, Location, Pair, Stage
from minid.build.layers import INLINE_CACHE, BuildLayers
from minid.build.mounts import Mounts
from minid.build.progress import Report, Step
from minid.build.request import BuildRequest
from minid.build.runs import Runs
from minid.build.scope import Scope
from minid.build.stages import StageWork, Workshop
from minid.build.state import StageState, apply
from minid.build.transfers import Transfers
from minid.errors import InvalidParameter
from minid.images.making import Making
from minid.images.platform import Platform
from minid.images.reference import Reference, parse
from minid.images.service import Images


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
        self._images = images
        self._making = making
        self._cache = cache
        self._escape = dockerfile.directives.escape
        self._platform = platform_args(request.platform or host, host)
        self._globals = Scope(request.arguments, self._platform, escape=self._escape)
        for each in dockerfile.args:
            self._globals.declare(each)
        self._layers = BuildLayers(
            cache, making, use_cache=request.use_cache, no_cache_stages=request.no_cache_stages
        )
        self._shop = Workshop(
            request,
            dockerfile,
            context,
            report,
            self._layers,
            Bases(request, images, self._layers, report),
            runs,
            transfers,
            mounts,
            host,
            self._globals,
            self._result,
        )
        self._group = asyncio.TaskGroup()
        self._tasks: dict[int, asyncio.Task[StageState]] = {}
        self._scopes: dict[int, Scope] = {}

    async def run(self) -> str:
        """The image's id. Raises DockerfileError, StepFailed, NotFound and what else images and containers raise."""
        names = [_name(text) for text in self._request.names]
        target = plan.find_target(self._dockerfile, self._request.target)
        wanted = plan.needed(self._dockerfile, target, self._base_word)
        async with self._layers:
            for name in self._request.cache_from:
                if (image := self._images.find(name)) is not None:
                    self._layers.import_from(image, name)
            try:
                async with self._group:
                    numbered = steps.number(wanted)
                    for stage in wanted:
                        self._begin(stage, numbered[stage.index])
            except BaseExceptionGroup as errors:
                raise _first(errors) from None
            return await self._compose(self._label(self._tasks[target.index].result()), names)

    def _begin(self, stage: Stage, own_steps: list[Step]) -> None:
        scope = Scope(self._request.arguments, self._platform, self._globals, escape=self._escape)
        self._scopes[stage.index] = scope
        self._tasks[stage.index] = self._group.create_task(self._work(stage, scope, own_steps))

    async def _work(self, stage: Stage, scope: Scope, own_steps: list[Step]) -> StageState:
        earlier = plan.find_base(self._dockerfile, stage, self._base_word(stage))
        if earlier is not None:
            await self._result(earlier)
            scope.inherit(self._scopes[earlier.index])
        return await StageWork(self._shop, stage, scope).run(own_steps)

    async def _result(self, stage: Stage) -> StageState:
        """Another stage, when it is done."""
        if stage.index not in self._tasks:  # named by a trigger, of which nobody knew before
            self._begin(stage, steps.number([stage])[stage.index])
        return await asyncio.shield(self._tasks[stage.index])

    def _base_word(self, stage: Stage) -> str:
        return resolve(stage.base, self._globals.lookup, self._escape).image

    # -- the end

    def _label(self, state: StageState) -> StageState:
        """``--label``, as if the Dockerfile ended with it."""
        if not self._request.labels:
            return state
        pairs = tuple(Pair(key, value) for key, value in self._request.labels.items())
        location = Location(self._dockerfile.name, 0, 0)
        changed, told = apply(state, Label(location=location, original="LABEL", pairs=pairs))
        return changed.with_step(self._shop.now, told, None)

    async def _compose(self, state: StageState, names: list[Reference]) -> str:
        """The image; the one that was made before, if it differs in nothing but the time."""
        document = state.image_document(self._shop.now)
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


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure that made the other stages be cancelled."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
