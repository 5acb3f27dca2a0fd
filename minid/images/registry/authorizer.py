"""Answers to a registry's challenges: Basic credentials, or a Bearer token from the server that it names.

Source: distribution's "Token Authentication Specification" and "Oauth2 Token Authentication"; Engine API
``X-Registry-Auth`` for the kinds of credentials.
"""

import asyncio
import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from minid.errors import Failed, InvalidParameter, Unauthorized
from minid.images import document
from minid.images.registry.challenge import Challenge
from minid.images.registry.hosts import Access
from minid.images.registry.transport import Transient, Transport, host_of, read_limited

ANSWER_MAX_BYTES = 1 << 20
CLIENT_ID = "minid"
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Auth:
    """What the user has to show: a password, or an identity (refresh) token, or a ready registry token."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server_address: str = ""


class Authorizer:
    """The ``Authorization`` header for one repository; renewed, once at a time, when it is refused.

    ``scope``: what is asked for at a token server, ``repository:NAME:pull,push``, several with spaces between. With
    ``wants_identity`` it is asked for an identity token, too: ``identity_token``.
    """

    def __init__(
        self,
        transport: Transport,
        access: Access,
        scope: str,
        auth: Auth | None,
        *,
        wants_identity: bool = False,
        is_own: bool = True,
    ) -> None:
        """Not ``is_own``: a mirror, which credentials from ``login`` do not go to."""
        self._advice = "log in first" if is_own else "a header in its rule can hold them (docs/registries.md)"
        self._transport = transport
        self._access = access
        self._host = access.host
        self._scope = scope
        self._auth = auth or Auth()
        self._lock = asyncio.Lock()
        self._wants_identity = wants_identity
        self.identity_token = ""
        self.header = _bearer(self._auth.registry_token) if self._auth.registry_token else ""

    async def renew(self, refused: str, challenges: Sequence[Challenge]) -> None:
        """Get another header than ``refused`` (maybe empty). ``Unauthorized`` when there is none to get."""
        async with self._lock:
            if self.header != refused:
                return  # another request has renewed it meanwhile
            self.header = await self._answer(refused, challenges)

    async def _answer(self, refused: str, challenges: Sequence[Challenge]) -> str:
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                return _bearer(await self._token(challenge))
            if challenge.scheme == "basic":
                if not self._auth.username:
                    raise Unauthorized(f"registry {self._host}: no basic auth credentials: {self._advice}")
                header = self._basic()
                if header == refused:
                    raise Unauthorized(f"registry {self._host}: unauthorized: incorrect username or password")
                return header
        names = ", ".join(challenge.scheme for challenge in challenges) or "none named"
        raise Unauthorized(
            f"registry {self._host}: authentication required by a method that minid does not have ({names})"
        )

    def _basic(self) -> str:
        pair = f"{self._auth.username}:{self._auth.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    async def _token(self, challenge: Challenge) -> str:
        """Ask the token server. It may be another host; it is reached by the same rules as a registry."""
        realm = challenge.parameters["realm"]
        try:
            url = URL(realm)
        except ValueError:
            url = URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise Failed(f"registry {self._host}: names a malformed token server {realm!r:.200}")
        url = url.with_user(None)
        service = challenge.parameters.get("service", "")
        query: dict[str, str | list[str]] = {"service": service} if service else {}
        if self._scope:
            query["scope"] = self._scope.split()
        if self._wants_identity:
            query |= {"offline_token": "true", "client_id": CLIENT_ID}
        headers = {"Accept": "application/json"}
        if self._auth.identity_token:
            form = {
                "service": service,
                "scope": self._scope,
                "grant_type": "refresh_token",
                "refresh_token": self._auth.identity_token,
                "client_id": CLIENT_ID,
            }
            response = await self._transport.send(
                "POST", url, headers=headers, data=form, access=self._access
            )
        elif self._auth.username:
            response = await self._transport.send(
                "GET",
                url.extend_query({**query, "account": self._auth.username}),
                headers=headers,
                authorization=self._basic(),
                access=self._access,
            )
        else:
            response = await self._transport.send(
                "GET", url.extend_query(query), headers=headers, access=self._access
            )
        async with response:
            return await self._read_token(response, url)

    async def _read_token(self, response: aiohttp.ClientResponse, url: URL) -> str:
        server = f"token server {host_of(url)} of registry {self._host}"
        if response.status == 429 or response.status >= 500:
            raise Transient(f"{server}: answered {response.status}; try again later")
        if response.status in (400, 401, 403):
            if self._auth.username or self._auth.identity_token:
                raise Unauthorized(f"{server}: unauthorized: incorrect username or password")
            raise Unauthorized(f"{server}: refused an anonymous token ({response.status}): {self._advice}")
        if response.status != 200:
            raise Failed(f"{server}: answered {response.status} instead of a token")
        data = await read_limited(response, ANSWER_MAX_BYTES, "a token")
        try:
            answer = document.load(data, f"the answer of {server}", size_max=ANSWER_MAX_BYTES)
        except InvalidParameter as error:
            raise Failed(str(error)) from error
        identity = answer.get("refresh_token")
        self.identity_token = identity if self._wants_identity and isinstance(identity, str) else ""
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not _HEADER_SAFE.fullmatch(token):
            raise Failed(f"{server}: its answer has no usable token")
        return token


def _bearer(token: str) -> str:
    if not _HEADER_SAFE.fullmatch(token):
        raise InvalidParameter("the registry token has characters that are not allowed in a header")
    return f"Bearer {token}"
