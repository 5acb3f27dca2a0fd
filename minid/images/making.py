"""Images of layers that are made here, by a build.

    root file system ─adopt▶ layer, unpacked;  config and layers ─compose▶ image ─ensure_packed▶ what registries want

A layer made here is kept unpacked only: its manifest names it uncompressed, under its diff ID, and no such blob
exists until a registry wants it. Then the layer is written again (``layers/canonical.py``), compressed, and kept as
a blob, and the image gets the manifest that names that one. Who never pushes never compresses.

    made_layers    diff ID → the size of its archive, and the compressed blob once there is one
"""

import asyncio
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from minid.errors import Failed
from minid.events import EventBus
from minid.images import document
from minid.images.archive import write_manifest
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.durability import Durability
from minid.images.layerstore import LayerStore
from minid.images.manifest import (
    LAYER_COMPRESSION,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    parse_manifest,
)
from minid.images.model import Image
from minid.images.reference import Reference
from minid.images.retention import Retention
from minid.images.snapshots.driver import Jobs
from minid.shim.client import JobError
from minid.state import Database

PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"
PACKED_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

SCHEMA = (
    """
    CREATE TABLE made_layers (
        diff_id TEXT PRIMARY KEY,
        tar_bytes INTEGER NOT NULL,
        blob_digest TEXT NOT NULL DEFAULT '',
        blob_bytes INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID
    """,
)


class Making:
    """One a daemon; for the event loop's thread."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        catalog: Catalog,
        retention: Retention,
        layers: LayerStore,
        durability: Durability,
        events: EventBus,
        jobs: Jobs,
    ) -> None:
        database.migrate("made_layers", SCHEMA)
        self._database = database
        self._content = content
        self._catalog = catalog
        self._retention = retention
        self._layers = layers
        self._durability = durability
        self._events = events
        self._jobs = jobs
        self._packing = asyncio.Lock()

    async def adopt(
        self,
        rootfs_id: str,
        diff_ids: Sequence[str],
        *,
        latest_s: int | None = None,
        mountpoints: Sequence[str] | None = None,
    ) -> str | None:
        """The diff ID of a layer made of what the root file system ``rootfs_id`` has of its own; None for nothing.

        ``latest_s``: no time in it is later (SOURCE_DATE_EPOCH); ``mountpoints``: see
        ``Snapshots.adopt``. Until an image needs it, the caller holds it.
        """
        await self._durability.begin()
        try:
            made = await self._layers.adopt(rootfs_id, diff_ids, latest_s=latest_s, mountpoints=mountpoints)
            if made is None:
                return None
            self._catalog.add_layer(made.diff_id, made.size_bytes, made.entries)
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT OR IGNORE INTO made_layers (diff_id, tar_bytes) VALUES (?, ?)",
                    (made.diff_id, made.tar_bytes),
                )
            return made.diff_id
        finally:
            self._durability.end()

    async def compose(
        self,
        config: Mapping[str, Any],
        *,
        bases: Iterable[Image],
        names: Iterable[Reference],
        parent_id: str = "",
    ) -> str:
        """Make the image of ``config``, the whole document, exist under ``names``; its id.

        Its layers (``rootfs.diff_ids``) are those of the images ``bases`` and such as were made here. The same config
        and layers give the same id and the same manifest. Raises Failed for a layer that is neither.
        """
        diff_ids: list[str] = config["rootfs"]["diff_ids"]
        known = {
            diff_id: layer
            for base in bases
            for diff_id, layer in zip(base.diff_ids, self._manifest(base.id).layers, strict=True)
        }
        layers = tuple(
            _as_oci(known[diff_id]) if diff_id in known else self._made(diff_id) for diff_id in diff_ids
        )
        data = json.dumps(config, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        await self._durability.begin()
        try:
            image_id = self._content.put(data)
            manifest = Manifest(OCI_MANIFEST, Descriptor(OCI_CONFIG, image_id, len(data)), layers)
            self._add(image_id, manifest, config, names, parent_id)
        finally:
            self._durability.end()
        for name in names:
            self._events.publish("image", "tag", image_id, {"name": name.familiar})
        return image_id

    def hold(self, keys: Iterable[str]) -> AbstractContextManager[None]:
        """Keep layers and images while the context lasts."""
        return self._retention.hold(keys)

    async def collect(self, diff_ids: Iterable[str]) -> int:
        """Remove those layers that nobody needs (any more); the bytes freed."""
        await self._durability.begin()
        try:
            return (await self._retention.collect(sorted(diff_ids), ()))[1]
        finally:
            self._durability.end()

    def is_of_image(self, diff_id: str) -> bool:
        """Whether an image has the layer."""
        return self._catalog.layer_is_used(diff_id)

    def has_layer(self, diff_id: str) -> bool:
        return self._layers.has(diff_id)

    def layer_bytes(self, diff_id: str) -> int:
        """Of its files, 0 if it is not here."""
        return self._catalog.layer_sizes([diff_id]).get(diff_id, 0)

    async def ensure_packed(self, image_id: str) -> None:
        """Let every layer of the image be a blob that can be pushed. Idempotent; raises NotFound, Failed."""
        async with self._packing:
            manifest = self._manifest(image_id)
            unpacked = [layer for layer in manifest.layers if self.is_unpacked(layer)]
            if not unpacked:
                return
            with self._retention.hold([layer.digest for layer in unpacked]):
                packed = {layer.digest: await self._pack(layer.digest) for layer in unpacked}
                layers = tuple(packed.get(layer.digest, layer) for layer in manifest.layers)
                await self._durability.begin()
                try:
                    changed = Manifest(manifest.media_type, manifest.config, layers)
                    written = self._content.put(write_manifest(changed))
                    self._catalog.set_manifest(
                        image_id, written, [written, *(item.digest for item in packed.values())]
                    )
                finally:
                    self._durability.end()

    def is_unpacked(self, layer: Descriptor) -> bool:
        """Whether the layer is here unpacked only, and ``write_layer`` can write it."""
        return (
            layer.media_type == PLAIN_LAYER
            and not self._content.has(layer.digest)
            and self._row(layer.digest) is not None
        )

    async def write_layer(self, diff_id: str, out: int) -> None:
        """Write the tar of a layer that was made here to the pipe or file ``out``. Raises NotFound, Failed."""
        await self._layers.rewrite(diff_id, out)

    # -- inside

    def _manifest(self, image_id: str) -> Manifest:
        digest = self._catalog.manifest_digest(image_id)
        data = self._content.read(digest, document.SIZE_MAX)
        manifest = parse_manifest(data, "", f"manifest {digest}")
        if not isinstance(manifest, Manifest):
            raise Failed(f"image {image_id}: {digest} is not its manifest")
        return manifest

    def _made(self, diff_id: str) -> Descriptor:
        row = self._row(diff_id)
        if row is None:
            raise Failed(f"layer {diff_id} was not made here, nor is it of the base image")
        if row["blob_digest"] and self._content.has(row["blob_digest"]):
            return Descriptor(PACKED_LAYER, row["blob_digest"], row["blob_bytes"])
        return Descriptor(PLAIN_LAYER, diff_id, row["tar_bytes"])

    def _row(self, diff_id: str) -> Any:
        query = "SELECT * FROM made_layers WHERE diff_id = ?"
        return self._database.connection.execute(query, (diff_id,)).fetchone()

    def _add(
        self,
        image_id: str,
        manifest: Manifest,
        config: Mapping[str, Any],
        names: Iterable[Reference],
        parent_id: str,
    ) -> None:
        digest = self._content.put(write_manifest(manifest))
        blobs = [digest, image_id, *(layer.digest for layer in manifest.layers)]
        self._catalog.add(
            image_id,
            manifest_digest=digest,
            media_type=manifest.media_type,
            created=config["created"],
            diff_ids=config["rootfs"]["diff_ids"],
            blobs=[blob for blob in blobs if self._content.has(blob)],
            names=names,
            parent_id=parent_id,
        )

    async def _pack(self, diff_id: str) -> Descriptor:
        """Write the layer again, compressed, into the store of blobs."""
        made = self._made(diff_id)
        if made.media_type == PACKED_LAYER:
            return made
        aside = self._content.asides / f"{secrets.token_hex(8)}.aside"
        reading, writing = os.pipe2(os.O_CLOEXEC)
        out = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            packing = asyncio.ensure_future(
                self._jobs.call("minid.images.layers:pack_job", {}, [reading, out])
            )
            await asyncio.sleep(0)  # now the request is sent, with copies of the descriptors
            os.close(reading)
            reading = -1
            try:
                await self._layers.rewrite(diff_id, writing)
            finally:
                os.close(writing)
                writing = -1
                result = await packing
            self._content.adopt(aside, result["digest"])
        except JobError as error:
            raise Failed(f"layer {diff_id} can't be compressed: {error}") from error
        finally:
            for fd in (reading, writing, out):
                if fd >= 0:
                    os.close(fd)
            aside.unlink(missing_ok=True)
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE made_layers SET blob_digest = ?, blob_bytes = ? WHERE diff_id = ?",
                (result["digest"], result["blob_bytes"], diff_id),
            )
        return Descriptor(PACKED_LAYER, result["digest"], result["blob_bytes"])


def _as_oci(layer: Descriptor) -> Descriptor:
    """The same blob, called as an OCI manifest calls it."""
    compression = LAYER_COMPRESSION.get(layer.media_type)
    if compression is None or "foreign" in layer.media_type or "nondistributable" in layer.media_type:
        return layer
    return Descriptor(
        PLAIN_LAYER + (f"+{compression}" if compression else ""), layer.digest, layer.size_bytes
    )
