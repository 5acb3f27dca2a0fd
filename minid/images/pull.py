"""One pull: from a name to an image that exists, telling its progress in Docker's words.

    tag ─▶ index ─▶ manifest (for the platform) ─▶ config ─▶ layers, in parallel ─▶ one transaction

Until that transaction the image does not exist. If the network was to blame for a failure or the client went away,
unfinished downloads and whole layers are left: the next pull begins with those. If the image was to blame, nothing.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from minid.errors import MinidError, NotFound, Unauthorized, Unavailable
from minid.images import document
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.digest import short
from minid.images.durability import Durability
from minid.images.manifest import (
    ImageConfig,
    Index,
    Manifest,
    check_layers,
    choose,
    parse_config,
    parse_manifest,
)
from minid.images.model import Progress
from minid.images.platform import Platform, preferences
from minid.images.reference import Reference
from minid.images.registry.client import FetchedManifest
from minid.images.registry.mirrors import Repositories
from minid.images.retention import Retention
from minid.images.threads import BlockingPool
from minid.images.transfer import Layer, Report, Transfers

PROGRESS_INTERVAL_S = 0.1
INDEX_DEPTH_MAX = 3

Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class _Resolved:
    """``documents`` are the manifest and the indexes above it, the topmost first."""

    documents: tuple[FetchedManifest, ...]
    manifest: Manifest
    config: ImageConfig
    config_data: bytes

    @property
    def blobs(self) -> list[str]:
        """The digests of all that the image consists of."""
        own = [item.digest for item in self.documents]
        return [*own, self.manifest.config.digest, *(layer.digest for layer in self.manifest.layers)]

    @property
    def layers(self) -> list[Layer]:
        """In the image's order, each diff ID once."""
        unique: dict[str, Layer] = {}
        for descriptor, diff_id in zip(self.manifest.layers, self.config.diff_ids, strict=True):
            unique.setdefault(diff_id, Layer(descriptor, diff_id))
        return list(unique.values())


class Puller:
    """What all pulls need. One a daemon."""

    def __init__(
        self,
        content: ContentStore,
        catalog: Catalog,
        retention: Retention,
        transfers: Transfers,
        pool: BlockingPool,
        durability: Durability,
        host: Platform,
    ) -> None:
        self._content = content
        self._catalog = catalog
        self._retention = retention
        self._transfers = transfers
        self._pool = pool
        self._durability = durability
        self._host = host

    async def pull(
        self, reference: Reference, repository: Repositories, platform: Platform | None, tell: Tell
    ) -> str:
        """Pull ``reference``, which has a tag or a digest, and return the image's id. Cancel it at any time."""
        wanted = reference.tag_or_digest
        tell(Progress(wanted, f"Pulling from {reference.path}"))
        top = await self._top(reference, repository)
        resolved = await self._resolve(top, reference, repository, platform)
        layers = resolved.layers
        with self._retention.hold([*resolved.blobs, *(layer.diff_id for layer in layers)]):
            fresh = [layer for layer in layers if not self._transfers.is_there(layer.diff_id)]
            failure: MinidError | OSError | None = None
            is_new = False
            damaged = self._damaged(resolved, fresh)
            for layer in layers:
                status = "Pulling fs layer" if layer in fresh else "Already exists"
                status = "Damaged on the disk, fetching it again" if layer in damaged else status
                tell(Progress(short(layer.descriptor.digest), status))
            if fresh or damaged or not self._is_complete(reference, resolved):
                await self._durability.begin()
                try:
                    await self._fetch(fresh, damaged, repository, tell)
                    await self._pool.run(self._put, resolved)
                    is_new = self._commit(reference, resolved)
                except (MinidError, OSError) as error:
                    failure = error
                finally:
                    self._durability.end()
        if failure is not None:
            if not isinstance(failure, Unavailable | Unauthorized):
                await self._retention.collect([layer.diff_id for layer in fresh], resolved.blobs)
            raise failure
        if not repository.route.is_plain and (served := repository.served()):
            tell(Progress("", f"Served by: {served}; {repository.route.rule}"))
        verb = "Downloaded newer image for" if is_new else "Image is up to date for"
        tell(Progress("", f"Digest: {top.digest}"))
        tell(Progress("", f"Status: {verb} {reference.familiar}"))
        return resolved.manifest.config.digest

    async def _top(self, reference: Reference, repository: Repositories) -> FetchedManifest:
        """What the name means at the registry now; from the store where that is known to be the same."""
        wanted = reference.tag_or_digest
        digest: str | None = reference.digest
        if not digest and self._catalog.find_name(reference) is not None:
            digest = await repository.manifest_digest(wanted)
        if digest and (stored := self._stored(digest)) is not None:
            return stored
        return await repository.manifest(wanted)

    def _stored(self, digest: str) -> FetchedManifest | None:
        if not self._content.has(digest):
            return None
        try:
            return FetchedManifest(self._content.read(digest, document.SIZE_MAX), "", digest)
        except MinidError:
            self._content.remove(digest)  # damaged; it is fetched again
            return None

    async def _resolve(
        self, top: FetchedManifest, reference: Reference, repository: Repositories, platform: Platform | None
    ) -> _Resolved:
        documents = [top]
        name = reference.familiar
        for _ in range(INDEX_DEPTH_MAX + 1):
            fetched = documents[-1]
            what = f"manifest {fetched.digest} of {name}"
            parsed = parse_manifest(fetched.data, fetched.media_type, what)
            if isinstance(parsed, Manifest):
                config_data = await self._config(parsed, repository)
                config = parse_config(config_data, f"config {parsed.config.digest} of {name}")
                check_layers(parsed, config.diff_ids, what)
                if platform is not None and config.platform not in (None, *preferences(platform)):
                    raise NotFound(
                        f"image with reference {name} was found but does not provide the specified platform "
                        f"({platform}): it is for {config.platform}"
                    )
                return _Resolved(tuple(documents), parsed, config, config_data)
            documents.append(await self._chosen(parsed, platform or self._host, what, repository))
        raise NotFound(f"{name}: indexes are nested more than {INDEX_DEPTH_MAX} deep")

    async def _chosen(
        self, index: Index, platform: Platform, what: str, repository: Repositories
    ) -> FetchedManifest:
        entry = choose(index, platform, what)
        fetched = self._stored(entry.digest) or await repository.manifest(entry.digest)
        return FetchedManifest(fetched.data, fetched.media_type or entry.media_type, fetched.digest)

    async def _config(self, manifest: Manifest, repository: Repositories) -> bytes:
        if (stored := self._stored(manifest.config.digest)) is not None:
            return stored.data
        return await repository.blob(manifest.config, document.SIZE_MAX)

    def _damaged(self, resolved: _Resolved, fresh: list[Layer]) -> list[Layer]:
        """Unpacked layers whose blobs the image keeps, missing or damaged as far as can be seen at once."""
        kept = set(self._catalog.blobs(resolved.manifest.config.digest))
        return [
            layer
            for layer in resolved.layers
            if layer not in fresh
            and layer.descriptor.digest in kept
            and not self._content.is_sound(layer.descriptor.digest, layer.descriptor.size_bytes)
        ]

    async def _fetch(
        self, layers: list[Layer], damaged: list[Layer], repository: Repositories, tell: Tell
    ) -> None:
        """Have ``layers`` unpacked, and the blobs of ``damaged`` in the store. The first error stops the others."""

        async def one(layer: Layer) -> None:
            blob_id = short(layer.descriptor.digest)
            await self._transfers.ensure(layer, repository, throttled(blob_id, tell))
            tell(Progress(blob_id, "Pull complete"))

        async def again(layer: Layer) -> None:
            blob_id = short(layer.descriptor.digest)
            self._content.remove(layer.descriptor.digest)
            await self._transfers.ensure_blob(layer.descriptor, repository, throttled(blob_id, tell))
            tell(Progress(blob_id, "Pull complete"))

        try:
            async with asyncio.TaskGroup() as group:
                for layer in layers:
                    group.create_task(one(layer))
                for layer in damaged:
                    group.create_task(again(layer))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def _put(self, resolved: _Resolved) -> None:
        for item in resolved.documents:
            self._content.put(item.data, item.digest)
        self._content.put(resolved.config_data, resolved.manifest.config.digest)

    def _is_complete(self, reference: Reference, resolved: _Resolved) -> bool:
        """Whether a commit would change nothing: all names and documents are there."""
        image_id = resolved.manifest.config.digest
        documents = [*(item.digest for item in resolved.documents), image_id]
        named = all(self._catalog.find_name(name) == image_id for name in _names(reference, resolved))
        return named and all(self._content.has(digest) for digest in documents)

    def _commit(self, reference: Reference, resolved: _Resolved) -> bool:
        """Make the image exist; whether its names had no image before, or another one."""
        image_id = resolved.manifest.config.digest
        names = _names(reference, resolved)
        is_new = any(self._catalog.find_name(name) != image_id for name in names)
        self._catalog.add(
            image_id,
            manifest_digest=resolved.documents[-1].digest,
            media_type=resolved.manifest.media_type,
            created=resolved.config.created,
            diff_ids=resolved.config.diff_ids,
            blobs=[digest for digest in resolved.blobs if self._content.has(digest)],
            names=names,
        )
        return is_new


def _names(reference: Reference, resolved: _Resolved) -> list[Reference]:
    """By the digest of what the registry has under the name, and by its tag if it was pulled by that."""
    by_digest = reference.trimmed().with_digest(resolved.documents[0].digest)
    return [by_digest] if reference.digest else [by_digest, reference]


def throttled(layer_id: str, tell: Tell) -> Report:
    """Reports of one layer: a new status at once, another number of bytes at most ten times a second."""
    last_status, last_s = "", 0.0

    def report(status: str, current_bytes: int | None, total_bytes: int | None) -> None:
        nonlocal last_status, last_s
        now = time.monotonic()
        if status == last_status and now - last_s < PROGRESS_INTERVAL_S:
            return
        last_status, last_s = status, now
        tell(Progress(layer_id, status, current_bytes, total_bytes))

    return report
