"""The words that name something remote: URLs and git repositories, in ADD and in ``POST /build?remote=``. Pure.

Source: docs.docker.com/build/concepts/context ("Git repositories", "URL fragments"), reference of ADD.
"""

import re
from dataclasses import dataclass

from minid.errors import InvalidParameter

_HTTP = re.compile(r"https?://", re.IGNORECASE)
_GIT_OVER_HTTP = re.compile(r"https?://[^#?]+\.git/?(#.*)?", re.IGNORECASE)
_SCP = re.compile(r"(?:[A-Za-z0-9_.-]+@)[A-Za-z0-9.-]+:[^#]+(#.*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository, what of its history is wanted ("" for its default branch), and which directory of it."""

    url: str
    ref: str = ""
    directory: str = ""

    @property
    def is_commit(self) -> bool:
        return _COMMIT.fullmatch(self.ref) is not None

    @property
    def is_ssh(self) -> bool:
        return not self.url.startswith(("http://", "https://", "git://"))


def is_remote(word: str) -> bool:
    """Whether a source of ADD is remote: ``http://…``, ``https://…``, or a git repository."""
    return _HTTP.match(word) is not None or find_repository(word) is not None


def find_repository(word: str) -> Repository | None:
    """The git repository that ``word`` names, or None. InvalidParameter for one that can't be asked for."""
    address, _, fragment = word.partition("#")
    if not (
        address.startswith(("git://", "ssh://")) or _GIT_OVER_HTTP.fullmatch(word) or _SCP.fullmatch(word)
    ):
        return None
    ref, _, directory = fragment.partition(":")
    host = address.rpartition("://")[2].partition("/")[0]
    for part in (ref, address, host, host.rpartition("@")[2]):
        if part.startswith("-") or any(character.isspace() or character < " " for character in part):
            raise InvalidParameter(f"{word!r} is not the address of a git repository")
    return Repository(address, ref, directory.strip("/"))


def find_context_repository(word: str) -> Repository | None:
    """As ``find_repository``; a context may also be ``github.com/…``."""
    return find_repository("https://" + word if word.startswith("github.com/") else word) or (
        find_repository(f"https://{_with_suffix(word)}") if word.startswith("github.com/") else None
    )


def _with_suffix(word: str) -> str:
    address, separator, fragment = word.partition("#")
    return f"{address.rstrip('/')}.git{separator}{fragment}"
