"""One repository of a registry: its manifests, blobs and tags, with authentication and patience.

Source: OCI distribution-spec § Pull; distribution's "HTTP API V2" for the error codes. Docker Hub and others
count GETs of manifests: HEAD is used to ask whether something is new.
"""

import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

import aiohttp

from minid.errors import Failed, MinidError, NotFound, Unauthorized
from minid.images import document
from minid.images.digest import digest_of, is_digest, parse_digest, short
from minid.images.manifest import ACCEPTED, SCHEMA1, Descriptor
from minid.images.reference import Reference
from minid.images.registry.authorizer import Auth, Authorizer
from minid.images.registry.challenge import parse_challenges
from minid.images.registry.endpoint import registry_host
from minid.images.registry.hosts import Access, Place
from minid.images.registry.transport import (
    STALL_TIMEOUT_S,
    Transient,
    Transport,
    backoff_s,
    host_of,
    read_limited,
    translate,
)

RETRY_DELAYS_S = (0.3, 1.0, 2.5)
TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)
ERROR_BODY_MAX_BYTES = 64 << 10
TAGS_MAX = 10_000
CRAWL_BYTES = 4096  # in STALL_TIMEOUT_S; less is no connection
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_NEXT_LINK = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest or index, byte for byte as it was sent, its digest verified."""

    data: bytes
    media_type: str
    digest: str


class BlobStream:
    """The bytes of a blob from ``offset`` on, as they arrive. Use as ``async with``."""

    def __init__(self, response: aiohttp.ClientResponse, offset: int) -> None:
        self._response = response
        self.offset = offset
        self._since_s = time.monotonic()
        self._received_bytes = 0

    async def __aenter__(self) -> "BlobStream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()

    async def read(self) -> bytes:
        """What has arrived, up to 2 MB; b"" at the end. Raises ``Transient`` when the connection breaks or crawls."""
        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise translate(error, host_of(self._response.url)) from error
        self._received_bytes += len(data)
        now = time.monotonic()
        if data and now - self._since_s > STALL_TIMEOUT_S:
            if self._received_bytes < CRAWL_BYTES:
                raise Transient(
                    f"registry {host_of(self._response.url)}: sends too slowly, {self._received_bytes} bytes in "
                    f"{now - self._since_s:.0f} s; try again"
                )
            self._since_s, self._received_bytes = now, 0
        return data


class Repository:
    """The repository that ``reference`` names, at one ``place`` (the registry itself). Make one for each pull.

    ``auth`` is for that registry: another place gets nothing of it.
    """

    def __init__(
        self,
        transport: Transport,
        reference: Reference,
        auth: Auth | None,
        *,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
        place: Place | None = None,
    ) -> None:
        if not reference.domain:
            host = reference.path.partition("/")[0]
            raise NotFound(
                f"{reference.familiar}: {host!r} is not the name of a host that could be a registry"
            )
        self._reference = reference
        self.place = place or Place(Access(registry_host(reference.domain)), reference.path)
        self.host = self.place.host
        self._transport = transport
        self._authorizer = Authorizer(
            transport,
            self.place.access,
            f"repository:{self.place.path}:pull",
            auth if self.place.is_own else None,
            is_own=self.place.is_own,
        )
        self.retry_delays_s = retry_delays_s
        self._reached = False

    async def manifest_digest(self, tag_or_digest: str) -> str | None:
        """What the registry has now under a tag, without fetching it; None when it does not say."""
        try:
            response = await self._get("HEAD", f"/manifests/{tag_or_digest}", ACCEPT)
        except (NotFound, Unauthorized):
            return None  # GET says it better
        async with response:
            digest = response.headers.get("Docker-Content-Digest", "")
        return digest if is_digest(digest) else None

    async def manifest(self, tag_or_digest: str) -> FetchedManifest:
        """Fetch a manifest or index. ``NotFound``, ``Unauthorized``, ``Failed`` (wrong digest, too long)."""
        for attempt in range(len(self.retry_delays_s) + 1):
            try:
                return await self._manifest_once(tag_or_digest)
            except Transient as error:
                await self._again(attempt, error)
        raise AssertionError("unreachable")

    async def _manifest_once(self, tag_or_digest: str) -> FetchedManifest:
        response = await self._get("GET", f"/manifests/{tag_or_digest}", ACCEPT, retry=False)
        async with response:
            what = f"manifest {tag_or_digest}"
            data = await read_limited(response, document.SIZE_MAX, what)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            claimed = response.headers.get("Docker-Content-Digest", "")
        expected = tag_or_digest if is_digest(tag_or_digest) else claimed if is_digest(claimed) else ""
        if media_type in SCHEMA1 and not is_digest(tag_or_digest):
            expected = ""  # its digest is that of the part that is signed; it is refused later anyway
        actual = digest_of(data, parse_digest(expected)[0] if expected else "sha256")
        if expected and actual != expected:
            raise Failed(f"registry {self.host}: {what} has the digest {actual}, expected {expected}")
        return FetchedManifest(data, media_type, actual)

    async def blob(self, descriptor: Descriptor, size_max: int) -> bytes:
        """Fetch a small blob (an image config) and verify it."""
        what = f"blob {short(descriptor.digest)}"
        if descriptor.size_bytes > size_max:
            raise Failed(f"{what} has {descriptor.size_bytes} bytes, more than {size_max}")
        for attempt in range(len(self.retry_delays_s) + 1):
            try:
                response = await self._get("GET", f"/blobs/{descriptor.digest}", {}, retry=False)
                async with response:
                    data = await read_limited(response, size_max, what)
                break
            except Transient as error:
                await self._again(attempt, error)
        actual = digest_of(data, parse_digest(descriptor.digest)[0])
        if actual != descriptor.digest or len(data) != descriptor.size_bytes:
            raise Failed(
                f"registry {self.host}: {what} has the digest {actual} and {len(data)} bytes, "
                f"expected {descriptor.digest} and {descriptor.size_bytes}"
            )
        return data

    async def open_blob(self, descriptor: Descriptor, offset: int) -> BlobStream:
        """Begin to fetch a blob from ``offset``; one try only, raises ``Transient``.

        The stream's own ``offset`` says where it really begins: 0 when the registry ignores ranges.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = await self._get("GET", f"/blobs/{descriptor.digest}", headers, retry=False)
        try:
            start = self._check_range(response, descriptor, offset)
        except BaseException:
            response.close()
            raise
        return BlobStream(response, start)

    def _check_range(self, response: aiohttp.ClientResponse, descriptor: Descriptor, offset: int) -> int:
        what = f"registry {self.host}: blob {short(descriptor.digest)}"
        if response.status == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != offset:
                raise Failed(
                    f"{what}: asked from byte {offset}, got {response.headers.get('Content-Range')!r}"
                )
            total = None if match[3] == "*" else int(match[3])
        else:
            offset = 0
            total = response.content_length
        if total is not None and total != descriptor.size_bytes:
            raise Failed(f"{what} has {total} bytes, its manifest says {descriptor.size_bytes} (truncated?)")
        return offset

    async def tags(self) -> list[str]:
        """All tags of the repository, in the registry's order (which is alphabetical, mostly)."""
        tags: list[str] = []
        target = "/tags/list"
        while target:
            async with await self._get("GET", target, {}) as response:
                data = await read_limited(response, document.SIZE_MAX, "the list of tags")
                link = _NEXT_LINK.search(response.headers.get("Link", ""))
            page = (
                document.load(data, f"the list of tags of {self._reference.familiar_name}").get("tags") or []
            )
            tags += [tag for tag in page if isinstance(tag, str)]
            query = link[1].partition("?")[2] if link else ""
            target = f"/tags/list?{query}" if query and page and len(tags) < TAGS_MAX else ""
        return tags

    async def _get(
        self, method: str, target: str, headers: Mapping[str, str], *, retry: bool = True
    ) -> aiohttp.ClientResponse:
        """A response of status 200 or 206, with the credentials that the registry wants; else an error."""
        attempts = len(self.retry_delays_s) + 1 if retry else 1
        for attempt in range(attempts):
            try:
                return await self._get_once(method, target, headers)
            except Transient as error:
                if not retry:
                    raise
                await self._again(attempt, error)
        raise AssertionError("unreachable")

    async def _get_once(self, method: str, target: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        for _ in range(3):
            used = self._authorizer.header
            response = await self._transport.registry(
                method,
                self.place.access,
                self.place.target(target),
                headers=headers,
                authorization=used,
            )
            self._reached = True
            if response.status in (200, 206):
                return response
            if response.status == 416 and "Range" in headers:
                response.close()
                headers = {key: value for key, value in headers.items() if key != "Range"}
                continue
            challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
            if response.status != 401 or not challenges:
                async with response:
                    raise await self._error(response, target)
            response.release()
            await self._authorizer.renew(used, challenges)
        raise Unauthorized(
            f"pull access denied for {self._reference.familiar_name}, repository does not exist or may "
            f"require 'docker login': registry {self.host} refused the token that it was given"
        )

    async def _again(self, attempt: int, error: Transient) -> None:
        """Wait and return, or raise ``error`` if there were enough attempts (or nobody was ever there)."""
        if attempt >= len(self.retry_delays_s) or (error.refused and not self._reached):
            raise error
        await asyncio.sleep(backoff_s(attempt, error, self.retry_delays_s))

    async def _error(self, response: aiohttp.ClientResponse, target: str) -> MinidError:
        try:
            body = await read_limited(response, ERROR_BODY_MAX_BYTES, "an error")
        except MinidError:
            body = b""
        code, text = registry_error(body)
        name, status = self._reference.familiar_name, response.status
        detail = f": {text}" if text else ""
        if status in (401, 403) or code in ("UNAUTHORIZED", "DENIED"):
            message = (
                f"pull access denied for {name}, repository does not exist or may require 'docker login'"
                f"{detail or f' (registry {self.host} answered {status})'}"
            )
            return Unauthorized(message) if status == 401 else NotFound(message)
        if status == 404 and target.startswith("/manifests/"):
            wanted = target.removeprefix("/manifests/")
            shown = f"{name}@{wanted}" if is_digest(wanted) else f"{name}:{wanted}"
            if code == "NAME_UNKNOWN":
                return NotFound(f"repository {name} not found{detail or ': name unknown'}")
            return NotFound(f"manifest for {shown} not found{detail or ': manifest unknown'}")
        if status == 404:
            return NotFound(f"registry {self.host} does not have {name}{target}{detail}")
        message = f"registry {self.host}: answered {status} for {name}{target}{detail}"
        if code == "TOOMANYREQUESTS" or status in TRANSIENT_STATUSES:
            after = response.headers.get("Retry-After", "")
            return Transient(message, retry_after_s=float(after) if after.isdecimal() else None)
        return Failed(message)


ACCEPT = {"Accept": ", ".join(ACCEPTED)}


def registry_error(body: bytes) -> tuple[str, str]:
    """``(code, "message: detail")`` of the first error in a registry's error body; empty when it is none."""
    try:
        first = json.loads(body)["errors"][0]
        code, message = str(first.get("code", "")), str(first.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", ""
    text = ": ".join(part for part in (code.lower().replace("_", " "), message) if part)
    printable = "".join(character if character.isprintable() else " " for character in text)
    return code, printable[:300]
