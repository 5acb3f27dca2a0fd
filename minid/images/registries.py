"""Registries, as images and the API need them: the rules in force, and what is done at a registry without an image."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from minid.config.registries import CERTS_DIRECTORIES, PUSH, RegistryRule, problems_of_hosts_toml
from minid.errors import Failed, InvalidParameter
from minid.images.reference import DEFAULT_DOMAIN, OFFICIAL_PREFIX, Reference, parse, parse_exact
from minid.images.registry.authorizer import Auth
from minid.images.registry.client import RETRY_DELAYS_S
from minid.images.registry.endpoint import Certificates, InsecureRules, is_host_port
from minid.images.registry.hosts import Hosts, Route
from minid.images.registry.login import host_to_log_in, log_in
from minid.images.registry.mirrors import Repositories
from minid.images.registry.probe import Probe
from minid.images.registry.transport import Transport
from minid.images.registry.uploads import Destination

log = logging.getLogger(__name__)


class Registries:
    """One a daemon. ``close`` it."""

    def __init__(
        self,
        *,
        insecure: Iterable[str] = (),
        rules: Mapping[str, RegistryRule] | None = None,
        mirrors: Sequence[str] = (),
        certs_directories: Sequence[Path] = CERTS_DIRECTORIES,
        retry_delays_s: tuple[float, ...] | None = None,
    ) -> None:
        """``rules`` and ``mirrors`` are the options ``registries`` and ``registry-mirrors``.

        ``InvalidParameter`` for a malformed insecure registry.
        """
        self.transport = Transport(InsecureRules.parse(insecure), Certificates(certs_directories))
        self.hosts = Hosts(rules, mirrors, certs_directories)
        self._retry_delays_s = retry_delays_s or RETRY_DELAYS_S
        self._certs_directories = tuple(certs_directories)
        self._warn()

    def reload(
        self,
        insecure: Iterable[str],
        rules: Mapping[str, RegistryRule] | None = None,
        mirrors: Sequence[str] = (),
    ) -> None:
        """Other rules from the next request on, certificates read again; or ``InvalidParameter`` and no change."""
        parsed = InsecureRules.parse(insecure)
        self.transport.reload(parsed)
        self.hosts.reload(rules or {}, mirrors)
        self._warn()

    def _warn(self) -> None:
        """A ``hosts.toml`` that cannot be used stops pulls from its registry only: the daemon starts all the same."""
        for problem in problems_of_hosts_toml(self._certs_directories):
            log.warning("a hosts.toml cannot be used", extra={"problem": problem})

    async def close(self) -> None:
        await self.transport.close()

    def repository(
        self, reference: Reference, auth: Auth | None, tell: Callable[[str], None] = lambda text: None
    ) -> Repositories:
        """To pull from: all its places. ``tell`` gets a line for each that is passed over."""
        return Repositories(
            self.transport,
            reference,
            auth,
            self.hosts.route(reference),
            retry_delays_s=self._retry_delays_s,
            tell=tell,
        )

    def destination(self, reference: Reference, auth: Auth | None) -> Destination:
        """To push to: the first place that may be. ``Failed`` if none may."""
        route = self.hosts.route(reference)
        able = route.able(PUSH)
        if not able:
            raise Failed(
                f"{reference.familiar}: no host has the capability push ({route.rule}): "
                "give it to one, or take fallback: false away"
            )
        return Destination(self.transport, reference, auth, place=able[0])

    def route(self, name: str) -> tuple[Reference, Route]:
        """How ``name`` is read, and where it would be pulled from and pushed to. ``InvalidParameter``, ``Failed``."""
        reference = parse(name).with_default_tag()
        return reference, self.hosts.route(reference)

    async def log_in(self, auth: Auth) -> str:
        """Check ``auth`` with the registry that it names; returns an identity token, "" if there is none.

        ``Unauthorized`` when it is refused; ``InvalidParameter``, ``Unavailable``, ``Failed``.
        """
        return await log_in(self.transport, host_to_log_in(auth.server_address), auth)

    def probe(self, name: str, *, auth: Auth | None = None, try_push: bool = True) -> Probe:
        """Try the registry ``HOST[:PORT][/REPOSITORY[:TAG]]`` step by step. ``InvalidParameter`` if it is none."""
        host, _, rest = name.partition("/")
        if not is_host_port(host):
            raise InvalidParameter(f"{host!r:.200} is not the address of a registry: host[:port] is needed")
        path, tag = "", ""
        if rest:
            reference = parse_exact(f"{host}/{rest}", shown=name)
            path, tag = reference.path, reference.tag
            if host == DEFAULT_DOMAIN and "/" not in path:
                path = f"{OFFICIAL_PREFIX}{path}"
        route = self.hosts.route(Reference(host, path, tag))
        return Probe(self.transport, host, path, tag, auth, try_push=try_push, route=route)
