"""Images made here: of a file system's archive (``import``), or of a container's changes (``commit``).

tar stream ─▶ job: inflate, hash, gzip ─▶ blob ─▶ unpacked as any layer ─▶ config and manifest ─▶ one transaction
"""

import asyncio
import contextlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minid.errors import Failed, InvalidParameter, MinidError
from minid.events import EventBus
from minid.images import document, instructions
from minid.images.archive import LAYER_TYPES, write_manifest
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.digest import digest_of
from minid.images.durability import Durability
from minid.images.feeding import feed
from minid.images.layerstore import LayerStore
from minid.images.load import received_failure
from minid.images.manifest import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    LAYERS_MAX,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    parse_manifest,
)
from minid.images.model import Image
from minid.images.platform import Platform
from minid.images.reference import Reference
from minid.images.retention import Retention
from minid.images.snapshots.driver import Jobs
from minid.images.threads import settle
from minid.images.timestamps import rfc3339
from minid.shim.client import JobError

DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True, slots=True)
class Changes:
    """What the maker of an image says about it; ``instructions`` are lines of a Dockerfile."""

    instructions: Sequence[str] = ()
    message: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class _Layer:
    diff_id: str
    digest: str
    blob_bytes: int


@dataclass(frozen=True, slots=True)
class _Draft:
    """Everything of an image but its newest layer."""

    config: Mapping[str, Any]  # of the image: the whole document
    layers: tuple[Descriptor, ...] = ()
    docker: bool = False
    parent_id: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)  # of the newest step of its history


class LocalImages:
    """What makes images. One a daemon."""

    def __init__(
        self,
        content: ContentStore,
        catalog: Catalog,
        retention: Retention,
        snapshots: LayerStore,
        durability: Durability,
        events: EventBus,
        jobs: Jobs,
    ) -> None:
        self._content = content
        self._catalog = catalog
        self._retention = retention
        self._snapshots = snapshots
        self._durability = durability
        self._events = events
        self._jobs = jobs

    async def take_in(
        self,
        stream: AsyncIterator[bytes],
        name: Reference | None,
        platform: Platform,
        changes: Changes,
        origin: str = "-",
    ) -> str:
        """An image of one layer from the tar ``stream``, compressed or not; its id. ``origin`` is for its history.

        ``InvalidParameter``, ``Failed``.
        """
        config = {
            "architecture": platform.architecture,
            **({"variant": platform.variant} if platform.variant else {}),
            "os": platform.os,
            "config": instructions.apply({}, changes.instructions),
        }
        about = {"comment": changes.message or f"Imported from {origin}"}

        async def write(writing: int, packing: "asyncio.Future[Any]") -> bool:
            await feed(writing, stream, packing)
            return True

        image_id = await self._make(_Draft(config, about=about), name, write)
        self._events.publish("image", "import", image_id, {"name": image_id})
        return image_id

    async def commit(
        self,
        base: Image,
        config: Mapping[str, Any],
        name: Reference | None,
        changes: Changes,
        container_id: str,
        write: Callable[[int], Awaitable[bool]],
    ) -> str:
        """An image of ``base`` and the layer that ``write(fd)`` writes (False: there is nothing in it); its id.

        ``config``: the container's, as an image config has it. ``InvalidParameter``, ``Failed``.
        """
        changed = instructions.apply(config, changes.instructions)
        data = self._content.read(base.manifest_digest, document.SIZE_MAX)
        manifest = parse_manifest(data, base.media_type, f"manifest {base.manifest_digest}")
        if not isinstance(manifest, Manifest):
            raise Failed(f"image {base.id}: {base.manifest_digest} is not its manifest")
        if len(manifest.layers) >= LAYERS_MAX:
            raise InvalidParameter(f"image {base.id} has {LAYERS_MAX} layers already")
        kept = {
            key: value
            for key, value in base.config.items()
            if key in ("architecture", "variant", "os", "os.version", "os.features", "history", "rootfs")
        }
        whole = {**kept, **_of_container(changed, changes, container_id)}
        is_docker = manifest.media_type == DOCKER_MANIFEST
        draft = _Draft(whole, manifest.layers, is_docker, base.id, _about(config, changes))
        return await self._make(draft, name, lambda writing, packing: write(writing))

    async def commit_whole(
        self,
        platform: Platform,
        config: Mapping[str, Any],
        name: Reference | None,
        changes: Changes,
        container_id: str,
        write: Callable[[int], Awaitable[bool]],
    ) -> str:
        """As ``commit``, of a container whose image is gone: one layer, all its files, which ``write(fd)`` writes."""
        changed = instructions.apply(config, changes.instructions)
        whole = {
            "architecture": platform.architecture,
            **({"variant": platform.variant} if platform.variant else {}),
            "os": platform.os,
            **_of_container(changed, changes, container_id),
        }
        draft = _Draft(whole, about=_about(config, changes))
        return await self._make(draft, name, lambda writing, packing: write(writing))

    async def _make(
        self,
        draft: _Draft,
        name: Reference | None,
        write: Callable[[int, "asyncio.Future[Any]"], Awaitable[bool]],
    ) -> str:
        aside = self._content.asides / f"{secrets.token_hex(8)}.aside"
        needed = [layer.digest for layer in draft.layers]
        try:
            layer = await self._pack(aside, write)
            if layer is not None:
                needed += [layer.digest, layer.diff_id]
            with self._retention.hold(needed):
                await self._durability.begin()
                try:
                    if layer is not None:
                        await self._unpack(layer, aside)
                    return self._commit(draft, layer, name)
                except BaseException as error:
                    failure: BaseException = error
                finally:
                    self._durability.end()
            if layer is not None:
                await self._retention.collect([layer.diff_id], [layer.digest])
            raise failure
        finally:
            aside.unlink(missing_ok=True)

    async def _pack(
        self, aside: Any, write: Callable[[int, "asyncio.Future[Any]"], Awaitable[bool]]
    ) -> _Layer | None:
        """The layer's blob in the file ``aside``; None when there is nothing in the layer."""
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
                has_content = await write(writing, packing)
            finally:
                os.close(writing)
                writing = -1
                with contextlib.suppress(JobError):
                    await settle(packing)
            result = packing.result()
        except JobError as error:
            raise received_failure(error, "archive") from error
        finally:
            for fd in (reading, writing, out):
                if fd >= 0:
                    os.close(fd)
        return _Layer(result["diff_id"], result["digest"], result["blob_bytes"]) if has_content else None

    async def _unpack(self, layer: _Layer, aside: Any) -> None:
        if not self._content.has(layer.digest):
            self._content.adopt(aside, layer.digest)
        async with self._retention.layer_locks.hold(layer.diff_id):
            if self._catalog.has_layer(layer.diff_id) and self._snapshots.has(layer.diff_id):
                return
            fd = self._content.open(layer.digest)
            try:
                unpacked = await self._snapshots.unpack(layer.diff_id, LAYER_TYPES["gzip"], fd, sync=False)
            except MinidError as error:
                raise _unpack_failure(error) from error
            finally:
                os.close(fd)
            self._catalog.add_layer(layer.diff_id, unpacked.size_bytes, unpacked.entries)

    def _commit(self, draft: _Draft, layer: _Layer | None, name: Reference | None) -> str:
        created = rfc3339(time.time_ns())
        rootfs = draft.config.get("rootfs") or {"type": "layers", "diff_ids": []}
        diff_ids = [*rootfs["diff_ids"], *([layer.diff_id] if layer else [])]
        step = {"created": created, **draft.about, **({} if layer else {"empty_layer": True})}
        config = {
            **draft.config,
            "created": created,
            "history": [*(draft.config.get("history") or []), step],
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        data = json.dumps(config, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        image_id = self._content.put(data)
        layers = draft.layers
        if layer is not None:
            layer_type = DOCKER_LAYER if draft.docker else LAYER_TYPES["gzip"]
            layers = (*layers, Descriptor(layer_type, layer.digest, layer.blob_bytes))
        manifest = Manifest(
            DOCKER_MANIFEST if draft.docker else OCI_MANIFEST,
            Descriptor(DOCKER_CONFIG if draft.docker else OCI_CONFIG, image_id, len(data)),
            layers,
        )
        written = write_manifest(manifest)
        digest = self._content.put(written)
        assert digest == digest_of(written)
        self._catalog.add(
            image_id,
            manifest_digest=digest,
            media_type=manifest.media_type,
            created=created,
            diff_ids=diff_ids,
            blobs=[
                item
                for item in (digest, image_id, *(each.digest for each in layers))
                if self._content.has(item)
            ],
            names=[name] if name else [],
            parent_id=draft.parent_id,
        )
        if name:
            self._events.publish("image", "tag", image_id, {"name": name.familiar})
        return image_id


def _of_container(config: Mapping[str, Any], changes: Changes, container_id: str) -> dict[str, Any]:
    """What an image's config says of the container that it was made of."""
    author = {"author": changes.author} if changes.author else {}
    return {**author, "config": config, "container": container_id}


def _about(config: Mapping[str, Any], changes: Changes) -> dict[str, str]:
    """The newest step of the history."""
    about = {"created_by": " ".join(str(word) for word in config.get("Cmd") or [])}
    given = (("author", changes.author), ("comment", changes.message))
    return about | {key: text for key, text in given if text}


def _unpack_failure(error: MinidError) -> MinidError:
    """That a client's stream is no tar is the client's fault."""
    cause = error.__cause__
    if isinstance(cause, JobError) and cause.kind == "TarError":
        return InvalidParameter(f"invalid archive: {cause}")
    return error
