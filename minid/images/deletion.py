"""Removing names and images, by Docker's rules on what must be forced and what cannot be.

A name goes first; with the last name of an image the image goes too, unless a container or a child image needs it.
Source: Engine API ``DELETE /images/{name}``; docs.docker.com ``docker image rm``.
"""

import hashlib
from collections.abc import Callable, Sequence

from minid.errors import Conflict, NotFound
from minid.events import EventBus
from minid.images.catalog import Catalog
from minid.images.content import ContentStore
from minid.images.digest import short
from minid.images.documents import drop_unnamed
from minid.images.durability import Durability
from minid.images.model import Deleted
from minid.images.reference import Reference, parse
from minid.images.retention import Retention


class Deletion:
    """``in_use`` gives the containers of an image, ``is_running`` tells which of those run."""

    def __init__(
        self,
        catalog: Catalog,
        content: ContentStore,
        retention: Retention,
        durability: Durability,
        events: EventBus,
    ) -> None:
        self._catalog = catalog
        self._content = content
        self._retention = retention
        self._durability = durability
        self._events = events
        self.in_use: Callable[[str], list[str]] = lambda image_id: []
        self.is_running: Callable[[str], bool] = lambda container_id: False
        self.freed_bytes = 0  # since the daemon's start

    async def delete(self, name_or_id: str, *, force: bool, prune: bool) -> list[Deleted]:
        """Untag or remove; returns what is gone, in order. ``NotFound``, ``Conflict``."""
        image_id = self._catalog.resolve(name_or_id)
        records: list[Deleted] = []
        names = self._catalog.names(image_id)
        if not _is_id(name_or_id, image_id):
            if not force and _is_single(names):
                self._check_containers_before_untagging(name_or_id, image_id)
            reference = self._name_meant(name_or_id)
            self._unname(reference, image_id, records)
            if not reference.digest:
                self._unname_digests_without_tag(reference, image_id, records)
            if self._catalog.names(image_id):
                await self._forget_unnamed(image_id)
                return records
            try:
                self._check(image_id, force=force, names=False)
            except Conflict:
                if self._containers(image_id):
                    return records  # it stays, without a name, for as long as its containers
                raise
        else:
            if _is_single(names):
                self._check(image_id, force=force, names=False)
            else:
                self._check(image_id, force=force, names=True)
        await self._durability.begin()
        try:
            await self._remove(image_id, records, prune=prune)
        finally:
            self._durability.end()
        return records

    async def _forget_unnamed(self, image_id: str) -> None:
        """Remove the manifests (and what only they need) under which the image is known by no name any more."""
        await self._durability.begin()
        try:
            _, freed_bytes = await self._retention.collect(
                [], drop_unnamed(image_id, self._catalog, self._content)
            )
            self.freed_bytes += freed_bytes
        finally:
            self._durability.end()

    async def _remove(self, image_id: str, records: list[Deleted], *, prune: bool) -> None:
        all_diff_ids, parent = self._catalog.diff_ids(image_id), self._catalog.parent(image_id)
        for name in self._catalog.names(image_id):
            self._unname(name, image_id, records)
        diff_ids, blobs = self._catalog.remove(image_id)
        self._events.publish("image", "delete", image_id, {"name": image_id})
        records.append(Deleted(deleted=image_id))
        removed, freed_bytes = await self._retention.collect(diff_ids, blobs)
        self.freed_bytes += freed_bytes
        chain = chain_ids(all_diff_ids)
        for diff_id, chain_id in reversed(list(zip(all_diff_ids, chain, strict=True))):
            if diff_id in removed:
                records.append(Deleted(deleted=chain_id))
        if prune and parent and parent in self._catalog.ids() and not self._catalog.names(parent):
            try:
                self._check(parent, force=False, names=True)
            except Conflict:
                return
            await self._remove(parent, records, prune=True)

    def _unname(
        self, reference: Reference, image_id: str, records: list[Deleted], *, quiet: bool = False
    ) -> None:
        if self._catalog.unname(reference):
            if not quiet:
                self._events.publish("image", "untag", image_id, {"name": image_id})
            records.append(Deleted(untagged=reference.familiar))

    def _unname_digests_without_tag(self, removed: Reference, image_id: str, records: list[Deleted]) -> None:
        """With a repository's last tag on an image, its digests on that image go too."""
        same = [name for name in self._catalog.names(image_id) if name.name == removed.name]
        if all(name.digest for name in same):
            for name in same:
                self._unname(name, image_id, records, quiet=True)

    def _name_meant(self, text: str) -> Reference:
        reference = parse(text).with_default_tag()
        if reference.digest:
            reference = reference.trimmed().with_digest(reference.digest)
        if self._catalog.find_name(reference) is None:
            raise NotFound(f"No such image: {reference.familiar}")
        return reference

    def _containers(self, image_id: str) -> list[str]:
        return list(self.in_use(image_id))

    def _check_containers_before_untagging(self, shown: str, image_id: str) -> None:
        for container_id in self._containers(image_id):
            raise Conflict(
                f'conflict: unable to remove repository reference "{shown}" (must force) - container '
                f"{container_id[:12]} is using its referenced image {short(image_id)}"
            )

    def _check(self, image_id: str, *, force: bool, names: bool) -> None:
        """``Conflict`` if the image has children, runs, or (unless forced) is used or (``names``) is named."""
        if self._catalog.children(image_id):
            raise _conflict(image_id, "cannot be forced", "image has dependent child images")
        containers = self._containers(image_id)
        for container_id in containers:
            if self.is_running(container_id):
                reason = f"image is being used by running container {container_id[:12]}"
                raise _conflict(image_id, "cannot be forced", reason)
        if force:
            return
        if names and self._catalog.names(image_id):
            raise _conflict(image_id, "must be forced", "image is referenced in multiple repositories")
        for container_id in containers:
            reason = f"image is being used by stopped container {container_id[:12]}"
            raise _conflict(image_id, "must be forced", reason)


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """OCI image-spec config.md § Layer ChainID: what Docker calls a removed layer."""
    chain: list[str] = []
    for diff_id in diff_ids:
        if chain:
            text = f"{chain[-1]} {diff_id}".encode()
            chain.append("sha256:" + hashlib.sha256(text).hexdigest())
        else:
            chain.append(diff_id)
    return chain


def _conflict(image_id: str, force: str, reason: str) -> Conflict:
    return Conflict(f"conflict: unable to delete {short(image_id)} ({force}) - {reason}")


def _is_id(text: str, image_id: str) -> bool:
    """Whether the user gave (the beginning of) the id rather than a name."""
    return image_id.startswith(text) or image_id.removeprefix("sha256:").startswith(text)


def _is_single(names: Sequence[Reference]) -> bool:
    """At most one name; or all of one repository with at most one tag among them."""
    if len(names) <= 1:
        return True
    tags = [name for name in names if not name.digest]
    return len({name.name for name in names}) == 1 and len(tags) <= 1
