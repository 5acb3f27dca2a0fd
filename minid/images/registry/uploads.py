"""The push side of a repository: is a blob there, mount it, upload it (whole, in parts, resumed), put a manifest.

    HEAD  /v2/NAME/blobs/DIGEST                        200: there
    POST  /v2/NAME/blobs/uploads/?mount=DIGEST&from=…  201: mounted; 202: an upload has begun, Location
    PATCH Location   bytes                             202: Location of the rest
    GET   Location                                     204: Range, how much there is
    PUT   Location?digest=DIGEST   (all the bytes)     201
    PUT   /v2/NAME/manifests/TAG                       201

Source: OCI distribution-spec § Push; distribution's "HTTP API V2" for ``Range`` and the error codes.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from yarl import URL

from minid.errors import Failed, MinidError, Unauthorized
from minid.images.digest import short
from minid.images.reference import Reference
from minid.images.registry.authorizer import Auth, Authorizer
from minid.images.registry.challenge import parse_challenges
from minid.images.registry.client import ERROR_BODY_MAX_BYTES, TRANSIENT_STATUSES, registry_error
from minid.images.registry.endpoint import registry_host
from minid.images.registry.hosts import Access, Place
from minid.images.registry.transport import (
    STALL_TIMEOUT_S,
    Transient,
    Transport,
    read_limited,
)

FINISH_TIMEOUT_S = 300  # a registry may hash or copy the whole blob before it answers
MONOLITHIC_MAX_BYTES = 1 << 20
MOVES_MAX = 5
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_OCTETS = {"Content-Type": "application/octet-stream"}

log = logging.getLogger(__name__)

Parts = AsyncIterator[bytes]
Source = Callable[[int, int], Parts]  # (first byte, how many) → the blob's bytes


class WrongBytes(Failed):
    """The registry says that what it got does not have the digest."""


@dataclass(slots=True)
class Upload:
    """One upload under way. ``offset`` is None when only the registry knows how much it has."""

    location: URL
    offset: int | None = 0
    part_min_bytes: int = 0


class Destination:
    """The repository that ``reference`` names, at one ``place`` (the registry itself). Make one for each push.

    Each method tries once and raises ``Transient`` when trying again may help.
    """

    def __init__(
        self, transport: Transport, reference: Reference, auth: Auth | None, *, place: Place | None = None
    ) -> None:
        self._transport = transport
        self._reference = reference
        self.place = place or Place(Access(registry_host(reference.domain)), reference.path)
        self.auth = auth if self.place.is_own else None
        self.host = self.place.host
        self._scope = f"repository:{self.place.path}:pull,push"
        self._authorizer = Authorizer(
            transport, self.place.access, self._scope, self.auth, is_own=self.place.is_own
        )
        self._for_mounts: dict[str, Authorizer] = {}
        self.reached = False  # whether it has ever answered

    async def has_blob(self, digest: str, size_bytes: int) -> bool:
        """One HEAD. A blob of another size than ``size_bytes`` does not count."""
        response = await self._ask("HEAD", f"/blobs/{digest}", (200, 404))
        async with response:
            length = response.headers.get("Content-Length", "")
            return response.status == 200 and length in ("", str(size_bytes))

    async def mount(self, digest: str, from_path: str) -> Upload | None:
        """Let the registry take the blob from another of its repositories; None when it has.

        Otherwise an upload has begun, as with ``begin``. Any refusal is an error: then use ``begin``.
        """
        from_path = self.place.rewritten(from_path)
        authorizer = self._for_mounts.get(from_path)
        if authorizer is None:
            scope = f"{self._scope} repository:{from_path}:pull"
            authorizer = Authorizer(self._transport, self.place.access, scope, self.auth)
            if self._authorizer.header.startswith("Basic "):
                authorizer.header = self._authorizer.header
            self._for_mounts[from_path] = authorizer
        query = URL.build(query={"mount": digest, "from": from_path}).raw_query_string
        response = await self._ask("POST", f"/blobs/uploads/?{query}", (201, 202), authorizer=authorizer)
        async with response:
            return None if response.status == 201 else self._begun(response)

    async def begin(self) -> Upload:
        async with await self._ask("POST", "/blobs/uploads/", (202,)) as response:
            return self._begun(response)

    async def find_offset(self, upload: Upload) -> bool:
        """Ask how much of a broken upload has arrived; False when it is lost and has to begin anew."""
        response = await self._send("GET", upload.location)
        async with response:
            if response.status not in (200, 202, 204):
                return False
            match = _RANGE.fullmatch(response.headers.get("Range", ""))
            last = int(match[1]) if match else 0
            upload.offset = last + 1 if last else 0  # "0-0" is what an empty upload says, too
            if "Location" in response.headers:
                upload.location = self._location(response)
            return True

    async def send_part(self, upload: Upload, source: Source, size_bytes: int, total_bytes: int) -> None:
        """PATCH ``size_bytes`` of ``total_bytes`` from the upload's offset on."""
        assert upload.offset is not None
        first = upload.offset
        headers = {**_OCTETS, "Content-Length": str(size_bytes)}
        if size_bytes < total_bytes:  # some registries know no parts: only where there is no other way
            headers["Content-Range"] = f"{first}-{first + size_bytes - 1}"
        upload.offset = None
        response = await self._move("PATCH", upload.location, headers, lambda: source(first, size_bytes))
        async with response:
            if response.status not in (202, 204):
                raise await self._error(response, "an upload")
            match = _RANGE.fullmatch(response.headers.get("Range", ""))
            upload.location = self._location(response)
            upload.offset = first + size_bytes if match is None else int(match[1]) + 1

    async def finish(self, upload: Upload, digest: str, source: Source, size_bytes: int) -> None:
        """PUT the last ``size_bytes`` (or none) and the digest: the blob is there now."""
        assert upload.offset is not None
        first, upload.offset = upload.offset, None
        headers = {**_OCTETS, "Content-Length": str(size_bytes)}
        if first and size_bytes:
            headers["Content-Range"] = f"{first}-{first + size_bytes - 1}"
        body = (lambda: source(first, size_bytes)) if size_bytes else None
        response = await self._move("PUT", _with_digest(upload.location, digest), headers, body)
        async with response:
            if response.status not in (200, 201, 202, 204):
                raise await self._error(response, f"blob {short(digest)}")

    async def put_manifest(self, reference: str, data: bytes, media_type: str, digest: str) -> None:
        """Let ``reference`` (a tag or a digest) mean these bytes."""
        response = await self._ask(
            "PUT",
            f"/manifests/{reference}",
            (200, 201, 202, 204),
            headers={"Content-Type": media_type},
            data=data,
        )
        async with response:
            claimed = response.headers.get("Docker-Content-Digest", digest)
        if claimed != digest:
            log.warning(
                "the registry stored another manifest than it was sent",
                extra={"registry": self.host, "sent": digest, "stored": claimed},
            )

    # requests

    def _begun(self, response: aiohttp.ClientResponse) -> Upload:
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        return Upload(self._location(response), 0, int(least) if least.isdecimal() else 0)

    def _location(self, response: aiohttp.ClientResponse) -> URL:
        """Where an upload goes on: absolute, or relative to what was asked. Exactly one, or ``Failed``."""
        given = response.headers.getall("Location", [])
        if len(given) != 1 or not given[0]:
            raise Failed(f"registry {self.host}: an upload has {len(given)} Locations, expected exactly one")
        try:
            asked = response.url
            url = asked.join(URL(given[0], encoded=True)).with_user(None).with_fragment(None)
        except ValueError:
            raise Failed(f"registry {self.host}: sends an upload to a malformed address") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise Failed(f"registry {self.host}: sends an upload to {url.scheme or 'nowhere'!r}")
        if asked.scheme == "https" and url.scheme == "http" and url.host == asked.host:
            # A registry behind a proxy that does TLS, and that it has not been told of.
            url = url.with_scheme("https").with_port(asked.port if url.is_default_port() else url.port)
        return url

    async def _ask(
        self,
        method: str,
        target: str,
        expected: tuple[int, ...],
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        authorizer: Authorizer | None = None,
    ) -> aiohttp.ClientResponse:
        """A response of an ``expected`` status from the repository, else an error."""
        authorizer = authorizer or self._authorizer
        for _ in range(3):
            used = authorizer.header
            response = await self._transport.registry(
                method,
                self.place.access,
                self.place.target(target),
                headers=headers or {},
                authorization=used,
                data=data,
            )
            self.reached = True
            if response.status in expected:
                return response
            challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
            if response.status != 401 or not challenges:
                async with response:
                    raise await self._error(response, target.partition("?")[0].strip("/"))
            response.release()
            await authorizer.renew(used, challenges)
        raise self._denied("it refused the token that it was given")

    async def _move(
        self, method: str, url: URL, headers: Mapping[str, str], body: "Callable[[], Parts] | None"
    ) -> aiohttp.ClientResponse:
        """Send a part of an upload, again where the registry redirects it to or with a new token."""
        for _ in range(MOVES_MAX):
            used = self._authorizer.header
            response = await self._send(method, url, headers, body)
            challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
            if response.status == 401 and challenges:
                response.close()  # not release: the rest of the body need not be sent
                await self._authorizer.renew(used, challenges)
            elif response.status in (HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT):
                url = self._location(response)
                response.close()
            else:
                return response
        raise Failed(f"registry {self.host}: an upload was sent elsewhere more than {MOVES_MAX} times")

    async def _send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str] | None = None,
        body: "Callable[[], Parts] | None" = None,
    ) -> aiohttp.ClientResponse:
        """One request to an upload's place; the credentials go along to the registry itself only."""
        answer_timeout_s = FINISH_TIMEOUT_S if method == "PUT" else STALL_TIMEOUT_S
        is_ours = url.origin() == self._transport.origin(self.place.access)
        try:
            async with asyncio.timeout(None) as stalled:
                return await self._transport.send(
                    method,
                    url,
                    headers=headers or {},
                    authorization=self._authorizer.header if is_ours else "",
                    data=_watched(body(), stalled, answer_timeout_s) if body is not None else None,
                    answer_timeout_s=answer_timeout_s,
                    access=self.place.access,
                )
        except TimeoutError:
            raise Transient(f"registry {self.host}: takes no more of an upload; try again") from None

    async def _error(self, response: aiohttp.ClientResponse, what: str) -> MinidError:
        try:
            data = await read_limited(response, ERROR_BODY_MAX_BYTES, "an error")
        except MinidError:
            data = b""
        code, text = registry_error(data)
        response.close()  # the rest of a refused upload need not be sent
        status = response.status
        if status in (401, 403) or code in ("UNAUTHORIZED", "DENIED"):
            return self._denied(text or f"it answered {status}")
        message = f"registry {self.host}: answered {status} for {self._reference.familiar_name}, {what}"
        message += f": {text}" if text else ""
        if code == "DIGEST_INVALID":
            return WrongBytes(message)
        if code == "TOOMANYREQUESTS" or status in (*TRANSIENT_STATUSES, 416) or code in _LOST:
            after = response.headers.get("Retry-After", "")
            return Transient(message, retry_after_s=float(after) if after.isdecimal() else None)
        return Failed(message)

    def _denied(self, why: str) -> MinidError:
        return Unauthorized(
            f"push access denied for {self._reference.familiar_name}: registry {self.host}: {why}; "
            "you may have to log in, or the account may not push there"
        )


_LOST = ("BLOB_UPLOAD_UNKNOWN", "RANGE_INVALID")


def _with_digest(location: URL, digest: str) -> URL:
    """The location as it was sent, byte for byte (it may be signed), and the digest."""
    text = str(location)
    return URL(f"{text}{'&' if '?' in text else '?'}digest={digest.replace(':', '%3A')}", encoded=True)


async def _watched(parts: Parts, stalled: asyncio.Timeout, answer_timeout_s: float) -> Parts:
    """``parts``; ``stalled`` expires when the other side does not take them."""
    loop = asyncio.get_running_loop()
    async for part in parts:
        with contextlib.suppress(RuntimeError):  # it has answered before the end
            stalled.reschedule(loop.time() + STALL_TIMEOUT_S)
        yield part
    with contextlib.suppress(RuntimeError):
        stalled.reschedule(loop.time() + answer_timeout_s)
