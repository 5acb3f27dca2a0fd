"""Images going to and fro: pulls and pushes, and who at a registry had what."""

import asyncio
from collections.abc import Callable

from minid.errors import InvalidParameter, NotFound
from minid.events import EventBus
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.digest import is_digest
from minid.images.durability import Durability
from minid.images.layerstore import LayerStore
from minid.images.manifest import Descriptor
from minid.images.model import Image, Progress
from minid.images.platform import Platform, parse_platform
from minid.images.pull import Puller
from minid.images.push import Pusher
from minid.images.reference import Reference, parse_usable
from minid.images.registries import Registries
from minid.images.registry.authorizer import Auth
from minid.images.registry.mirrors import Repositories
from minid.images.retention import Retention
from minid.images.sources import ImageSources
from minid.images.threads import BlockingPool
from minid.images.transfer import BLOB_RETRY_DELAYS_S, Report, Transfers
from minid.images.uses import ImageUses
from minid.kernel import memory

Tell = Callable[[Progress], None]


class Exchange:
    """What ``Images`` has to do with registries; one a daemon. ``close`` it before the pool."""

    def __init__(
        self,
        content: ContentStore,
        catalog: Catalog,
        retention: Retention,
        layers: LayerStore,
        durability: Durability,
        pool: BlockingPool,
        events: EventBus,
        registries: Registries,
        sources: ImageSources,
        uses: ImageUses,
        host: Platform,
        *,
        downloads_max: int,
        uploads_max: int,
        retry_delays_s: tuple[float, ...] | None,
    ) -> None:
        delays_s = retry_delays_s or BLOB_RETRY_DELAYS_S
        self._catalog = catalog
        self._events = events
        self._registries = registries
        self._sources = sources
        self._uses = uses
        self._host = host
        self.transfers = Transfers(
            content, layers, catalog, retention, pool, limit=downloads_max, retry_delays_s=delays_s
        )
        self._puller = Puller(content, catalog, retention, self.transfers, pool, durability, host)
        self.pusher = Pusher(
            content,
            catalog,
            sources,
            retention,
            pool,
            durability,
            self._fetch_blob,
            limit=uploads_max,
            retry_delays_s=delays_s,
        )

    async def close(self) -> None:
        """Stop pulls (they can go on later) and close connections."""
        await self.transfers.close()
        await self._registries.close()

    async def pull(
        self, name: str, tag: str, platform: str, auth: Auth | None, *, all_tags: bool, progress: Tell
    ) -> Image:
        """See ``Images.pull``."""
        reference = parse_usable(name)
        wanted = parse_platform(platform, self._host) if platform else None
        if is_digest(tag):
            reference = reference.trimmed().with_digest(tag)
        elif tag:
            reference = reference.trimmed().with_tag(tag)
        repository = self._registries.repository(reference, auth, lambda text: progress(Progress("", text)))
        if not all_tags:
            return await self._pull_one(reference.with_default_tag(), repository, wanted, progress)
        if not reference.is_name_only:
            raise InvalidParameter("tag can't be used with --all-tags/-a")
        image: Image | None = None
        for each in await repository.tags():
            image = await self._pull_one(reference.with_tag(each), repository, wanted, progress)
        if image is None:
            raise NotFound(f"repository {reference.familiar_name} has no tags")
        return image

    async def _pull_one(
        self, reference: Reference, repository: Repositories, platform: Platform | None, progress: Tell
    ) -> Image:
        try:
            image = self._catalog.get(await self._puller.pull(reference, repository, platform, progress))
        finally:
            await asyncio.to_thread(memory.trim)  # the buffers of a large pull: 10 MB and more
        self._sources.remember(image.id, reference)
        self._uses.touch([image.id])
        self._events.publish("image", "pull", reference.familiar, {"name": reference.familiar_name})
        return image

    async def push(self, name: str, tag: str, auth: Auth | None, progress: Tell) -> None:
        """See ``Images.push``."""
        reference = parse_usable(name)
        if tag:
            reference = reference.trimmed().with_tag(tag)
        await self.pusher.push(reference, self._registries.destination(reference, auth), progress)
        image_id = self._catalog.find_name(reference.with_default_tag())
        self._uses.touch([image_id] if image_id is not None else [])
        self._events.publish("image", "push", reference.familiar, {"name": reference.familiar_name})

    async def _fetch_blob(
        self, descriptor: Descriptor, reference: Reference, auth: Auth | None, report: Report
    ) -> None:
        await self.transfers.ensure_blob(descriptor, self._registries.repository(reference, auth), report)
