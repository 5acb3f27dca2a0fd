"""One registry, tried step by step as a pull or push would: rule, name, TCP, TLS, /v2/, login, pull, push.

Every step says what was done, what came of it and what to change; nothing stays in the registry.
"""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
from yarl import URL

from minid.errors import Failed, MinidError, Unauthorized
from minid.images.reference import DEFAULT_DOMAIN, Reference
from minid.images.registry.authorizer import Auth, Authorizer
from minid.images.registry.challenge import Challenge, parse_challenges
from minid.images.registry.client import ACCEPT, ERROR_BODY_MAX_BYTES, registry_error
from minid.images.registry.endpoint import registry_host, split_host
from minid.images.registry.hosts import Access, Place, Route
from minid.images.registry.probe_hosts import host_steps
from minid.images.registry.step import FAILED, NOTE, OK, SKIPPED, Step
from minid.images.registry.transport import Transport, proxy_for, read_limited
from minid.images.registry.trust import explain, insecure

CONNECT_TIMEOUT_S = 10
_OTHER_NAME = (62, 63, 64)


class _Stop(Exception):
    """Nothing after this step can work."""


class Probe:
    """``host`` as in an image's name; ``path`` and ``tag`` may be empty. Iterate ``steps`` once."""

    def __init__(
        self,
        transport: Transport,
        host: str,
        path: str,
        tag: str,
        auth: Auth | None,
        *,
        try_push: bool,
        route: Route | None = None,
    ) -> None:
        self._route = route
        self._transport = transport
        self._host = registry_host(host)
        own = [place for place in route.places if place.is_own] if route is not None else []
        self._place = own[0] if own else Place(Access(self._host), path)
        self._domain = host
        self._path = path
        self._tag = tag
        self._auth = auth
        self._try_push = try_push
        name, port = split_host(self._host)
        self._name, self._port = name, int(port or (80 if self._place.access.scheme == "http" else 443))
        self._addresses: list[str] = []
        self._challenges: list[Challenge] = []
        self._reason = ""

    async def steps(self) -> AsyncIterator[Step]:
        """In order; ends after the first that makes the rest pointless."""
        if self._route is not None and not self._route.is_plain:
            async for step in host_steps(
                self._transport, Reference(self._domain, self._path, self._tag), self._route
            ):
                yield step
            if not any(place.is_own for place in self._route.places):
                return
        proxy = proxy_for(URL(f"https://{self._host}/"))
        kinds: list[Any] = [self._resolve, self._rule]
        kinds += [self._connect, self._handshake] if proxy is None else []
        kinds += [self._version, self._login]
        kinds += [self._pull] if self._path else []
        kinds += [self._push] if self._path and self._try_push else []
        if proxy is not None:
            yield Step("proxy", NOTE, f"minid reaches it through the proxy {URL(proxy).with_user(None)}")
        for kind in kinds:
            started_s = time.perf_counter()
            try:
                step = await kind()
            except _Stop as stop:
                yield replace(stop.args[0], took_ms=_since_ms(started_s))
                return
            if step is not None:
                yield replace(step, took_ms=_since_ms(started_s))
        if not self._path:
            yield Step("pull", SKIPPED, "name a repository to try it: HOST/REPOSITORY[:TAG]")
        elif not self._try_push:
            yield Step("push", SKIPPED, "not asked for")

    async def _resolve(self) -> Step:
        loop = asyncio.get_running_loop()
        try:
            infos = await loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", "") or str(error)
            advice = "check the spelling, /etc/hosts and DNS on the machine that minid runs on"
            if "." not in self._name and ":" not in self._host:
                advice += f"; as an image, {self._domain!r} would be {DEFAULT_DOMAIN}/library/{self._domain}"
            detail = f"{self._name} cannot be resolved: {reason}"
            if proxy_for(URL(f"https://{self._host}/")) is not None:
                return Step("name", NOTE, detail, advice="the proxy may be able to")
            raise _Stop(Step("name", FAILED, detail, advice=advice)) from error
        self._addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        hub = " (which serves docker.io)" if self._domain == DEFAULT_DOMAIN else ""
        if self._addresses == [self._name]:
            return Step("name", OK, f"{self._name} is an address")
        return Step("name", OK, f"{self._name}{hub} is {', '.join(self._addresses)}")

    async def _rule(self) -> Step:
        self._reason = self._transport.rules.reason(self._host, self._addresses)
        access = self._place.access
        used = [
            *self._transport.certificates.directories(self._host),
            *access.ca,
            *(certificate for certificate, _ in access.client),
        ]
        files = f"; certificates in {' and '.join(map(str, used))} are used, too" if used else ""
        try:
            await self._context(verify=True)
        except Failed as error:
            raise _Stop(
                Step("rule", FAILED, str(error), advice="mend or remove the file that is named")
            ) from error
        if access.scheme == "http":
            self._reason = f"the URL in {self._rule_name} says http://"
            return Step("rule", OK, "plain HTTP, nothing else", rule=self._reason)
        if access.skip_verify:
            self._reason = f"{self._rule_name}: skip_verify"
        if self._reason:
            detail = "insecure: HTTPS with any certificate, or else plain HTTP"
            return Step("rule", OK, detail + files, rule=self._reason)
        detail = "secure: HTTPS with a verified certificate, nothing else"
        return Step("rule", OK, detail + files, rule="nothing in insecure-registries is this registry")

    async def _connect(self) -> Step:
        failures = []
        for address in self._addresses:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    _, writer = await asyncio.open_connection(address, self._port)
            except TimeoutError:
                failures.append(f"{address}: no answer in {CONNECT_TIMEOUT_S} s")
            except OSError as error:
                failures.append(f"{address}: {os.strerror(error.errno or 0).lower()}")
            else:
                await _close(writer)
                self._addresses = [address]
                note = f" (not at {'; '.join(failures)})" if failures else ""
                return Step("TCP", OK, f"connected to {address}, port {self._port}{note}")
        if self._reason and not split_host(self._host)[1] and self._port == 443:
            self._port = 80  # an insecure registry without a port may serve plain HTTP only
            return await self._connect()
        advice = (
            "is the registry running there, does it listen on this address, does a firewall stand between?"
        )
        raise _Stop(Step("TCP", FAILED, f"port {self._port}: {'; '.join(failures)}", advice=advice))

    async def _handshake(self) -> Step:
        if self._place.access.scheme == "http":
            return Step("TLS", NOTE, "none: plain HTTP", rule=self._reason)
        if self._port == 80 and not split_host(self._host)[1]:
            return Step("TLS", NOTE, "no HTTPS on port 443: plain HTTP on port 80", rule=self._reason)
        try:
            detail = await self._tls(await self._context(verify=True))
            more = "; it need not be insecure" if self._reason.startswith("insecure-registries") else ""
            return Step("TLS", OK, f"{detail}: verified{more}")
        except ssl.SSLError as error:
            text, advice = _split(explain(error, self._host))
            if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _OTHER_NAME:
                names = await self._names()
                text += f"; it is for {', '.join(names)}" if names else ""
            if self._reason:
                detail = await self._unverified()
                return Step("TLS", NOTE, f"{text}; allowed: {detail}", rule=self._reason)
            raise _Stop(Step("TLS", FAILED, text, advice=advice)) from error
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", "") or "the connection was closed during the handshake"
            if self._reason:
                return Step("TLS", NOTE, f"no TLS: {reason}", rule=self._reason)
            raise _Stop(
                Step(
                    "TLS",
                    FAILED,
                    f"no TLS: {reason}",
                    advice=f"let it serve HTTPS, or {insecure(self._host)}",
                )
            ) from error

    async def _context(self, *, verify: bool) -> ssl.SSLContext:
        access = self._place.access
        return await self._transport.certificates.context(
            self._host, verify=verify, ca=access.ca, client=access.client
        )

    @property
    def _rule_name(self) -> str:
        return self._route.rule if self._route is not None else ""

    async def _unverified(self) -> str:
        try:
            return await self._tls(await self._context(verify=False))
        except (OSError, TimeoutError):
            return "plain HTTP is tried"

    async def _tls(self, context: ssl.SSLContext) -> str:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(
                self._addresses[0], self._port, ssl=context, server_hostname=self._name
            )
        try:
            connection = writer.get_extra_info("ssl_object")
            certificate = connection.getpeercert() or {}
            version = str(connection.version())
        finally:
            await _close(writer)
        if not certificate:
            return f"{version}, any certificate"
        issuer = _common_name(certificate.get("issuer", ()))
        return f"{version}, certificate by {issuer}, until {certificate.get('notAfter', '?')}"

    async def _names(self) -> list[str]:
        """The names in a certificate that is for others than this one."""
        try:
            context = await self._transport.certificates.context_for_any_name(self._host)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(
                    self._addresses[0], self._port, ssl=context, server_hostname=self._name
                )
        except (OSError, TimeoutError):
            return []
        certificate = writer.get_extra_info("ssl_object").getpeercert() or {}
        await _close(writer)
        return [value for _, value in certificate.get("subjectAltName", ())][:10]

    async def _version(self) -> Step:
        try:
            response = await self._transport.registry(
                "GET", self._place.access, f"{self._place.root}/", headers={}
            )
        except MinidError as error:
            text, advice = _split(str(error))
            raise _Stop(Step("/v2/", FAILED, text, advice=advice)) from error
        async with response:
            await read_limited(response, ERROR_BODY_MAX_BYTES, "/v2/")
        scheme = response.url.scheme.upper()
        self._challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
        if response.status == 200:
            return Step("/v2/", OK, f"a registry answers by {scheme}")
        if response.status == 401 and self._challenges:
            return Step("/v2/", OK, f"a registry answers by {scheme} and wants to know who asks")
        detail = f"by {scheme} something answers {response.status}, which no registry does"
        advice = "is this the registry's port, and not that of its web page or of another service?"
        raise _Stop(Step("/v2/", FAILED, detail, advice=advice))

    async def _login(self) -> Step:
        who = f"as {self._auth.username}" if self._auth and self._auth.username else "with the stored token"
        if not self._challenges:
            unused = "; your credentials are not looked at" if self._auth else ""
            return Step("login", OK, f"none is wanted{unused}")
        first = self._challenges[0]
        how = (
            f"Bearer, tokens from {first.parameters.get('realm', '?')}"
            if first.scheme == "bearer"
            else first.scheme.capitalize()
        )
        authorizer = self._authorizer("")
        try:
            await authorizer.renew("", self._challenges)
            response = await self._transport.registry(
                "GET", self._place.access, f"{self._place.root}/", headers={}, authorization=authorizer.header
            )
        except Unauthorized as error:
            text = _text(error)
            advice = f"minictl login {self._domain}"
            if self._auth is None and self._path and first.scheme == "bearer":
                return Step("login", NOTE, f"{how}: {text}", advice=advice)
            raise _Stop(Step("login", FAILED, f"{how}: {text}", advice=advice)) from error
        except MinidError as error:
            raise _Stop(Step("login", FAILED, f"{how}: {_text(error)}")) from error
        response.release()
        if response.status == 200:
            return Step(
                "login", OK, f"{how}: {f'accepted {who}' if self._auth else 'anonymous is enough for now'}"
            )
        if self._auth is None and first.scheme == "bearer":
            return Step("login", NOTE, f"{how}: not logged in", advice=f"minictl login {self._domain}")
        detail = f"{how}: user name or password is wrong" if self._auth else f"{how}: not logged in"
        raise _Stop(Step("login", FAILED, detail, advice=f"minictl login {self._domain}"))

    async def _pull(self) -> Step:
        target = f"/manifests/{self._tag}" if self._tag else "/tags/list?n=1"
        wanted = f"{self._path}:{self._tag}" if self._tag else self._path
        try:
            status, text = await self._ask("HEAD" if self._tag else "GET", target, "pull")
        except MinidError as error:
            return Step("pull", FAILED, f"{wanted}: {_text(error)}", advice=self._rights())
        if status == 200:
            return Step("pull", OK, f"{wanted} can be pulled")
        if status == 404:
            return Step("pull", NOTE, f"{wanted} is not there (yet){text}")
        return Step("pull", FAILED, f"{wanted}: answered {status}{text}", advice=self._rights())

    async def _push(self) -> Step:
        try:
            status, text = await self._ask("POST", "/blobs/uploads/", "pull,push")
        except MinidError as error:
            return Step("push", FAILED, f"{self._path}: {_text(error)}", advice=self._rights())
        if status == 202:
            return Step("push", OK, f"{self._path} can be pushed to (an upload was begun and cancelled)")
        advice = self._rights() if status in (401, 403) else "is it a mirror, or read-only?"
        return Step("push", FAILED, f"{self._path}: answered {status}{text}", advice=advice)

    def _rights(self) -> str:
        if self._auth is None:
            return f"minictl login {self._domain}"
        return f"the account has no right to it, or {self._path} is not the whole path"

    def _authorizer(self, actions: str) -> Authorizer:
        scope = f"repository:{self._place.path}:{actions}" if actions else ""
        return Authorizer(self._transport, self._place.access, scope, self._auth)

    async def _ask(self, method: str, target: str, actions: str) -> tuple[int, str]:
        """Status and the registry's words (": …" or ""); an upload that begins is cancelled."""
        authorizer = self._authorizer(actions)
        for _ in range(2):
            used = authorizer.header
            response = await self._transport.registry(
                method,
                self._place.access,
                self._place.target(target),
                headers=ACCEPT if target.startswith("/manifests/") else {},
                authorization=used,
            )
            async with response:
                body = await read_limited(response, 4 << 20, target)
            challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
            if response.status != 401 or not challenges:
                break
            await authorizer.renew(used, challenges)
        location = response.headers.get("Location", "")
        if response.status == 202 and location:
            await self._cancel(response, location, authorizer.header)
        text = registry_error(body)[1]
        return response.status, f": {text}" if text else ""

    async def _cancel(self, response: aiohttp.ClientResponse, location: str, authorization: str) -> None:
        try:
            url = response.url.join(URL(location, encoded=True))
            ours = url.origin() == self._transport.origin(self._place.access)
            cancelled = await self._transport.send(
                "DELETE", url, headers={}, authorization=authorization if ours else ""
            )
            cancelled.release()
        except (MinidError, ValueError):
            return  # the registry forgets it after a while


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        return


def _common_name(name: Any) -> str:
    """Of a distinguished name as ``getpeercert`` has it."""
    pairs = {key: value for part in name for key, value in part}
    return str(pairs.get("commonName") or pairs.get("organizationName") or "?")


def _text(error: MinidError) -> str:
    """Without the registry's name, which everybody knows here."""
    message = str(error)
    return message.partition(": ")[2] if message.startswith("registry ") else message


def _split(message: str) -> tuple[str, str]:
    """What happened, and what to do, of a message ``registry HOST: what happened: what to do``."""
    text = message.partition(": ")[2]
    head, _, tail = text.rpartition(": ")
    return (head, tail) if head else (text, "")


def _since_ms(started_s: float) -> float:
    return round((time.perf_counter() - started_s) * 1000, 1)
