"""Copying trees of files with all that belongs to them: owner, mode, xattrs, times, hard links, holes,
devices.

Works on descriptors and follows no symlink, so neither tree can lead the copy anywhere else. Raises OSError
with the path inside the tree.
"""

import errno
import os
import stat
from collections.abc import Container

from minid.kernel.files import clone_data, remove_tree

OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_XATTR = (errno.ENOTSUP, errno.EOPNOTSUPP)


def tree_size(directory: int) -> int:
    """The bytes of all files below, each inode once; directories themselves don't count."""
    return _tree_size(directory, set())


def _tree_size(directory: int, seen: set[tuple[int, int]]) -> int:
    total = 0
    with os.scandir(directory) as entries:
        inner = []
        for entry in entries:
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                inner.append(entry.name)
            elif info.st_nlink == 1 or (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                total += info.st_size
    for name in inner:
        fd = os.open(name, OPEN_DIR, dir_fd=directory)
        try:
            total += _tree_size(fd, seen)
        finally:
            os.close(fd)
    return total


class TreeError(OSError):
    """What went wrong with the file ``filename``, a path inside the tree."""


class TreeCopy:
    """Copies into the directory ``target`` (a descriptor); use one per target, it knows the hard links.

    ``overlay_xattrs`` false leaves out overlayfs's own attributes.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._links: dict[tuple[int, int], str] = {}

    def merge(self, source: int, *, keep_attributes: Container[str] = ()) -> None:
        """Put everything in the directory ``source`` over what is there: directories merge, the rest is
        replaced.

        Directories whose path is in ``keep_attributes`` keep what they have if they are there already. The
        root itself gets the attributes of ``source``'s, unless ``""`` is in it. Hard links are kept inside
        one ``source``.
        """
        self._links.clear()
        old_umask = os.umask(0)
        try:
            self._directory(source, self._target, "", keep_attributes)
            if "" not in keep_attributes:
                self._attributes(source, self._target, os.fstat(source))
        finally:
            os.umask(old_umask)

    def _directory(self, source: int, target: int, path: str, keep: Container[str]) -> None:
        with os.scandir(source) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            inner = f"{path}/{name}" if path else name
            try:
                self._entry(source, target, name, inner, keep)
            except OSError as error:
                if isinstance(error, TreeError):
                    raise  # it has its path
                raise TreeError(error.errno, os.strerror(error.errno or 0), inner) from None

    def _entry(self, source: int, target: int, name: str, path: str, keep: Container[str]) -> None:
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            self._subdirectory(source, target, name, path, info, keep)
            return
        first = self._links.get((info.st_dev, info.st_ino)) if info.st_nlink > 1 else None
        if first is None:
            self._single(source, target, name, info)
            if info.st_nlink > 1:
                self._links[info.st_dev, info.st_ino] = path
            return
        remove_tree(name, target)
        os.link(first, name, src_dir_fd=self._target, dst_dir_fd=target, follow_symlinks=False)

    def _subdirectory(
        self, source: int, target: int, name: str, path: str, info: os.stat_result, keep: Container[str]
    ) -> None:
        made = True
        try:
            os.mkdir(name, 0o700, dir_fd=target)
        except FileExistsError:
            made = not stat.S_ISDIR(os.stat(name, dir_fd=target, follow_symlinks=False).st_mode)
            if made:
                remove_tree(name, target)
                os.mkdir(name, 0o700, dir_fd=target)
        below = os.open(name, OPEN_DIR, dir_fd=source)
        try:
            copy = os.open(name, OPEN_DIR, dir_fd=target)
            try:
                self._directory(below, copy, path, keep)
                if made or path not in keep:
                    self._attributes(below, copy, info)
            finally:
                os.close(copy)
        finally:
            os.close(below)

    def _single(self, source: int, target: int, name: str, info: os.stat_result) -> None:
        if not stat.S_ISREG(info.st_mode):
            self._special(source, target, name, info)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        data = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        try:
            try:
                copy = os.open(name, flags, 0o600, dir_fd=target)
            except FileExistsError:
                remove_tree(name, target)
                copy = os.open(name, flags, 0o600, dir_fd=target)
            try:
                if info.st_size:
                    clone_data(data, copy, info.st_size)
                self._attributes(data, copy, info)
            finally:
                os.close(copy)
        finally:
            os.close(data)

    def _special(self, source: int, target: int, name: str, info: os.stat_result) -> None:
        link = stat.S_ISLNK(info.st_mode)
        for attempt in range(2):
            try:
                if link:
                    os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
                else:
                    os.mknod(name, info.st_mode, info.st_rdev, dir_fd=target)
                break
            except FileExistsError:
                if attempt:
                    raise
                remove_tree(name, target)
        os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
        if not link:
            os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=target)
        _copy_special_xattrs(source, target, name)
        os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=target, follow_symlinks=False)

    def _attributes(self, source: int, target: int, info: os.stat_result) -> None:
        os.fchown(target, info.st_uid, info.st_gid)
        os.fchmod(target, stat.S_IMODE(info.st_mode))
        try:
            for name in os.listxattr(source):
                os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in _NO_XATTR:
                raise
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))


def _copy_special_xattrs(source: int, target: int, name: str) -> None:
    """Of links and devices, which can't be opened: by their path through the descriptor."""
    old, new = f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}"
    try:
        for attribute in os.listxattr(old, follow_symlinks=False):
            value = os.getxattr(old, attribute, follow_symlinks=False)
            os.setxattr(new, attribute, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_XATTR:
            raise
