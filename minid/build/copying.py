"""COPY, ADD and WORKDIR: what they copy (for the cache), and the copying itself. The work is done by jobs
(``minid.build.copy_jobs``), which mount the root file systems where only they see them and chroot there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from minid.build.context import Context, Jobs
from minid.images.rootfs import Rootfs


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a remote source of ADD has become: the file or (a git repository) directory ``path`` in ``context``."""

    context: Context
    path: str


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
    """Does them by ``jobs``. Errors: NotFound (a source), InvalidParameter, Failed; messages begin ``COPY failed: …``."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def digest(self, source: Source, copy: Copy) -> str:
        """``sha256:…`` over everything that ``copy`` would copy and its options that change the result, never times,
        never where the source came from. Includes destination, workdir, chown, chmod, … so with the state of the
        target it is the whole cache key.
        """
        raise NotImplementedError

    async def copy(self, target: Rootfs, source: Source, copy: Copy) -> None:
        """Do it in ``target``, which nobody has mounted."""
        raise NotImplementedError

    async def make_directory(
        self, target: Rootfs, path: str, owner: str = "", epoch_s: int | None = None
    ) -> bool:
        """WORKDIR: make the directory ``path`` (0755) and its missing parents; whether anything was made.

        ``owner`` ("", or as ``USER``) is resolved in the target.
        """
        raise NotImplementedError
