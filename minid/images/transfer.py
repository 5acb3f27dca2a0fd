"""Layers on their way: from the registry's socket into the blob store and, the same bytes, to the unpacker.

    socket ──▶ chunk ──┬─▶ sha256 ─▶ partial blob ─▶ rename
                       └─▶ pipe ─▶ unpacking job (inflates, checks the diff ID) ─▶ snapshot

Each layer is one ``Transfer``, which all pulls that want it share; it goes on while one of them is left, and
when the last one goes away it stops and keeps the bytes it has for the next time. The last chunk is given to the
unpacker only after the digest is known to be right, so a layer that is not what it should be gets no snapshot.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from minid.errors import Failed, MinidError, Unauthorized, Unavailable
from minid.images.catalog import Catalog
from minid.images.content import ContentStore, DigestMismatch, Partial
from minid.images.digest import short
from minid.images.layerstore import LayerStore, UnpackedLayer
from minid.images.manifest import Descriptor
from minid.images.registry.client import CRAWL_BYTES
from minid.images.registry.mirrors import Repositories
from minid.images.registry.transport import Transient, backoff_s
from minid.images.retention import KeyedLocks, Retention
from minid.images.threads import BlockingPool, settle

PIPE_BYTES = 1 << 20
BLOB_RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0)

Report = Callable[[str, int | None, int | None], None]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as a manifest and a config together name it."""

    descriptor: Descriptor
    diff_id: str


class ShortBlob(Transient):
    """A blob that ended properly, and too early: once may be a proxy's fault, again and again is not."""


class LayerPipe:
    """The writing end of the pipe to the unpacker. It keeps the latest chunk back until ``finish``.

    An unpacker that has gone away is no error here: its own result tells why.
    """

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # more than pipe-user-pages-soft allows
            fcntl.fcntl(self._write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._kept = b""
        self._broken = False

    def write(self, chunk: bytes) -> None:
        self._send(self._kept)
        self._kept = chunk

    def finish(self) -> None:
        self._send(self._kept)
        self._kept = b""

    def close(self) -> None:
        """Idempotent. Without ``finish`` before, the unpacker sees a truncated layer."""
        if self._write_fd >= 0:
            os.close(self._write_fd)
            self._write_fd = -1

    def _send(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view and not self._broken:
            try:
                view = view[os.write(self._write_fd, view) :]
            except BrokenPipeError:
                self._broken = True


class NoPipe(LayerPipe):
    """For a blob that is only stored."""

    def __init__(self) -> None:
        self.read_fd = self._write_fd = -1

    def write(self, chunk: bytes) -> None:
        return None


@dataclass(eq=False)
class Transfer:
    """One layer under way; ``latest`` is told to those who join late."""

    task: "asyncio.Task[None]" = field(init=False)
    listeners: list[Report] = field(default_factory=list)
    latest: tuple[str, int | None, int | None] | None = None
    ending: bool = False

    def report(self, status: str, current_bytes: int | None = None, total_bytes: int | None = None) -> None:
        self.latest = (status, current_bytes, total_bytes)
        for listener in self.listeners:
            listener(status, current_bytes, total_bytes)


class Transfers:
    """All layers under way in this daemon; at most ``limit`` at once."""

    def __init__(
        self,
        content: ContentStore,
        snapshots: LayerStore,
        catalog: Catalog,
        retention: Retention,
        pool: BlockingPool,
        *,
        limit: int,
        retry_delays_s: tuple[float, ...] = BLOB_RETRY_DELAYS_S,
    ) -> None:
        self._content = content
        self._snapshots = snapshots
        self._catalog = catalog
        self._retention = retention
        self._pool = pool
        self._limit = asyncio.Semaphore(limit)
        self._blob_locks = KeyedLocks()
        self._retry_delays_s = retry_delays_s
        self._transfers: dict[str, Transfer] = {}

    def is_there(self, diff_id: str) -> bool:
        """Whether the layer is unpacked (and not just now being removed or made)."""
        return (
            diff_id not in self._transfers
            and self._catalog.has_layer(diff_id)
            and self._snapshots.has(diff_id)
        )

    async def ensure(self, layer: Layer, repository: Repositories, report: Report) -> None:
        """Have ``layer`` unpacked; hold it (``Retention.hold``) meanwhile.

        Raises a ``MinidError``: ``Transient`` when the network failed, ``DigestMismatch`` or another when the
        layer is not what it should be. Being cancelled stops the transfer unless another caller waits for it.
        """
        while (transfer := self._transfers.get(layer.diff_id)) is not None and transfer.ending:
            await asyncio.wait([transfer.task])
        if transfer is None:
            transfer = Transfer()
            transfer.task = asyncio.create_task(self._run(layer, repository, transfer))
            self._transfers[layer.diff_id] = transfer
        elif transfer.latest is not None:
            report(*transfer.latest)
        transfer.listeners.append(report)
        try:
            await asyncio.wait([transfer.task])
        except asyncio.CancelledError:
            transfer.listeners.remove(report)
            if not transfer.listeners:
                transfer.ending = True
                transfer.task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await settle(transfer.task)
            raise
        if transfer.task.cancelled():
            raise Unavailable("minid is stopping: pull again later, it will go on where it was")
        transfer.task.result()

    async def ensure_blob(self, descriptor: Descriptor, repository: Repositories, report: Report) -> None:
        """Have a layer's blob in the store, without unpacking it; hold it meanwhile.

        An image whose layer was there already in another form of compression has never needed its blob.
        """
        async with self._limit, self._blob_locks.hold(descriptor.digest):
            while not self._content.has(descriptor.digest):
                try:
                    await self._store(descriptor, repository, report)
                except DigestMismatch as error:
                    if not error.resumed and not repository.blame(descriptor.digest):
                        raise

    async def _store(self, descriptor: Descriptor, repository: Repositories, report: Report) -> None:
        partial = self._content.partial(descriptor.digest, descriptor.size_bytes)
        try:
            await self._download(descriptor, repository, partial, NoPipe(), report)
            await self._pool.run(partial.verify)
            await self._pool.run(partial.publish)
        except BaseException as error:
            if _is_worth_keeping(error):
                partial.close()
            else:
                partial.discard()
            raise

    async def close(self) -> None:
        """Stop all transfers; what they have is kept."""
        for transfer in list(self._transfers.values()):
            transfer.ending = True
            transfer.task.cancel()
            await asyncio.wait([transfer.task])

    async def _run(self, layer: Layer, repository: Repositories, transfer: Transfer) -> None:
        try:
            async with self._retention.layer_locks.hold(layer.diff_id), self._limit:
                if self._catalog.has_layer(layer.diff_id) and self._snapshots.has(layer.diff_id):
                    return
                async with self._blob_locks.hold(layer.descriptor.digest):
                    unpacked = await self._fetch(layer, repository, transfer.report)
                self._catalog.add_layer(layer.diff_id, unpacked.size_bytes, unpacked.entries)
        except OSError as error:
            raise _local_failure(error, layer) from error
        finally:
            del self._transfers[layer.diff_id]

    async def _fetch(self, layer: Layer, repository: Repositories, report: Report) -> UnpackedLayer:
        """From the store or the registry; what the store has may be damaged (a partial blob is not verified)."""
        if self._content.has(layer.descriptor.digest):
            report("Extracting", 0, layer.descriptor.size_bytes)
            try:
                return await self._unpack(layer, self._content.open(layer.descriptor.digest))
            except MinidError:
                self._content.remove(layer.descriptor.digest)
        while True:
            try:
                return await self._stream(layer, repository, report)
            except DigestMismatch as error:
                if not error.resumed and not repository.blame(layer.descriptor.digest):
                    raise
            report("Pulling fs layer", None, None)

    async def _stream(self, layer: Layer, repository: Repositories, report: Report) -> UnpackedLayer:
        partial = self._content.partial(layer.descriptor.digest, layer.descriptor.size_bytes)
        pipe = LayerPipe()
        unpacking = asyncio.create_task(self._unpack(layer, pipe.read_fd))
        try:
            await self._download(layer.descriptor, repository, partial, pipe, report)
            report("Verifying Checksum", None, None)
            await self._pool.run(partial.verify)
            report("Download complete", None, None)
            await self._pool.run(pipe.finish)
            pipe.close()
            publishing = self._pool.start(partial.publish)
            report("Extracting", layer.descriptor.size_bytes, layer.descriptor.size_bytes)
            try:
                unpacked = await settle(unpacking)
            finally:
                await settle(publishing)
        except BaseException as error:
            pipe.close()
            await self._undo(layer, partial, unpacking, keep=_is_worth_keeping(error))
            raise
        return unpacked

    async def _undo(
        self, layer: Layer, partial: Partial, unpacking: "asyncio.Task[UnpackedLayer]", *, keep: bool
    ) -> None:
        """After a failure: no snapshot; the blob only where its bytes are right as far as they go."""
        try:
            with contextlib.suppress(Exception):
                await settle(unpacking)
                await self._snapshots.remove(layer.diff_id)
        finally:
            if keep:
                partial.close()
            else:
                partial.discard()
                if not self._catalog.blob_is_used(layer.descriptor.digest):
                    self._content.remove(layer.descriptor.digest)

    async def _unpack(self, layer: Layer, read_fd: int) -> UnpackedLayer:
        try:
            return await self._snapshots.unpack(
                layer.diff_id, layer.descriptor.media_type, read_fd, sync=False
            )
        finally:
            os.close(read_fd)  # the pipe breaks as soon as the job is gone, too

    async def _download(
        self,
        descriptor: Descriptor,
        repository: Repositories,
        partial: Partial,
        pipe: LayerPipe,
        report: Report,
    ) -> None:
        """Bring ``partial`` to its full size, over as many connections as it takes."""
        await self._pool.run(partial.replay, pipe.write)
        if partial.offset:
            report("Downloading", partial.offset, descriptor.size_bytes)
        failures = 0
        while partial.offset < descriptor.size_bytes:
            before = partial.offset
            try:
                await self._download_some(descriptor, repository, partial, pipe, report)
                if partial.offset == descriptor.size_bytes:
                    return
                raise ShortBlob(
                    f"registry {repository.host_of(descriptor.digest)}: blob {short(descriptor.digest)} "
                    f"ends after {partial.offset} of {descriptor.size_bytes} bytes (truncated)"
                )
            except Transient as error:
                repository.broken(descriptor.digest)
                failures = failures + 1 if partial.offset - before < CRAWL_BYTES else 1
                if failures > len(self._retry_delays_s):
                    if isinstance(error, ShortBlob):
                        raise DigestMismatch(str(error)) from error
                    raise
                delay_s = backoff_s(failures - 1, error, self._retry_delays_s)
                report(f"Retrying in {delay_s:.0f} second{'' if delay_s == 1 else 's'}", None, None)
                await asyncio.sleep(delay_s)

    async def _download_some(
        self,
        descriptor: Descriptor,
        repository: Repositories,
        partial: Partial,
        pipe: LayerPipe,
        report: Report,
    ) -> None:
        """One connection's worth. The next chunk is received while the one before is hashed and written."""

        def store(chunk: bytes) -> None:
            partial.write(chunk)
            pipe.write(chunk)

        async with await repository.open_blob(descriptor, partial.offset) as stream:
            skip = partial.offset - stream.offset  # a registry without ranges begins anew
            received = stream.offset
            storing: asyncio.Future[None] | None = None
            try:
                while chunk := await stream.read():
                    received += len(chunk)
                    if skip:
                        chunk, skip = chunk[skip:], max(0, skip - len(chunk))
                        if not chunk:
                            continue
                    report("Downloading", received, descriptor.size_bytes)
                    if storing is not None:
                        await settle(storing)
                    storing = self._pool.start(store, chunk)
            finally:
                if storing is not None:
                    await settle(storing)


def _is_worth_keeping(error: BaseException) -> bool:
    """A broken network or a client that went away says nothing against the bytes; anything else might."""
    return isinstance(error, asyncio.CancelledError | Unavailable | Unauthorized)


def _local_failure(error: OSError, layer: Layer) -> MinidError:
    what = f"layer {short(layer.descriptor.digest)}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failed(f"no space left on device while storing {what}: free some space and pull again")
    return Failed(f"{what} could not be stored: {error}")
