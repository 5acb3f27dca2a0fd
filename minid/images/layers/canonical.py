"""Layers that are made here: what a container has changed, in the one form that has the same bytes on every machine.

A layer pulled from a registry has the bytes that somebody chose; one made here is written by one rule, so that
its diff ID follows from its files alone, and so that it can be written again from its unpacked form
whenever a registry or an archive wants it: nothing but the unpacked files has to be kept.

The rule: only what was changed and the directories on the way to it, sorted by path; a whiteout for each name that
is gone (never an opaque directory); whole seconds; no holes; no entry for the root directory.

    adopt      overlay: the upper directory itself becomes the layer, after hashing it
    describe   elsewhere: the same bytes to a file, to be unpacked like a pulled layer
    rewrite    an unpacked layer that was made here, as its tar again

Source: OCI image-spec layer.md § Representing Changes, Whiteouts.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Sequence
from typing import Any

from minid.images.layers import tar
from minid.images.layers.changes import DELETED, find_changes, is_whiteout
from minid.images.layers.header import header
from minid.images.layers.unpack import OVERLAY_OPAQUE, WHITEOUT
from minid.images.layers.write import TreeWriter
from minid.kernel import rootpath
from minid.kernel.files import grow_pipe
from minid.kernel.trees import OPEN_DIR, tree_size

Change = tuple[
    str, int
]  # a path relative to the root, and minid.images.layers.changes' MODIFIED, ADDED or DELETED

READ_BYTES = 1 << 20
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


class Hashing(TreeWriter):
    """A tree writer whose archive is hashed, and also written to ``out`` unless that is -1."""

    def __init__(self, out: int = -1, *, latest_s: int | None = None) -> None:
        super().__init__(out, _stays_out, sparse=False, latest_s=latest_s)
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def diff_id(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def put(self, data: bytes) -> None:
        self._hash.update(data)
        self.size_bytes += len(data)
        if self._out >= 0:
            super().put(data)

    def send(self, fd: int, start: int, end: int) -> int:
        while start < end and (data := os.pread(fd, min(READ_BYTES, end - start), start)):
            self.put(data)
            start += len(data)
        return start


def _stays_out(path: str, directory: int) -> bool:
    """What is in a directory has its own path among the changes."""
    return False


def write_changes(writer: TreeWriter, root: int, changes: Iterable[Change]) -> None:
    """Write the archive of ``changes``, whose files are below the directory ``root``; ends it.

    What has vanished meanwhile (a container that runs on) is left out. Raises OSError with the path.
    """
    for path, kind in sorted(changes):
        parent, _, name = path.rpartition("/")
        if kind == DELETED:
            hidden = f"{parent}/" * bool(parent) + WHITEOUT.decode() + name
            writer.write(header(os.fsencode(hidden), tar.REGULAR, mode=0))
            continue
        try:
            directory = rootpath.open_in_root(root, parent or ".", OPEN_DIR)
            try:
                writer.add(directory, name, path)
            finally:
                os.close(directory)
        except OSError as error:
            if error.errno not in _GONE:
                raise OSError(error.errno, error.strerror, path) from None
    writer.close()


def adopt_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Make the upper directory of ``rootfs`` (an overlay over ``layers``) a layer in ``directory``.

    ``latest_s``: no time in it is later (null: they stay as they are). ``mountpoints``: see ``find_changes``. Returns
    ``diff_id``, ``size_bytes`` of its files, ``tar_bytes`` and ``entries``; nothing but ``entries``, 0, where nothing
    was changed. The upper directory is gone afterwards: it is ``directory``/fs, beside a ``layer.json`` as
    ``unpack_job`` writes it.
    """
    rootfs, directory, latest_s = request["rootfs"], request["directory"], request["latest_s"]
    changes, _ = find_changes(rootfs, request["layers"], mountpoints=request["mountpoints"])
    if not changes:
        return {"entries": 0}
    upper = os.open(rootfs["upper"], OPEN_DIR)
    _tidy(upper, changes)
    if latest_s is not None:
        _clamp_times(upper, changes, latest_s)
    writer = Hashing()
    write_changes(writer, upper, changes)
    result = {"diff_id": writer.diff_id, "size_bytes": tree_size(upper), "entries": len(changes)}
    details = {"root_entry": False, "implied": [], "hidden": [], "opaque": []}
    with open(os.path.join(directory, "layer.json"), "x") as file:
        json.dump(result | details, file)
    os.rename(rootfs["upper"], os.path.join(directory, "fs"))
    return {**result, "tar_bytes": writer.size_bytes}


def describe_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write what ``rootfs`` has over ``layers`` to the file ``fds[0]``; ``diff_id``, ``tar_bytes``, ``entries``."""
    rootfs = request["rootfs"]
    changes, _ = find_changes(rootfs, request["layers"], mountpoints=request["mountpoints"])
    root = os.open(rootfs["upper"] if rootfs["kind"] == "overlay" else rootfs["source"], OPEN_DIR)
    writer = Hashing(fds[0], latest_s=request["latest_s"])
    write_changes(writer, root, changes)
    return {"diff_id": writer.diff_id, "tar_bytes": writer.size_bytes, "entries": len(changes)}


def rewrite_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write the unpacked layer in ``directory``, which was made here, to ``fds[0]`` as a tar.

    Returns ``diff_id`` (to be compared) and ``tar_bytes``.
    """
    directory, out = request["directory"], fds[0]
    with open(os.path.join(directory, "layer.json")) as file:
        layer = json.load(file)
    root = os.open(os.path.join(directory, "fs"), OPEN_DIR)
    changes = [(os.fsdecode(bytes.fromhex(path)), DELETED) for path in layer["hidden"]]
    _list(root, "", changes)
    grow_pipe(out)
    writer = Hashing(out)
    write_changes(writer, root, changes)
    return {"diff_id": writer.diff_id, "tar_bytes": writer.size_bytes}


def _list(directory: int, prefix: str, changes: list[Change]) -> None:
    """Append all that is below ``directory``; closes no descriptor but its own."""
    for name in os.listdir(directory):
        info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        path = prefix + name
        changes.append((path, DELETED if is_whiteout(info) else 0))
        if stat.S_ISDIR(info.st_mode):
            inner = os.open(name, OPEN_DIR, dir_fd=directory)
            _list(inner, path + "/", changes)
            os.close(inner)


def _tidy(upper: int, changes: Sequence[Change]) -> None:
    """Leave in the upper directory just what unpacking the archive of ``changes`` would make.

    Mountpoints that the sandbox needed go, and so do whiteouts of nothing; whoever is opaque hides by whiteouts.
    """
    wanted = dict(changes)
    hidden: dict[str, list[str]] = {}
    for path, kind in changes:
        if kind == DELETED:
            parent, _, name = path.rpartition("/")
            hidden.setdefault(parent, []).append(name)
    _tidy_directory(upper, "", wanted, hidden)


def _tidy_directory(directory: int, path: str, wanted: dict[str, int], hidden: dict[str, list[str]]) -> None:
    before = os.fstat(directory)
    prefix = path + "/" if path else ""
    touched = False
    names = os.listdir(directory)
    for name in names:
        info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        is_directory = stat.S_ISDIR(info.st_mode)
        if is_directory:
            inner = os.open(name, OPEN_DIR, dir_fd=directory)
            _tidy_directory(inner, prefix + name, wanted, hidden)
            os.close(inner)
        if prefix + name not in wanted:
            (os.rmdir if is_directory else os.unlink)(name, dir_fd=directory)
            touched = True
    for name in set(hidden.get(path, ())) - set(names):
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=directory)
        touched = True
    if path and OVERLAY_OPAQUE in os.listxattr(directory):
        os.removexattr(directory, OVERLAY_OPAQUE)
    if touched:
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def _clamp_times(upper: int, changes: Iterable[Change], latest_s: int) -> None:
    """Directories come last: nothing below them is touched afterwards, and utime(2) changes no parent's time."""
    latest = (latest_s * 1_000_000_000,) * 2
    for path, kind in changes:
        if kind == DELETED:
            continue
        parent, _, name = path.rpartition("/")
        directory = rootpath.open_in_root(upper, parent or ".", OPEN_DIR)
        try:
            if os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns > latest[0]:
                os.utime(name, ns=latest, dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)
