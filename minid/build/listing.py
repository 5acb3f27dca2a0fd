"""The listing of a context: a tree of records, one a file, as JSON. Pure.

A record is the list of a ``Node``'s fields; a directory's ``children`` are records by name. Names and link targets are
strings with surrogate escapes where they are not UTF-8. Paths are absolute and clean (``/a/b``; ``/`` is the root).
"""

import json
import posixpath
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from minid.build.patterns import Patterns
from minid.images.layers import tar
from minid.images.layers.tar import Entry, TarError, show
from minid.images.layers.unpack import clean_name

FILE, DIRECTORY, SYMLINK, CHARACTER, BLOCK, FIFO = "f", "d", "l", "c", "b", "p"
DEVICES = (CHARACTER, BLOCK, FIFO)
_KINDS = {
    tar.REGULAR: FILE,
    tar.DIRECTORY: DIRECTORY,
    tar.SYMLINK: SYMLINK,
    tar.CHARACTER: CHARACTER,
    tar.BLOCK_DEVICE: BLOCK,
    tar.FIFO: FIFO,
}

MAX_ENTRIES = 2_000_000
MAX_TEXT_BYTES = 256 << 20  # names, targets and attributes of one context
_MAX_TIME_S = 1 << 40
_MAX_PATH = 4096
_MAX_SYMLINKS = 40  # as path_resolution(7)

Record = list[Any]


class Node(NamedTuple):
    """One file of a tree. ``kind`` is one of the letters above, ``mode`` has the twelve permission bits.

    ``digest`` is the sha256 of a file's contents in hex ("" if nobody has read it yet), ``offset`` where these lie.
    Files with the same ``link`` (not 0) are names of one file. ``xattrs`` has the values in hex. ``place`` is where a
    ``DiskTree`` finds it.
    """

    kind: str
    mode: int
    mtime_s: int
    size: int = 0
    offset: int = 0
    digest: str = ""
    link: int = 0
    target: str = ""
    major: int = 0
    minor: int = 0
    xattrs: dict[str, str] | None = None
    children: dict[str, Record] | None = None
    uid: int = 0
    gid: int = 0
    place: str = ""


_CHILDREN = Node._fields.index("children")
_LINK = Node._fields.index("link")


class Builder:
    """Makes the tree of the entries of an archive, in their order: the last of a name wins, as when unpacking.

    A parent that is a symlink is followed inside the tree; one that is missing is made, 0755, with the time of what
    lies in it. Owners are forgotten: what is in a context is root's.
    """

    def __init__(self) -> None:
        self._root = _directory(0o755, 0)
        self._directories: dict[bytes, dict[str, Record]] = {b"": self._root[_CHILDREN]}
        self._links = 0
        self._text_bytes = 0
        self.entries = 0

    def add(self, entry: Entry, offset: int = 0, digest: str = "") -> None:
        """Raises TarError for a path that leads out, a hard link to nothing, an unknown kind, or too much of it all."""
        path = clean_name(entry.name)
        self._count(entry, path)
        kind = _KINDS.get(entry.kind)
        if not path:
            if kind != DIRECTORY:
                raise TarError(f"{show(entry.name)}: only a directory can be the root")
            self._root[1:3] = entry.mode, _seconds(entry)
            return
        parent, _, raw = path.rpartition(b"/")
        siblings = self._directories.get(parent)
        if siblings is None:
            siblings = self._parent(parent, _seconds(entry))
        name = raw.decode("utf-8", "surrogateescape")
        old = siblings.get(name)
        if kind == DIRECTORY:
            record = _directory(entry.mode, _seconds(entry), _xattrs(entry))
            if old is not None and old[0] == DIRECTORY:
                record[_CHILDREN] = old[_CHILDREN]
            siblings[name] = record
            return
        if entry.kind == tar.HARDLINK:
            record = self._hardlink(entry)
        elif kind is None:
            raise TarError(f"{show(entry.name)}: an entry of the unknown type {show(entry.kind)}")
        else:
            record = [kind, entry.mode, _seconds(entry), entry.real_size, offset, digest, 0]
            target = entry.linkname.decode("utf-8", "surrogateescape")
            if kind != FILE or entry.xattrs:
                record += [target, entry.major, entry.minor, _xattrs(entry)]
        if old is not None and old[0] == DIRECTORY:
            self._forget(path)
        siblings[name] = record

    def _count(self, entry: Entry, path: bytes) -> None:
        self.entries += 1
        self._text_bytes += len(path) + len(entry.linkname)
        if entry.xattrs:
            self._text_bytes += sum(len(key) + 2 * len(value) for key, value in entry.xattrs.items())
        if len(path) > _MAX_PATH:
            raise TarError(f"{show(path[:80])}…: the path has more than {_MAX_PATH} bytes")
        if self.entries > MAX_ENTRIES or self._text_bytes > MAX_TEXT_BYTES:
            raise TarError(f"there are more than {MAX_ENTRIES} files, or their names are too long")

    def _parent(self, path: bytes, mtime_s: int) -> dict[str, Record]:
        """What the directory ``path`` has in it; made, and links followed, where it has to be."""
        wanted = "/" + path.decode("utf-8", "surrogateescape")
        found = follow(wanted, self._find)
        children: dict[str, Record] = self._root[_CHILDREN]
        for name in found.split("/")[1:] if found != "/" else ():
            record = children.get(name)
            if record is None:
                record = children[name] = _directory(0o755, mtime_s)
            elif record[0] != DIRECTORY:
                raise TarError(f"{show(path)} is not a directory, and an entry lies below it")
            children = record[_CHILDREN]
        if found == wanted:
            self._directories[path] = children
        return children

    def _find(self, path: str) -> Node | None:
        return find(self._root, path)

    def _hardlink(self, entry: Entry) -> Record:
        raw = clean_name(entry.linkname)
        parent, name = posixpath.split("/" + raw.decode("utf-8", "surrogateescape"))
        record = _record(self._root, posixpath.join(follow(parent, self._find), name)) if name else None
        if record is None or record[0] == DIRECTORY:
            raise TarError(
                f"{show(entry.name)}: a hard link to {show(entry.linkname)}, which is not in the archive"
            )
        if record[0] == FILE and not record[_LINK]:
            self._links += 1
            record[_LINK] = self._links
        return record

    def _forget(self, path: bytes) -> None:
        """The directory ``path`` is no more."""
        below = path + b"/"
        for known in [each for each in self._directories if each == path or each.startswith(below)]:
            del self._directories[known]

    def dump(self) -> bytes:
        """The listing."""
        return dump(self._root)


def dump(root: Record) -> bytes:
    return json.dumps(root, separators=(",", ":")).encode()


def load(data: bytes) -> Record:
    """The root's record."""
    record: Record = json.loads(data)
    return record


def find(root: Record, path: str) -> Node | None:
    """What is at ``path``, where no link is followed."""
    record = _record(root, path)
    return None if record is None else Node._make(_filled(record))


def children(node: Node) -> Iterator[tuple[str, Node]]:
    """What is in a directory, sorted by name."""
    for name, record in sorted((node.children or {}).items()):
        yield name, Node._make(_filled(record))


def take_out(root: Record, path: str) -> None:
    """Remove what is at ``path``; idempotent."""
    parent, name = posixpath.split(path)
    record = _record(root, parent)
    if record is not None and record[0] == DIRECTORY:
        record[_CHILDREN].pop(name, None)


def prune(root: Record, patterns: Patterns) -> None:
    """Remove every file that ``patterns`` match. A directory that they match stays if something in it does not."""
    _prune(root[_CHILDREN], "", patterns)


def _prune(records: dict[str, Record], prefix: str, patterns: Patterns) -> None:
    for name, record in list(records.items()):
        path = prefix + name
        out = patterns.matches(path)
        if record[0] == DIRECTORY and (not out or patterns.may_unignore_below(path)):
            _prune(record[_CHILDREN], path + "/", patterns)
            out = out and not record[_CHILDREN]
        if out:
            del records[name]


def follow(path: str, find: Callable[[str], Node | None], *, last: bool = True) -> str:
    """``path`` with every symlink in it replaced by where it leads, as a process chrooted there would see it.

    ``find`` tells what is at a path without links. What is missing stays as it is written. With ``last`` false the last
    component is left alone. Raises TarError for a loop of links.
    """
    waiting = [name for name in reversed(path.split("/")) if name not in ("", ".")]
    done: list[str] = []
    links = 0
    while waiting:
        name = waiting.pop()
        if name == "..":
            del done[-1:]
            continue
        done.append(name)
        if not waiting and not last:
            break
        node = find("/" + "/".join(done))
        if node is None or node.kind != SYMLINK:
            continue
        links += 1
        if links > _MAX_SYMLINKS:
            raise TarError(f"{path}: too many levels of symbolic links")
        done = [] if node.target.startswith("/") else done[:-1]
        waiting += [part for part in reversed(node.target.split("/")) if part not in ("", ".")]
    return "/" + "/".join(done)


def _record(root: Record, path: str) -> Record | None:
    record = root
    for name in path.split("/"):
        if not name:
            continue
        if record[0] != DIRECTORY:
            return None
        record = record[_CHILDREN].get(name)
        if record is None:
            return None
    return record


_DEFAULTS = list(Node._field_defaults.values())


def _filled(record: Record) -> Record:
    """With the fields that a short record leaves out."""
    missing = len(Node._fields) - len(record)
    return record + _DEFAULTS[-missing:] if missing else record


def _directory(mode: int, mtime_s: int, xattrs: dict[str, str] | None = None) -> Record:
    return [DIRECTORY, mode, mtime_s, 0, 0, "", 0, "", 0, 0, xattrs, {}]


def _seconds(entry: Entry) -> int:
    return min(max(entry.mtime_ns // 1_000_000_000, -_MAX_TIME_S), _MAX_TIME_S)


def _xattrs(entry: Entry) -> dict[str, str] | None:
    wanted = {name: value.hex() for name, value in entry.xattrs.items() if is_wanted(name)}
    return wanted or None


def is_wanted(xattr: str) -> bool:
    """Whether an attribute belongs to the file, not to the machine or the storage it comes from."""
    return not xattr.startswith(("trusted.overlay.", "user.overlay.", "security.selinux"))
