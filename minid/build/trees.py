"""Where the files that are copied come from, for jobs: a listing with its contents, or a mounted root file system.

Both are read by paths without links in them (``listing.follow`` makes them so). A node's ``place`` is its path in a
``DiskTree``; a ``ListedTree`` needs none.
"""

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from typing import Protocol

from minid.build import listing
from minid.build.listing import Node, Record

_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: listing.FILE,
    stat.S_IFDIR: listing.DIRECTORY,
    stat.S_IFLNK: listing.SYMLINK,
    stat.S_IFCHR: listing.CHARACTER,
    stat.S_IFBLK: listing.BLOCK,
    stat.S_IFIFO: listing.FIFO,
}
_NO_XATTRS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENODATA, errno.EPERM, errno.EACCES)


class Tree(Protocol):
    """A tree of files."""

    def find(self, path: str) -> Node | None:
        """What is at ``path``, where no link is followed."""

    def children(self, node: Node) -> Iterator[tuple[str, Node]]:
        """What is in a directory, sorted by name. Sockets are left out."""

    def digest(self, node: Node) -> str:
        """The sha256 of a file's contents, in hex."""

    def data(self, node: Node) -> contextlib.AbstractContextManager[tuple[int, int]]:
        """A file's contents while the context lasts: a descriptor, and the offset where they begin in it."""


class ListedTree:
    """A context: ``fd`` has the contents, ``root`` is the listing's."""

    def __init__(self, fd: int, root: Record) -> None:
        self._fd = fd
        self._root = root

    def find(self, path: str) -> Node | None:
        return listing.find(self._root, path)

    def children(self, node: Node) -> Iterator[tuple[str, Node]]:
        return listing.children(node)

    def digest(self, node: Node) -> str:
        return node.digest

    @contextlib.contextmanager
    def data(self, node: Node) -> Iterator[tuple[int, int]]:
        yield self._fd, node.offset


class InlineTree:
    """One file that is in memory: ``node``."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.node = Node(
            listing.FILE, 0o644, int(time.time()), len(data), 0, hashlib.sha256(data).hexdigest()
        )

    def find(self, path: str) -> Node | None:
        return self.node

    def children(self, node: Node) -> Iterator[tuple[str, Node]]:
        return iter(())

    def digest(self, node: Node) -> str:
        return node.digest

    @contextlib.contextmanager
    def data(self, node: Node) -> Iterator[tuple[int, int]]:
        fd = os.memfd_create("inline", os.MFD_CLOEXEC)
        try:
            left = memoryview(self._data)
            while left:
                left = left[os.write(fd, left) :]
            yield fd, 0
        finally:
            os.close(fd)


class DiskTree:
    """What is below the directory ``root`` (a descriptor), which nobody changes meanwhile."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._links: dict[tuple[int, int], int] = {}

    def find(self, path: str) -> Node | None:
        try:
            info = os.stat(_relative(path), dir_fd=self._root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return self._node(path, info)

    def children(self, node: Node) -> Iterator[tuple[str, Node]]:
        fd = os.open(_relative(node.place), _OPEN_DIR, dir_fd=self._root)
        try:
            prefix = node.place.rstrip("/") + "/"
            for name in sorted(os.listdir(fd)):
                child = self._node(prefix + name, os.stat(name, dir_fd=fd, follow_symlinks=False))
                if child is not None:
                    yield name, child
        finally:
            os.close(fd)

    def digest(self, node: Node) -> str:
        with self.data(node) as (fd, _), open(fd, "rb", closefd=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @contextlib.contextmanager
    def data(self, node: Node) -> Iterator[tuple[int, int]]:
        fd = os.open(_relative(node.place), _OPEN_FILE, dir_fd=self._root)
        try:
            yield fd, 0
        finally:
            os.close(fd)

    def _node(self, path: str, info: os.stat_result) -> Node | None:
        kind = _KINDS.get(stat.S_IFMT(info.st_mode))
        if kind is None:
            return None  # a socket is nothing without who listens on it
        link = 0
        if kind == listing.FILE and info.st_nlink > 1:
            link = self._links.setdefault((info.st_dev, info.st_ino), len(self._links) + 1)
        return Node(
            kind,
            stat.S_IMODE(info.st_mode),
            info.st_mtime_ns // 1_000_000_000,
            info.st_size if kind == listing.FILE else 0,
            link=link,
            target=os.readlink(_relative(path), dir_fd=self._root) if kind == listing.SYMLINK else "",
            major=os.major(info.st_rdev),
            minor=os.minor(info.st_rdev),
            xattrs=self._xattrs(path),
            uid=info.st_uid,
            gid=info.st_gid,
            place=path,
        )

    def _xattrs(self, path: str) -> dict[str, str] | None:
        os.fchdir(self._root)  # by name, since links and devices can't be opened
        at = _relative(path)
        try:
            names = os.listxattr(at, follow_symlinks=False)
            wanted = [name for name in names if listing.is_wanted(name)]
            return {name: os.getxattr(at, name, follow_symlinks=False).hex() for name in wanted} or None
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                raise
            return None


def _relative(path: str) -> str:
    return path.strip("/") or "."
