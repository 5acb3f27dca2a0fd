"""``docker load``: an archive's images into the store.

    client's stream ─▶ job: inflate, take apart, hash ─▶ one file a member ─▶ read what they say (``archive``)
                                                          └─▶ renamed into the blob store, unpacked ─▶ one transaction

Nothing exists before that transaction; when anything is wrong, nothing stays. An OCI layout may leave out layers that
are here: ``missing`` tells which are not.
"""

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

from minid.errors import Failed, InvalidParameter, MinidError
from minid.events import EventBus
from minid.images import document
from minid.images.archive import Archive, LoadedImage, LoadedLayer, Member
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.digest import short
from minid.images.document import InvalidDocument
from minid.images.durability import Durability
from minid.images.feeding import feed
from minid.images.layerstore import LayerStore
from minid.images.model import Progress
from minid.images.platform import Platform
from minid.images.pull import throttled
from minid.images.retention import Retention
from minid.images.snapshots.driver import Jobs
from minid.images.threads import BlockingPool, settle
from minid.kernel.files import grow_pipe
from minid.shim.client import JobError

LAYERS_AT_ONCE = 2
PROGRESS_INTERVAL_S = 0.1

Tell = Callable[[Progress], None]


class Loader:
    """What all loads need. One a daemon."""

    def __init__(
        self,
        content: ContentStore,
        catalog: Catalog,
        retention: Retention,
        snapshots: LayerStore,
        pool: BlockingPool,
        durability: Durability,
        events: EventBus,
        jobs: Jobs,
        host: Platform,
    ) -> None:
        self._content = content
        self._catalog = catalog
        self._retention = retention
        self._snapshots = snapshots
        self._pool = pool
        self._durability = durability
        self._events = events
        self._jobs = jobs
        self._host = host

    async def load(self, stream: AsyncIterator[bytes], tell: Tell) -> list[str]:
        """Take in all images of the archive; their ids. Cancel it at any time.

        A ``Progress`` with an id is of a layer, one without is a message. Raises ``InvalidParameter`` (damaged or
        hostile), ``NotFound`` (of no platform that runs here), ``Unsupported``, ``Failed`` (full disk).
        """
        prefix = secrets.token_hex(8)
        try:
            archive = await self._receive(stream, prefix)
            images = await self._pool.run(archive.images, self._host)
            needed = {key for image in images for key in (*image.blobs, *image.config.diff_ids)}
            with self._retention.hold(needed):
                self._check_left_out(images)
                await self._durability.begin()
                try:
                    await self._store(images, prefix, tell)
                except BaseException as error:
                    failure: BaseException | None = error
                else:
                    failure = None
                finally:
                    self._durability.end()
            if failure is not None:
                await self._forget(images)
                raise failure
            return [image.id for image in images]
        finally:
            await asyncio.to_thread(self._clean, prefix)

    def missing(self, blobs: Sequence[tuple[str, str]]) -> list[str]:
        """Of pairs of a blob's digest and its diff ID ("" if it is no layer), the digests that have to be sent."""
        return [digest for digest, diff_id in blobs if not self._is_here(digest, diff_id)]

    def _is_here(self, digest: str, diff_id: str) -> bool:
        """As a blob, or unpacked: then the blob is not needed."""
        unpacked = diff_id and self._catalog.has_layer(diff_id) and self._snapshots.has(diff_id)
        return bool(unpacked) or self._content.has(digest)

    def _check_left_out(self, images: Sequence[LoadedImage]) -> None:
        for image in images:
            for layer in image.layers:
                if layer.member is None and not self._is_here(layer.descriptor.digest, layer.diff_id):
                    path = "blobs/" + layer.descriptor.digest.replace(":", "/")
                    raise InvalidParameter(
                        f"invalid archive: {path} is not in the archive, and that layer is not here either"
                    )

    async def _receive(self, stream: AsyncIterator[bytes], prefix: str) -> Archive:
        """Have the job take the stream apart; when it is cut off, wait for the job to notice."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        answer = os.memfd_create("members", os.MFD_CLOEXEC)
        try:
            grow_pipe(writing)
            request = {"directory": str(self._content.asides), "prefix": prefix}
            job = asyncio.ensure_future(
                self._jobs.call("minid.images.layers:receive_job", request, [reading, answer])
            )
            try:
                await asyncio.sleep(0)  # now the request is sent, with copies of the descriptors
                await feed(writing, stream, job)
            finally:
                os.close(writing)
                writing = -1
                with contextlib.suppress(JobError):
                    await settle(job)
            job.result()
            listing = json.loads(os.pread(answer, os.fstat(answer).st_size, 0))
        except JobError as error:
            raise received_failure(error, "archive") from error
        finally:
            for fd in (reading, writing, answer):
                if fd >= 0:
                    os.close(fd)

        def read(member: Member, name: str) -> bytes:
            if member.size_bytes > document.SIZE_MAX:
                raise InvalidDocument(
                    f"invalid archive: {name} has {member.size_bytes} bytes, more than the {document.SIZE_MAX} "
                    "that are accepted"
                )
            return self._aside(prefix, member).read_bytes()

        return Archive(listing, read)

    async def _store(self, images: Sequence[LoadedImage], prefix: str, tell: Tell) -> None:
        layers: dict[str, LoadedLayer] = {}
        fresh: set[str] = set()
        for image in images:
            for layer in image.layers:
                layers.setdefault(layer.diff_id, layer)
                if self._adopt(layer, prefix):
                    fresh.add(layer.descriptor.digest)
        slots = asyncio.Semaphore(LAYERS_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for layer in layers.values():
                    group.create_task(
                        self._unpack(layer, slots, tell, fresh=layer.descriptor.digest in fresh)
                    )
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        await self._pool.run(self._put, images)
        for image in images:
            self._commit(image, tell)

    def _adopt(self, layer: LoadedLayer, prefix: str) -> bool:
        """Whether the blob is the archive's own, which has just been hashed."""
        if layer.member is None or self._content.has(layer.descriptor.digest):
            return False
        self._content.adopt(self._aside(prefix, layer.member), layer.descriptor.digest)
        return True

    async def _unpack(self, layer: LoadedLayer, slots: asyncio.Semaphore, tell: Tell, *, fresh: bool) -> None:
        async with self._retention.layer_locks.hold(layer.diff_id), slots:
            if self._catalog.has_layer(layer.diff_id) and self._snapshots.has(layer.diff_id):
                return
            fd = self._content.open(layer.descriptor.digest)
            try:
                with _watched(fd, layer, tell):
                    unpacked = await self._snapshots.unpack(
                        layer.diff_id,
                        layer.descriptor.media_type,
                        fd,
                        sync=False,
                        verified=fresh and layer.is_plain,
                    )
            finally:
                os.close(fd)
            self._catalog.add_layer(layer.diff_id, unpacked.size_bytes, unpacked.entries)

    def _put(self, images: Sequence[LoadedImage]) -> None:
        for image in images:
            for digest, data in image.documents.items():
                self._content.put(data, digest)
            self._content.put(image.config_data, image.id)

    def _commit(self, image: LoadedImage, tell: Tell) -> None:
        for name in image.names:
            old = self._catalog.find_name(name)
            if old is not None and old != image.id:
                tell(
                    Progress(
                        "",
                        f"The image {name.familiar} already exists, renaming the old one with ID {old} to empty string",
                    )
                )
        self._catalog.add(
            image.id,
            manifest_digest=image.manifest_digest,
            media_type=image.manifest.media_type,
            created=image.config.created,
            diff_ids=image.config.diff_ids,
            blobs=[digest for digest in image.blobs if self._content.has(digest)],
            names=image.names,
        )
        self._events.publish("image", "load", image.id, {"name": image.id})
        for name in image.names:
            tell(Progress("", f"Loaded image: {name.familiar}"))
        if not image.names:
            tell(Progress("", f"Loaded image ID: {image.id}"))

    async def _forget(self, images: Sequence[LoadedImage]) -> None:
        diff_ids = {diff_id for image in images for diff_id in image.config.diff_ids}
        await self._retention.collect(diff_ids, {digest for image in images for digest in image.blobs})

    def _aside(self, prefix: str, member: Member) -> Path:
        return self._content.asides / f"{prefix}-{member.number}.aside"

    def _clean(self, prefix: str) -> None:
        for path in self._content.asides.glob(f"{prefix}-*.aside"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _watched(fd: int, layer: LoadedLayer, tell: Tell) -> Iterator[None]:
    """Tell how far the job has read ``fd``: it shares our file offset."""
    size_bytes = layer.descriptor.size_bytes
    report = throttled(short(layer.diff_id), tell)

    async def watch() -> None:
        while True:
            report("Loading layer", min(os.lseek(fd, 0, os.SEEK_CUR), size_bytes), size_bytes)
            await asyncio.sleep(PROGRESS_INTERVAL_S)

    task = asyncio.get_running_loop().create_task(watch())
    try:
        yield
        tell(Progress(short(layer.diff_id), "Loading layer", size_bytes, size_bytes))
    finally:
        task.cancel()


def received_failure(error: JobError, what: str) -> MinidError:
    """What a job that read a client's stream has raised, in the daemon's words."""
    if error.kind == "TarError":
        return InvalidParameter(f"invalid {what}: {error}")
    return Failed(f"the {what} could not be stored: {error}")
