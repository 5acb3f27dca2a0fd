"""At start: bring the disk and the tables in line, after whatever ended the daemon before.

A killed daemon leaves at most a layer without a row. A machine that went down may leave blobs and layers whose bytes
never reached the disk (see ``durability``): nothing that was not synced is trusted then.
"""

import logging

from minid.errors import MinidError
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.digest import short
from minid.images.durability import Durability
from minid.images.layerstore import LayerStore
from minid.images.retention import Retention

log = logging.getLogger(__name__)


class Recovery:
    """Used once, before anything else."""

    def __init__(
        self,
        content: ContentStore,
        catalog: Catalog,
        retention: Retention,
        snapshots: LayerStore,
        durability: Durability,
    ) -> None:
        self._content = content
        self._catalog = catalog
        self._retention = retention
        self._snapshots = snapshots
        self._durability = durability

    async def run(self) -> None:
        """Idempotent."""
        if self._durability.was_interrupted():
            await self._distrust()
            self._durability.request()
        elif self._durability.is_marked():
            self._durability.request()
        for diff_id in self._snapshots.all():
            if not self._catalog.has_layer(diff_id):
                await self._adopt(diff_id)

    async def _distrust(self) -> None:
        """Remove what may not have reached the disk, and images that lack something."""
        images, layers = self._catalog.unsynced()
        damaged = set(images)
        for image_id in self._catalog.ids():
            needed = [image_id, self._catalog.manifest_digest(image_id)]
            if not all(self._content.has(digest) for digest in needed):
                damaged.add(image_id)
        for image_id in sorted(damaged):
            log.warning(
                "image %s had not reached the disk when the machine went down: pull it again", short(image_id)
            )
            self._catalog.remove(image_id)
        for diff_id in {
            *layers,
            *(item for item in self._snapshots.all() if not self._catalog.has_layer(item)),
        }:
            await self._snapshots.remove(diff_id)
            self._catalog.remove_layer(diff_id)
        for digest in list(self._content.digests()):
            if not self._catalog.blob_is_used(digest):
                self._content.remove(digest)
        self._content.clean(keep_s=0)

    async def _adopt(self, diff_id: str) -> None:
        """A layer that was published just before the daemon was killed is whole: the next pull will use it."""
        try:
            layer = self._snapshots.get(diff_id)
        except MinidError:
            await self._snapshots.remove(diff_id)
        else:
            self._catalog.add_layer(diff_id, layer.size_bytes, layer.entries)
