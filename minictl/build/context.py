"""What a build works on: a directory, an archive or a Dockerfile on stdin, or a place that the daemon fetches.

The Dockerfile is always sent, and so is the ignore file that counts, because the daemon takes both out of the context
again when the patterns say so. A Dockerfile from elsewhere goes along under a name that nothing else has.
"""

from __future__ import annotations

import os

from minictl.build import header, ignore
from minictl.build.tree import Tree
from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_READ_BYTES = 256 * 1024
_LONGEST_DOCKERFILE = 16 * 1024 * 1024
_PACKED = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_GIT_HOSTS = ("github.com/",)


class Context:
    """`body` is what is sent (None when the daemon fetches `remote`), `dockerfile` the name in it ("" for the usual).

    `text` are the Dockerfile's lines as far as they are known here, `origin` is what to call it in messages.
    """

    __slots__ = ("_dockerfile_path", "_text", "body", "dockerfile", "origin", "remote", "tree")

    def __init__(
        self,
        body: Iterator[bytes] | None,
        dockerfile: str,
        *,
        remote: str = "",
        path: str = "",
        text: bytes | None = None,
        tree: Tree | None = None,
        origin: str = "",
    ) -> None:
        self.body = body
        self.dockerfile = dockerfile
        self.remote = remote
        self.tree = tree
        self.origin = origin or dockerfile or "Dockerfile"
        self._dockerfile_path = path
        self._text = text

    def lines(self) -> list[str]:
        """The Dockerfile's lines, [] when it is not known here."""
        data = self._text
        if data is None and self._dockerfile_path:
            try:
                data = _whole_file(self._dockerfile_path)
            except OSError:
                data = None
        return (data or b"").decode("utf-8", "replace").splitlines()


def choose(place: str, dockerfile: str) -> Context:
    """The context that `PATH | URL | -` and `-f` name. Raises Failure; reads stdin as far as it must."""
    if place == "-":
        if dockerfile == "-":
            raise Failure("invalid argument: can't use stdin for both build context and dockerfile")
        return _from_stdin(dockerfile)
    if os.path.isdir(place):
        return _from_directory(place, dockerfile)
    if is_remote(place):
        if dockerfile == "-":
            raise Failure("a Dockerfile from stdin can't be combined with a context that the daemon fetches")
        return Context(None, dockerfile, remote=place)
    if os.path.exists(place):
        raise _unprepared(f"context must be a directory: {os.path.abspath(place)}")
    raise _unprepared(f'path "{place}" not found')


def is_remote(place: str) -> bool:
    """Whether the daemon has to fetch it: a URL, or a git repository in one of the ways these are written."""
    if place.startswith(("http://", "https://", "git://", "ssh://", "git@", *_GIT_HOSTS)):
        return True
    user, at, rest = place.partition("@")  # scp's way: user@host:path.git
    return bool(at) and ":" in rest and "/" not in user and ".git" in rest


def named(path: str) -> Tree:
    """An additional context: the directory `path`, less what its own .dockerignore ignores."""
    if not os.path.isdir(path):
        raise Failure(f"--build-context: {path} is no directory")
    return Tree(path, ignore.Patterns(_patterns(os.path.join(path, ".dockerignore"))))


def _from_stdin(dockerfile: str) -> Context:
    start = _at_least(0, header.BLOCK)
    if start.startswith(_PACKED) or _is_tar(start):
        return Context(_continued(start, 0), dockerfile)
    if dockerfile:
        raise _unprepared("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    text = start + b"".join(_limited(0))
    if not text.strip():
        raise _unprepared("stdin is empty: it should be a Dockerfile or an archive")
    return Context(
        iter([_entry(b"Dockerfile", 0o644, text) + header.END]), "Dockerfile", text=text, origin="stdin"
    )


def _from_directory(place: str, dockerfile: str) -> Context:
    top = os.path.realpath(place)
    if dockerfile == "-":
        text = b"".join(_limited(0))
        return _with_foreign_dockerfile(top, text, _specific_or_general(top, ""), "stdin")
    path = _dockerfile_path(top, dockerfile)
    relative = os.path.relpath(path, top)
    specific = path + ".dockerignore"
    if relative == ".." or relative.startswith("../"):
        ignore_file = _specific_or_general(top, specific)
        try:
            text = _whole_file(path)
        except OSError as error:
            raise _unprepared(f"open {path}: {(error.strerror or str(error)).lower()}") from None
        return _with_foreign_dockerfile(top, text, ignore_file, os.path.relpath(path))
    ignore_file = _specific_or_general(top, specific)
    kept = frozenset((relative, os.path.relpath(ignore_file, top)))
    tree = Tree(top, ignore.Patterns(_patterns(ignore_file)), kept)
    return Context(tree.stream(), relative, path=path, tree=tree)


def _with_foreign_dockerfile(top: str, text: bytes, ignore_file: str, origin: str) -> Context:
    """The directory `top` and a Dockerfile that is not in it, and an ignore file that keeps it out of the context."""
    name = f".dockerfile.{os.urandom(10).hex()}"
    own = ".dockerignore"
    if os.path.dirname(ignore_file) != top or os.path.basename(ignore_file) != own:
        own = f"{name}.dockerignore"
    mode = 0o600
    try:
        ignored = _whole_file(ignore_file)
        mode = os.stat(ignore_file).st_mode & 0o7777
    except FileNotFoundError:
        ignored = own.encode()
    patterns = ignore.Patterns(ignore.parse(ignored))
    ignored += b"\n" + name.encode() + b"\n"
    if own != ".dockerignore":
        ignored += own.encode() + b"\n"
    tree = Tree(top, patterns, replaced=own)
    end = _entry(name.encode(), 0o600, text) + _entry(own.encode(), mode, ignored) + header.END
    return Context(tree.stream(end), name, text=text, tree=tree, origin=origin)


def _dockerfile_path(top: str, given: str) -> str:
    """The Dockerfile's path without symbolic links. Raises Failure when there is none."""
    path = os.path.abspath(given) if given else os.path.join(top, "Dockerfile")
    if not given and not os.path.lexists(path) and os.path.lexists(os.path.join(top, "dockerfile")):
        path = os.path.join(top, "dockerfile")
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _unprepared(
            f"unable to evaluate symlinks in Dockerfile path: lstat {error.filename}: {reason}"
        ) from None


def _specific_or_general(top: str, specific: str) -> str:
    """The ignore file that counts: the Dockerfile's own one, or else that of the context."""
    return specific if specific and os.path.isfile(specific) else os.path.join(top, ".dockerignore")


def _patterns(path: str) -> list[str]:
    try:
        return ignore.parse(_whole_file(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unprepared(f"open {path}: {(error.strerror or str(error)).lower()}") from None


def _entry(name: bytes, mode: int, content: bytes) -> bytes:
    """A file that is in the archive only; its time is always the same, since nothing is copied from it."""
    return (
        header.head(name, header.FILE, mode, 0, len(content))
        + content
        + b"\0" * (-len(content) % header.BLOCK)
    )


def _is_tar(block: bytes) -> bool:
    """Whether this is the head of a tar entry: its checksum is right (counted with blanks in its place)."""
    if len(block) < header.BLOCK:
        return False
    digits = block[148:156].strip(b" \0")
    total = sum(block[:148]) + 8 * 0x20 + sum(block[156 : header.BLOCK])
    try:
        return int(digits, 8) == total
    except ValueError:
        return False


def _at_least(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = os.read(fd, _READ_BYTES)
        if not part:
            break
        data += part
    return data


def _continued(start: bytes, fd: int) -> Iterator[bytes]:
    yield start
    while data := os.read(fd, _READ_BYTES):
        yield data


def _limited(fd: int) -> Iterator[bytes]:
    """What is left to read, as a Dockerfile: a larger one is a mistake."""
    total = 0
    while data := os.read(fd, _READ_BYTES):
        total += len(data)
        if total > _LONGEST_DOCKERFILE:
            raise _unprepared("stdin is neither an archive nor a Dockerfile: it does not end")
        yield data


def _whole_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _unprepared(reason: str) -> Failure:
    return Failure(f"unable to prepare context: {reason}")
