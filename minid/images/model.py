"""What the image service hands out: immutable records of images and of what happens to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minid.images.document import InvalidDocument
from minid.images.timestamps import nanoseconds


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is there, whole. Its ``id`` is the digest of its config."""

    id: str
    manifest_digest: str  # of the manifest for this platform, whose bytes are kept
    config: Mapping[str, Any]  # the config's JSON, as it was sent; not to be changed
    size_bytes: int  # unpacked, the sum of its layers
    diff_ids: tuple[str, ...]  # base first
    tags: tuple[str, ...]  # familiar, "busybox:latest"
    digests: tuple[str, ...]  # familiar, "busybox@sha256:…"; of what the registry had under the name
    created: str  # RFC 3339, "" if unknown
    last_tagged_ns: int
    media_type: str  # of the manifest
    parent_id: str = ""  # of an image that was built here


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step of how an image was made; ``id`` is ``<missing>`` but for the image itself."""

    id: str
    created_s: int
    created_by: str
    tags: tuple[str, ...]
    size_bytes: int
    comment: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """What is gone: a name (``untagged``, familiar) or an image or layer (``deleted``, digest)."""

    untagged: str | None = None
    deleted: str | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the registry has now under ``tag``: a manifest of this digest and size."""

    tag: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing to tell who waits for a pull or push: of the layer or tag ``id`` ("" for the whole).

    With ``pushed`` it is a result for programs, and says nothing else.
    """

    id: str
    status: str
    current_bytes: int | None = None
    total_bytes: int | None = None
    pushed: Pushed | None = None


def history(image: Image, layer_sizes: Mapping[str, int]) -> list[HistoryEntry]:
    """``image``'s steps, newest first; the layers' sizes go to the steps that are not empty, in order."""
    steps = image.config.get("history") or [{} for _ in image.diff_ids]
    if not isinstance(steps, list):
        raise InvalidDocument(f"image {image.id}: its history is not a list")
    sizes = iter([layer_sizes.get(diff_id, 0) for diff_id in image.diff_ids])
    entries: list[HistoryEntry] = []
    for number, step in enumerate(steps):
        newest = number == len(steps) - 1
        entries.append(
            HistoryEntry(
                id=image.id if newest else "<missing>",
                created_s=(nanoseconds(str(step.get("created") or "")) or 0) // 1_000_000_000,
                created_by=str(step.get("created_by") or ""),
                tags=image.tags if newest else (),
                size_bytes=0 if step.get("empty_layer") else next(sizes, 0),
                comment=str(step.get("comment") or ""),
            )
        )
    return entries[::-1]
