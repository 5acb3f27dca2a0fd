"""What a container has changed in its root file system, and how many bytes its own files take.

``Engine API v1.44 GET /containers/{id}/changes``. An overlay's upper directory tells by itself; a copy
(vfs, btrfs) is compared with what its layers come to, by mode, owner, device, size and modification time
(as Docker does it).
"""

import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minid.kernel.trees import OPEN_DIR, tree_size

MODIFIED, ADDED, DELETED = 0, 1, 2
_OPAQUE = "trusted.overlay.opaque"

# What the sandbox makes to mount on, where the image hasn't got it; no change of the container's.
_MOUNTPOINTS = frozenset(
    (
        *("dev", "dev/console", "dev/mqueue", "dev/pts", "dev/shm", "proc", "sys"),
        *("etc", "etc/hostname", "etc/hosts", "etc/resolv.conf", ".dockerenv"),
    )
)


def changes_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Compare ``rootfs`` with ``layers`` (directories, base first); returns ``size_bytes``.

    With ``paths`` true, the changes are written to ``fds[0]`` as JSON: sorted ``[[path, kind], …]``.
    """
    found, size_bytes = find_changes(request["rootfs"], request["layers"], paths=request["paths"])
    if request["paths"]:
        text = json.dumps([(_shown(path), kind) for path, kind in sorted(found)])
        with open(fds[0], "w", closefd=False) as file:
            file.write(text)
    return {"size_bytes": size_bytes}


def find_changes(
    rootfs: Mapping[str, Any],
    layers: Sequence[str],
    *,
    paths: bool = True,
    mountpoints: Iterable[str] | None = (),
) -> tuple[list[tuple[str, int]], int]:
    """The changes, in no order, as paths relative to the root (none without ``paths``), and the bytes of own files.

    ``mountpoints``: what was mounted on beside the usual; where it is new and empty, it is no change. None: nothing
    was mounted.
    """
    made: frozenset[str] = frozenset()
    if mountpoints is not None:
        made = _MOUNTPOINTS.union(*(_with_parents(path) for path in mountpoints))
    found: list[tuple[str, int]] = []
    if rootfs["kind"] == "overlay":
        upper = os.open(rootfs["upper"], OPEN_DIR)
        size_bytes = tree_size(upper)
        if paths:
            lower = [os.open(path, OPEN_DIR & ~os.O_NOFOLLOW) for path in rootfs["lower"]]
            _Overlay(found, made).compare(upper, lower, "")
        return found, size_bytes
    expected = _Node(None)
    for directory in layers:
        _add_layer(expected, directory)
    tree = os.open(rootfs["source"], OPEN_DIR)
    return found, _Copy(found, made).compare(tree, expected, "")


def _shown(path: str) -> str:
    return "/" + os.fsencode(path).decode("utf-8", "replace")


def _lstat(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_whiteout(info: os.stat_result) -> bool:
    """Whether it hides what lies below, in overlayfs's form."""
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _with_parents(path: str) -> list[str]:
    """``/a/b`` → ``a/b``, ``a``: what may have been made for a mount there."""
    names = path.strip("/").split("/")
    return ["/".join(names[:count]) for count in range(len(names), 0, -1)]


class _Mountpoints:
    """Knows what was only made to mount on."""

    def __init__(self, paths: frozenset[str]) -> None:
        self._paths = paths

    def is_mountpoint(self, path: str, info: os.stat_result) -> bool:
        return path in self._paths and (stat.S_ISDIR(info.st_mode) or info.st_size == 0)


class _Overlay(_Mountpoints):
    """Walks the upper directory, together with the lower directories that lie under each of its
    directories.
    """

    def __init__(self, found: list[tuple[str, int]], mountpoints: frozenset[str]) -> None:
        super().__init__(mountpoints)
        self._found = found
        self._made: set[str] = (
            set()
        )  # mountpoints: making them changed the time of the directory that they are in

    def compare(self, upper: int, lower: list[int], path: str) -> int:
        """Append the changes below; how many there were. Closes the descriptors."""
        before = len(self._found)
        opaque = bool(path) and _is_opaque(upper)
        names = os.listdir(upper)
        for name in names:
            self._entry(upper, lower, name, f"{path}/{name}" if path else name)
        if opaque:
            for gone in {name for directory in lower for name in os.listdir(directory)} - set(names):
                if self._below(lower, gone) is not None:
                    self._found.append((f"{path}/{gone}", DELETED))
        for fd in (upper, *lower):
            os.close(fd)
        return len(self._found) - before

    def _entry(self, upper: int, lower: list[int], name: str, path: str) -> None:
        info = os.stat(name, dir_fd=upper, follow_symlinks=False)
        below = self._below(lower, name)
        if is_whiteout(info):
            if below is not None:
                self._found.append((path, DELETED))
            return
        if not stat.S_ISDIR(info.st_mode):
            if below is None and self.is_mountpoint(path, info):
                self._made.add(path)
            else:
                self._found.append((path, ADDED if below is None else MODIFIED))
            return
        inner = self.compare(os.open(name, OPEN_DIR, dir_fd=upper), self._stack(lower, name), path)
        made_in = any(place.rpartition("/")[0] == path for place in self._made)
        if below is None:
            if inner or not self.is_mountpoint(path, info):
                self._found.append((path, ADDED))
            else:
                self._made.add(path)
        elif inner or not _same_directory(info, below, times=not made_in):
            self._found.append((path, MODIFIED))

    def _below(self, lower: list[int], name: str) -> os.stat_result | None:
        """What shows of ``name`` without the upper directory."""
        for directory in lower:
            info = _lstat(name, directory)
            if info is not None:
                return None if is_whiteout(info) else info
        return None

    def _stack(self, lower: list[int], name: str) -> list[int]:
        stack = []
        for directory in lower:
            try:
                fd = os.open(name, OPEN_DIR, dir_fd=directory)
            except FileNotFoundError:
                continue
            except OSError:
                break
            stack.append(fd)
            if _is_opaque(fd):
                break
        return stack


def _is_opaque(fd: int) -> bool:
    return _OPAQUE in os.listxattr(fd)


def _same_directory(info: os.stat_result, below: os.stat_result, *, times: bool) -> bool:
    if times and int(info.st_mtime) != int(below.st_mtime):
        return False
    return (info.st_mode, info.st_uid, info.st_gid) == (below.st_mode, below.st_uid, below.st_gid)


class _Node:
    """A file or directory of the layers' sum."""

    __slots__ = ("children", "info")

    def __init__(self, info: os.stat_result | None) -> None:
        self.info = info
        self.children: dict[str, _Node] = {}

    def find(self, path: str) -> "_Node | None":
        node: _Node | None = self
        for name in path.split("/") if path else ():
            node = node.children.get(name) if node else None
        return node


def _add_layer(root: _Node, directory: str) -> None:
    with open(os.path.join(directory, "layer.json")) as file:
        layer = json.load(file)
    for path in layer["opaque"]:
        if (node := root.find(os.fsdecode(bytes.fromhex(path)))) is not None:
            node.children.clear()
    for path in layer["hidden"]:
        parent, name = os.path.split(os.fsdecode(bytes.fromhex(path)))
        if (node := root.find(parent)) is not None:
            node.children.pop(name, None)
    implied = {os.fsdecode(bytes.fromhex(path)) for path in layer["implied"]}
    fd = os.open(os.path.join(directory, "fs"), OPEN_DIR)
    _add_directory(root, fd, "", implied)


def _add_directory(node: _Node, fd: int, path: str, implied: set[str]) -> None:
    for name in os.listdir(fd):
        info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        inner = f"{path}/{name}" if path else name
        child = node.children.get(name)
        if not stat.S_ISDIR(info.st_mode):
            node.children[name] = _Node(info)
            continue
        if child is None or child.info is None or not stat.S_ISDIR(child.info.st_mode):
            child = node.children[name] = _Node(info)
        elif inner not in implied:
            child.info = info
        _add_directory(child, os.open(name, OPEN_DIR, dir_fd=fd), inner, implied)
    os.close(fd)


class _Copy(_Mountpoints):
    """Walks a copied tree beside what it was copied from."""

    def __init__(self, found: list[tuple[str, int]], mountpoints: frozenset[str]) -> None:
        super().__init__(mountpoints)
        self._found = found
        self._seen: set[tuple[int, int]] = set()

    def compare(self, tree: int, expected: _Node | None, path: str) -> int:
        """Append the changes below; the bytes of the files that are new or changed. Closes ``tree``."""
        size_bytes = 0
        known = expected.children if expected else {}
        names = os.listdir(tree)
        for name in names:
            inner = f"{path}/{name}" if path else name
            info = os.stat(name, dir_fd=tree, follow_symlinks=False)
            old = known.get(name)
            before = old.info if old else None
            directory = stat.S_ISDIR(info.st_mode)
            count = len(self._found)
            if directory:
                size_bytes += self.compare(os.open(name, OPEN_DIR, dir_fd=tree), old, inner)
                changed = (
                    len(self._found) > count
                    or before is None
                    or not _same_directory(info, before, times=False)
                )
            else:
                changed = before is None or _differs(info, before)
                if changed and (info.st_dev, info.st_ino) not in self._seen:
                    self._seen.add((info.st_dev, info.st_ino))
                    size_bytes += info.st_size
            inside = directory and len(self._found) > count
            if changed and (before is not None or inside or not self.is_mountpoint(inner, info)):
                self._found.append((inner, ADDED if before is None else MODIFIED))
        self._found += [(f"{path}/{name}" if path else name, DELETED) for name in known.keys() - set(names)]
        os.close(tree)
        return size_bytes


def _differs(info: os.stat_result, before: os.stat_result) -> bool:
    return (
        (info.st_mode, info.st_uid, info.st_gid, info.st_rdev, info.st_size)
        != (before.st_mode, before.st_uid, before.st_gid, before.st_rdev, before.st_size)
    ) or int(info.st_mtime) != int(before.st_mtime)
