"""Images: the way in. Pull, push, look up, list, tag and delete; everything else in this package is behind it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from minid.errors import InvalidParameter, MinidError, NotFound, Unsupported
from minid.events import EventBus
from minid.images import filters as image_filters
from minid.images import model
from minid.images import prune as pruning
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.copies import ImageCopies
from minid.images.copy import RegistryCopier
from minid.images.deletion import Deletion
from minid.images.durability import Durability
from minid.images.exchange import Exchange
from minid.images.gc import Collector, GcReport, Schedule
from minid.images.gc_plan import Policy
from minid.images.layerstore import LayerStore
from minid.images.load import Loader
from minid.images.local import Changes, LocalImages
from minid.images.making import Making
from minid.images.model import Deleted, HistoryEntry, Image, Progress
from minid.images.platform import Platform, host_platform, parse_platform
from minid.images.recovery import Recovery
from minid.images.reference import Reference, parse_usable
from minid.images.registries import Registries
from minid.images.registry.authorizer import Auth
from minid.images.retention import Retention
from minid.images.save import Saver
from minid.images.snapshots.driver import Jobs
from minid.images.sources import ImageSources
from minid.images.threads import BlockingPool
from minid.images.uses import ImageUses
from minid.images.verify import Finding, Verifier
from minid.layout import Layout
from minid.state import Database

__all__ = ["Auth", "Deleted", "HistoryEntry", "Image", "Images", "Progress"]

DOWNLOADS_MAX = 3
UPLOADS_MAX = 5
UNLIMITED = 64  # what 0 means, as in dockerd
UNUSED_KEEP_S = 24 * 3600

# inside the class, ``list`` is the method
ImageList = list[Image]
HistoryList = list[HistoryEntry]
DeletedList = list[Deleted]


class Images:
    """One a daemon; made on the event loop. ``await clean_up()`` after start, ``await close()`` at the end.

    Set ``in_use`` (image id → ids of the containers made from it), ``is_running`` (container id → bool) and
    ``held_layers`` (→ diff IDs that containers stand on) before the first ``delete``.
    """

    def __init__(
        self,
        database: Database,
        layout: Layout,
        snapshots: LayerStore,
        events: EventBus,
        jobs: Jobs | None = None,
        *,
        registries: Registries | None = None,
        downloads_max: int = DOWNLOADS_MAX,
        uploads_max: int = UPLOADS_MAX,
        host: Platform | None = None,
        retry_delays_s: tuple[float, ...] | None = None,
    ) -> None:
        """``retry_delays_s`` is for tests. Without ``jobs`` nothing can be loaded or imported."""
        downloads_max, uploads_max = downloads_max or UNLIMITED, uploads_max or UNLIMITED
        self._events = events
        self._host = host or host_platform()
        self._content = ContentStore(layout.blobs)
        self._catalog = Catalog(database, self._content)
        self._retention = Retention(self._catalog, self._content, snapshots)
        self.registries = registries or Registries()
        self._durability = Durability(
            layout.blobs / "unsynced", [layout.blobs, layout.snapshots], self._catalog
        )
        self._pool = BlockingPool(2 * downloads_max)
        self._sources = ImageSources(database)
        self._uses = ImageUses(database)
        self._exchange = Exchange(
            self._content,
            self._catalog,
            self._retention,
            snapshots,
            self._durability,
            self._pool,
            events,
            self.registries,
            self._sources,
            self._uses,
            self._host,
            downloads_max=downloads_max,
            uploads_max=uploads_max,
            retry_delays_s=retry_delays_s,
        )
        self._verifier = Verifier(
            self._content,
            self._catalog,
            snapshots,
            self._sources,
            self.registries,
            self._exchange.transfers,
            self._retention,
            self._durability,
            self._pool,
        )
        self._saver = Saver(self._content, self._catalog, self._retention, self._pool)
        self._loader: Loader | None = None
        self._local: LocalImages | None = None
        self.making: Making | None = None  # images that a build makes; None without ``jobs``
        if jobs is not None:
            self.making = Making(
                database,
                self._content,
                self._catalog,
                self._retention,
                snapshots,
                self._durability,
                events,
                jobs,
            )
            self._exchange.pusher.making = self._saver.making = self._verifier.making = self.making
            self._loader = Loader(
                self._content,
                self._catalog,
                self._retention,
                snapshots,
                self._pool,
                self._durability,
                events,
                jobs,
                self._host,
            )
            self._local = LocalImages(
                self._content, self._catalog, self._retention, snapshots, self._durability, events, jobs
            )
        self.copies = ImageCopies(
            self._catalog,
            self.registries,
            RegistryCopier(self.registries, self._exchange.pusher, self._pool, self._host, limit=uploads_max),
            self._exchange.pusher,
            self._saver,
            self._loader,
            self._uses,
            events,
            self._host,
        )
        self._deletion = Deletion(self._catalog, self._content, self._retention, self._durability, events)
        self._collector = Collector(
            self._catalog,
            self._content,
            self._retention,
            self._uses,
            self._durability,
            events,
            layout.blobs,
            lambda image_id: self._deletion.in_use(image_id),
        )
        self._recovery = Recovery(self._content, self._catalog, self._retention, snapshots, self._durability)

    # what the daemon wires

    @property
    def in_use(self) -> Callable[[str], list[str]]:
        return self._deletion.in_use

    @in_use.setter
    def in_use(self, value: Callable[[str], list[str]]) -> None:
        self._deletion.in_use = value

    @property
    def is_running(self) -> Callable[[str], bool]:
        return self._deletion.is_running

    @is_running.setter
    def is_running(self, value: Callable[[str], bool]) -> None:
        self._deletion.is_running = value

    @property
    def held_layers(self) -> Callable[[], Collection[str]]:
        return self._retention.held_layers

    @held_layers.setter
    def held_layers(self, value: Callable[[], Collection[str]]) -> None:
        self._retention.held_layers = value

    def hold(self, image: Image) -> AbstractContextManager[None]:
        """Keep an image and its layers from being removed while the context lasts (a container is being made)."""
        self._uses.touch([image.id])
        return self._retention.hold([image.id, *image.diff_ids])

    async def clean_up(self) -> None:
        """At start: remove what crashes and long forgotten pulls have left."""
        await self._recovery.run()
        await asyncio.to_thread(self._content.clean)
        await self._retention.sweep(older_than_s=UNUSED_KEEP_S)

    async def sweep(self, *, older_than_s: float = 0) -> int:
        """Remove what no image, pull or container needs, unfinished downloads too; returns the bytes freed."""
        await asyncio.to_thread(self._content.clean, keep_s=older_than_s)
        return await self._retention.sweep(older_than_s=older_than_s)

    def schedule_collection(self, schedule: Schedule | None) -> None:
        """How ``collect_by_schedule`` goes on from now; None: it waits for a schedule."""
        self._collector.schedule = schedule

    async def collect_by_schedule(self) -> None:
        """Runs until it is cancelled; see ``Collector.run``."""
        await self._collector.run()

    def note_uses(self) -> None:
        """Now and then: remember which images containers stand on."""
        self._collector.note_uses()

    async def collect(self, policy: Policy | None, *, dry_run: bool = False) -> GcReport:
        """Remove what ``policy`` (None: the scheduled one) does not let stay; see ``Collector.collect``.

        ``InvalidParameter`` without any limit.
        """
        schedule = self._collector.schedule
        policy = policy or (schedule.policy if schedule else Policy())
        if not policy.has_limit:
            raise InvalidParameter(
                "no limit is given: use max-age, max-size or min-free, or configure image-gc"
            )
        return await self._collector.collect(policy, dry_run=dry_run)

    async def settle(self) -> None:
        """Wait until all that has been pulled, tagged and removed so far is on the disk."""
        await self._durability.settle()

    async def close(self) -> None:
        """Stop pulls (they can go on later) and close connections."""
        self._collector.note_uses()
        await self._exchange.close()
        self._durability.close()
        await asyncio.to_thread(self._pool.close)

    # looking up

    def get(self, name_or_id: str) -> Image:
        """By reference, id, beginning of an id, or digest. ``NotFound``; ``Conflict`` when ambiguous."""
        return self._catalog.get(self._catalog.resolve(name_or_id))

    def find(self, name_or_id: str) -> Image | None:
        """As ``get``; None when there is no such image, or it cannot be a name."""
        try:
            return self.get(name_or_id)
        except (NotFound, InvalidParameter):
            return None

    def list(self, *, all: bool = False, filters: Mapping[str, tuple[str, ...]] | None = None) -> ImageList:
        """Newest first. Without ``all``, nameless steps of builds are left out, and so is what is damaged."""
        images: ImageList = []
        for image_id in self._catalog.ids():
            try:
                image = self._catalog.get(image_id)
            except MinidError:
                continue
            if all or image.tags or image.digests or not self._catalog.children(image_id):
                images.append(image)
        return image_filters.select(images, filters or {}, self.get)

    def history(self, image: Image) -> HistoryList:
        """How the image was made, newest step first."""
        return model.history(image, self._catalog.layer_sizes(image.diff_ids))

    # changing

    def tag(self, source: str, target: str) -> None:
        """Let ``target`` (``latest`` if it has no tag) mean the image ``source``."""
        image_id = self._catalog.resolve(source)
        reference = parse_usable(target).with_default_tag()
        if reference.digest:
            raise InvalidParameter(f"refusing to create a tag with a digest reference: {target}")
        self._catalog.name(reference, image_id)
        self._durability.request()
        self._events.publish("image", "tag", image_id, {"name": reference.familiar})

    async def delete(self, name_or_id: str, *, force: bool = False, prune: bool = True) -> DeletedList:
        """Untag, and with the last name remove. ``NotFound``; ``Conflict`` in Docker's words."""
        return await self._deletion.delete(name_or_id, force=force, prune=prune)

    async def pull(
        self,
        name: str,
        *,
        tag: str = "",
        platform: str = "",
        auth: Auth | None = None,
        all_tags: bool = False,
        progress: Callable[[Progress], None],
    ) -> Image:
        """Ask the registry for ``name`` (``tag``, which may be a digest, replaces what it has) and download what
        is new.

        Cancel the task to stop it: what has arrived is kept for the next time. Raises ``InvalidParameter`` (a
        malformed name), ``NotFound``, ``Unauthorized``, ``Unavailable`` (the network), ``Failed`` (wrong
        digest, damaged layer, full disk: nothing of the image is left), ``Unsupported`` (schema 1, an
        artifact). With ``all_tags``, returns the image of the last tag.
        """
        return await self._exchange.pull(name, tag, platform, auth, all_tags=all_tags, progress=progress)

    async def push(
        self,
        name: str,
        *,
        tag: str = "",
        auth: Auth | None = None,
        progress: Callable[[Progress], None],
    ) -> None:
        """Push the tag ``tag`` of ``name``, or the one that ``name`` has, or all of its tags if there is none.

        Cancel the task to stop it. Raises ``InvalidParameter``, ``NotFound`` (no such tag here),
        ``Unauthorized``, ``Unavailable`` (the network), ``Failed``.
        """
        await self._exchange.push(name, tag, auth, progress)

    def save(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        """An archive of these images, piece by piece; see ``Saver.save``."""
        return self._saver.save(names)

    async def load(self, stream: AsyncIterator[bytes], progress: Callable[[Progress], None]) -> Sequence[str]:
        """Take in the images of an archive; their ids. See ``Loader.load``."""
        if self._loader is None:
            raise Unsupported("loading images is not possible here")
        image_ids = await self._loader.load(stream, progress)
        self._uses.touch(image_ids)
        return image_ids

    async def take_in(
        self,
        stream: AsyncIterator[bytes],
        *,
        repository: str = "",
        tag: str = "",
        platform: str = "",
        changes: Changes,
        origin: str = "-",
    ) -> str:
        """``import``: an image of a file system's archive from ``origin``; its id. See ``LocalImages.take_in``."""
        wanted = parse_platform(platform, self._host) if platform else self._host
        if self._local is None:
            raise Unsupported("importing images is not possible here")
        image_id = await self._local.take_in(stream, _name(repository, tag), wanted, changes, origin)
        self._uses.touch([image_id])
        return image_id

    async def commit(
        self,
        base_id: str,
        config: Mapping[str, Any],
        write: Callable[[int, bool], Awaitable[bool]],
        *,
        repository: str = "",
        tag: str = "",
        container_id: str,
        changes: Changes,
    ) -> str:
        """An image of the image ``base_id`` and what ``write(fd, False)`` writes, the container's changes; its id.

        If the image has been removed: of one layer that ``write(fd, True)`` writes, all that the container has.
        """
        name = _name(repository, tag)
        if self._local is None:
            raise Unsupported("committing containers is not possible here")
        base = self.find(base_id)
        if base is None:
            image_id = await self._local.commit_whole(
                self._host, config, name, changes, container_id, lambda fd: write(fd, True)
            )
        else:
            image_id = await self._local.commit(
                base, config, name, changes, container_id, lambda fd: write(fd, False)
            )
        self._uses.touch([image_id, base_id])
        return image_id

    async def verify(
        self,
        names: Sequence[str],
        tell: Callable[[Finding], None],
        *,
        repair: bool = False,
        auths: Mapping[str, Auth] | None = None,
    ) -> None:
        """Check these images (none named: all) against their digests; see ``Verifier``. ``NotFound``, ``Conflict``."""
        image_ids = [self._catalog.resolve(name) for name in names] or self._catalog.ids()
        await self._verifier.verify(list(dict.fromkeys(image_ids)), tell, repair=repair, auths=auths)

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> pruning.Pruned:
        """Remove images that no container uses; without a filter, those without a tag."""
        images = self.list(all=True)
        return await pruning.prune(images, filters, self._catalog, self._deletion, self.get)

    def usage(self) -> tuple[int, Mapping[str, int]]:
        """Bytes of all unpacked layers, each once; and image id → bytes of layers that other images have too."""
        images = self.list(all=True)
        users = Counter(diff_id for image in images for diff_id in set(image.diff_ids))
        sizes = self._catalog.layer_sizes(users)
        shared = {
            image.id: sum(sizes.get(item, 0) for item in set(image.diff_ids) if users[item] > 1)
            for image in images
        }
        return sum(sizes.values()), shared


def _name(repository: str, tag: str) -> Reference | None:
    """The name that a new image is to have; None for none."""
    if not repository:
        return None
    reference = parse_usable(repository)
    if reference.digest:
        raise InvalidParameter("cannot import digest reference")
    return reference.with_tag(tag) if tag else reference.with_default_tag()
