"""Pushes: from tags to a registry that has them, telling the progress in Docker's words.

    tag ─▶ manifest, as it was pulled or built ─▶ config and layers, in parallel ─▶ PUT manifest, bit for bit

For each blob: is it there (one HEAD)? Else can the registry take it from a repository that it is known to be in?
Else upload it, as often and in as many parts as it takes.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from minid.errors import Failed, InvalidParameter, MinidError, NotFound, Unauthorized
from minid.images import document
from minid.images.catalog import Catalog
from minid.images.content import ContentStore, DigestMismatch
from minid.images.digest import short
from minid.images.durability import Durability
from minid.images.making import Making
from minid.images.manifest import Descriptor, Manifest, check_layers, parse_manifest
from minid.images.model import Progress, Pushed
from minid.images.pull import throttled
from minid.images.reference import Reference
from minid.images.registry.authorizer import Auth
from minid.images.registry.transport import Transient, backoff_s
from minid.images.registry.uploads import MONOLITHIC_MAX_BYTES, Destination, Upload, WrongBytes
from minid.images.retention import Retention
from minid.images.sources import ImageSources
from minid.images.threads import BlockingPool, settle
from minid.images.transfer import Report

READ_BYTES = 1 << 20
MOUNTS_TRIED_MAX = 3
RETRY_PART_BYTES = 16 << 20  # after a break, so that the next one costs no more than this

log = logging.getLogger(__name__)

T = TypeVar("T")
Tell = Callable[[Progress], None]
Fetch = Callable[[Descriptor, Reference, Auth | None, Report], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Pushable:
    """An image's manifest as it lies in the store, and its layers' diff IDs."""

    image_id: str
    data: bytes
    digest: str
    manifest: Manifest
    diff_ids: tuple[str, ...]

    @property
    def blobs(self) -> list[str]:
        return [self.digest, self.manifest.config.digest, *(layer.digest for layer in self.manifest.layers)]


class Pusher:
    """What all pushes need. One a daemon."""

    def __init__(
        self,
        content: ContentStore,
        catalog: Catalog,
        sources: ImageSources,
        retention: Retention,
        pool: BlockingPool,
        durability: Durability,
        fetch: Fetch,
        *,
        limit: int,
        retry_delays_s: tuple[float, ...],
    ) -> None:
        """``limit``: blobs at once in each push; ``fetch`` gets a blob that is not here from a repository."""
        self._content = content
        self._catalog = catalog
        self._sources = sources
        self._retention = retention
        self._pool = pool
        self._durability = durability
        self._fetch = fetch
        self._limit = limit
        self._retry_delays_s = retry_delays_s
        self.making: Making | None = None

    async def push(self, reference: Reference, destination: Destination, tell: Tell) -> None:
        """Push the tag of ``reference``, or all tags of its repository if it has none. Cancel it at any time.

        ``InvalidParameter`` for a digest, ``NotFound`` when there is no such tag here.
        """
        tell(Progress("", f"The push refers to repository [{reference.name}]"))
        if reference.digest:
            raise InvalidParameter("cannot push a digest reference")
        tags = self._tags(reference)
        slots = asyncio.Semaphore(self._limit)
        for tag in tags:
            image_id = self._catalog.find_name(tag)
            if image_id is None:
                raise NotFound(f"tag does not exist: {tag.familiar}")
            if self.making is not None:
                await self.making.ensure_packed(image_id)
            image = self._pushable(image_id, tag)
            with self._retention.hold(image.blobs):
                await self._push_image(image, tag, destination, slots, tell)

    async def push_as(self, image_id: str, target: Reference, destination: Destination, tell: Tell) -> None:
        """Push an image under a name with a tag that it need not have here. Cancel it at any time."""
        tell(Progress("", f"The push refers to repository [{target.name}]"))
        if self.making is not None:
            await self.making.ensure_packed(image_id)
        image = self._pushable(image_id, target)
        with self._retention.hold([image_id, *image.blobs]):
            await self._push_image(image, target, destination, asyncio.Semaphore(self._limit), tell)

    def _tags(self, reference: Reference) -> list[Reference]:
        known = self._catalog.names_in(reference.trimmed())
        if not known:
            raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
        if reference.tag:
            return [reference]
        tags = [name for name in known if name.tag]
        if not tags:
            raise NotFound(f"no tags to push for {reference.familiar_name}")
        return tags

    def _pushable(self, image_id: str, tag: Reference) -> _Pushable:
        """The manifest that this repository had for the image, if it had one, else the image's own."""
        image = self._catalog.get(image_id)
        own = [name.digest for name in self._catalog.names_in(tag.trimmed()) if name.digest]
        for digest in (*own, image.manifest_digest):
            if not self._content.has(digest):
                continue
            what = f"manifest {digest} of {tag.familiar}"
            data = self._content.read(digest, document.SIZE_MAX)
            manifest = parse_manifest(data, "", what)
            if isinstance(manifest, Manifest) and manifest.config.digest == image_id:
                check_layers(manifest, image.diff_ids, what)
                return _Pushable(image_id, data, digest, manifest, image.diff_ids)
        raise Failed(f"{tag.familiar}: its manifest is not in the store: pull or build the image again")

    async def _push_image(
        self, image: _Pushable, tag: Reference, destination: Destination, slots: asyncio.Semaphore, tell: Tell
    ) -> None:
        layers = {
            descriptor.digest: (short(diff_id), descriptor)
            for diff_id, descriptor in zip(image.diff_ids, image.manifest.layers, strict=True)
        }
        for number, digest in enumerate(reversed(layers)):
            tell(Progress(layers[digest][0], "Preparing"))
            if number >= self._limit:
                tell(Progress(layers[digest][0], "Waiting"))

        async def one(descriptor: Descriptor, report: Report) -> None:
            async with slots:
                await self._push_blob(descriptor, image, tag, destination, report)

        try:
            async with asyncio.TaskGroup() as group:
                for digest in reversed(layers):
                    layer_id, descriptor = layers[digest]
                    group.create_task(one(descriptor, throttled(layer_id, tell)))
                group.create_task(one(image.manifest.config, lambda *_: None))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        await self.retrying(
            destination,
            lambda: destination.put_manifest(tag.tag, image.data, image.manifest.media_type, image.digest),
        )
        self._sources.remember(image.image_id, tag)
        self._catalog.name(tag.trimmed().with_digest(image.digest), image.image_id)
        self._durability.request()
        pushed = Pushed(tag.tag, image.digest, len(image.data))
        tell(Progress("", f"{tag.tag}: digest: {pushed.digest} size: {pushed.size_bytes}"))
        tell(Progress("", "", pushed=pushed))

    async def _push_blob(
        self,
        descriptor: Descriptor,
        image: _Pushable,
        tag: Reference,
        destination: Destination,
        report: Report,
    ) -> None:
        digest, size_bytes = descriptor.digest, descriptor.size_bytes
        with contextlib.suppress(
            Unauthorized
        ):  # some may push and not look; if not that either, the upload tells
            if await self.retrying(destination, lambda: destination.has_blob(digest, size_bytes)):
                report("Layer already exists", None, None)
                return
        upload: Upload | None = None
        for path in self._candidates(digest, image, tag):
            try:
                upload = await destination.mount(digest, path)
            except MinidError:
                continue  # it is a favour; why it is refused does not matter
            if upload is None:
                report(f"Mounted from {path}", None, None)
                return
            break
        if not self._content.is_sound(digest, size_bytes):
            await self._get(descriptor, image, tag, destination, report)
        try:
            await self.upload(self._blob(descriptor, report), destination, upload, report)
        except DigestMismatch:
            await self._get(descriptor, image, tag, destination, report)
            await self.upload(self._blob(descriptor, report), destination, None, report)
        report("Pushed", None, None)

    def _blob(self, descriptor: Descriptor, report: Report) -> "_Blob":
        return _Blob(self._content, self._pool, descriptor, report)

    def _candidates(self, digest: str, image: _Pushable, tag: Reference) -> list[str]:
        """Repositories of the same registry that should have the blob: the image's own, then other images'."""
        own = [each.path for each in self._sources.of_image(image.image_id) if each.domain == tag.domain]
        paths = dict.fromkeys([*own, *self._sources.of_blob(digest, tag.domain)])
        return [path for path in paths if path != tag.path][:MOUNTS_TRIED_MAX]

    async def _get(
        self,
        descriptor: Descriptor,
        image: _Pushable,
        tag: Reference,
        destination: Destination,
        report: Report,
    ) -> None:
        """Fetch a layer that this image has never needed, because it was here from another one, or a damaged one."""
        was_here = bool(self._content.remove(descriptor.digest))
        for repository in self._sources.of_image(image.image_id):
            auth = destination.auth if repository.domain == tag.domain else None
            try:
                await self._fetch(descriptor, repository, auth, report)
                return
            except MinidError as error:
                log.info("a blob to push is not to be had", extra={"from": repository.name, "error": error})
        how = "is damaged on the disk" if was_here else "is here unpacked only"
        raise Failed(
            f"blob {short(descriptor.digest)} of {tag.familiar} {how}, and not to be had from where the image came "
            "from: pull the image again"
        )

    async def upload(
        self, blob: "Sendable", destination: Destination, upload: Upload | None, report: Report
    ) -> None:
        """Until the registry has it, over as many connections as it takes; ``upload`` may have begun."""
        descriptor = blob.descriptor
        part_bytes, reached, failures = descriptor.size_bytes, 0, 0
        while True:
            try:
                if upload is not None and upload.offset is None and not await destination.find_offset(upload):
                    if await destination.has_blob(descriptor.digest, descriptor.size_bytes):
                        return  # only its answer was lost
                    upload = None
                if upload is None:
                    upload = await destination.begin()
                elif upload.offset is not None and upload.offset > reached:
                    reached, failures = upload.offset, 0
                await self._send_rest(blob, destination, upload, part_bytes)
                return
            except WrongBytes as error:
                raise await self._pool.run(blob.who_is_wrong, error) from error
            except Transient as error:
                if blob.failure is not None:
                    raise blob.failure from error
                failures += 1
                if failures > len(self._retry_delays_s):
                    raise
                delay_s = backoff_s(failures - 1, error, self._retry_delays_s)
                report(f"Retrying in {delay_s:.0f} second{'' if delay_s == 1 else 's'}", None, None)
                await asyncio.sleep(delay_s)
                part_bytes = min(part_bytes, RETRY_PART_BYTES)

    async def _send_rest(
        self, blob: "Sendable", destination: Destination, upload: Upload, part_bytes: int
    ) -> None:
        descriptor, offset = blob.descriptor, upload.offset or 0
        if offset == 0 and descriptor.size_bytes <= MONOLITHIC_MAX_BYTES:
            await destination.finish(upload, descriptor.digest, blob.parts, descriptor.size_bytes)
            return
        while offset < descriptor.size_bytes:
            size_bytes = min(max(part_bytes, upload.part_min_bytes), descriptor.size_bytes - offset)
            await destination.send_part(upload, blob.parts, size_bytes, descriptor.size_bytes)
            if upload.offset is None or upload.offset <= offset:
                raise Transient(f"registry {destination.host}: an upload does not get on; try again")
            offset = upload.offset
        await destination.finish(upload, descriptor.digest, blob.parts, 0)

    async def retrying(self, destination: Destination, ask: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(len(self._retry_delays_s) + 1):
            try:
                return await ask()
            except Transient as error:
                if attempt >= len(self._retry_delays_s) or (error.refused and not destination.reached):
                    raise  # at once, if nobody was ever there
                await asyncio.sleep(backoff_s(attempt, error, self._retry_delays_s))
        raise AssertionError("unreachable")


class Sendable(Protocol):
    """A blob to be uploaded. ``failure`` is what went wrong on this side of it, if anything did."""

    descriptor: Descriptor
    failure: MinidError | None

    def parts(self, first: int, size_bytes: int) -> AsyncIterator[bytes]:
        """``size_bytes`` from ``first`` on."""

    def who_is_wrong(self, refusal: MinidError) -> MinidError:
        """The registry says that these are not the right bytes: whose error it is. May block."""


class _Blob:
    """A blob of the store on its way; ``failure`` is what went wrong on this side, if anything did."""

    def __init__(
        self, content: ContentStore, pool: BlockingPool, descriptor: Descriptor, report: Report
    ) -> None:
        self._content = content
        self._pool = pool
        self._report = report
        self.descriptor = descriptor
        self.failure: MinidError | None = None

    async def parts(self, first: int, size_bytes: int) -> AsyncIterator[bytes]:
        """``size_bytes`` from ``first`` on; the next part is read while the one before is sent."""
        try:
            fd = self._content.open(self.descriptor.digest)
        except MinidError as error:
            self.failure = error
            raise
        position, end = first, first + size_bytes
        reading: asyncio.Future[bytes] | None = None
        try:
            while position < end:
                reading = reading or self._read(fd, position, end)
                part = await settle(reading)
                if not part:
                    self.failure = self._content.damaged(self.descriptor.digest)
                    raise self.failure
                position += len(part)
                reading = self._read(fd, position, end) if position < end else None
                yield part
                self._report("Pushing", position, self.descriptor.size_bytes)
        except OSError as error:
            self.failure = Failed(f"blob {self.descriptor.digest} cannot be read: {error.strerror}")
            raise
        finally:
            if reading is not None:
                with contextlib.suppress(OSError):
                    await settle(reading)
            os.close(fd)

    def _read(self, fd: int, position: int, end: int) -> "asyncio.Future[bytes]":
        return self._pool.start(os.pread, fd, min(READ_BYTES, end - position), position)

    def who_is_wrong(self, refusal: MinidError) -> MinidError:
        """Read the blob again: if it has changed on disk, the registry was right. Blocks."""
        digest = self.descriptor.digest
        return refusal if self._content.check(digest) else self._content.damaged(digest)
