"""What an archive of images says: which images are in it, and which of its members they consist of. Pure.

    manifest.json               Docker: [{Config, RepoTags, Layers}], paths of members; docker save, JIB, skopeo
    index.json, blobs/<a>/<h>   OCI layout: index → manifest → config and layers; docker save since 25, skopeo, buildah

Both may be there, for the same images; then the OCI manifests are kept bit for bit. Sources: OCI image-spec
image-layout.md; github.com/moby/docker-image-spec, "Combined Image JSON + Filesystem Changeset Format".
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minid.errors import InvalidParameter, NotFound, Unsupported
from minid.images.digest import digest_of, short
from minid.images.document import InvalidDocument, list_field, load, text_field
from minid.images.manifest import (
    ENTRIES_MAX,
    LAYERS_MAX,
    MANIFEST_TYPES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    check_layers,
    choose,
    parse_config,
    parse_manifest,
)
from minid.images.platform import Platform
from minid.images.reference import Reference, parse

MANIFEST_JSON, INDEX_JSON, REPOSITORIES = "manifest.json", "index.json", "repositories"
NAME_ANNOTATION, TAG_ANNOTATION = "io.containerd.image.name", "org.opencontainers.image.ref.name"
REFERENCE_TYPE = "vnd.docker.reference.type"  # of attestations
LINKS_MAX = 8
INDEX_DEPTH_MAX = 3
LAYER_TYPES = {
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive; ``number`` is where its contents are. ``compression`` none|gzip|zstd|bzip2|xz."""

    number: int
    size_bytes: int
    digest: str
    compression: str


@dataclass(frozen=True, slots=True)
class LoadedLayer:
    """A layer, its blob and the member that has the blob's bytes; None if the archive leaves it out."""

    descriptor: Descriptor
    diff_id: str
    member: Member | None

    @property
    def is_plain(self) -> bool:
        """Whether the archive has it uncompressed, so that who hashes the blob has hashed the layer."""
        plain = self.member is not None and self.member.compression == "none"
        return plain and self.descriptor.digest == self.diff_id


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image as it is to be stored. ``documents``: its manifest, and indexes above it, by digest."""

    names: tuple[Reference, ...]
    manifest_digest: str
    manifest: Manifest
    documents: Mapping[str, bytes]
    config_data: bytes
    config: ImageConfig
    layers: tuple[LoadedLayer, ...]

    @property
    def id(self) -> str:
        return self.manifest.config.digest

    @property
    def blobs(self) -> list[str]:
        return [*self.documents, self.id, *(layer.descriptor.digest for layer in self.layers)]


class Archive:
    """``listing`` is what ``receive_job`` has written; ``read`` gives a member's bytes, which are small."""

    def __init__(self, listing: Sequence[Sequence[Any]], read: Callable[[Member, str], bytes]) -> None:
        self._members: dict[str, Member] = {}
        self._links: dict[str, str] = {}
        for kind, name, *rest in listing:
            if kind == "file":
                self._members[name] = Member(*rest)
            else:
                self._links[name] = rest[0]
        self._read = read

    def images(self, host: Platform) -> list[LoadedImage]:
        """All of them, each once. ``host`` chooses where an index offers several platforms.

        Raises ``InvalidParameter`` (also for what is missing), ``NotFound`` (no such platform), ``Unsupported``.
        """
        found: dict[str, LoadedImage] = {}
        if self._find(INDEX_JSON) is not None and (
            self._find(MANIFEST_JSON) is None or self._find("oci-layout") is not None
        ):
            for image in self._oci_images(host):
                _add(found, image)
        if self._find(MANIFEST_JSON) is not None:
            for image in self._docker_images(found):
                _add(found, image)
        if not found:
            if self._find(REPOSITORIES) is not None:
                raise Unsupported(
                    "the archive is of Docker's format before 1.10, which is no longer supported"
                )
            raise InvalidParameter(
                "not an archive of images: it has neither a manifest.json (docker save) nor an index.json (OCI "
                "layout); an archive of a file system is for `import`"
            )
        return list(found.values())

    # Docker's form

    def _docker_images(self, known: Mapping[str, LoadedImage]) -> list[LoadedImage]:
        entries = self._json_list(MANIFEST_JSON)
        return [
            self._docker_image(entry, known, f"{MANIFEST_JSON}[{number}]")
            for number, entry in enumerate(entries)
        ]

    def _docker_image(self, entry: Any, known: Mapping[str, LoadedImage], what: str) -> LoadedImage:
        if not isinstance(entry, dict):
            raise InvalidDocument(f"{what} is not an object")
        names = tuple(_tag(text, what) for text in _strings(entry.get("RepoTags") or [], f"{what}: RepoTags"))
        config_path = text_field(entry, "Config", what, required=True)
        config_member = self._get(config_path, what)
        data = self._read(config_member, config_path)
        image_id = digest_of(data)
        config = parse_config(data, f"config {config_path}")
        _check_platform(config, config_path)
        if image_id in known:  # the OCI layout has said the same, with the digests to be kept
            image = known[image_id]
            return LoadedImage(
                names, image.manifest_digest, image.manifest, image.documents, data, config, image.layers
            )
        paths = _strings(entry.get("Layers") or [], f"{what}: Layers")
        if len(paths) != len(config.diff_ids):
            raise InvalidDocument(
                f"{what}: there are {len(paths)} layers, and {len(config.diff_ids)} diff IDs in {config_path}"
            )
        layers = tuple(
            self._docker_layer(path, diff_id, what)
            for path, diff_id in zip(paths, config.diff_ids, strict=True)
        )
        manifest = Manifest(
            OCI_MANIFEST,
            Descriptor(OCI_CONFIG, image_id, len(data)),
            tuple(layer.descriptor for layer in layers),
        )
        written = write_manifest(manifest)
        digest = digest_of(written)
        return LoadedImage(names, digest, manifest, {digest: written}, data, config, layers)

    def _docker_layer(self, path: str, diff_id: str, what: str) -> LoadedLayer:
        member = self._get(path, what)
        media_type = LAYER_TYPES.get(member.compression)
        if media_type is None:
            raise Unsupported(
                f"{what}: the layer {path!r} is compressed with {member.compression}: use gzip or zstd"
            )
        if member.compression == "none" and member.digest != diff_id:
            raise InvalidDocument(
                f"{what}: the layer {path!r} has the digest {member.digest}, expected {diff_id}"
            )
        return LoadedLayer(Descriptor(media_type, member.digest, member.size_bytes), diff_id, member)

    # the OCI layout

    def _oci_images(self, host: Platform) -> list[LoadedImage]:
        data = self._read(self._get(INDEX_JSON, INDEX_JSON), INDEX_JSON)
        index = parse_manifest(data, OCI_INDEX, INDEX_JSON)
        if not isinstance(index, Index):
            raise InvalidDocument(f"{INDEX_JSON} is not an index")
        wanted = [entry for entry in index.manifests if REFERENCE_TYPE not in entry.annotations]
        by_name: dict[str, list[Descriptor]] = {}
        for number, entry in enumerate(wanted):
            name = _annotated_name(entry.annotations)
            by_name.setdefault(str(name) if name else f"#{number}", []).append(entry)
        images = []
        for entries in by_name.values():
            chosen = entries[0]
            if len({entry.digest for entry in entries}) > 1:
                chosen = choose(Index(OCI_INDEX, tuple(entries)), host, INDEX_JSON)
            name = _annotated_name(chosen.annotations)
            images.append(self._oci_image(chosen, (name,) if name else (), host))
        return images

    def _oci_image(self, top: Descriptor, names: tuple[Reference, ...], host: Platform) -> LoadedImage:
        documents: dict[str, bytes] = {}
        entry = top
        for _ in range(INDEX_DEPTH_MAX + 1):
            what = f"manifest {entry.digest}"
            data = self._blob(entry)
            documents = {entry.digest: data, **documents}
            kind = entry.media_type if entry.media_type in (*MANIFEST_TYPES, OCI_INDEX) else ""
            parsed = parse_manifest(data, kind, what)
            if isinstance(parsed, Manifest):
                return self._oci_manifest(parsed, entry.digest, documents, names)
            entry = choose(parsed, host, what)
        raise NotFound(f"{INDEX_JSON}: indexes are nested more than {INDEX_DEPTH_MAX} deep")

    def _oci_manifest(
        self, manifest: Manifest, digest: str, documents: Mapping[str, bytes], names: tuple[Reference, ...]
    ) -> LoadedImage:
        what = f"manifest {digest}"
        config_data = self._blob(manifest.config)
        config = parse_config(config_data, f"config {manifest.config.digest}")
        _check_platform(config, what)
        check_layers(manifest, config.diff_ids, what)
        layers = tuple(
            LoadedLayer(layer, diff_id, self._find_blob(layer))
            for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
        )
        return LoadedImage(names, digest, manifest, documents, config_data, config, layers)

    def _blob(self, descriptor: Descriptor) -> bytes:
        return self._read(self._blob_member(descriptor), descriptor.digest)

    def _find_blob(self, descriptor: Descriptor) -> Member | None:
        """None if it is not in the archive: the other side may have known that it is here."""
        if self._find(_blob_path(descriptor)) is None:
            return None
        return self._blob_member(descriptor)

    def _blob_member(self, descriptor: Descriptor) -> Member:
        """The blob, whose digest the job has compared with its name."""
        member = self._get(_blob_path(descriptor), f"blob {short(descriptor.digest)}")
        if member.digest != descriptor.digest or member.size_bytes != descriptor.size_bytes:
            raise InvalidDocument(
                f"blob {descriptor.digest} has {member.size_bytes} bytes and the digest {member.digest}, "
                f"expected {descriptor.size_bytes} bytes"
            )
        return member

    # members

    def _find(self, name: str) -> Member | None:
        """The member that ``name`` means, through links; whole directories may be links too."""
        for _ in range(LINKS_MAX):
            if (member := self._members.get(name)) is not None:
                return member
            if (target := self._links.get(name)) is None:
                return None
            name = target
        return None

    def _get(self, name: str, what: str) -> Member:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        member = self._find("/".join(parts)) if ".." not in parts and not name.startswith("/") else None
        if member is None:
            raise InvalidParameter(
                f"invalid archive: {what} needs {name!r:.200}, which is not in the archive"
            )
        return member

    def _json_list(self, name: str) -> list[Any]:
        """A document that is a list; ``document.load`` reads objects, so it is put into one."""
        data = self._read(self._get(name, name), name)
        return list_field(load(b'{"list":' + data + b"}", name), "list", name, length_max=ENTRIES_MAX)


def _blob_path(descriptor: Descriptor) -> str:
    return "blobs/" + descriptor.digest.replace(":", "/")


def write_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON; the same for the same image."""
    document = {
        "schemaVersion": 2,
        "mediaType": manifest.media_type,
        "config": _written(manifest.config),
        "layers": [_written(layer) for layer in manifest.layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _written(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size_bytes}


def _add(found: dict[str, LoadedImage], image: LoadedImage) -> None:
    known = found.get(image.id)
    if known is None:
        found[image.id] = image
        return
    names = tuple(dict.fromkeys((*known.names, *image.names)))
    found[image.id] = LoadedImage(
        names,
        known.manifest_digest,
        known.manifest,
        known.documents,
        known.config_data,
        known.config,
        known.layers,
    )


def _annotated_name(annotations: Mapping[str, str]) -> Reference | None:
    """A whole name with a tag; ``ref.name`` is often but a tag, which names nothing."""
    for key in (NAME_ANNOTATION, TAG_ANNOTATION):
        text = annotations.get(key, "")
        if key == TAG_ANNOTATION and ":" not in text:
            continue
        try:
            reference = parse(text)
        except InvalidParameter:
            continue
        if reference.tag and not reference.digest:
            return reference
    return None


def _tag(text: str, what: str) -> Reference:
    try:
        reference = parse(text)
    except InvalidParameter as error:
        raise InvalidDocument(f"{what}: RepoTags: {error}") from None
    if not reference.tag or reference.digest:
        raise InvalidDocument(f"{what}: RepoTags: invalid tag {text!r:.200}: expected name:tag")
    return reference


def _strings(value: Any, what: str) -> list[str]:
    if (
        not isinstance(value, list)
        or len(value) > LAYERS_MAX
        or not all(isinstance(item, str) for item in value)
    ):
        raise InvalidDocument(f"{what} is not a list of at most {LAYERS_MAX} strings")
    return value


def _check_platform(config: ImageConfig, what: str) -> None:
    if config.platform is not None and config.platform.os not in ("", "linux"):
        raise InvalidParameter(f"cannot load a {config.platform.os} image on linux ({what})")
