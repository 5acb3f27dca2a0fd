"""``docker save``: images as one archive, which is Docker's and an OCI layout at once, as Docker writes it since 25.

    oci-layout  index.json  manifest.json  repositories   what there is
    blobs/sha256/<hex>                                    manifests, configs and layers, bit for bit as in the store

The same images give the same bytes: no times, a fixed order.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minid.errors import Conflict, Failed, InvalidParameter
from minid.images import document
from minid.images.archive import (
    INDEX_JSON,
    MANIFEST_JSON,
    NAME_ANNOTATION,
    REPOSITORIES,
    TAG_ANNOTATION,
    write_manifest,
)
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.digest import digest_of, is_digest, parse_digest
from minid.images.layers import tar
from minid.images.layers.header import END, header, padding
from minid.images.making import Making
from minid.images.manifest import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, parse_manifest
from minid.images.model import Image
from minid.images.platform import from_fields
from minid.images.reference import Reference, parse
from minid.images.retention import Retention
from minid.images.threads import BlockingPool, settle

READ_BYTES = 1 << 20


@dataclass(slots=True)
class _Saved:
    """An image and the names that it gets in the archive."""

    image: Image
    manifest: Manifest
    data: bytes
    names: list[Reference] = field(default_factory=list)

    @property
    def descriptor(self) -> dict[str, Any]:
        described: dict[str, Any] = {
            "mediaType": self.manifest.media_type,
            "digest": digest_of(self.data),
            "size": len(self.data),
        }
        platform = from_fields(self.image.config)
        if platform is not None:
            described["platform"] = {
                key: value
                for key, value in (
                    ("architecture", platform.architecture),
                    ("os", platform.os),
                    ("variant", platform.variant),
                )
                if value
            }
        return described


class Saver:
    """What all saves need. One a daemon."""

    def __init__(
        self, content: ContentStore, catalog: Catalog, retention: Retention, pool: BlockingPool
    ) -> None:
        self._content = content
        self._catalog = catalog
        self._retention = retention
        self._pool = pool
        self.making: Making | None = None

    def save(
        self, names: Sequence[str], *, called: Reference | None = None, without: Collection[str] = ()
    ) -> AsyncIterator[bytes]:
        """The archive of ``names`` (a name without tag: all tags; an id: none), piece by piece.

        ``called``: the name that the image has in the archive, in place of its own; ``without`` these layers' blobs.
        Raises ``NotFound``, ``InvalidParameter``, ``Failed`` (a blob is missing) at once, and ``Failed`` in the
        middle when a blob turns out to have been changed on disk.
        """
        saved: dict[str, _Saved] = {}
        for name in names:
            for image_id, reference in self._meant(name):
                if image_id not in saved:
                    saved[image_id] = self._saved(image_id, without)
                if reference is not None and reference not in saved[image_id].names:
                    saved[image_id].names.append(reference)
        if not saved:
            raise InvalidParameter("no images to save: give at least one name")
        if called is not None:
            if len(saved) > 1:
                raise InvalidParameter("only one image can be given another name in an archive")
            next(iter(saved.values())).names = [called]
        return self._stream(list(saved.values()), without)

    def blobs(self, name: str) -> tuple[Image, list[Reference], list[tuple[Descriptor, str]]]:
        """What an archive of ``name`` consists of: the image, its names in it, its layers' blobs and diff IDs.

        ``NotFound``, ``InvalidParameter``; ``Conflict`` when the name means several images.
        """
        meant = self._meant(name)
        image_id = meant[0][0]
        if any(other != image_id for other, _ in meant):
            raise Conflict(f"{name} means several images: give a tag")
        image = self._catalog.get(image_id)
        saved = self._saved(image_id, None)
        layers = list(zip(saved.manifest.layers, image.diff_ids, strict=True))
        return image, [reference for _, reference in meant if reference is not None], layers

    def _meant(self, text: str) -> list[tuple[str, Reference | None]]:
        image_id = self._catalog.resolve(text)
        try:
            reference = parse(text)
        except InvalidParameter:
            return [(image_id, None)]  # an id
        if reference.is_name_only:
            tags = [name for name in self._catalog.names_in(reference) if name.tag]
            if tags and self._catalog.find_name(reference.with_default_tag()) in (None, image_id):
                return [(found, tag) for tag in tags if (found := self._catalog.find_name(tag)) is not None]
            return [(image_id, None)]
        if reference.digest or self._catalog.find_name(reference) is None:
            return [(image_id, None)]
        return [(image_id, reference)]

    def _saved(self, image_id: str, without: Collection[str] | None) -> _Saved:
        """The image with its manifest as it is; one with other blobs of the same layers if its own are not there.

        Blobs of ``without`` need not be there; None: as if none need be.
        """
        image = self._catalog.get(image_id)
        data = self._content.read(image.manifest_digest, document.SIZE_MAX)
        manifest = parse_manifest(data, image.media_type, f"manifest {image.manifest_digest}")
        if not isinstance(manifest, Manifest):
            raise Failed(f"image {image_id}: {image.manifest_digest} is not its manifest")
        if all(
            self._is_here(layer) or without is None or layer.digest in without for layer in manifest.layers
        ):
            return _Saved(image, manifest, data)
        layers = [
            layer if self._is_here(layer) else self._other_blob(diff_id, image)
            for layer, diff_id in zip(manifest.layers, image.diff_ids, strict=True)
        ]
        other = Manifest(OCI_MANIFEST, manifest.config, tuple(layers))
        return _Saved(image, other, write_manifest(other))

    def _is_here(self, layer: Descriptor) -> bool:
        """As a blob, or unpacked, if it was made here."""
        return self._content.is_sound(layer.digest, layer.size_bytes) or self._is_unpacked(layer)

    def _is_unpacked(self, layer: Descriptor) -> bool:
        return self.making is not None and self.making.is_unpacked(layer)

    def _other_blob(self, diff_id: str, image: Image) -> Descriptor:
        for other_id in self._catalog.ids():
            other = self._catalog.get(other_id)
            if diff_id not in other.diff_ids or not self._content.has(other.manifest_digest):
                continue
            data = self._content.read(other.manifest_digest, document.SIZE_MAX)
            manifest = parse_manifest(data, other.media_type)
            if isinstance(manifest, Manifest) and len(manifest.layers) == len(other.diff_ids):
                layer = manifest.layers[other.diff_ids.index(diff_id)]
                if self._content.is_sound(layer.digest, layer.size_bytes):
                    return layer
        raise Failed(
            f"image {image.id}: the blob of its layer {diff_id} is missing or damaged: pull the image again, "
            "or run minictl image verify --repair"
        )

    async def _stream(self, saved: Sequence[_Saved], without: Collection[str]) -> AsyncIterator[bytes]:
        layers = {layer.digest: layer.size_bytes for item in saved for layer in item.manifest.layers}
        unpacked = {
            layer.digest for item in saved for layer in item.manifest.layers if self._is_unpacked(layer)
        }
        documents = {digest_of(item.data): item.data for item in saved}
        ids = {item.image.id for item in saved}
        with self._retention.hold([*layers, *documents, *ids]):
            for image_id in sorted(ids):
                documents[image_id] = await self._pool.run(self._content.read, image_id, document.SIZE_MAX)
            yield b"".join(
                [
                    _file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                    _file(INDEX_JSON, _index(saved)),
                    _file(MANIFEST_JSON, _manifest_json(saved, layers)),
                    *([_file(REPOSITORIES, told)] if (told := _repositories(saved)) else []),
                    _directory("blobs"),
                    *(_directory(f"blobs/{algorithm}") for algorithm in _algorithms([*layers, *documents])),
                    *(_file(_path(digest), data) for digest, data in sorted(documents.items())),
                ]
            )
            for digest, size_bytes in sorted(layers.items()):
                if digest in without:
                    continue
                pieces = self._written if digest in unpacked else self._layer
                async for piece in pieces(digest, size_bytes):
                    yield piece
            yield END

    async def _layer(self, digest: str, size_bytes: int) -> AsyncIterator[bytes]:
        """The blob as a member; the next piece is read and hashed while the one before is sent."""
        yield header(_path(digest).encode(), tar.REGULAR, mode=0o644, size=size_bytes)
        hashed = hashlib.new(parse_digest(digest)[0])
        fd = self._content.open(digest)

        def read() -> bytes:
            data = os.read(fd, READ_BYTES)
            hashed.update(data)
            return data

        reading: asyncio.Future[bytes] | None = None
        sent = 0
        try:
            reading = self._pool.start(read)
            while piece := await settle(reading):
                reading = self._pool.start(read)
                sent += len(piece)
                if sent > size_bytes:
                    break
                yield piece
            if sent != size_bytes or hashed.hexdigest() != parse_digest(digest)[1]:
                raise self._content.damaged(digest)
        finally:
            if reading is not None:
                await asyncio.wait([reading])
            os.close(fd)
        yield padding(size_bytes)

    async def _written(self, digest: str, size_bytes: int) -> AsyncIterator[bytes]:
        """A layer that was made here, written again."""
        assert self.making is not None
        yield header(_path(digest).encode(), tar.REGULAR, mode=0o644, size=size_bytes)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        job = asyncio.ensure_future(self.making.write_layer(digest, writing))
        sent = 0
        try:
            await asyncio.sleep(0)  # now the request is sent, with a copy of the descriptor
            os.close(writing)
            while sent <= size_bytes and (piece := await self._pool.run(os.read, reading, READ_BYTES)):
                sent += len(piece)
                yield piece
        finally:
            os.close(reading)  # the job ends by SIGPIPE's error, if it has not ended
            await asyncio.wait([job])
        job.result()
        if sent != size_bytes:
            raise Failed(f"layer {digest} has been changed on disk: build the image again")
        yield padding(size_bytes)


def _index(saved: Sequence[_Saved]) -> bytes:
    entries = []
    for item in saved:
        for name in item.names:
            annotations = {NAME_ANNOTATION: str(name), TAG_ANNOTATION: name.tag}
            entries.append({**item.descriptor, "annotations": annotations})
        if not item.names:
            entries.append(item.descriptor)
    return _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def _manifest_json(saved: Sequence[_Saved], layers: Mapping[str, int]) -> bytes:
    return _json(
        [
            {
                "Config": _path(item.image.id),
                "RepoTags": [name.familiar for name in item.names] or None,
                "Layers": [_path(layer.digest) for layer in item.manifest.layers],
                "LayerSources": {
                    diff_id: {
                        "mediaType": layer.media_type,
                        "size": layers[layer.digest],
                        "digest": layer.digest,
                    }
                    for diff_id, layer in zip(item.image.diff_ids, item.manifest.layers, strict=True)
                },
            }
            for item in saved
        ]
    )


def _repositories(saved: Sequence[_Saved]) -> bytes:
    """For clients from before manifest.json; "" when no image has a name."""
    names: dict[str, dict[str, str]] = {}
    for item in saved:
        for name in item.names:
            top = item.manifest.layers[-1].digest if item.manifest.layers else item.image.id
            names.setdefault(name.familiar_name, {})[name.tag] = top.partition(":")[2]
    return _json(names) if names else b""


def _algorithms(digests: Sequence[str]) -> list[str]:
    return sorted({digest.partition(":")[0] for digest in digests if is_digest(digest)})


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _file(name: str, data: bytes) -> bytes:
    return header(name.encode(), tar.REGULAR, mode=0o644, size=len(data)) + data + padding(len(data))


def _directory(name: str) -> bytes:
    return header(name.encode(), tar.DIRECTORY, mode=0o755)
