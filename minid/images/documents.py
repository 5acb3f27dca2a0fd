"""Which of an image's blobs its names lead to: an image may have come in several forms, under several names.

    docker.io/app@sha256:1… ─▶ index ─▶ manifest (OCI)    ─▶ config, layers
    corp.example/app@sha256:2… ─────▶ manifest (Docker) ─▶ the same config, maybe other layers

When one name goes, what only it led to is garbage, though the image lives on.
"""

from collections.abc import Iterable

from minid.errors import MinidError
from minid.images import document
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.manifest import Manifest, parse_manifest


def drop_unnamed(image_id: str, catalog: Catalog, content: ContentStore) -> list[str]:
    """Let the image keep only what its names lead to; returns the blobs that it has let go.

    If the manifest that counted as its own is among them, another one does from now on. Where a document cannot be
    read, all is kept.
    """
    names, own = catalog.names(image_id), catalog.manifest_digest(image_id)
    with_digest = {name.name for name in names if name.digest}
    roots = {name.digest for name in names if name.digest}
    if not roots or any(name.name not in with_digest for name in names):
        roots.add(own)  # what a tag that has never been at a registry would be pushed as
    kept = set(catalog.blobs(image_id))
    try:
        needed, manifests = _led_to(roots & kept, kept, image_id, content)
    except MinidError:
        return []
    if not manifests:
        return []
    if own not in manifests:
        own, media_type = next(iter(sorted(manifests.items())))
        catalog.replace_manifest(image_id, own, media_type)
    unneeded = sorted(kept - needed - {image_id})
    if unneeded:
        catalog.drop_blobs(image_id, unneeded)
    return unneeded


def _led_to(
    roots: Iterable[str], kept: set[str], image_id: str, content: ContentStore
) -> tuple[set[str], dict[str, str]]:
    """All blobs of ``kept`` that can be reached from ``roots``, and the image's manifests among them (→ media type)."""
    needed: set[str] = set()
    manifests: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest in needed:
            continue
        needed.add(digest)
        parsed = parse_manifest(content.read(digest, document.SIZE_MAX), "", f"manifest {digest}")
        if isinstance(parsed, Manifest):
            if parsed.config.digest == image_id:
                manifests[digest] = parsed.media_type
            needed.update(kept & {parsed.config.digest, *(layer.digest for layer in parsed.layers)})
        else:
            waiting += [entry.digest for entry in parsed.manifests if entry.digest in kept]
    return needed, manifests
