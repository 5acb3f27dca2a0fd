"""An archive of images taken apart: each file in it becomes a file of its own, hashed on the way.

Nothing of the archive's names reaches the file system: the files are numbered, so a name can be as hostile as it
likes. Links are only noted; whoever reads the result looks them up among the members.
"""

import hashlib
import json
import os
import queue
import threading
from typing import Any

from minid.images.layers import tar
from minid.images.layers.stream import Stream, compression
from minid.images.layers.tar import TarError, show
from minid.kernel.files import grow_pipe

ENTRIES_MAX = 16384
HASHED_ASIDE_MIN_BYTES = 4 << 20
HASHED_BEHIND_MAX = 8
_NAME_MAX = 1024
_ALGORITHMS = ("sha256", "sha384", "sha512")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def receive_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Take the archive in the pipe ``fds[0]`` (compressed or not) apart.

    File number N becomes ``<prefix>-N.aside`` in ``directory``. A list is written to ``fds[1]`` as JSON:
    ``["file", name, N, size_bytes, digest, compression]`` and ``["link", name, target]``, names cleaned. Raises
    TarError (damaged, hostile, a blob that is not what its name says), OSError; the caller removes what is there.
    """
    grow_pipe(fds[0])
    directory = os.open(request["directory"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stream = Stream(fds[0], hashed=False)
    try:
        members = _Members(directory, request["prefix"], stream).read()
        stream.finish()
    finally:
        stream.close()
    with open(fds[1], "w", closefd=False) as answer:
        json.dump(members, answer)
    return {"members": len(members)}


class _Members:
    def __init__(self, directory: int, prefix: str, stream: Stream) -> None:
        self._directory = directory
        self._prefix = prefix
        self._stream = stream
        self._reader = tar.Reader(stream)
        self._members: dict[str, list[Any]] = {}

    def read(self) -> list[list[Any]]:
        for number, entry in enumerate(self._reader):
            if number >= ENTRIES_MAX:
                raise TarError(f"the archive has more than {ENTRIES_MAX} entries: it is no archive of images")
            name = member_name(entry.name)
            if entry.kind == tar.DIRECTORY:
                continue
            if not name:
                raise TarError(f"{show(entry.name)} is no name of a file")
            if entry.kind == tar.REGULAR and entry.sparse is None:
                member = self._file(entry, name, number)
            elif entry.kind == tar.SYMLINK:
                member = ["link", name, link_target(name, entry.linkname)]
            elif entry.kind == tar.HARDLINK:
                member = ["link", name, member_name(entry.linkname)]
            else:
                raise TarError(
                    f"{show(entry.name)}: only files, directories and links belong into an archive of images"
                )
            self._add(name, member)
        return list(self._members.values())

    def _add(self, name: str, member: list[Any]) -> None:
        """The same name twice is no harm where it means the same."""
        known = self._members.setdefault(name, member)
        if known is member:
            return
        if [*known[:2], *known[3:]] != [*member[:2], *member[3:]] or (
            member[0] == "link" and known != member
        ):
            raise TarError(f"{name!r} is in the archive twice, with different contents")
        if member[0] == "file":
            os.unlink(self._path(member[2]), dir_fd=self._directory)

    def _file(self, entry: tar.Entry, name: str, number: int) -> list[Any]:
        algorithm, expected = _promised(name)
        digest = _Aside(algorithm) if entry.size >= HASHED_ASIDE_MIN_BYTES else hashlib.new(algorithm)
        start = b""
        fd = os.open(self._path(number), _CREATE, 0o600, dir_fd=self._directory)
        try:
            for piece in self._stream.pieces(entry.size):
                self._reader.unread -= len(piece)
                if len(start) < 6:
                    start += piece[:6]
                digest.update(piece)
                done = os.write(fd, piece)
                while done < len(piece):
                    done += os.write(fd, piece[done:])
            actual = digest.hexdigest()
        finally:
            if isinstance(digest, _Aside):
                digest.close()
            os.close(fd)
        if expected and actual != expected:
            raise TarError(f"{name!r} has another content, of digest {algorithm}:{actual}")
        return ["file", name, number, entry.size, f"{algorithm}:{actual}", compression(start)]

    def _path(self, number: int) -> str:
        return f"{self._prefix}-{number}.aside"


class _Aside:
    """A digest that is computed in a thread of its own, while this one writes; a few pieces behind at most."""

    def __init__(self, algorithm: str) -> None:
        self._digest = hashlib.new(algorithm)
        self._pieces: queue.Queue[memoryview | None] = queue.Queue(HASHED_BEHIND_MAX)
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)
        self._thread.start()

    def update(self, piece: memoryview) -> None:
        self._pieces.put(piece)

    def hexdigest(self) -> str:
        self.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        """Idempotent."""
        if self._thread.is_alive():
            self._pieces.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._digest.update(piece)


def member_name(raw: bytes) -> str:
    """A name in the archive, cleaned (``./a//b/`` is ``a/b``). Raises TarError where it leads out, or is no text."""
    if raw.startswith(b"/"):
        raise TarError(f"{show(raw)}: an absolute path does not belong into an archive of images")
    return _clean(raw, raw, [])


def link_target(name: str, raw: bytes) -> str:
    """What the symlink ``name`` means, as a name in the archive. Raises TarError where it leads out."""
    if raw.startswith(b"/"):
        raise TarError(f"{name!r} links to {show(raw)}, which is not in the archive")
    return _clean(raw, name.encode() + b" -> " + raw, name.split("/")[:-1])


def _clean(raw: bytes, shown: bytes, parts: list[str]) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise TarError(f"{show(shown)}: the name is not UTF-8") from None
    if len(raw) > _NAME_MAX:
        raise TarError(f"{show(shown[:100])}…: the name is longer than {_NAME_MAX} bytes")
    for part in text.split("/"):
        if part == "..":
            if not parts:
                raise TarError(f"{show(shown)}: the path leads out of the archive")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _promised(name: str) -> tuple[str, str]:
    """Algorithm and digest that the name of a blob of an OCI layout promises; ``("sha256", "")`` for other names."""
    parts = name.split("/")
    if len(parts) == 3 and parts[0] == "blobs" and parts[1] in _ALGORITHMS:
        return parts[1], parts[2]
    return "sha256", ""
