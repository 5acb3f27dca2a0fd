"""Single HTTP requests to registries and token servers: schemes, certificates, redirects, failures.

Plain HTTP is used for insecure hosts only; ``Authorization`` goes to the host it was meant for and to no
other, whatever redirects say. Every failure becomes a domain error that names the host and says what to do;
those that trying again may cure are ``Transient``.
"""

import asyncio
import errno
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterable, Mapping

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from minid import __version__
from minid.errors import Failed, MinidError, Unavailable
from minid.images.registry.endpoint import Certificates, InsecureRules, split_host
from minid.images.registry.hosts import Access
from minid.images.registry.trust import explain

CONNECT_TIMEOUT_S = 20
STALL_TIMEOUT_S = 60
DOCUMENT_TIMEOUT_S = 120  # for a manifest or an answer in JSON, all of it
REDIRECTS_MAX = 5
READ_BUFFER_BYTES = 1 << 20
Body = Mapping[str, str] | bytes | AsyncIterable[bytes]  # a form, or bytes

_REDIRECTS = (301, 302, 303, 307, 308)
_CONNECTION_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)


class Transient(Unavailable):
    """Trying again may help; ``retry_after_s`` when the server said how soon."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, refused: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.refused = refused


class TlsFailed(Failed):
    """No trusted TLS connection came about."""


class Transport:
    """The daemon's connections to registries. ``close`` it. May be made outside of the event loop."""

    def __init__(self, rules: InsecureRules, certificates: Certificates) -> None:
        self.rules = rules
        self.certificates = certificates
        self._schemes: dict[str, str] = {}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def reload(self, rules: InsecureRules) -> None:
        """Use other rules, and read certificates again, from the next request on."""
        self.rules = rules
        self._schemes.clear()
        self.certificates.reload()

    async def registry(
        self,
        method: str,
        access: Access,
        target: str,
        *,
        headers: Mapping[str, str],
        authorization: str = "",
        data: bytes | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request to a registry; without a scheme, by HTTP only if it is insecure and HTTPS fails.

        Returns the response unread, whatever its status (redirects are followed): close it. Raises
        ``Transient``, ``Unavailable`` or ``Failed``.
        """
        host = access.host
        if access.scheme:
            schemes = [access.scheme]
        else:
            insecure = await self.rules.is_insecure(host)
            known = self._schemes.get(host)
            schemes = [known] if known and insecure else ["https", "http"] if insecure else ["https"]
        failures: list[MinidError] = []
        for scheme in schemes:
            try:
                response = await self.send(
                    method,
                    URL(f"{scheme}://{host}{target}"),
                    headers=headers,
                    authorization=authorization,
                    data=data,
                    access=access,
                )
            except (Transient, TlsFailed) as error:
                failures.append(error)
                continue
            if not access.scheme:
                self._schemes[host] = scheme
            return response
        if not access.scheme:
            self._schemes.pop(host, None)
        raise failures[-1]

    def origin(self, access: Access) -> URL:
        """Scheme, host and port at which ``registry`` reaches a host, after it has."""
        scheme = access.scheme or self._schemes.get(access.host, "https")
        return URL(f"{scheme}://{access.host}").origin()

    async def send(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str],
        authorization: str = "",
        data: Body | None = None,
        answer_timeout_s: float = STALL_TIMEOUT_S,
        access: Access | None = None,
    ) -> aiohttp.ClientResponse:
        """Send one request and follow redirects (unless there is ``data``). See ``registry``.

        What ``access`` says of files, headers and plain HTTP counts where the request is to that host.
        """
        first = url
        for _ in range(REDIRECTS_MAX + 1):
            there = access if access is not None and access.is_at(url) else None
            if there is None or there.scheme != url.scheme:
                await self._check_scheme(url, first)
            sent = CIMultiDict({"Accept-Encoding": "identity", **headers})
            if there is not None:
                for name in dict(there.header):
                    sent.popall(name, None)
                sent.extend(there.header)
            if authorization and url.origin() == first.origin():
                sent["Authorization"] = authorization
            response = await self._send_once(method, url, sent, data, answer_timeout_s, there)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None or data is not None:
                return response
            response.release()
            try:
                url = url.join(URL(location, encoded=True)).with_user(None).with_fragment(None)
            except ValueError:
                raise Failed(f"registry {host_of(first)}: redirected to a malformed address") from None
            if url.scheme not in ("http", "https") or not url.host:
                raise Failed(f"registry {host_of(first)}: redirected to {url.scheme or 'nowhere'!r}")
        raise Failed(f"registry {host_of(first)}: more than {REDIRECTS_MAX} redirects")

    async def _check_scheme(self, url: URL, first: URL) -> None:
        """Plain HTTP only to insecure hosts, or where an insecure registry that speaks it redirects to."""
        if url.scheme == "https" or (first is not url and first.scheme == "http"):
            return
        if not await self._is_insecure(url):
            raise Failed(
                f"{host_of(url)} would be reached by plain HTTP, which is not allowed: let it serve HTTPS, "
                f"or start minid with --insecure-registry {host_of(url)} if you trust the network"
            )

    async def _is_insecure(self, url: URL) -> bool:
        """A default port may be written in the rules or not."""
        host = host_of(url)
        with_port = host if split_host(host)[1] else f"{host}:{url.port}"
        return await self.rules.is_insecure(host) or await self.rules.is_insecure(with_port)

    async def _send_once(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        data: Body | None,
        answer_timeout_s: float,
        access: Access | None,
    ) -> aiohttp.ClientResponse:
        access = access or Access(host_of(url))
        dial_timeout_s = access.dial_timeout_s or CONNECT_TIMEOUT_S
        context = None
        if url.scheme == "https":
            verify = not access.skip_verify and not await self._is_insecure(url)
            context = await self.certificates.context(
                host_of(url), verify=verify, ca=access.ca, client=access.client
            )
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=READ_BUFFER_BYTES,
                headers={"User-Agent": f"minid/{__version__}"},
            )
        # A server that sends its headers byte by byte never stalls; who streams a body has a watch of its own.
        streams = data is not None and not isinstance(data, bytes | Mapping)
        limit_s = None if streams else dial_timeout_s + answer_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._session.request(
                    method,
                    url,
                    headers=headers,
                    data=data,
                    allow_redirects=False,
                    ssl=context if context is not None else True,
                    proxy=proxy_for(url),
                    timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=dial_timeout_s, sock_read=answer_timeout_s
                    ),
                )
        except _CONNECTION_ERRORS as error:
            raise translate(error, host_of(url), url.scheme) from error


def host_of(url: URL) -> str:
    """``host[:port]`` without the port that the scheme implies, IPv6 in brackets."""
    host = url.raw_host or ""
    host = f"[{host}]" if ":" in host else host
    return host if url.is_default_port() else f"{host}:{url.port}"


def translate(error: Exception, host: str, scheme: str = "https") -> MinidError:
    """The domain error for what aiohttp or the system raised while talking to ``host``."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    for failure in (getattr(error, "certificate_error", None), cause, error.__cause__):
        if isinstance(failure, ssl.SSLError):
            return TlsFailed(explain(failure, host))
    if isinstance(cause, socket.gaierror):
        message = f"registry {host}: the host name cannot be resolved ({cause.strerror})"
        return Transient(message) if cause.errno == socket.EAI_AGAIN else Unavailable(message)
    if isinstance(error, TimeoutError):
        return Transient(f"registry {host}: no answer in time; check the network and try again")
    if isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED:
        return Transient(
            f"registry {host}: connection refused ({scheme}): is the registry running there?", refused=True
        )
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return Transient(f"registry {host}: the connection was closed too early; try again")
    if isinstance(
        error, aiohttp.ClientResponseError
    ):  # its message is of several lines, and has the server's bytes
        return Transient(
            f"registry {host}: its answer is not HTTP: {error.message.partition(':')[0].lower()}"
        )
    detail = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error)
    return Transient(f"registry {host}: the connection failed: {detail or type(error).__name__}")


async def read_limited(response: aiohttp.ClientResponse, limit_bytes: int, what: str) -> bytes:
    """The body of ``response``; ``Failed`` if it is too long, ``Transient`` if it breaks off."""
    chunks: list[bytes] = []
    total = 0
    try:
        async with asyncio.timeout(DOCUMENT_TIMEOUT_S):
            while chunk := await response.content.readany():
                total += len(chunk)
                if total > limit_bytes:
                    response.close()
                    raise Failed(f"{what} from {host_of(response.url)} is longer than {limit_bytes} bytes")
                chunks.append(chunk)
    except _CONNECTION_ERRORS as error:
        raise translate(error, host_of(response.url)) from error
    return b"".join(chunks)


def proxy_for(url: URL) -> str | None:
    """The proxy that the environment names (``HTTPS_PROXY``, ``NO_PROXY``); never one for this machine."""
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get(url.scheme)
    host = url.host or ""
    if not proxy or host == "localhost" or host.startswith("127.") or host == "::1":
        return None
    if urllib.request.proxy_bypass_environment(f"{host}:{url.port}", proxies):  # type: ignore[attr-defined]
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def backoff_s(attempt: int, error: Transient, delays_s: tuple[float, ...]) -> float:
    """How long to wait before the next try: longer each time, or as long as the server said (up to 60 s)."""
    delay = delays_s[min(attempt, len(delays_s) - 1)]
    return delay if error.retry_after_s is None else max(delay, min(error.retry_after_s, 60.0))
