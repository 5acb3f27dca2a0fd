"""What is kept and what is garbage: blobs and layers live while an image, a pull or a container needs them."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator

from minid.images.catalog import Catalog
from minid.images.content import ContentStore, unlink
from minid.images.layerstore import LayerStore

log = logging.getLogger(__name__)


class KeyedLocks:
    """One ``asyncio.Lock`` a key, for as long as somebody uses it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(key, (None, 0))
        lock = lock or asyncio.Lock()
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[key][1] - 1
            if users:
                self._locks[key] = (lock, users)
            else:
                del self._locks[key]


class Retention:
    """Decides over removal. ``held_layers`` names the diff IDs that containers stand on."""

    def __init__(self, catalog: Catalog, content: ContentStore, snapshots: LayerStore) -> None:
        self._catalog = catalog
        self._content = content
        self._snapshots = snapshots
        self._holds: Counter[str] = Counter()
        self.layer_locks = KeyedLocks()
        self.held_layers: Callable[[], Collection[str]] = lambda: ()

    @contextlib.contextmanager
    def hold(self, keys: Iterable[str]) -> Iterator[None]:
        """Keep blobs (digests) and layers (diff IDs) while the context lasts, be they there yet or not."""
        held = list(keys)
        self._holds.update(held)
        try:
            yield
        finally:
            self._holds.subtract(held)
            for key in held:
                if self._holds[key] <= 0:
                    del self._holds[key]

    def is_held(self, key: str) -> bool:
        """Whether somebody holds this blob, layer or image."""
        return key in self._holds

    def is_used(self, diff_id: str, *, own_holds: int = 0) -> bool:
        """Whether a container stands on the layer, or anybody holds it but the caller, who does ``own_holds`` times."""
        return self._holds[diff_id] > own_holds or diff_id in self.held_layers()

    async def collect(self, diff_ids: Iterable[str], digests: Iterable[str]) -> tuple[list[str], int]:
        """Remove those given that nobody needs; returns the removed diff IDs and the bytes freed."""
        freed = 0
        for digest in digests:
            if digest not in self._holds and not self._catalog.blob_is_used(digest):
                for path in self._content.retire(digest):
                    freed += await asyncio.to_thread(unlink, path)
        removed: list[str] = []
        for diff_id in diff_ids:
            async with self.layer_locks.hold(diff_id):
                if self._is_needed(diff_id):
                    continue
                try:
                    await self._snapshots.remove(diff_id)
                except Exception as error:  # a job's, the system's: whatever it was, the rest goes on
                    log.warning("layer %s could not be removed, it will be tried again: %s", diff_id, error)
                    continue
                freed += self._catalog.layer_sizes([diff_id]).get(diff_id, 0)
                self._catalog.remove_layer(diff_id)
                removed.append(diff_id)
        return removed, freed

    async def sweep(self, *, older_than_s: float) -> int:
        """Remove all that is older and needed by nobody (of interrupted pulls); returns the bytes freed."""
        before = time.time() - older_than_s
        blobs = [
            digest
            for digest in list(self._content.digests())
            if not self._catalog.blob_is_used(digest) and self._content.path(digest).stat().st_mtime < before
        ]
        _, freed = await self.collect(self._catalog.unused_layers(int(before * 1e9)), blobs)
        return freed

    def _is_needed(self, diff_id: str) -> bool:
        return diff_id in self._holds or self._catalog.layer_is_used(diff_id) or diff_id in self.held_layers()
