"""COPY, ADD and WORKDIR: what they copy (for the cache), and the copying itself. The work is done by jobs
(``minid.build.copy_jobs``), which mount the root file systems where only they see them and chroot there.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from minid.build import copy_jobs
from minid.build.context import Context, Jobs
from minid.build.selection import CopyError
from minid.errors import Failed, InvalidParameter, MinidError, NotFound
from minid.images.layers.tar import TarError
from minid.images.rootfs import Rootfs
from minid.shim.client import JobError

_JOBS = "minid.build.copy_jobs"
_QUICK_ENTRIES = 500  # of at most so many files the digest is made here, which is quicker than a job


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a remote source of ADD has become: the file or (a git repository) directory ``path`` in ``context``.

    ``name`` is what a file is called where the destination is a directory ("": it can't be put in one).
    """

    context: Context
    path: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where files come from: a ``context``, or a ``rootfs`` (a stage's or an image's, only read); neither for ADD and
    COPY of nothing but heredocs. ``fetched``: the remote ones among ADD's sources, by the word in ``Copy.sources``.
    """

    context: Context | None = None
    rootfs: Rootfs | None = None
    fetched: Mapping[str, Fetched] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Copy:
    """One COPY or ADD, all words final (no variables left in them). ``instruction`` is for messages.

    ``sources`` and ``inline`` (heredocs: name, content) are copied in this order: sources first. ``unpack``: local tar
    archives are extracted (ADD, unless --unpack=false); ``unpack_fetched``: those from URLs too (--unpack=true).
    Times later than ``epoch_s`` become it.
    """

    sources: tuple[str, ...]
    destination: str
    inline: tuple[tuple[str, bytes], ...] = ()
    workdir: str = "/"
    chown: str = ""
    chmod: str = ""
    parents: bool = False
    link: bool = False
    exclude: tuple[str, ...] = ()
    unpack: bool = False
    unpack_fetched: bool = False
    epoch_s: int | None = None
    instruction: str = "COPY"


class Copier:
    """Does them by ``jobs``. Raises NotFound (a source), InvalidParameter, Failed; the words are dockerd's."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def digest(self, source: Source, copy: Copy) -> str:
        """``sha256:…`` over everything that ``copy`` would copy and how, never times, never where it came from.

        Destination, workdir, --chown, --chmod and so on are in it: with the state of the target it is the whole cache
        key. The files of a ``rootfs`` are read for it, those of contexts are not.
        """
        with _request(source, copy, None) as fds:
            try:
                if source.rootfs is None and _is_quick(source):
                    order = _order(source, copy, None)
                    return copy_jobs.digest_of_contexts(order, fds)
                result = await self._jobs.call(f"{_JOBS}:digest_job", {}, fds)
                return str(result["digest"])
            except (CopyError, TarError, JobError) as error:
                raise _translated(error, copy.instruction) from error

    async def copy(self, target: Rootfs, source: Source, copy: Copy) -> None:
        """Do it in ``target``, which nobody has mounted. What a failed copy has made stays in it."""
        with _request(source, copy, target) as fds:
            try:
                await self._jobs.call(f"{_JOBS}:copy_job", {}, fds)
            except JobError as error:
                raise _translated(error, copy.instruction) from error

    async def make_directory(
        self, target: Rootfs, path: str, owner: str = "", epoch_s: int | None = None
    ) -> bool:
        """WORKDIR: make the directory ``path`` (0755) and its missing parents; whether there were any.

        ``owner`` ("", or ``user[:group]``) is resolved in the target. Raises InvalidParameter, Failed.
        """
        request = {"target": asdict(target), "path": path, "owner": owner, "epoch_s": epoch_s}
        try:
            return bool((await self._jobs.call(f"{_JOBS}:make_directory_job", request))["made"])
        except JobError as error:
            raise _translated(error, "WORKDIR") from error


def _contexts(source: Source) -> list[Context]:
    """Those that a copy may read, each once; a job finds them behind the order, in this order."""
    found = [fetched.context for fetched in source.fetched.values()]
    if source.context is not None:
        found.insert(0, source.context)
    return list(dict.fromkeys(found))


def _is_quick(source: Source) -> bool:
    return sum(context.entries for context in _contexts(source)) <= _QUICK_ENTRIES


def _order(source: Source, copy: Copy, target: Rootfs | None) -> dict[str, Any]:
    """The request of a job; see ``copy_jobs``."""
    numbers: dict[Context, int] = {}
    places = []
    number = 1  # behind the order
    for context in _contexts(source):
        numbers[context] = number
        places.append((number, number + len(context.fds) - 1, context.listing))
        number += len(context.fds)
    options = asdict(copy)
    options["inline"] = [(name, os.fsdecode(content)) for name, content in copy.inline]
    return {
        "target": None if target is None else asdict(target),
        "rootfs": None if source.rootfs is None else asdict(source.rootfs),
        "context": None if source.context is None else numbers[source.context],
        "contexts": places,
        "fetched": [
            (word, numbers[each.context], each.path, each.name) for word, each in source.fetched.items()
        ],
        "copy": options,
    }


@contextlib.contextmanager
def _request(source: Source, copy: Copy, target: Rootfs | None) -> Iterator[list[int]]:
    """The descriptors for a job, the order first; the contexts' are their own."""
    fds = [fd for context in _contexts(source) for fd in context.fds]
    if len(fds) > copy_jobs.MAX_CONTEXT_FDS:
        raise InvalidParameter(f"{copy.instruction} failed: too many remote sources in one instruction")
    data = json.dumps(_order(source, copy, target)).encode()
    fd = os.memfd_create("copy", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        yield [fd, *fds]
    finally:
        os.close(fd)


def _translated(error: CopyError | TarError | JobError, instruction: str) -> MinidError:
    kind = error.kind if isinstance(error, JobError) else type(error).__name__
    if kind in ("CopyError", "TarError", "InvalidParameter"):
        return InvalidParameter(str(error))
    message = f"{instruction} failed: {error}"
    if kind == "MissingSource":
        return NotFound(message)
    if isinstance(error, JobError) and error.path:
        message += f": {error.path}"
    return Failed(message)
