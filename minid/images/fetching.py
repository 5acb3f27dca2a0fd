"""The archive at a URL, for ``import``: streamed, with limits on size and time.

The daemon goes where its caller says, as dockerd does: whoever may use the API may do anything as root anyway.
"""

from collections.abc import AsyncIterator, Callable

import aiohttp
from yarl import URL

from minid import __version__
from minid.errors import Failed, InvalidParameter, Unavailable
from minid.images.registry.transport import proxy_for

CONNECT_TIMEOUT_S = 30.0
STALL_TIMEOUT_S = 60.0
TOTAL_TIMEOUT_S = 6 * 3600.0
SIZE_MAX_BYTES = 64 << 30
REDIRECTS_MAX = 10

Report = Callable[[int, int | None], None]


def checked_url(text: str) -> URL:
    """An http(s) URL; without a scheme it is http, as dockerd reads it. ``InvalidParameter`` for anything else."""
    if "://" not in text:
        text = f"http://{text}"
    try:
        url = URL(text)
        host = url.host
    except ValueError:
        host = None
    if not host or url.scheme not in ("http", "https"):
        raise InvalidParameter(f"cannot import from {text!r:.300}: an http:// or https:// URL is needed")
    return url


async def fetch(url: URL, report: Report, *, size_max_bytes: int = SIZE_MAX_BYTES) -> AsyncIterator[bytes]:
    """The bytes at ``url`` as they arrive; ``report`` is told how many there are and will be.

    ``Unavailable`` (network, too slow), ``Failed`` (a status, too long).
    """
    shown = url.with_user(None)
    timeout = aiohttp.ClientTimeout(
        total=TOTAL_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S, sock_read=STALL_TIMEOUT_S
    )
    headers = {"User-Agent": f"minid/{__version__}", "Accept-Encoding": "identity"}
    received = 0
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False, headers=headers) as session,
            session.get(url, max_redirects=REDIRECTS_MAX, proxy=proxy_for(url)) as response,
        ):
            if response.status != 200:
                raise Failed(f"cannot import from {shown}: it answered {response.status} {response.reason}")
            total = response.content_length
            if total is not None and total > size_max_bytes:
                raise Failed(
                    f"cannot import from {shown}: it has {total} bytes, at most {size_max_bytes} are taken"
                )
            async for chunk in response.content.iter_any():
                received += len(chunk)
                if received > size_max_bytes:
                    raise Failed(f"cannot import from {shown}: it has more than {size_max_bytes} bytes")
                report(received, total)
                yield chunk
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        reason = (
            "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        )
        raise Unavailable(f"cannot import from {shown}: {reason}") from error
