"""``docker image prune``: images that nobody needs, by Docker's filters.

Source: Engine API ``POST /images/prune``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from minid.errors import Conflict, InvalidParameter, NotFound
from minid.images import filters as image_filters
from minid.images.catalog import Catalog
from minid.images.deletion import Deletion
from minid.images.model import Deleted, Image

KNOWN = ("dangling", "label", "label!", "until")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is gone, and the bytes of layers and blobs that it took."""

    deleted: tuple[Deleted, ...]
    reclaimed_bytes: int


async def prune(
    images: Sequence[Image],
    wanted: Mapping[str, Sequence[str]],
    catalog: Catalog,
    deletion: Deletion,
    get: Callable[[str], Image],
) -> Pruned:
    """Remove those of ``images`` that no container uses and that the filters accept.

    ``dangling`` (default true): only those without a tag; false: all. ``InvalidParameter`` for another filter.
    """
    for name in wanted:
        if name not in KNOWN:
            raise InvalidParameter(f"invalid filter '{name}'")
    only_dangling = all(image_filters.boolean(text) for text in wanted.get("dangling") or ("true",))
    positive = {name: tuple(values) for name, values in wanted.items() if name in ("label", "until")}
    chosen = [
        image
        for image in image_filters.select(images, positive, get)
        if not any(image_filters.has_label(image, text) for text in wanted.get("label!", ()))
        and not (only_dangling and image.tags)
        and not deletion.in_use(image.id)
    ]
    before = deletion.freed_bytes
    deleted: list[Deleted] = []
    for image in chosen:
        if catalog.children(image.id):
            continue  # another image, which stays, is made from it (newer ones come first)
        for name in (*image.tags, *image.digests) or (image.id,):
            try:
                deleted += await deletion.delete(name, force=False, prune=True)
            except (Conflict, NotFound):
                continue  # has got a container meanwhile, or has gone with another
    return Pruned(tuple(deleted), deletion.freed_bytes - before)
