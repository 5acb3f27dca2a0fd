"""Image references: ``[domain/]path[:tag][@digest]``, exactly as ``distribution/reference`` reads them.

    busybox                  docker.io/library/busybox          (familiar form and canonical form)
    me/app:1.0               docker.io/me/app:1.0
    localhost:5000/app       localhost:5000/app
    ghcr.io/org/app@sha256:… the same

Pure: no network, no database. Source: github.com/distribution/reference, ``regexp.go`` and ``normalize.go``.
"""

import re
from dataclasses import dataclass, replace

from minid.errors import InvalidParameter
from minid.images.digest import is_digest, parse_digest

DEFAULT_DOMAIN = "docker.io"
LEGACY_DEFAULT_DOMAIN = "index.docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"
PATH_MAX = 255
RESERVED = "scratch"

_ALPHANUMERIC = r"[a-z0-9]+"
_PATH_COMPONENT = rf"{_ALPHANUMERIC}(?:(?:[._]|__|-+){_ALPHANUMERIC})*"
_PATH = rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*"
_DOMAIN_COMPONENT = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_PATH})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_TAG_ONLY = re.compile(_TAG)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository (``domain``, ``path``), maybe with a ``tag`` and a ``digest``; ``str`` is canonical."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self._with_suffix(self.name)

    @property
    def name(self) -> str:
        """``docker.io/library/busybox``: the repository alone."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    @property
    def familiar_name(self) -> str:
        """``busybox``: the repository as people write it."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(OFFICIAL_PREFIX)
        return rest if "/" not in rest else self.path

    @property
    def familiar(self) -> str:
        """``busybox:latest``: the whole reference as people write it."""
        return self._with_suffix(self.familiar_name)

    @property
    def is_name_only(self) -> bool:
        return not self.tag and not self.digest

    @property
    def tag_or_digest(self) -> str:
        """What a registry is asked for: the digest when there is one (the stronger claim), else the tag."""
        return self.digest or self.tag

    def trimmed(self) -> "Reference":
        """The repository without tag and digest."""
        return replace(self, tag="", digest="")

    def with_tag(self, tag: str) -> "Reference":
        """The same repository (and digest) with ``tag``. ``InvalidParameter`` when it is not a tag."""
        if not _TAG_ONLY.fullmatch(tag):
            raise InvalidParameter(
                f"invalid tag format: {tag!r} (a tag has up to 128 letters, digits, '_', '.' and '-', "
                "and begins with none of the last two)"
            )
        return replace(self, tag=tag)

    def with_digest(self, digest: str) -> "Reference":
        """The same repository (and tag) with ``digest``. ``InvalidParameter`` when it is not a digest."""
        parse_digest(digest)
        return replace(self, digest=digest)

    def with_default_tag(self) -> "Reference":
        """``TagNameOnly``: add ``latest`` when there is neither a tag nor a digest."""
        return replace(self, tag=DEFAULT_TAG) if self.is_name_only else self

    def _with_suffix(self, name: str) -> str:
        return name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """``ParseNormalizedNamed``: a name as people write it, made canonical; else ``InvalidParameter``."""
    if _IDENTIFIER.fullmatch(text):
        raise InvalidParameter(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, remainder = _split_domain(text)
    remote = remainder.partition(":")[0]
    if remote.lower() != remote:
        raise InvalidParameter(f"invalid reference format: repository name ({remote}) must be lowercase")
    return parse_exact(f"{domain}/{remainder}", shown=text)


def parse_usable(text: str) -> Reference:
    """As ``parse``; ``InvalidParameter`` too for the name that no image may have."""
    reference = parse(text)
    if reference.familiar_name == RESERVED:
        raise InvalidParameter(f"'{RESERVED}' is a reserved name")
    return reference


def parse_exact(text: str, *, shown: str | None = None) -> Reference:
    """``Parse``: the bare grammar, with nothing added; a name without a domain keeps an empty one.

    Errors speak of ``shown`` (default ``text``).
    """
    shown = text if shown is None else shown
    match = _REFERENCE.fullmatch(text)
    if match is None:
        if not shown:
            raise InvalidParameter("repository name must have at least one component")
        if _REFERENCE.fullmatch(text.lower()):
            raise InvalidParameter(f"invalid reference format: repository name must be lowercase: {shown!r}")
        raise InvalidParameter(f"invalid reference format: {_excerpt(shown)}")
    path = match["path"]
    if len(path) > PATH_MAX:
        raise InvalidParameter(
            f"repository name must not be more than {PATH_MAX} characters: {_excerpt(shown)}"
        )
    digest = match["digest"] or ""
    if digest:
        parse_digest(digest)
    return Reference(match["domain"] or "", path, match["tag"] or "", digest)


def parse_any(text: str) -> Reference | str:
    """``ParseAnyReference``: a digest as a string (64 hex digits count as sha256), else a ``Reference``."""
    if _IDENTIFIER.fullmatch(text):
        return f"sha256:{text}"
    if is_digest(text):
        return text
    return parse(text)


def is_identifier(text: str) -> bool:
    """Whether ``text`` is a whole image id without its algorithm."""
    return bool(_IDENTIFIER.fullmatch(text))


def _split_domain(name: str) -> tuple[str, str]:
    """The first component is a registry iff it has ``.`` or ``:``, is ``localhost``, or has capitals."""
    first, slash, rest = name.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, OFFICIAL_PREFIX + name
    if first == LEGACY_DEFAULT_DOMAIN:
        domain, remote = DEFAULT_DOMAIN, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remote = first, rest
    else:
        domain, remote = DEFAULT_DOMAIN, name
    if domain == DEFAULT_DOMAIN and "/" not in remote:
        remote = OFFICIAL_PREFIX + remote
    return domain, remote


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")
