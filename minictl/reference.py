"""Just enough of image references to ask and to show: the daemon is who checks them.

distribution/reference: [domain/]path[:tag][@digest]; the first component is a domain when it has a "." or
":", is "localhost", or has capitals; else the domain is docker.io, and single names live in library/.
"""

from __future__ import annotations

from minictl.errors import Failure

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-/")
_TAG = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_HEX = frozenset("0123456789abcdef")


class Reference:
    """The parts of a reference; `tag` and `digest` are "" when absent."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str, digest: str) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def name(self) -> str:
        """In full: docker.io/library/busybox."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """As people write it: busybox."""
        if self.domain != "docker.io":
            return self.name
        return self.path.removeprefix("library/") if self.path.count("/") == 1 else self.path


def parse(text: str) -> Reference:
    """Raises Failure("invalid reference format…") for what can't be a reference."""
    if len(text) == 64 and _HEX.issuperset(text):
        raise Failure(
            f"invalid reference format: repository name ({text}) cannot be specified as 64-byte hexadecimal strings"
        )
    rest, at, digest = text.partition("@")
    slash = rest.rfind("/")
    colon = rest.rfind(":")
    tag = ""
    if colon > slash:
        rest, tag = rest[:colon], rest[colon + 1 :]
        if not tag or len(tag) > 128 or not _TAG.issuperset(tag) or tag[0] in ".-":
            raise Failure("invalid reference format")
    first, found, path = rest.partition("/")
    if not found or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        domain, path = "docker.io", rest
    else:
        domain = "docker.io" if first == "index.docker.io" else first
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    if path != path.lower():
        raise Failure(f"invalid reference format: repository name ({path}) must be lowercase")
    components = path.split("/")
    if not _LOWER.issuperset(path) or any(not part or not part[0].isalnum() for part in components):
        raise Failure("invalid reference format")
    if at and (":" not in digest or len(digest.partition(":")[2]) < 32):
        raise Failure("invalid reference format")
    return Reference(domain, path, tag, digest)


def familiar_tagged(text: str) -> str:
    """`text` as people write it, with the tag it has or `latest`; as it is when it is no reference."""
    try:
        reference = parse(text)
    except Failure:
        return text
    if reference.digest:
        return f"{reference.familiar}@{reference.digest}"
    return f"{reference.familiar}:{reference.tag or 'latest'}"
