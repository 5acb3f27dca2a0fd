"""What a build copies from: a tree of files received from a client, fetched from a URL or cloned by git.

A context is not unpacked. While its tar comes in, a job writes the contents of the files one behind the other into a
file without a name, and a *listing* of the tree (``minid.build.listing``) with each file's digest into another. So there
is no path that a hostile archive could lead astray, COPY's cache key needs no file read again, and when the build (or
the daemon) ends the kernel has taken everything away.
"""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol


class Jobs(Protocol):
    """Runs a function in a forked process (``minid.shim.client.Jobs``)."""

    def call(
        self, target: str, request: Mapping[str, Any], fds: Sequence[int] = ()
    ) -> Awaitable[dict[str, Any]]: ...


class Context:
    """A tree of files to copy from. A context manager; ``close`` gives back the disk space.

    ``contents`` and ``listing`` are descriptors for jobs. ``entries`` and ``size_bytes`` count files and their bytes.
    """

    def __init__(self, contents: int, listing: int, *, entries: int, size_bytes: int) -> None:
        self.contents = contents
        self.listing = listing
        self.entries = entries
        self.size_bytes = size_bytes

    def find(self, path: str, limit_bytes: int = 1 << 20) -> bytes | None:
        """The file ``path`` (links followed inside the context), or None. InvalidParameter if it is larger than
        ``limit_bytes`` or no file. For the Dockerfile and its .dockerignore.
        """
        raise NotImplementedError

    async def exclude(self, lines: Sequence[str]) -> None:
        """Take out what a .dockerignore with these ``lines`` excludes (InvalidParameter for a bad pattern)."""
        raise NotImplementedError

    async def remove(self, path: str) -> None:
        """Take out one file; idempotent. (The Dockerfile, if .dockerignore excludes it.)"""
        raise NotImplementedError

    async def unpack(self, jobs: Jobs, directory: Path) -> None:
        """Make the tree as files in the empty ``directory``: for ``RUN --mount=type=bind`` and file exports."""
        raise NotImplementedError

    def close(self) -> None:
        """Idempotent."""
        raise NotImplementedError

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


async def receive(stream: AsyncIterator[bytes], directory: Path, jobs: Jobs) -> Context:
    """The context whose tar (plain or gzip, bzip2, xz, zstd) ``stream`` brings; its space is taken in ``directory``'s
    file system. Raises InvalidParameter for an empty or broken archive, Failed (disk full); nothing stays then.
    """
    raise NotImplementedError


async def empty(directory: Path, jobs: Jobs) -> Context:
    """A context with nothing in it (``docker build - < Dockerfile`` that is no tar)."""
    raise NotImplementedError
