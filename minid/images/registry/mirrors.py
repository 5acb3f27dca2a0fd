"""One repository at several places, asked in the order of its route: mirrors first, the registry itself at the end.

A place that cannot be reached, answers 5xx or 429, wants other credentials or sends something else than was asked for
is left out for the rest of the pull; one that does not have a thing is passed over for that thing. Who is asked for a
tag is believed; everything else is checked against its digest, whoever sends it.
"""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from minid.config.registries import PULL, RESOLVE
from minid.errors import Failed, MinidError, NotFound
from minid.images.digest import is_digest, short
from minid.images.manifest import Descriptor
from minid.images.reference import Reference
from minid.images.registry.authorizer import Auth
from minid.images.registry.client import RETRY_DELAYS_S, BlobStream, FetchedManifest, Repository
from minid.images.registry.hosts import Place, Route
from minid.images.registry.transport import Transport

log = logging.getLogger(__name__)

T = TypeVar("T")


class Repositories:
    """What ``Repository`` does, at all places of ``route``. Make one for each pull.

    ``tell`` gets a line for people when a place is passed over. ``auth`` is for the registry itself only.
    """

    def __init__(
        self,
        transport: Transport,
        reference: Reference,
        auth: Auth | None,
        route: Route,
        *,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.route = route
        self._reference = reference
        self._tell = tell
        self._told: set[str] = set()
        self._out: set[Place] = set()
        self._avoided: dict[str, set[Place]] = defaultdict(set)
        self._senders: dict[str, list[Place]] = defaultdict(list)
        self._served: dict[str, str] = {}
        last = {places[-1] for name in (PULL, RESOLVE) if (places := route.able(name))}
        self._repositories = {
            place: Repository(
                transport,
                reference,
                auth,
                retry_delays_s=retry_delays_s if place in last else (),  # the next one is quicker
                place=place,
            )
            for place in route.places
        }

    async def manifest_digest(self, tag_or_digest: str) -> str | None:
        """What the tag means now, without fetching it; None when nobody says."""
        for place in self._able(RESOLVE):
            try:
                digest = await self._repositories[place].manifest_digest(tag_or_digest)
            except MinidError as error:
                if not self._pass_over(place, RESOLVE, error):
                    raise
                continue
            if digest is not None:
                return digest
        return None

    async def manifest(self, tag_or_digest: str) -> FetchedManifest:
        """As ``Repository.manifest``: a tag from who may resolve it, its bytes from who may be pulled from."""
        if is_digest(tag_or_digest):
            return await self._ask(PULL, lambda repository: self._at(repository, tag_or_digest))
        return await self._ask(RESOLVE, lambda repository: self._tagged(repository, tag_or_digest))

    async def _tagged(self, repository: Repository, tag: str) -> FetchedManifest:
        before = self.route.places[: self.route.places.index(repository.place)]
        asked = {place for place in before if place.can(RESOLVE)}  # and did not have it
        if self._able(PULL, asked)[0] is repository.place:
            return await self._at(repository, tag)
        digest = await repository.manifest_digest(tag)
        if digest is not None:
            return await self.manifest(digest)
        if not repository.place.can(PULL):
            raise NotFound(f"registry {repository.host}: does not say what {self._reference.familiar} means")
        return await self._at(repository, tag)

    async def _at(self, repository: Repository, tag_or_digest: str) -> FetchedManifest:
        fetched = await repository.manifest(tag_or_digest)
        self._serves(repository.place, f"manifest {fetched.digest}", fetched.digest)
        return fetched

    async def blob(self, descriptor: Descriptor, size_max: int) -> bytes:
        """A small blob, verified."""

        async def fetch(repository: Repository) -> bytes:
            data = await repository.blob(descriptor, size_max)
            self._serves(repository.place, f"blob {short(descriptor.digest)}", descriptor.digest)
            return data

        return await self._ask(PULL, fetch)

    async def open_blob(self, descriptor: Descriptor, offset: int) -> BlobStream:
        """As ``Repository.open_blob``; tell ``broken`` or ``blame`` how it ended, if not well."""
        digest = descriptor.digest
        while True:
            place = self._able(PULL, self._avoided[digest])[0]
            try:
                stream = await self._repositories[place].open_blob(descriptor, offset)
            except MinidError as error:
                if not self._pass_over(place, PULL, error, self._avoided[digest]):
                    raise
                self._avoided[digest].add(place)
                continue
            self._serves(place, f"blob {short(digest)}", digest)
            self._senders[digest].append(place)
            return stream

    def broken(self, digest: str) -> None:
        """The connection that the blob came on broke: the next part comes from the next place, if there is one."""
        senders = self._senders[digest]
        if senders and senders[-1] is not self.route.able(PULL)[-1]:
            self._avoided[digest].add(senders[-1])

    def blame(self, digest: str) -> bool:
        """The blob's bytes were wrong. Whether it should be fetched anew, as another place may have it right."""
        senders = list(dict.fromkeys(self._senders.pop(digest, [])))
        if len(senders) > 1:
            self._avoided[digest].update(senders[:-1])  # one of them it was; the last one is tried alone
            return True
        if not senders:
            return False
        error = Failed(
            f"registry {senders[0].host}: blob {short(digest)} has another content than its digest"
        )
        if not self._pass_over(senders[0], PULL, error, self._avoided[digest]):
            return False
        self._avoided[digest].add(senders[0])
        return True

    def host_of(self, digest: str) -> str:
        """Which host has sent the blob, or would be asked for it."""
        senders = self._senders[digest]
        return senders[-1].host if senders else self._able(PULL)[0].host

    async def tags(self) -> list[str]:
        """All tags, as one of those says that may resolve them."""
        return await self._ask(RESOLVE, lambda repository: repository.tags())

    def served(self) -> str:
        """Who has sent what, for people: "mirror.example (3), registry-1.docker.io (1)"; "" if nobody was asked."""
        counts: dict[str, int] = defaultdict(int)
        for host in self._served.values():
            counts[host] += 1
        return ", ".join(f"{host} ({count})" for host, count in counts.items())

    async def _ask(self, capability: str, ask: Callable[[Repository], Awaitable[T]]) -> T:
        missing: set[Place] = set()
        while True:
            place = self._able(capability, missing)[0]
            try:
                return await ask(self._repositories[place])
            except MinidError as error:
                if not self._pass_over(place, capability, error, missing):
                    raise
                missing.add(place)

    def _able(self, capability: str, without: "set[Place] | frozenset[Place]" = frozenset()) -> list[Place]:
        """Who may be asked still; the last one always. ``Failed`` if the rule allows it to nobody."""
        able = self.route.able(capability)
        if not able:
            raise Failed(
                f"{self._reference.familiar}: no host has the capability {capability} ({self.route.rule})"
            )
        return [place for place in able if place not in self._out and place not in without] or able[-1:]

    def _pass_over(
        self,
        place: Place,
        capability: str,
        error: MinidError,
        without: "set[Place] | frozenset[Place]" = frozenset(),
    ) -> bool:
        """Leave ``place`` out after ``error``; False if nobody is there to be asked instead."""
        others = [other for other in self._able(capability, {*without, place}) if other is not place]
        if not others:
            return False
        if not isinstance(error, NotFound):
            self._out.add(place)
        log.debug(
            "a registry host is passed over",
            extra={
                "repository": self._reference.name,
                "host": place.host,
                "next": others[0].host,
                "error": error,
            },
        )
        if place.host not in self._told:
            self._told.add(place.host)
            self._tell(f"{_without_name(error, place.host)}; asking {others[0].host}")
        return True

    def _serves(self, place: Place, what: str, digest: str) -> None:
        self._served[digest] = place.host
        log.debug(
            "a registry host serves",
            extra={
                "repository": self._reference.name,
                "host": place.host,
                "what": what,
                "rule": self.route.rule,
            },
        )


def _without_name(error: MinidError, host: str) -> str:
    """The error, beginning with the host."""
    text = str(error).removeprefix("registry ")
    return text if text.startswith(host) else f"{host}: {text}"
