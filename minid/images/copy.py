"""Images from one registry to another through this daemon, which stores nothing of them.

    source ─▶ manifests ─▶ blobs: there? mounted? else streamed, resumed on either side ─▶ PUT manifests, top last

Every manifest is sent byte for byte as it was received, so its digest stays the same.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from minid.errors import Failed, InvalidParameter, MinidError, NotFound, Unauthorized
from minid.images import document
from minid.images.content import DigestMismatch
from minid.images.digest import is_digest, parse_digest, short
from minid.images.document import InvalidDocument, list_field, size_field, text_field
from minid.images.manifest import ENTRIES_MAX, SCHEMA1, Descriptor, Index, choose, parse_manifest
from minid.images.model import Progress, Pushed
from minid.images.platform import Platform
from minid.images.pull import throttled
from minid.images.push import Pusher
from minid.images.reference import Reference
from minid.images.registries import Registries
from minid.images.registry.authorizer import Auth
from minid.images.registry.client import FetchedManifest
from minid.images.registry.mirrors import Repositories
from minid.images.registry.transport import Transient
from minid.images.registry.uploads import Destination, Upload
from minid.images.threads import BlockingPool
from minid.images.transfer import Report

DEPTH_MAX = 3
MANIFESTS_MAX = 256

Tell = Callable[[Progress], None]


@dataclass(slots=True)
class _Copy:
    """One copy under way: its two ends, what it has found, and how much of it was sent."""

    source: Reference
    target: Reference
    repository: Repositories
    destination: Destination
    tell: Tell
    slots: asyncio.Semaphore
    manifests: list[FetchedManifest] = field(default_factory=list)  # those that others name first
    blobs: dict[str, Descriptor] = field(default_factory=dict)
    sent_blobs: int = 0
    sent_bytes: int = 0


class RegistryCopier:
    """What all copies need. One a daemon."""

    def __init__(
        self, registries: Registries, pusher: Pusher, pool: BlockingPool, host: Platform, *, limit: int
    ) -> None:
        """``limit``: blobs at once in each copy."""
        self._registries = registries
        self._pusher = pusher
        self._pool = pool
        self._host = host
        self._limit = limit

    async def copy(
        self,
        source: Reference,
        target: Reference,
        *,
        source_auth: Auth | None,
        auth: Auth | None,
        platform: Platform | None,
        all_platforms: bool,
        tell: Tell,
    ) -> Pushed:
        """Have ``target``, which has a tag, mean what ``source`` means.

        With ``all_platforms`` an index and all that it names, else the image for ``platform`` (or this machine).
        Cancel it at any time.

        Raises as pulls and pushes do.
        """
        if target.digest or not target.tag:
            raise InvalidParameter(f"{target.familiar}: the name to copy to needs a tag, and no digest")
        copy = _Copy(
            source,
            target,
            self._registries.repository(source, source_auth, lambda text: tell(Progress("", text))),
            self._registries.destination(target, auth),
            tell,
            asyncio.Semaphore(self._limit),
        )
        tell(Progress("", f"Copying {source.familiar} to {target.name}"))
        top = await copy.repository.manifest(source.tag_or_digest)
        if not all_platforms:
            top = await self._chosen(copy, top, platform or self._host)
        await self._gather(copy, top, 0)
        await self._send_blobs(copy)
        for manifest in copy.manifests:
            reference = target.tag if manifest is top else manifest.digest
            await self._put(copy, reference, manifest)
        total_bytes = sum(blob.size_bytes for blob in copy.blobs.values())
        tell(Progress("", f"{target.tag}: digest: {top.digest} size: {len(top.data)}"))
        tell(
            Progress(
                "",
                f"Copied {copy.sent_blobs} of {len(copy.blobs)} blobs, {copy.sent_bytes} of {total_bytes} bytes",
            )
        )
        pushed = Pushed(target.tag, top.digest, len(top.data))
        tell(Progress("", "", pushed=pushed))
        return pushed

    async def _chosen(self, copy: _Copy, top: FetchedManifest, platform: Platform) -> FetchedManifest:
        for _ in range(DEPTH_MAX + 1):
            what = f"manifest {top.digest} of {copy.source.familiar}"
            if not _is_index(top, what):
                return top
            parsed = parse_manifest(top.data, top.media_type, what)
            assert isinstance(parsed, Index)
            entry = choose(parsed, platform, what)
            fetched = await copy.repository.manifest(entry.digest)
            top = FetchedManifest(fetched.data, fetched.media_type or entry.media_type, fetched.digest)
        raise NotFound(f"{copy.source.familiar}: indexes are nested more than {DEPTH_MAX} deep")

    async def _gather(self, copy: _Copy, fetched: FetchedManifest, depth: int) -> None:
        """Find all manifests and blobs that ``fetched`` needs, in the order in which a registry takes them."""
        what = f"manifest {fetched.digest} of {copy.source.familiar}"
        if depth > DEPTH_MAX or len(copy.manifests) >= MANIFESTS_MAX:
            raise Failed(f"{what}: there are too many manifests, or they are nested too deeply")
        data = document.load(fetched.data, what)
        if fetched.media_type in SCHEMA1 or data.get("schemaVersion") == 1:
            raise Failed(f"{what} is of schema 1, which cannot be copied: its digest depends on its name")
        known = {manifest.digest for manifest in copy.manifests}
        for child in _descriptors(data, "manifests", what):
            if child.digest not in known:
                manifest = await copy.repository.manifest(child.digest)
                media_type = manifest.media_type or child.media_type
                await self._gather(
                    copy, FetchedManifest(manifest.data, media_type, manifest.digest), depth + 1
                )
        own = [_descriptor(data["config"], f"{what}: config")] if "config" in data else []
        for blob in (*own, *_descriptors(data, "layers", what)):
            copy.blobs.setdefault(blob.digest, blob)
        copy.manifests.append(fetched)

    async def _put(self, copy: _Copy, reference: str, manifest: FetchedManifest) -> None:
        own = document.load(manifest.data, "manifest").get("mediaType")
        media_type = own if isinstance(own, str) and own else manifest.media_type
        await self._pusher.retrying(
            copy.destination,
            lambda: copy.destination.put_manifest(reference, manifest.data, media_type, manifest.digest),
        )

    async def _send_blobs(self, copy: _Copy) -> None:
        for blob in copy.blobs.values():
            copy.tell(Progress(short(blob.digest), "Preparing"))

        async def one(blob: Descriptor) -> None:
            async with copy.slots:
                await self._send_blob(copy, blob, throttled(short(blob.digest), copy.tell))

        try:
            async with asyncio.TaskGroup() as group:
                for blob in copy.blobs.values():
                    group.create_task(one(blob))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _send_blob(self, copy: _Copy, blob: Descriptor, report: Report) -> None:
        destination = copy.destination
        with contextlib.suppress(Unauthorized):  # some may push and not look
            has_blob = destination.has_blob
            if await self._pusher.retrying(destination, lambda: has_blob(blob.digest, blob.size_bytes)):
                report("Layer already exists", None, None)
                return
        upload: Upload | None = None
        if copy.source.domain == copy.target.domain and copy.source.path != copy.target.path:
            try:
                upload = await destination.mount(blob.digest, copy.source.path)
            except MinidError:
                upload = None  # it is a favour; why it is refused does not matter
            else:
                if upload is None:
                    report(f"Mounted from {copy.source.path}", None, None)
                    return
        await self._pusher.upload(
            _RemoteBlob(copy.repository, self._pool, blob, report), destination, upload, report
        )
        copy.sent_blobs += 1
        copy.sent_bytes += blob.size_bytes
        report("Pushed", None, None)


class _RemoteBlob:
    """A blob at another registry on its way (``push.Sendable``); its digest is checked where all of it comes by."""

    def __init__(
        self, repository: Repositories, pool: BlockingPool, descriptor: Descriptor, report: Report
    ) -> None:
        self._repository = repository
        self._pool = pool
        self._report = report
        self.descriptor = descriptor
        self.failure: MinidError | None = None
        self._hash = hashlib.new(parse_digest(descriptor.digest)[0])
        self._hashed_bytes = 0

    async def parts(self, first: int, size_bytes: int) -> AsyncIterator[bytes]:
        """``size_bytes`` from ``first`` on, from the source as they arrive."""
        position, end = first, first + size_bytes
        if first == 0:
            self._hash, self._hashed_bytes = hashlib.new(parse_digest(self.descriptor.digest)[0]), 0
        try:
            async with await self._repository.open_blob(self.descriptor, first) as stream:
                skip = first - stream.offset  # a registry without ranges begins anew
                while position < end:
                    data = await stream.read()
                    if not data:
                        raise Transient(
                            f"blob {short(self.descriptor.digest)} ended after {position} of "
                            f"{self.descriptor.size_bytes} bytes (truncated)"
                        )
                    if skip:
                        data, skip = data[skip:], max(0, skip - len(data))
                    data = data[: end - position]
                    if not data:
                        continue
                    await self._check(data, position)
                    position += len(data)
                    yield data
                    self._report("Pushing", position, self.descriptor.size_bytes)
        except Transient:
            self._repository.broken(self.descriptor.digest)
            raise
        except MinidError as error:
            self.failure = error
            raise

    async def _check(self, data: bytes, position: int) -> None:
        """Before the last bytes are sent, the digest must be right; else the registry gets no whole blob."""
        if position != self._hashed_bytes:
            return  # some went another time, and were not kept: the registry checks
        await self._pool.run(self._hash.update, data)
        self._hashed_bytes += len(data)
        expected = parse_digest(self.descriptor.digest)[1]
        if self._hashed_bytes == self.descriptor.size_bytes and self._hash.hexdigest() != expected:
            raise self._wrong()

    def _wrong(self) -> MinidError:
        return DigestMismatch(
            f"blob {self.descriptor.digest} was received with another content from "
            f"{self._repository.host_of(self.descriptor.digest)}"
        )

    def who_is_wrong(self, refusal: MinidError) -> MinidError:
        """Nobody has the bytes any more; the destination is believed."""
        return self._wrong() if self._hashed_bytes != self.descriptor.size_bytes else refusal


def _is_index(fetched: FetchedManifest, what: str) -> bool:
    return "manifests" in document.load(fetched.data, what)


def _descriptors(data: Any, key: str, what: str) -> list[Descriptor]:
    if key not in data:
        return []
    items = list_field(data, key, what, length_max=ENTRIES_MAX)
    return [_descriptor(item, f"{what}: {key}[{number}]") for number, item in enumerate(items)]


def _descriptor(item: Any, what: str) -> Descriptor:
    """Of whatever kind: an index may name attestations and other things that are no images."""
    if not isinstance(item, dict):
        raise InvalidDocument(f"{what} is not an object")
    digest = text_field(item, "digest", what, required=True)
    if not is_digest(digest):
        raise InvalidDocument(f"{what}: {digest!r:.100} is not a digest")
    return Descriptor(text_field(item, "mediaType", what), digest, size_field(item, "size", what))
