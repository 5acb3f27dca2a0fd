"""``minictl image copy``: what one daemon does of it, so that only what the other side lacks is sent.

to a registry        copy: from another registry (``copy``), or an image that is here (``push``)
to another daemon    contents ─▶ the other's ``missing`` ─▶ save, without what is there ─▶ the other's load
"""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

from minid.errors import InvalidParameter, Unsupported
from minid.events import EventBus
from minid.images.catalog import Catalog
from minid.images.copy import RegistryCopier, Tell
from minid.images.load import Loader
from minid.images.manifest import Descriptor
from minid.images.platform import Platform, parse_platform
from minid.images.push import Pusher
from minid.images.reference import Reference, parse
from minid.images.registries import Registries
from minid.images.registry.authorizer import Auth
from minid.images.save import Saver
from minid.images.uses import ImageUses

REGISTRY = "registry://"


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive of an image has: ``names`` of the image in it, and each layer's blob with its diff ID."""

    image_id: str
    names: tuple[str, ...]
    layers: tuple[tuple[Descriptor, str], ...]


class ImageCopies:
    """One a daemon."""

    def __init__(
        self,
        catalog: Catalog,
        registries: Registries,
        copier: RegistryCopier,
        pusher: Pusher,
        saver: Saver,
        loader: Loader | None,
        uses: ImageUses,
        events: EventBus,
        host: Platform,
    ) -> None:
        self._catalog = catalog
        self._registries = registries
        self._copier = copier
        self._pusher = pusher
        self._saver = saver
        self._loader = loader
        self._uses = uses
        self._events = events
        self._host = host

    async def to_registry(
        self,
        source: str,
        target: str,
        *,
        source_auth: Auth | None,
        auth: Auth | None,
        platform: str = "",
        all_platforms: bool = False,
        progress: Tell,
    ) -> None:
        """Have ``target`` (``registry://NAME[:TAG]``) mean ``source``: ``registry://…`` too, or an image that is here.

        Nothing is stored or named here. Cancel it at any time. Raises as pulls and pushes do.
        """
        wanted = parse_platform(platform, self._host) if platform else None
        target_reference = _in_registry(target)
        if source.startswith(REGISTRY):
            await self._copier.copy(
                _in_registry(source),
                target_reference,
                source_auth=source_auth,
                auth=auth,
                platform=wanted,
                all_platforms=all_platforms,
                tell=progress,
            )
        else:
            if all_platforms or wanted:
                raise InvalidParameter(
                    "of an image that is here there is one platform: name a registry to copy others"
                )
            image_id = self._catalog.resolve(source)
            destination = self._registries.destination(target_reference, auth)
            await self._pusher.push_as(image_id, target_reference, destination, progress)
            self._uses.touch([image_id])
        attributes = {"name": target_reference.familiar_name, "source": source}
        self._events.publish("image", "push", target_reference.familiar, attributes)

    def contents(self, name: str) -> Contents:
        """``NotFound``; ``Conflict`` when the name means several images."""
        image, names, layers = self._saver.blobs(name)
        return Contents(image.id, tuple(each.familiar for each in names), tuple(layers))

    def missing(self, blobs: Sequence[tuple[str, str]]) -> list[str]:
        """Of layers (digest and diff ID), the digests of those that an archive for this daemon must have."""
        if self._loader is None:
            raise Unsupported("loading images is not possible here")
        return self._loader.missing(blobs)

    def save(self, name: str, *, called: str = "", without: Collection[str] = ()) -> AsyncIterator[bytes]:
        """An archive of ``name`` that leaves layers out; in it the image is ``called`` so. See ``Saver.save``."""
        reference = None
        if called:
            reference = parse(called).with_default_tag()
            if reference.digest:
                raise InvalidParameter(f"{called}: a digest is no name for an image in an archive")
        self._uses.touch([self._catalog.resolve(name)])
        return self._saver.save([name], called=reference, without=without)


def _in_registry(text: str) -> Reference:
    """What ``registry://NAME[:TAG|@DIGEST]`` means; ``latest`` without either."""
    if not text.startswith(REGISTRY):
        raise InvalidParameter(f"{text!r:.200} is not in a registry: write {REGISTRY}HOST[:PORT]/NAME[:TAG]")
    return parse(text.removeprefix(REGISTRY)).with_default_tag()
