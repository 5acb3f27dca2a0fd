"""Writing copied files into the target: where each goes, what it replaces, what it looks like there.

Works on the ``/`` of a job that has chrooted into the target. Raises ``CopyError`` with Docker's words, and OSError
with the path in the target.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Callable
from typing import NamedTuple

from minid.build import listing
from minid.build.contents import copy_data, is_archive, pipe_of
from minid.build.listing import Node
from minid.build.selection import CopyError, Excluded, Item
from minid.build.trees import Tree
from minid.images.layers.stream import Stream
from minid.images.layers.tar import TarError
from minid.images.layers.unpack import Unpacker
from minid.shim import users

DIRECTORY_MODE = 0o755
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEFAULT_ACL = "system.posix_acl_default"
_DEVICES = {listing.CHARACTER: stat.S_IFCHR, listing.BLOCK: stat.S_IFBLK, listing.FIFO: stat.S_IFIFO}
_NO_XATTRS = (errno.ENOTSUP, errno.EOPNOTSUPP)


class Owner(NamedTuple):
    uid: int
    gid: int


class Placer:
    """Writes items into the target. Call ``finish`` at the end.

    ``owner`` None keeps the files' own; ``change`` is ``--chmod``; no time is later than ``epoch_s``.
    """

    def __init__(
        self,
        owner: Owner | None,
        change: Callable[[int, bool], int] | None,
        excluded: Excluded,
        epoch_s: int | None,
        *,
        chown_given: bool = False,
    ) -> None:
        self._owner = owner
        self._change = change
        self._excluded = excluded
        self._epoch_s = epoch_s
        self._chown_given = chown_given
        self._links: dict[int, str] = {}
        self._changed: dict[str, int] = {}  # directories that were there before, and their times

    def place(self, item: Item, path: str, is_directory: bool, *, unpack: bool) -> None:
        """Copy ``item`` to ``path`` (absolute, clean; ``is_directory``: it is one in any case)."""
        self._links.clear()
        real = self._follow(path)
        if item.parents is not None:
            self._with_parents(item, real)
        elif item.node.kind == listing.DIRECTORY:
            directory = self._open(real)
            try:
                self._contents(item.tree, item.node, "", directory, real)
            finally:
                os.close(directory)
        elif unpack and item.node.kind == listing.FILE and is_archive(item.tree, item.node):
            self._unpack(item.tree, item.node, real, item.path)
        else:
            self._file(item, real, is_directory)

    def make_directory(self, path: str) -> bool:
        """The directory ``path`` and its missing parents; whether there were any. Raises NotADirectoryError."""
        real = self._follow(path)
        try:
            if not stat.S_ISDIR(os.lstat(real).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        except FileNotFoundError:
            os.close(self._open(real))
            return True
        return False

    def finish(self) -> None:
        """Let no directory that only has new entries look newer than ``epoch_s``."""
        if self._epoch_s is None:
            return
        for path in sorted(self._changed, key=len, reverse=True):
            time_ns = min(self._changed[path], self._epoch_s * 1_000_000_000)
            os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)

    # -- where

    def _follow(self, path: str) -> str:
        try:
            return listing.follow(path, _find_on_disk)
        except TarError as error:
            raise CopyError(str(error)) from None

    def _open(self, path: str) -> int:
        """The directory ``path`` (free of links), made with its parents if missing."""
        owner = self._owner or Owner(0, 0)
        done = "/"
        current = os.open("/", _OPEN_DIR)
        for name in path.split("/"):
            if not name:
                continue
            self._note(done, current)
            done = posixpath.join(done, name)
            try:
                try:
                    following = os.open(name, _OPEN_DIR, dir_fd=current)
                except FileNotFoundError:
                    os.mkdir(name, DIRECTORY_MODE, dir_fd=current)
                    following = os.open(name, _OPEN_DIR, dir_fd=current)
                    os.fchown(following, *owner)
                    os.fchmod(following, DIRECTORY_MODE)
                    self._note(done, following)
            except (NotADirectoryError, FileExistsError):
                raise CopyError(f"failed to copy files: cannot copy to non-directory: {done}") from None
            finally:
                os.close(current)
            current = following
        self._note(done, current)
        return current

    def _note(self, path: str, directory: int) -> None:
        if self._epoch_s is not None and path not in self._changed:
            self._changed[path] = os.fstat(directory).st_mtime_ns

    def _file(self, item: Item, path: str, is_directory: bool) -> None:
        node = _find_on_disk(path)
        if is_directory or (node is not None and node.kind == listing.DIRECTORY):
            if not item.name:
                raise CopyError("cannot determine a file name from the URL: it has none at its end")
            directory, name = self._open(path), item.name
        else:
            parent, name = posixpath.split(path)
            path = parent
            directory = self._open(parent)
        try:
            self._entry(item.tree, item.node, name, "", directory, path)
        finally:
            os.close(directory)

    def _with_parents(self, item: Item, path: str) -> None:
        directory = self._open(path)
        prefix = ""
        made: list[tuple[int, Node]] = []
        try:
            for name, node in item.parents or ():
                fd, is_new = self._subdirectory(name, directory, path)
                made.append((directory, node))
                directory = fd
                del is_new
                path = posixpath.join(path, name)
                prefix += name + "/"
            if item.name:
                self._entry(item.tree, item.node, item.name, prefix, directory, path)
            else:
                self._contents(item.tree, item.node, "", directory, path)
            opened = [*[fd for fd, _ in made[1:]], directory]
            for fd, (_, node) in reversed(list(zip(opened, made, strict=False))):
                self._directory_attributes(fd, node)
        finally:
            for fd in [fd for fd, _ in made] + [directory]:
                os.close(fd)

    # -- what

    def _contents(self, tree: Tree, node: Node, prefix: str, directory: int, path: str) -> None:
        """What is in the directory ``node`` into ``directory``, which is ``path``; ``prefix`` is for --exclude."""
        inherits = _inherits(directory)
        for name, child in self._excluded.children(tree, node, prefix):
            if child.kind == listing.FILE and not child.link and not inherits:
                self._regular(tree, child, name, directory, path, False)
            else:
                self._entry(tree, child, name, prefix, directory, path)

    def _entry(self, tree: Tree, node: Node, name: str, prefix: str, directory: int, path: str) -> None:
        inherits = _inherits(directory)
        if node.kind == listing.DIRECTORY:
            fd, is_new = self._subdirectory(name, directory, path)
            try:
                self._contents(tree, node, f"{prefix}{name}/", fd, posixpath.join(path, name))
                del is_new
                self._directory_attributes(fd, node)
            finally:
                os.close(fd)
        elif node.kind == listing.FILE:
            self._regular(tree, node, name, directory, path, inherits)
        else:
            self._special(node, name, directory, path)

    def _subdirectory(self, name: str, directory: int, path: str) -> tuple[int, bool]:
        made = True
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            made = False
        try:
            return os.open(name, _OPEN_DIR, dir_fd=directory), made
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                where = posixpath.join(path, name)
                raise CopyError(f"failed to copy files: cannot copy to non-directory: {where}") from None
            raise

    def _directory_attributes(self, fd: int, node: Node) -> None:
        uid, gid = self._owner or (node.uid, node.gid)
        mode = node.mode if self._change is None else self._change(node.mode, True)
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
        if node.xattrs:
            _set_xattrs(fd, node.xattrs)
        os.utime(fd, ns=self._times(node))

    def _regular(self, tree: Tree, node: Node, name: str, directory: int, path: str, inherits: bool) -> None:
        if node.link:
            first = self._links.get(node.link)
            if first is not None:
                self._make_room(name, directory, path)
                os.link(first, name, dst_dir_fd=directory, follow_symlinks=False)
                return
            self._links[node.link] = posixpath.join(path, name)
        mode = node.mode if self._change is None else self._change(node.mode, False)
        try:
            fd = os.open(name, _CREATE, mode & 0o777, dir_fd=directory)
        except FileExistsError:
            self._make_room(name, directory, path)
            fd = os.open(name, _CREATE, mode & 0o777, dir_fd=directory)
        try:
            if node.size:
                with tree.data(node) as (source, offset):
                    copy_data(source, offset, fd, node.size)
            uid, gid = self._owner or (node.uid, node.gid)
            if uid or gid or inherits:
                os.fchown(fd, uid, gid)
            if mode > 0o777 or inherits:
                os.fchmod(fd, mode)  # after fchown, which clears setuid
            if node.xattrs:
                _set_xattrs(fd, node.xattrs)
            os.utime(fd, ns=self._times(node))
        finally:
            os.close(fd)

    def _special(self, node: Node, name: str, directory: int, path: str) -> None:
        self._make_room(name, directory, path)
        uid, gid = self._owner or (node.uid, node.gid)
        if node.kind == listing.SYMLINK:
            os.symlink(node.target, name, dir_fd=directory)
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        else:
            mode = node.mode if self._change is None else self._change(node.mode, False)
            device = 0 if node.kind == listing.FIFO else os.makedev(node.major, node.minor)
            os.mknod(name, _DEVICES[node.kind] | 0o600, device, dir_fd=directory)
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
            os.chmod(name, mode, dir_fd=directory)
        if node.xattrs:
            os.fchdir(directory)
            _set_xattrs(name, node.xattrs)
        os.utime(name, ns=self._times(node), dir_fd=directory, follow_symlinks=False)

    def _make_room(self, name: str, directory: int, path: str) -> None:
        try:
            info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(info.st_mode):
            raise CopyError(
                f"failed to copy files: cannot replace to directory {posixpath.join(path, name)} with file"
            )
        os.unlink(name, dir_fd=directory)

    def _times(self, node: Node) -> tuple[int, int]:
        time_s = node.mtime_s if self._epoch_s is None else min(node.mtime_s, self._epoch_s)
        return time_s * 1_000_000_000, time_s * 1_000_000_000

    def _unpack(self, tree: Tree, node: Node, path: str, shown: str) -> None:
        os.close(self._open(path))
        owner = (self._owner.uid, self._owner.gid) if self._chown_given and self._owner else None
        with tree.data(node) as (source, offset):
            reading = pipe_of(source, offset, node.size)
            stream = Stream(reading, hashed=False)
            try:
                unpacker = Unpacker("plain", base=os.fsencode(path), owner=owner)
                unpacker.run(stream)
                stream.finish()
            except TarError as error:
                raise CopyError(
                    f"failed to copy files: {shown}: Error processing tar file: {error}"
                ) from None
            finally:
                stream.close()


def find_owner(text: str) -> Owner:
    """``--chown``: the ids of ``user[:group]`` by the target's own files. Raises CopyError.

    A number alone is the group's too; a name alone has the group of its line in /etc/passwd.
    """
    user, _, group = text.partition(":")
    passwd, groups = _read("/etc/passwd"), _read("/etc/group")
    try:
        if user.isascii() and user.isdigit():
            uid = gid = users.resolve(user).uid
        else:
            found = users.resolve(user, (), passwd, groups) if user else None
            if found is None:
                raise users.UserError(user)
            uid, gid = found.uid, found.gid
    except users.UserError:
        raise _unknown("uid", "user", user) from None
    try:
        if group:
            gid = users.resolve(f"0:{group}", (), b"", groups).gid
    except users.UserError:
        raise _unknown("gid", "group", group) from None
    return Owner(uid, gid)


def _unknown(number: str, what: str, name: str) -> CopyError:
    return CopyError(
        "unable to convert uid/gid chown string to host mapping: "
        f"can't find {number} for {what} {name}: no such {what}: {name}"
    )


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return b""
        raise
    try:
        return os.read(fd, users.LIMIT_BYTES + 1) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)


def _find_on_disk(path: str) -> Node | None:
    """As much of a node as ``listing.follow`` needs."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(info.st_mode):
        return Node(listing.SYMLINK, 0, 0, target=os.readlink(path))
    return Node(listing.DIRECTORY if stat.S_ISDIR(info.st_mode) else listing.FILE, 0, 0)


def _inherits(directory: int) -> bool:
    """Whether files that are made in it get a group or permissions of its."""
    if os.fstat(directory).st_mode & stat.S_ISGID:
        return True
    try:
        return _DEFAULT_ACL in os.listxattr(directory)
    except OSError as error:
        if error.errno not in _NO_XATTRS:
            raise
        return False


def _set_xattrs(file: int | str, xattrs: dict[str, str]) -> None:
    for name, value in xattrs.items():
        try:
            os.setxattr(file, name, bytes.fromhex(value), follow_symlinks=isinstance(file, int))
        except OSError as error:
            optional = error.errno == errno.EPERM and name.startswith("user.")
            if error.errno not in _NO_XATTRS and not optional:
                raise
