"""Automatic garbage collection: images that have not been used for long, or that there is no room for.

What is taken is decided on what was seen at once (``gc_plan``); whether it may still go is looked at again, in the same
step of the event loop in which its row is removed. So nothing goes that a container, a pull or a push has come to need
meanwhile. A daemon that is killed in between leaves files that no row names: the next collection takes them.
"""

import asyncio
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from minid.events import EventBus
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.digest import ALGORITHMS, short
from minid.images.durability import Durability
from minid.images.gc_plan import Plan, Policy, Thing, Verdict, make_plan
from minid.images.retention import Retention
from minid.images.uses import ImageUses

FIRST_AFTER_S = 60.0
HELD = "a pull, a push or a container being made needs it"
STOOD_ON = "a container or the build cache needs it"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Collect by ``policy`` every ``interval_s``."""

    policy: Policy
    interval_s: float


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was taken (or with ``dry_run`` would be) and what stays. ``total_bytes`` and ``free_bytes`` from before."""

    dry_run: bool
    collected: tuple[Verdict, ...]
    kept: tuple[Verdict, ...]
    freed_bytes: int
    total_bytes: int
    free_bytes: int


class Collector:
    """One a daemon. ``in_use``: image id → ids of the containers made from it."""

    def __init__(
        self,
        catalog: Catalog,
        content: ContentStore,
        retention: Retention,
        uses: ImageUses,
        durability: Durability,
        events: EventBus,
        directory: Path,
        in_use: Callable[[str], Sequence[str]],
    ) -> None:
        """``directory``: on the file system whose free space counts."""
        self._catalog = catalog
        self._content = content
        self._retention = retention
        self._uses = uses
        self._durability = durability
        self._events = events
        self._directory = directory
        self._in_use = in_use
        self._running = asyncio.Lock()
        self._schedule: Schedule | None = None
        self._changed = asyncio.Event()

    @property
    def schedule(self) -> Schedule | None:
        return self._schedule

    @schedule.setter
    def schedule(self, value: Schedule | None) -> None:
        """``run`` goes by the new one at once."""
        if value != self._schedule:
            self._schedule = value
            self._changed.set()

    async def run(self) -> None:
        """Collect by the schedule, for as long as this is not cancelled."""
        while True:
            schedule = self._schedule
            self._changed.clear()
            wait_s = min(schedule.interval_s, FIRST_AFTER_S) if schedule else None
            while not await self._changed_within(wait_s) and schedule is not None:
                try:
                    await self.collect(schedule.policy)
                except Exception:
                    log.exception("the collection of images failed")
                wait_s = schedule.interval_s

    async def _changed_within(self, wait_s: float | None) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def note_uses(self) -> None:
        """Images that containers stand on are used now; write what is known of all."""
        existing = self._catalog.ids()
        self._uses.touch(image_id for image_id in existing if self._in_use(image_id))
        self._uses.flush(existing)

    async def collect(self, policy: Policy, *, dry_run: bool = False) -> GcReport:
        """Remove what ``policy`` does not let stay and nobody needs. One at a time; others wait."""
        async with self._running:
            self.note_uses()
            plan = await self._plan(policy)
            if dry_run:
                return GcReport(
                    True, plan.collected, plan.kept, plan.freed_bytes, plan.total_bytes, plan.free_bytes
                )
            if not plan.collected:
                return GcReport(False, (), plan.kept, 0, plan.total_bytes, plan.free_bytes)
            await self._durability.begin()
            try:
                return await self._carry_out(plan, policy)
            finally:
                self._durability.end()

    async def _plan(self, policy: Policy) -> Plan:
        blobs, partials = await asyncio.to_thread(self._on_disk)
        sizes = {digest: size_bytes for digest, (size_bytes, _) in blobs.items()}
        sizes |= {_partial(name): size_bytes for name, (size_bytes, _) in partials.items()}
        layers = self._catalog.unpacked_layers()
        sizes |= {_layer(diff_id): size_bytes for diff_id, (size_bytes, _) in layers.items()}
        things = [self._image(image_id) for image_id in self._catalog.ids()]
        stood_on = set(self._retention.held_layers())
        for diff_id, (_, unpacked_ns) in layers.items():
            if not self._catalog.layer_is_used(diff_id):
                needed = STOOD_ON if diff_id in stood_on else self._held(diff_id)
                part = frozenset([_layer(diff_id)])
                things.append(Thing("layer", diff_id, unpacked_ns, part, needed=needed))
        for digest, (_, changed_ns) in blobs.items():
            if not self._catalog.blob_is_used(digest):
                part = frozenset([digest])
                things.append(Thing("blob", digest, changed_ns, part, needed=self._held(digest)))
        for name, (_, changed_ns) in partials.items():
            part = frozenset([_partial(name)])
            digest = _digest_of_partial(name)
            things.append(Thing("partial", digest, changed_ns, part, needed=self._held(digest)))
        pinned = {_layer(diff_id) for diff_id in stood_on}
        status = os.statvfs(self._directory)
        free_bytes = status.f_bavail * status.f_frsize
        return make_plan(things, sizes, pinned, policy, now_ns=time.time_ns(), free_bytes=free_bytes)

    def _on_disk(self) -> tuple[dict[str, tuple[int, int]], dict[str, tuple[int, int]]]:
        """Blobs and unfinished ones: size in bytes and time of the last change. For a thread."""
        return dict(self._content.sizes()), dict(self._content.partial_sizes())

    def _image(self, image_id: str) -> Thing:
        parts = self._catalog.blobs(image_id) + [_layer(item) for item in self._catalog.layers_of(image_id)]
        names = self._catalog.names(image_id)
        return Thing(
            "image",
            image_id,
            self._uses.last_ns(image_id),
            frozenset(parts),
            names=tuple(name.familiar for name in names),
            tags=tuple(name.familiar for name in names if not name.digest),
            parent_id=self._catalog.parent(image_id),
            needed=self._needed(image_id),
        )

    def _needed(self, image_id: str) -> str:
        for container_id in self._in_use(image_id):
            return f"container {container_id[:12]} uses it"
        return self._held(image_id)

    def _held(self, key: str) -> str:
        return HELD if self._retention.is_held(key) else ""

    async def _carry_out(self, plan: Plan, policy: Policy) -> GcReport:
        collected: list[Verdict] = []
        kept = list(plan.kept)
        for verdict in plan.collected:
            thing = verdict.thing
            reason, freed_bytes = "", 0
            if thing.kind == "image":
                reason = self._needed_by_now(thing, policy)
                if not reason:
                    freed_bytes = await self._remove(thing.id)
            elif thing.kind == "layer":
                removed, freed_bytes = await self._retention.collect([thing.id], [])
                reason = "" if removed else HELD
            else:
                _, freed_bytes = await self._retention.collect([], [thing.id])
                reason = HELD if self._retention.is_held(thing.id) else ""
            if reason:
                kept.append(dataclasses.replace(verdict, reason=reason))
                continue
            done = dataclasses.replace(verdict, size_bytes=freed_bytes)
            collected.append(done)
            log.info(
                "collected",
                extra={
                    "kind": thing.kind,
                    "id": short(thing.id),
                    "names": ",".join(thing.names),
                    "freed_bytes": freed_bytes,
                    "why": verdict.reason,
                },
            )
        freed = sum(verdict.size_bytes for verdict in collected)
        images = sum(verdict.thing.kind == "image" for verdict in collected)
        log.info(
            "collection of images", extra={"images": images, "things": len(collected), "freed_bytes": freed}
        )
        self._events.publish(
            "image", "prune", "", {"reclaimed": str(freed), "images": str(images), "by": "gc"}
        )
        return GcReport(False, tuple(collected), tuple(kept), freed, plan.total_bytes, plan.free_bytes)

    def _needed_by_now(self, thing: Thing, policy: Policy) -> str:
        """Why an image that was to go has to stay after all. No waiting between this and ``_remove``'s first step."""
        if not self._catalog.exists(thing.id):
            return "has been removed meanwhile"
        if needed := self._needed(thing.id):
            return needed
        if self._uses.last_ns(thing.id) != thing.last_used_ns:
            return "has been used meanwhile"
        if self._catalog.children(thing.id):
            return "another image is made from it"
        tags = [name for name in self._catalog.names(thing.id) if not name.digest]
        if tags and not policy.tagged:
            return f"has the tag {tags[0].familiar}"
        return ""

    async def _remove(self, image_id: str) -> int:
        """Bytes freed."""
        for name in self._catalog.names(image_id):
            self._catalog.unname(name)
            self._events.publish("image", "untag", image_id, {"name": image_id})
        diff_ids, blobs = self._catalog.remove(image_id)
        self._events.publish("image", "delete", image_id, {"name": image_id})
        _, freed_bytes = await self._retention.collect(diff_ids, blobs)
        return freed_bytes


def _layer(diff_id: str) -> str:
    """The part that an unpacked layer is; a plain blob has the same digest."""
    return f"layer {diff_id}"


def _partial(name: str) -> str:
    return f"partial {name}"


def _digest_of_partial(name: str) -> str:
    """Unfinished blobs are called by the hex digits of their digest."""
    for algorithm, length in ALGORITHMS.items():
        if len(name) == length:
            return f"{algorithm}:{name}"
    return f"sha256:{name}"
