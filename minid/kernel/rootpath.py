"""Paths inside a root: lookups in a rootfs, a layer or a volume go through here, never through joined
strings.

``root`` is a descriptor of the directory that counts as ``/`` (``O_PATH`` will do). ``path`` is what a
process chrooted there would use: absolute or relative means the same, symlinks and ``..`` are followed but
can't leave the root (``openat2(2)`` ``RESOLVE_IN_ROOT``), and magic links of /proc are refused. Every
function raises OSError with the path; the descriptors it returns are close-on-exec and belong to the
caller. Strings may hold surrogate escapes.
"""

import errno
import os
import posixpath
import stat

from minid.kernel import syscall

_IN_ROOT = syscall.RESOLVE_IN_ROOT | syscall.RESOLVE_NO_MAGICLINKS
_MAX_SYMLINKS = 40  # as path_resolution(7)


def open_root(path: str) -> int:
    """A descriptor for the directory ``path`` of the host, to be used as ``root`` below."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def open_in_root(root: int, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """open(2) inside ``root``. ``O_NOFOLLOW | O_PATH`` gives the last component itself if it is a symlink."""
    return syscall.openat2(root, path or ".", flags, mode, _IN_ROOT)


def find_in_root(root: int, path: str, flags: int = os.O_PATH) -> int | None:
    """As ``open_in_root``, or None where nothing (or a file on the way) is there."""
    try:
        return open_in_root(root, path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None


def stat_in_root(root: int, path: str, *, follow: bool = True) -> os.stat_result:
    """stat(2), or lstat(2) with ``follow`` false, inside ``root``."""
    fd = open_in_root(root, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def readlink_in_root(root: int, path: str) -> str:
    """The target of the symlink ``path``, as it is written there."""
    fd = open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.readlink("", dir_fd=fd)
    finally:
        os.close(fd)


def open_parent(root: int, path: str) -> tuple[int, str]:
    """The directory that holds ``path`` (links in it followed) and the last component, for the ``*at`` calls.

    The name is never empty, ``.`` or ``..``: for those the path is cleaned first, and ``/`` raises EINVAL.
    """
    parent, name = posixpath.split(clean(path))
    if not name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    return open_in_root(root, parent, os.O_PATH | os.O_DIRECTORY), name


def clean(path: str) -> str:
    """``path`` made absolute and free of ``.``, ``..``, ``//``, by its text alone (as path.Clean in Go)."""
    return posixpath.normpath("/" + path.lstrip("/"))


def ensure_dir(root: int, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> int:
    """A descriptor (O_PATH) of the directory ``path``, made with its missing parents.

    What is made gets exactly ``mode``, ``uid``, ``gid``; what was there stays as it is. A dangling symlink on
    the way has its target made, inside the root. Raises NotADirectoryError where a file stands in the way.
    """
    fd = find_in_root(root, path, os.O_PATH | os.O_DIRECTORY)  # the usual case: one call
    if fd is not None:
        return fd
    return _ensure_dir(root, clean(path), mode, uid, gid, _MAX_SYMLINKS)


def ensure_file(root: int, path: str, mode: int = 0o644, uid: int = 0, gid: int = 0) -> int:
    """A descriptor (O_PATH) of the non-directory ``path``; an empty file is made if it is missing.

    Raises IsADirectoryError for a directory.
    """
    return _ensure_file(root, clean(path), mode, uid, gid, _MAX_SYMLINKS)


def ensure_mountpoint(root: int, path: str, *, directory: bool) -> int:
    """Something to mount on at ``path``: a directory (0755) or an empty file (0644), as the source is."""
    return ensure_dir(root, path) if directory else ensure_file(root, path)


def _ensure_dir(root: int, path: str, mode: int, uid: int, gid: int, links: int) -> int:
    # ``path`` may hold ".." once a link's target was put in: every step is looked up from the root.
    names = [name for name in path.split("/") if name]
    current = os.dup(root)
    done = ""
    try:
        for index, name in enumerate(names):
            done += "/" + name
            try:
                os.mkdir(name, 0o700, dir_fd=current)
                made = True
            except FileExistsError:
                made = False
            following = find_in_root(root, done, os.O_PATH | os.O_DIRECTORY)
            if following is None:
                _refuse_file(current, name, done)
                target = _target(current, name, done, links)
                return _ensure_dir(root, "/".join([target, *names[index + 1 :]]), mode, uid, gid, links - 1)
            os.close(current)
            current = following
            if made:
                _own(current, mode, uid, gid)
        result, current = current, -1
        return result
    finally:
        if current >= 0:
            os.close(current)


def _ensure_file(root: int, path: str, mode: int, uid: int, gid: int, links: int) -> int:
    parent_path, name = posixpath.split(path)
    if not name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    fd = find_in_root(root, path)
    if fd is None:
        parent = ensure_dir(root, parent_path)
        try:
            made = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=parent)
            try:
                os.fchown(made, uid, gid)
                os.fchmod(made, mode)
            finally:
                os.close(made)
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileExistsError:  # a dangling symlink
            return _ensure_file(root, _target(parent, name, path, links), mode, uid, gid, links - 1)
        finally:
            os.close(parent)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return fd


def _refuse_file(parent: int, name: str, path: str) -> None:
    if not stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def _target(parent: int, name: str, path: str, links: int) -> str:
    """Where the symlink ``name`` in ``parent`` points, as a path from the root; ``path`` is its own."""
    if links == 0:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return posixpath.join(posixpath.dirname(path), os.readlink(name, dir_fd=parent))


def _own(fd: int, mode: int, uid: int, gid: int) -> None:
    """chown and chmod through an O_PATH descriptor, which fchown(2) and fchmod(2) refuse."""
    handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        os.fchown(handle, uid, gid)
        os.fchmod(handle, mode)
    finally:
        os.close(handle)
