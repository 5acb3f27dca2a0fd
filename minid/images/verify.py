"""``image verify``: is what lies on the disk still what its digests say, and if not, can it be had again?

    blobs    (manifests, config, layers) are read and hashed
    layers   that have a blob: the blob is unpacked again beside it (which checks the diff ID) and both are compared,
             file by file; that were made here: packed again, the result is hashed and compared with the diff ID

With ``repair``, what is missing or damaged is fetched from where the image came from, and a layer is unpacked again
unless a container stands on it.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from minid.errors import Failed, MinidError, NotFound
from minid.images import document
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.digest import short
from minid.images.durability import Durability
from minid.images.layerstore import LayerStore
from minid.images.making import Making
from minid.images.manifest import Descriptor, Manifest, parse_manifest
from minid.images.reference import Reference
from minid.images.registries import Registries
from minid.images.registry.authorizer import Auth
from minid.images.retention import Retention
from minid.images.sources import ImageSources
from minid.images.threads import BlockingPool
from minid.images.transfer import Layer, Transfers

OK, MISSING, DAMAGED, UNCHECKED = "ok", "missing", "damaged", "unchecked"
MANIFEST, INDEX, CONFIG, LAYER_BLOB, LAYER, OTHER = (
    "manifest",
    "index",
    "config",
    "layer blob",
    "unpacked layer",
    "blob",
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an image consists of, and how it was checked.

    ``state`` is that before a repair, ``detail`` says what is wrong; ``repaired``: it is right now.
    """

    image_id: str
    kind: str
    digest: str
    state: str
    how: str = ""
    detail: str = ""
    repaired: bool = False

    @property
    def is_good(self) -> bool:
        return self.state == OK or self.repaired


Tell = Callable[[Finding], None]


class Verifier:
    """One a daemon. ``making`` knows the layers that were made here (None: there are none)."""

    def __init__(
        self,
        content: ContentStore,
        catalog: Catalog,
        layers: LayerStore,
        sources: ImageSources,
        registries: Registries,
        transfers: Transfers,
        retention: Retention,
        durability: Durability,
        pool: BlockingPool,
    ) -> None:
        self._content = content
        self._catalog = catalog
        self._layers = layers
        self._sources = sources
        self._registries = registries
        self._transfers = transfers
        self._retention = retention
        self._durability = durability
        self._pool = pool
        self.making: Making | None = None

    async def verify(
        self,
        image_ids: list[str],
        tell: Tell,
        *,
        repair: bool = False,
        auths: Mapping[str, Auth] | None = None,
    ) -> None:
        """Check these images, each thing once; ``auths`` by a registry's domain are for repairs."""
        seen: set[str] = set()
        if repair:
            await self._durability.begin()
        try:
            for image_id in image_ids:
                try:
                    held = {*self._catalog.blobs(image_id), *self._catalog.diff_ids(image_id)}
                except NotFound:
                    continue  # removed meanwhile
                with self._retention.hold(held):
                    await _Check(self, image_id, seen, tell, auths or {}, repair=repair).run()
        finally:
            if repair:
                self._durability.end()


class _Check:
    """The check of one image; ``seen`` has what earlier ones have checked already."""

    def __init__(
        self,
        verifier: Verifier,
        image_id: str,
        seen: set[str],
        tell: Tell,
        auths: Mapping[str, Auth],
        *,
        repair: bool,
    ) -> None:
        self._all = verifier
        self._content = verifier._content
        self._image_id = image_id
        self._seen = seen
        self._tell = tell
        self._auths = auths
        self._repair = repair

    async def run(self) -> None:
        # All that the tables say, before the first wait: the image may be removed meanwhile; its files are held.
        manifest_digest = self._all._catalog.manifest_digest(self._image_id)
        kept = self._all._catalog.blobs(self._image_id)
        diff_ids = self._all._catalog.diff_ids(self._image_id)
        await self._blob(MANIFEST, Descriptor("", manifest_digest, 0))
        manifest = self._manifest(manifest_digest)
        known = [manifest_digest]
        config = manifest.config if manifest else Descriptor("", self._image_id, 0)
        known.append(config.digest)
        await self._blob(CONFIG, config)
        if manifest is not None:
            for descriptor in manifest.layers:
                known.append(descriptor.digest)
                if descriptor.digest in kept:
                    await self._blob(LAYER_BLOB, descriptor)
        for digest in kept:
            if digest not in known:
                await self._blob(OTHER, Descriptor("", digest, 0))
        blobs: list[Descriptor | None] = [None] * len(diff_ids)
        if manifest is not None and len(manifest.layers) == len(diff_ids):
            blobs = list(manifest.layers)
        for diff_id, blob in zip(diff_ids, blobs, strict=True):
            await self._layer(diff_id, blob)

    def _manifest(self, digest: str) -> Manifest | None:
        try:
            parsed = parse_manifest(self._content.read(digest, document.SIZE_MAX), "", digest)
        except MinidError:
            return None
        return parsed if isinstance(parsed, Manifest) else None

    # blobs

    async def _blob(self, kind: str, descriptor: Descriptor) -> None:
        digest = descriptor.digest
        if digest in self._seen:
            return
        self._seen.add(digest)
        sound = await self._all._pool.run(self._content.check, digest)
        finding = Finding(self._image_id, kind, digest, OK, "re-hashed")
        if not sound:
            state = MISSING if sound is None else DAMAGED
            finding = replace(
                finding, state=state, detail="" if sound is None else "its bytes have another digest"
            )
            if self._repair:
                finding = await self._repaired(finding, descriptor)
        self._tell(finding)

    async def _repaired(self, finding: Finding, descriptor: Descriptor) -> Finding:
        failures = []
        for source in self._all._sources.of_image(self._image_id):
            try:
                await self._fetch(finding.kind, descriptor, source)
            except MinidError as error:
                failures.append(str(error))
                log.info("a blob cannot be had again", extra={"digest": descriptor.digest, "error": error})
            else:
                return replace(finding, repaired=True, detail=f"fetched from {source.familiar_name}")
        why = "; ".join(failures) or "it is not known where the image came from"
        return replace(finding, detail=f"{finding.detail}; not repaired: {why}".lstrip("; "))

    async def _fetch(self, kind: str, descriptor: Descriptor, source: Reference) -> None:
        """Replace the blob. Of the small ones what is there goes only after the new one has come."""
        repository = self._registries.repository(source, self._auths.get(source.domain))
        digest = descriptor.digest
        if kind == LAYER_BLOB:
            self._content.remove(digest)
            await self._all._transfers.ensure_blob(descriptor, repository, lambda *_: None)
            return
        if kind == CONFIG and descriptor.size_bytes:
            data = await repository.blob(descriptor, document.SIZE_MAX)
        elif kind == CONFIG:
            raise Failed("its manifest is not there")
        else:
            data = (await repository.manifest(digest)).data
        self._content.remove(digest)
        self._content.put(data, digest)

    @property
    def _registries(self) -> Registries:
        return self._all._registries

    # layers

    async def _layer(self, diff_id: str, descriptor: Descriptor | None) -> None:
        if diff_id in self._seen:
            return
        self._seen.add(diff_id)
        finding = await self._look(diff_id, descriptor)
        if self._repair and finding.state in (MISSING, DAMAGED):
            finding = await self._unpacked_again(finding, descriptor)
        self._tell(finding)

    async def _look(self, diff_id: str, descriptor: Descriptor | None) -> Finding:
        finding = Finding(self._image_id, LAYER, diff_id, OK)
        if not self._all._layers.is_present(diff_id):
            return replace(finding, state=MISSING, detail="it is not unpacked")
        making = self._all.making
        try:
            if descriptor is not None and self._content.is_sound(descriptor.digest, descriptor.size_bytes):
                finding = replace(finding, how="compared with its blob, unpacked again")
                fd = self._content.open(descriptor.digest)
                try:
                    told = await self._all._layers.differences(diff_id, descriptor.media_type, fd)
                finally:
                    os.close(fd)
                return replace(finding, state=DAMAGED, detail="; ".join(told)) if told else finding
            if descriptor is not None and making is not None and making.is_unpacked(descriptor):
                finding = replace(finding, how="packed again and hashed")
                with open(os.devnull, "wb") as nowhere:
                    await making.write_layer(diff_id, nowhere.fileno())
                return finding
        except NotFound as error:
            return replace(finding, state=MISSING, detail=str(error))
        except MinidError as error:
            return replace(finding, state=DAMAGED, detail=str(error))
        return replace(finding, state=UNCHECKED, detail="there is no good blob to compare it with")

    async def _unpacked_again(self, finding: Finding, descriptor: Descriptor | None) -> Finding:
        diff_id = finding.digest

        def not_repaired(why: str) -> Finding:
            return replace(finding, detail=f"{finding.detail}; not repaired: {why}".lstrip("; "))

        if descriptor is None:
            return not_repaired("its blob is not known")
        making = self._all.making
        if making is not None and making.is_unpacked(descriptor):
            return not_repaired("it was made here: build the image again")
        sources = self._all._sources.of_image(self._image_id)
        source = sources[0] if sources else Reference("localhost", "nowhere")  # the blob may be enough
        if not sources and not self._content.has(descriptor.digest):
            return not_repaired("it is not known where the image came from")
        repository = self._registries.repository(source, self._auths.get(source.domain))
        try:
            async with self._all._retention.layer_locks.hold(diff_id):
                if self._all._retention.is_used(diff_id, own_holds=1):
                    return not_repaired("containers stand on it: remove them first")
                await self._all._layers.remove(
                    diff_id
                )  # no container can come in between: it renames at once
                self._all._catalog.remove_layer(diff_id)
            await self._all._transfers.ensure(Layer(descriptor, diff_id), repository, lambda *_: None)
        except MinidError as error:
            return not_repaired(str(error))
        return replace(finding, repaired=True, detail=f"{finding.detail}; unpacked again")


def words(finding: Finding) -> str:
    """For logs: "layer blob 0123456789ab: damaged: …"."""
    return f"{finding.kind} {short(finding.digest)}: {finding.state}: {finding.detail}"
