"""Checking credentials: does the registry let this account in, and does it hand out an identity token?

Source: Engine API v1.44 ``POST /auth``; distribution's "Token Authentication Specification" (``offline_token``).
"""

from minid.errors import Failed, InvalidParameter, Unauthorized
from minid.images.reference import DEFAULT_DOMAIN, LEGACY_DEFAULT_DOMAIN
from minid.images.registry.authorizer import Auth, Authorizer
from minid.images.registry.challenge import parse_challenges
from minid.images.registry.endpoint import DOCKER_HUB, is_host_port
from minid.images.registry.hosts import Access
from minid.images.registry.transport import Transport


def host_to_log_in(server_address: str) -> str:
    """``host[:port]`` of what clients send: a host, a URL, Docker Hub's old index, or nothing (Docker Hub)."""
    text = server_address.strip()
    host = (text.partition("://")[2] if "://" in text else text).partition("/")[0]
    if not text or host in (DEFAULT_DOMAIN, LEGACY_DEFAULT_DOMAIN):
        return DOCKER_HUB
    if not is_host_port(host):
        raise InvalidParameter(
            f"{server_address!r:.200} is not the address of a registry: host[:port] is needed"
        )
    return host


async def log_in(transport: Transport, host: str, auth: Auth) -> str:
    """Show ``auth`` to the registry; returns the identity token that it gives, if any.

    ``Unauthorized`` when it is refused; ``Transient``, ``Unavailable``, ``Failed`` when there is no registry.
    """
    authorizer = Authorizer(transport, Access(host), "", auth, wants_identity=True)
    for _ in range(3):
        used = authorizer.header
        response = await transport.registry("GET", Access(host), "/v2/", headers={}, authorization=used)
        status = response.status
        challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
        response.release()
        if status == 200:
            return authorizer.identity_token
        if status != 401:
            raise Failed(
                f"registry {host}: login attempt failed: /v2/ answered {status}; is this a registry?"
            )
        if not challenges:
            break
        await authorizer.renew(used, challenges)
    raise Unauthorized(f"registry {host}: unauthorized: incorrect username or password")
