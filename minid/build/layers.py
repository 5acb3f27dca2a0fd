"""The layers of one build: from the cache or made now, and held until the build ends."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from minid.build.cache import Cache
from minid.images.making import Making
from minid.images.model import Image
from minid.images.threads import settle

INLINE_CACHE = "minid.build.cache.v1"  # in an image's config: [[key, diff ID], …]

MakeLayer = Callable[[], Awaitable[str | None]]


class BuildLayers:
    """A context manager: what is held is let go at its end."""

    def __init__(
        self, cache: Cache, making: Making, *, use_cache: bool, no_cache_stages: Collection[str]
    ) -> None:
        self._cache = cache
        self._making = making
        self._use_cache = use_cache
        self._no_cache_stages = no_cache_stages
        self._held = contextlib.ExitStack()
        self._made: set[str] = set()

    async def __aenter__(self) -> "BuildLayers":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._held.close()
        # what somebody has pruned from the cache meanwhile could not go while it was held
        if pruned := self._made - self._cache.diff_ids():
            await settle(asyncio.ensure_future(self._making.collect(pruned)))

    def hold(self, held: contextlib.AbstractContextManager[None]) -> None:
        """Keep something else as long."""
        self._held.enter_context(held)

    async def get(self, stage: str, key: str, told: str, make: MakeLayer) -> tuple[str, bool]:
        """The diff ID of the layer that ``key`` stands for ("" for a step that changes no file), and whether it was
        in the cache. ``told``: what the record says about it.
        """
        async with self._cache.alone(key):
            found = self._find(stage, key)
            if found is not None:
                if found:
                    self.hold(self._making.hold([found]))
                return found, True
            diff_id = await make() or ""
            if diff_id:
                self._made.add(diff_id)
                self.hold(self._making.hold([diff_id]))
            self._cache.add(key, diff_id, told, self._size_bytes(diff_id))
            return diff_id, False

    def import_from(self, image: Image, name: str) -> None:
        """Take over what an image with an inline cache knows about layers that are here."""
        known: Any = image.config.get(INLINE_CACHE)
        for entry in known if isinstance(known, list) else ():
            if isinstance(entry, list) and len(entry) == 2 and all(isinstance(item, str) for item in entry):
                key, diff_id = entry
                if self._cache.find(key) is None and (not diff_id or self._making.has_layer(diff_id)):
                    self._cache.add(key, diff_id, f"from {name}", self._size_bytes(diff_id))

    def _find(self, stage: str, key: str) -> str | None:
        if not self._use_cache or stage in self._no_cache_stages:
            return None
        entry = self._cache.find(key)
        if entry is None or (entry.diff_id and not self._making.has_layer(entry.diff_id)):
            return None
        return entry.diff_id

    def _size_bytes(self, diff_id: str) -> int:
        return self._making.layer_bytes(diff_id) if diff_id else 0
