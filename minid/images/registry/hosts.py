"""Which hosts are asked for a repository, in which order, for what, and by which rule.

    registries: its PATH/* …, its HOST    ─▶ certs.d/HOST/hosts.toml ─▶ registry-mirrors (docker.io)
    ─▶ registries: "*"                    ─▶ certs.d/_default/hosts.toml ─▶ the registry itself, alone

The first that there is counts, whole. ``hosts.toml`` is read at each use, as the certificates beside it are.
Source for what a host's settings mean: containerd, docs/hosts.md.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from yarl import URL

from minid.config.located import Wrong
from minid.config.registries import (
    ANY,
    CERTS_DIRECTORIES,
    HOSTS_TOML,
    PULL,
    PUSH,
    RESOLVE,
    RegistryHost,
    RegistryRule,
    mirror,
    read_hosts_toml,
)
from minid.errors import Failed
from minid.images.reference import DEFAULT_DOMAIN, Reference
from minid.images.registry.endpoint import is_host_port, registry_host, split_host

DIAL_TIMEOUT_S = 5.0  # for a host after which there is another one
API_ROOT = "/v2"
DEFAULT_DIRECTORY = "_default"
NO_RULE = "no rule is for it: the registry itself"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Access:
    """How the host ``host[:port]`` is reached. Without a ``scheme``: HTTPS, or HTTP if it is insecure and has none.

    ``ca``, ``client`` and ``skip_verify`` go beside what ``certs.d`` and ``insecure-registries`` say; ``header`` (which
    may be secret) goes to this host only.
    """

    host: str
    scheme: str = ""
    ca: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path], ...] = ()
    skip_verify: bool = False
    header: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    dial_timeout_s: float | None = None

    def is_at(self, url: URL) -> bool:
        """Whether ``url`` is on this host, reached in this way."""
        scheme = self.scheme or url.scheme
        return url.origin() == URL(f"{scheme}://{self.host}").origin()


@dataclass(frozen=True, slots=True)
class Place:
    """A repository at one host. ``is_own``: it is the registry that the name means, and may see its credentials."""

    access: Access
    path: str
    root: str = API_ROOT
    capabilities: tuple[str, ...] = (PULL, RESOLVE, PUSH)
    namespace: str = ""  # whose repository it is, where that is another registry's
    rewrite: tuple[tuple[str, str], ...] = ()
    is_own: bool = True

    @property
    def host(self) -> str:
        return self.access.host

    @property
    def url(self) -> str:
        """As people see it: no credentials are in it."""
        scheme = self.access.scheme or "https"
        return f"{scheme}://{self.host}{self.root}/{self.path}"

    def can(self, capability: str) -> bool:
        return capability in self.capabilities

    def target(self, rest: str) -> str:
        """The path and query of a request: ``/v2/PATH`` and ``rest``, which may have a query."""
        target = f"{self.root}/{self.path}{rest}"
        if not self.namespace:
            return target
        return f"{target}{'&' if '?' in target else '?'}ns={self.namespace}"

    def rewritten(self, path: str) -> str:
        """The path at this host of another repository of the same registry."""
        return rewritten(path, self.rewrite)


@dataclass(frozen=True, slots=True)
class Route:
    """The places of a repository in the order in which they are asked; ``rule`` says in words why."""

    rule: str
    places: tuple[Place, ...]

    def able(self, capability: str) -> list[Place]:
        return [place for place in self.places if place.can(capability)]

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but the registry itself."""
        return self.rule == NO_RULE


class Hosts:
    """The rules in force; ``reload`` makes others."""

    def __init__(
        self,
        registries: Mapping[str, RegistryRule] | None = None,
        mirrors: Sequence[str] = (),
        directories: Sequence[Path] = CERTS_DIRECTORIES,
    ) -> None:
        """``registries`` by host[:port], host[:port]/path/* or ``*``; ``mirrors`` are docker.io's."""
        self._registries = dict(registries or {})
        self._mirrors = tuple(mirrors)
        self._directories = tuple(directories)

    def reload(self, registries: Mapping[str, RegistryRule], mirrors: Sequence[str]) -> None:
        self._registries, self._mirrors = dict(registries), tuple(mirrors)

    def route(self, reference: Reference) -> Route:
        """``Failed`` when a ``hosts.toml`` that is for it cannot be used."""
        told, rule = self._find(reference)
        if rule is None:
            own = Access(registry_host(reference.domain))
            return Route(told, (Place(own, reference.path),))
        hosts = [*rule.hosts, *([rule.server] if rule.server is not None else [])]
        last = len(hosts) - 1
        return Route(
            told,
            tuple(_place(host, reference, is_last=number == last) for number, host in enumerate(hosts)),
        )

    def _find(self, reference: Reference) -> tuple[str, RegistryRule | None]:
        domain = reference.domain.lower()
        for key in _keys(domain, reference.path):
            if key in self._registries:
                return f"registries has {key}", self._registries[key]
        if found := self._toml([domain, *_other_names(domain)]):
            return found
        if domain == DEFAULT_DOMAIN and self._mirrors:
            hosts = tuple(mirror(url) for url in self._mirrors)
            return "registry-mirrors", RegistryRule(hosts, RegistryHost())
        if ANY in self._registries:
            return f"registries has {ANY}", self._registries[ANY]
        return self._toml([DEFAULT_DIRECTORY]) or (NO_RULE, None)

    def _toml(self, names: Sequence[str]) -> tuple[str, RegistryRule] | None:
        for directory in self._directories:
            for name in filter(None, names):
                path = directory / name / HOSTS_TOML
                try:
                    return str(path), read_hosts_toml(path)
                except FileNotFoundError:
                    continue
                except NotADirectoryError:
                    continue
                except Wrong as error:
                    raise Failed(str(error)) from None
                except OSError as error:
                    raise Failed(f"{path}: cannot be read: {error.strerror}") from error
        return None


def rewritten(path: str, rewrite: Sequence[tuple[str, str]]) -> str:
    """``path`` by the first pattern that fits: ``library/*`` → ``hub/library/*``, or one path → another."""
    for old, new in rewrite:
        if old.endswith("*"):
            prefix = old[:-1]
            if path.startswith(prefix) and len(path) > len(prefix):
                return new[:-1] + path[len(prefix) :]
        elif path == old:
            return new
    return path


def _keys(domain: str, path: str) -> list[str]:
    """The keys of ``registries`` that name the repository, the most special first."""
    parts = path.split("/")
    prefixes = ["/".join(parts[:number]) for number in range(len(parts) - 1, 0, -1)]
    return [*(f"{domain}/{prefix}/*" for prefix in prefixes), domain]


def _other_names(domain: str) -> list[str]:
    """Directories that containerd and ``certs.d`` know a registry by as well."""
    if not is_host_port(domain):
        return []
    _, port = split_host(domain)
    if port:
        return [f"{domain.removesuffix(f':{port}')}_{port}_"]
    return [f"{domain}:443"] if domain != DEFAULT_DOMAIN else []


def _place(host: RegistryHost, reference: Reference, *, is_last: bool) -> Place:
    own = registry_host(reference.domain)
    url = urlsplit(host.url)
    name = registry_host(_host_port(url.scheme, url.netloc)) if host.url else own
    timeout_s = host.dial_timeout_s or (None if is_last else DIAL_TIMEOUT_S)
    access = Access(name, url.scheme, host.ca, host.client, host.skip_verify, host.header, timeout_s)
    return Place(
        access,
        rewritten(reference.path, host.rewrite),
        _root(url.path, host.override_path),
        host.capabilities,
        namespace="" if name == own else reference.domain,
        rewrite=host.rewrite,
        is_own=name == own,
    )


def _host_port(scheme: str, netloc: str) -> str:
    """Without the port that the scheme implies."""
    return netloc.lower().removesuffix(":443" if scheme == "https" else ":80")


def _root(path: str, override: bool) -> str:
    """A path that a URL has comes before ``/v2``, unless it is the whole of it."""
    path = path.rstrip("/")
    return path if override or path.endswith(API_ROOT) else f"{path}{API_ROOT}"
