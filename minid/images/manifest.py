"""Manifests and indexes: Docker schema 2 and OCI, as immutable values, checked field by field.

    Index  ── descriptors with a platform ──▶  Manifest  ──▶  config descriptor, layer descriptors
    config (JSON)  ──▶  rootfs.diff_ids: one digest of the *uncompressed* layer for each layer descriptor

Pure. Source: OCI image-spec manifest.md, image-index.md, descriptor.md, config.md; distribution's
"Image Manifest V 2, Schema 2".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minid.errors import NotFound, Unsupported
from minid.images.digest import is_digest
from minid.images.document import InvalidDocument, list_field, load, size_field, text_field
from minid.images.platform import Platform, from_fields, preferences

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
ACCEPTED = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX)
CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)

_GZIP, _ZSTD, _PLAIN = "gzip", "zstd", ""
LAYER_COMPRESSION: Mapping[str, str] = {
    "application/vnd.oci.image.layer.v1.tar": _PLAIN,
    "application/vnd.oci.image.layer.v1.tar+gzip": _GZIP,
    "application/vnd.oci.image.layer.v1.tar+zstd": _ZSTD,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": _PLAIN,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": _GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": _ZSTD,
    "application/vnd.docker.image.rootfs.diff.tar": _PLAIN,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": _GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": _ZSTD,
    "application/vnd.docker.image.rootfs.foreign.diff.tar": _PLAIN,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": _GZIP,
}

LAYERS_MAX = 1024
ENTRIES_MAX = 4096
_KNOWN_FIELDS = ("schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a blob is, its digest and its size; ``platform`` only in an index."""

    media_type: str
    digest: str
    size_bytes: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform; ``layers`` from the base up."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """A choice of manifests (or of further indexes)."""

    media_type: str
    manifests: tuple[Descriptor, ...]


def parse_manifest(data: bytes, media_type: str, what: str = "manifest") -> Manifest | Index:
    """Read what a registry sent as ``media_type`` (its Content-Type, ``""`` when unknown).

    Raises ``InvalidDocument`` (a field is missing, twice there, of the wrong type, contradictory) or
    ``Unsupported`` (schema 1, an artifact that is no image). ``what`` begins the messages.
    """
    if media_type in SCHEMA1:
        raise _schema1(what)
    document = load(data, what)
    _check_names(document, what)
    if document.get("schemaVersion") == 1 or "fsLayers" in document:
        raise _schema1(what)
    if document.get("schemaVersion") != 2:
        raise InvalidDocument(f"{what}: schemaVersion is {document.get('schemaVersion')!r}, expected 2")
    kind = _kind(document, media_type, what)
    if kind in INDEX_TYPES:
        entries = list_field(document, "manifests", what, length_max=ENTRIES_MAX)
        return Index(
            kind,
            tuple(_descriptor(item, f"{what}: manifests[{number}]") for number, item in enumerate(entries)),
        )
    config = _descriptor(document.get("config"), f"{what}: config")
    if config.media_type not in CONFIG_TYPES:
        raise Unsupported(
            f"{what} is not a container image: its config has the media type {config.media_type!r}"
        )
    layers = tuple(
        _descriptor(item, f"{what}: layers[{number}]")
        for number, item in enumerate(list_field(document, "layers", what, length_max=LAYERS_MAX))
    )
    for number, layer in enumerate(layers):
        if layer.media_type not in LAYER_COMPRESSION:
            raise Unsupported(
                f"{what}: layers[{number}] has the media type {layer.media_type!r}, which is no layer"
            )
    return Manifest(kind, config, layers)


def choose(index: Index, wanted: Platform, what: str = "index") -> Descriptor:
    """The entry that runs best on ``wanted``; an entry without a platform only if no other does.

    Raises ``NotFound`` that lists what there is.
    """
    images = [entry for entry in index.manifests if entry.media_type in (*MANIFEST_TYPES, *INDEX_TYPES)]
    for platform in preferences(wanted):
        for entry in images:
            if entry.platform == platform:
                return entry
    for entry in images:
        if entry.platform is None:
            return entry
    offered = sorted(
        {str(entry.platform) for entry in images if entry.platform and entry.platform.os != "unknown"}
    )
    raise NotFound(
        f"no matching manifest for {wanted} in the manifest list entries of {what}"
        + (f" (it has {', '.join(offered)})" if offered else " (it has none)")
    )


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image config: ``document`` as it was sent, and the parts that storing it depends on."""

    document: Mapping[str, Any]
    diff_ids: tuple[str, ...]
    platform: Platform | None
    created: str


def parse_config(data: bytes, what: str = "image config") -> ImageConfig:
    """Read an image config. Raises ``InvalidDocument``."""
    document = load(data, what)
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict):
        raise InvalidDocument(f"{what}: the field 'rootfs' is missing")
    if rootfs.get("type") != "layers":
        raise InvalidDocument(f"{what}: rootfs.type is {rootfs.get('type')!r}, expected 'layers'")
    diff_ids = rootfs.get("diff_ids")
    if diff_ids is None:
        diff_ids = []
    if not isinstance(diff_ids, list) or len(diff_ids) > LAYERS_MAX:
        raise InvalidDocument(f"{what}: rootfs.diff_ids is not a list of at most {LAYERS_MAX} digests")
    for number, diff_id in enumerate(diff_ids):
        if not is_digest(diff_id):
            raise InvalidDocument(f"{what}: rootfs.diff_ids[{number}] is not a digest: {diff_id!r:.100}")
    if not isinstance(document.get("config") or {}, dict):
        raise InvalidDocument(f"{what}: the field 'config' is not an object")
    history = document.get("history") or []
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise InvalidDocument(f"{what}: the field 'history' is not a list of objects")
    return ImageConfig(
        document, tuple(diff_ids), from_fields(document), text_field(document, "created", what)
    )


def check_layers(manifest: Manifest, diff_ids: Sequence[str], what: str) -> None:
    """The config must name one diff ID for each layer; else ``InvalidDocument``."""
    if len(manifest.layers) != len(diff_ids):
        raise InvalidDocument(
            f"{what}: the manifest has {len(manifest.layers)} layers and its config {len(diff_ids)} diff IDs"
        )


def _kind(document: Mapping[str, Any], media_type: str, what: str) -> str:
    """The media type: the document's own, which must agree with the Content-Type and the other fields."""
    own = text_field(document, "mediaType", what)
    known = (*MANIFEST_TYPES, *INDEX_TYPES)
    if own and own not in known:
        raise Unsupported(f"{what} has the media type {own!r}, which is no image manifest")
    if own and media_type in known and own != media_type:
        raise InvalidDocument(f"{what} was sent as {media_type} and calls itself {own}")
    has_list, has_layers = "manifests" in document, "layers" in document or "config" in document
    if has_list and has_layers:
        raise InvalidDocument(f"{what} has both 'manifests' and 'layers': it could be read in two ways")
    kind = own or (media_type if media_type in known else OCI_INDEX if has_list else OCI_MANIFEST)
    if (kind in INDEX_TYPES and has_layers) or (kind in MANIFEST_TYPES and has_list):
        raise InvalidDocument(f"{what}: its media type {kind} contradicts its fields")
    return kind


def _descriptor(item: Any, what: str) -> Descriptor:
    if not isinstance(item, dict):
        raise InvalidDocument(f"{what} is {'missing' if item is None else 'not an object'}")
    digest = text_field(item, "digest", what, required=True)
    if not is_digest(digest):
        raise InvalidDocument(f"{what}: {digest!r:.100} is not a digest")
    platform = item.get("platform")
    annotations = item.get("annotations") or {}
    return Descriptor(
        text_field(item, "mediaType", what, required=True),
        digest,
        size_field(item, "size", what),
        from_fields(platform) if isinstance(platform, dict) else None,
        {str(key): str(value) for key, value in annotations.items()} if isinstance(annotations, dict) else {},
    )


def _check_names(document: Mapping[str, Any], what: str) -> None:
    """Go's decoder ignores case, ours does not: a document that the two would read differently is refused."""
    wanted = {name.lower(): name for name in _KNOWN_FIELDS}
    for key in document:
        known = wanted.get(key.lower())
        if known is not None and key != known:
            raise InvalidDocument(f"{what}: the field {key!r} must be spelled {known!r}")


def _schema1(what: str) -> Unsupported:
    return Unsupported(
        f"{what} is of Docker image format v1 or manifest version 2 schema 1, which is no longer supported: "
        "push the image again with a current version of docker, podman or skopeo"
    )
