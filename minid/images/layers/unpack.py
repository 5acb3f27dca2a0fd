"""Entries of a tar archive made into files below the process's root directory.

Everything here works on ``/``: the caller (a job) has chrooted into the target first, so whatever an
archive says, nothing outside the target can be named. Inside, each name is cleaned, directories are opened
once and held, and entries are made relative to those descriptors without following the last link. A parent
that is a symlink is followed, as Docker does. Directory times come last, since making what is in a
directory changes them.

Sources: OCI image-spec layer.md (Applying Changesets, Whiteouts), Linux
Documentation/filesystems/overlayfs.rst ("whiteouts and opaque directories").
"""

import errno
import os
import stat
from collections.abc import Callable
from functools import partial

from minid.images.layers import tar
from minid.images.layers.stream import Stream
from minid.images.layers.tar import Entry, TarError, show
from minid.kernel import rootpath
from minid.kernel.files import remove_tree

# What becomes of whiteouts: "overlay" makes them in overlayfs's form, "list" only notes them (for drivers
# that merge layers by copying), "plain" takes them as ordinary files (docker cp).
STYLES = ("overlay", "list", "plain")
WHITEOUT, META, OPAQUE = b".wh.", b".wh..wh.", b".wh..wh..opq"
OVERLAY_OPAQUE = "trusted.overlay.opaque"
DEFAULT_ACL = "system.posix_acl_default"

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MAX_HELD = 256
_MAX_TIME_NS = (1 << 40) * 1_000_000_000  # beyond that the file system would cut it off anyway
_MAX_PATH = 4096  # bytes, as PATH_MAX; deeper trees can't be reached by name
_MAX_ID = 0xFFFFFFFE  # 0xFFFFFFFF means "leave it" to chown(2)
_DEVICES = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
_GOES_ON_WITHOUT_XATTR = (errno.ENOTSUP, errno.EOPNOTSUPP)


class Unpacker:
    """Unpacks one archive into ``/``, or into the directory ``base`` of it. ``style`` is one of ``STYLES``.

    ``owner`` (uid, gid) replaces every owner in the archive; ``keep_kind`` refuses to put a directory where
    a non-directory is and the other way round (``noOverwriteDirNonDir``). Afterwards ``entries`` and
    ``size_bytes`` (of the regular files) say what there was, ``implied`` which directories were made only
    because something lies in them, ``hidden`` and ``opaque`` what whiteouts hide of the layers below (style
    "list"), and ``root_entry`` whether the archive told the root directory's own mode and owner.
    """

    def __init__(
        self, style: str, *, base: bytes = b"", owner: tuple[int, int] | None = None, keep_kind: bool = False
    ) -> None:
        if style not in STYLES:
            raise ValueError(f"unknown style {style}")
        self._style = style
        self._base = clean_name(base)
        self._owner = owner
        self._keep_kind = keep_kind
        self._inherits = style == "plain"  # directories that were there may be setgid or have default ACLs
        self._root = os.open("/", _OPEN_DIR)
        self._held: dict[bytes, int] = {}
        self._times: dict[bytes, tuple[int, int]] = {}
        self._whiteouts: set[bytes] = set()
        self.entries = 0
        self.size_bytes = 0
        self.implied: list[bytes] = []
        self.hidden: list[bytes] = []
        self.opaque: list[bytes] = []
        self.root_entry = False

    def run(self, stream: Stream) -> None:
        """Unpack everything. TarError and OSError (errno kept) name the entry."""
        reader = tar.Reader(stream)
        old_umask = os.umask(0)
        try:
            for entry in reader:
                try:
                    self._entry(entry, reader, stream)
                except OSError as error:
                    reason = os.strerror(error.errno) if error.errno else str(error)
                    raise OSError(error.errno, f"{show(entry.name)}: {reason}") from None
                self.entries += 1
            self._finish()
        finally:
            os.umask(old_umask)
            for fd in self._held.values():
                os.close(fd)
            os.close(self._root)

    def _entry(self, entry: Entry, reader: tar.Reader, stream: Stream) -> None:
        path = clean_name(entry.name)
        if len(path) > _MAX_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        if not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
            raise TarError(f"{show(entry.name)}: owner {entry.uid}:{entry.gid} is out of range")
        if not path:
            self._root_entry(entry)
            return
        if self._base:
            path = self._base + b"/" + path
        directory, _, name = path.rpartition(b"/")
        parent = self._held.get(directory)
        if parent is None:
            parent = self._open(directory) if directory else self._root
        if name.startswith(WHITEOUT) and self._style != "plain":
            self._whiteout(entry, directory, name, parent)
            return
        kind = entry.kind
        if kind == tar.REGULAR:
            self._file(entry, path, parent, name, reader, stream)
        elif kind == tar.DIRECTORY:
            self._directory(entry, path, parent, name)
        elif kind == tar.SYMLINK:
            self._make(path, parent, name, partial(os.symlink, entry.linkname, name, dir_fd=parent))
            self._attributes(entry, parent, name)
        elif kind == tar.HARDLINK:
            self._hardlink(entry, path, parent, name)
        elif kind in _DEVICES:
            device = 0 if kind == tar.FIFO else os.makedev(entry.major, entry.minor)
            mode = _DEVICES[kind] | (entry.mode & 0o777)
            self._make(path, parent, name, partial(os.mknod, name, mode, device, dir_fd=parent))
            self._attributes(entry, parent, name)
        else:
            raise TarError(f"{show(entry.name)}: an entry of the unknown type {show(kind)}")

    def _file(
        self, entry: Entry, path: bytes, parent: int, name: bytes, reader: tar.Reader, stream: Stream
    ) -> None:
        mode = entry.mode
        try:
            fd = os.open(name, _CREATE, mode & 0o777, dir_fd=parent)
        except FileExistsError:
            self._make_room(parent, name, path, is_dir=False)
            fd = os.open(name, _CREATE, mode & 0o777, dir_fd=parent)
        try:
            size = entry.size
            if entry.sparse is not None:
                _write_sparse(fd, entry, stream)
                reader.unread -= size
            elif size:
                write = os.write
                for piece in stream.pieces(size):
                    done = write(fd, piece)
                    while done < len(piece):
                        done += write(fd, piece[done:])
                reader.unread -= size
            if entry.uid or entry.gid or self._inherits:
                os.fchown(fd, entry.uid, entry.gid)
            if mode > 0o777 or self._inherits:
                os.fchmod(fd, mode)  # after fchown, which clears setuid
            if entry.xattrs:
                _set_xattrs(fd, entry)  # after fchown and write, which clear security.capability
            os.utime(fd, ns=_times(entry))
        finally:
            os.close(fd)
        self.size_bytes += entry.real_size

    def _directory(self, entry: Entry, path: bytes, parent: int, name: bytes) -> None:
        made = True
        try:
            os.mkdir(name, entry.mode & 0o777, dir_fd=parent)
        except FileExistsError:
            hides = path in self._whiteouts  # then this layer's directory must not merge with the one below
            made = self._make_room(parent, name, path, is_dir=True)
            if made:
                os.mkdir(name, entry.mode & 0o777, dir_fd=parent)
            if hides:
                os.setxattr(self._open(path), OVERLAY_OPAQUE, b"y")
        if not made or entry.uid or entry.gid or self._inherits or entry.mode > 0o777 or entry.xattrs:
            self._directory_attributes(entry, self._open(path))
        self._times[path] = _times(entry)

    def _directory_attributes(self, entry: Entry, fd: int) -> None:
        if entry.mode & stat.S_ISGID or DEFAULT_ACL in entry.xattrs:
            self._inherits = True
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        if entry.xattrs:
            _set_xattrs(fd, entry)

    def _root_entry(self, entry: Entry) -> None:
        if entry.kind != tar.DIRECTORY:
            raise TarError(f"{show(entry.name)}: only a directory can be the root")
        if self._style == "plain":
            return  # docker cp: the directory that was named keeps its own attributes
        self._directory_attributes(entry, self._root)
        self._times[b""] = _times(entry)
        self.root_entry = True

    def _hardlink(self, entry: Entry, path: bytes, parent: int, name: bytes) -> None:
        target = clean_name(entry.linkname)
        if not target:
            raise TarError(f"{show(entry.name)}: a hard link to the root directory")
        if self._base:
            target = self._base + b"/" + target
        if target == path:
            return
        directory, _, target_name = target.rpartition(b"/")
        try:
            link = partial(os.link, target_name, name, dst_dir_fd=parent, follow_symlinks=False)
            self._make(path, parent, name, partial(link, src_dir_fd=self._find(directory)))
        except (FileNotFoundError, NotADirectoryError):
            raise TarError(
                f"{show(entry.name)}: a hard link to {show(entry.linkname)}, which is not in this layer"
            ) from None

    def _make(self, path: bytes, parent: int, name: bytes, make: Callable[[], None]) -> None:
        try:
            make()
        except FileExistsError:
            self._make_room(parent, name, path, is_dir=False)
            make()

    def _attributes(self, entry: Entry, parent: int, name: bytes) -> None:
        """Owner, mode, xattrs and times of what can't be opened: links, devices, fifos."""
        if entry.uid or entry.gid or self._inherits:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != tar.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=parent)
        if entry.xattrs:
            os.fchdir(parent)
            _set_xattrs(name, entry)
            os.chdir("/")
        os.utime(name, ns=_times(entry), dir_fd=parent, follow_symlinks=False)

    # -- whiteouts

    def _whiteout(self, entry: Entry, directory: bytes, name: bytes, parent: int) -> None:
        if name == OPAQUE:
            if self._style == "overlay":
                os.setxattr(parent, OVERLAY_OPAQUE, b"y")
            else:
                self.opaque.append(directory)
            return
        if name.startswith(META):
            return  # aufs's own bookkeeping, in images of its time
        hidden = name[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise TarError(f"{show(entry.name)}: a whiteout of {show(hidden)}, which can't be deleted")
        path = directory + b"/" + hidden if directory else hidden
        if self._style == "list":
            self.hidden.append(path)
            return
        try:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        except FileExistsError:
            # Brought by this layer; the whiteout means what is below it. A directory then must not merge
            # with that.
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent, follow_symlinks=False).st_mode):
                self._set_opaque(path)
        else:
            self._whiteouts.add(path)

    def _set_opaque(self, path: bytes) -> None:
        os.setxattr(self._open(path), OVERLAY_OPAQUE, b"y")

    # -- directories

    def _open(self, path: bytes) -> int:
        """A held descriptor of the directory ``path``, made (0755, root) if the archive left it out."""
        fd = self._held.get(path)
        if fd is not None:
            return fd
        if not path:
            return self._root
        current, done = self._root, b""
        for name in path.split(b"/"):
            done = done + b"/" + name if done else name
            fd = self._held.get(done)
            current = self._step(current, name, done) if fd is None else fd
        return current

    def _step(self, parent: int, name: bytes, path: bytes) -> int:
        for attempt in range(2):
            try:
                fd = os.open(name, _OPEN_DIR | os.O_NOFOLLOW, dir_fd=parent)
                break
            except FileNotFoundError:
                if attempt:
                    raise
                os.mkdir(name, 0o755, dir_fd=parent)
                if self._inherits:
                    os.chown(name, 0, 0, dir_fd=parent, follow_symlinks=False)
                    os.chmod(name, 0o755, dir_fd=parent)
                self.implied.append(path)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                fd = self._behind_link(parent, name, path)
                break
        return self._hold(path, fd)

    def _behind_link(self, parent: int, name: bytes, path: bytes) -> int:
        """What a parent is when it is no directory itself: the one that its symlink leads to, in the root."""
        if path in self._whiteouts:  # ".wh.x" and then "x/y" without "x"
            os.unlink(name, dir_fd=parent)
            self._whiteouts.discard(path)
            os.mkdir(name, 0o755, dir_fd=parent)
            self.implied.append(path)
            fd = os.open(name, _OPEN_DIR | os.O_NOFOLLOW, dir_fd=parent)
            os.setxattr(fd, OVERLAY_OPAQUE, b"y")
            return fd
        try:
            behind = rootpath.ensure_dir(self._root, os.fsdecode(path))
        except NotADirectoryError:
            raise TarError(f"{show(path)} is not a directory, and an entry lies below it") from None
        try:
            return os.open(".", _OPEN_DIR, dir_fd=behind)
        finally:
            os.close(behind)

    def _find(self, path: bytes) -> int:
        """As ``_open``, but nothing is made. Raises FileNotFoundError, NotADirectoryError."""
        fd = self._held.get(path)
        if fd is not None:
            return fd
        if not path:
            return self._root
        return self._hold(path, os.open(b"/" + path, _OPEN_DIR))

    def _hold(self, path: bytes, fd: int) -> int:
        if len(self._held) >= _MAX_HELD:
            for old in list(self._held)[: _MAX_HELD // 2]:
                os.close(self._held.pop(old))
        self._held[path] = fd
        return fd

    def _forget(self, path: bytes) -> None:
        """``path`` is going away, with all that is known about it and below it."""
        below = path + b"/"
        for held in [held for held in self._held if held == path or held.startswith(below)]:
            os.close(self._held.pop(held))
        self._times.pop(path, None)
        for timed in [timed for timed in self._times if timed.startswith(below)]:
            del self._times[timed]

    def _make_room(self, parent: int, name: bytes, path: bytes, *, is_dir: bool) -> bool:
        """Remove what is at ``name``, unless that and the new one are directories; true if nothing is there
        now.
        """
        try:
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return True
        was_dir = stat.S_ISDIR(info.st_mode)
        if was_dir and is_dir:
            return False
        if self._keep_kind and was_dir != is_dir:
            kinds = ("directory", "non-directory")
            old, new = kinds if was_dir else kinds[::-1]
            raise TarError(f"cannot overwrite {old} {show(path)} with {new}")
        if was_dir or stat.S_ISLNK(info.st_mode):
            self._forget(path)
        remove_tree(name, parent)
        self._whiteouts.discard(path)
        return True

    def _finish(self) -> None:
        for path, times in self._times.items():
            directory, _, name = path.rpartition(b"/")
            if not path:
                os.utime(self._root, ns=times)
            else:
                os.utime(name, ns=times, dir_fd=self._open(directory), follow_symlinks=False)


def clean_name(name: bytes) -> bytes:
    """``name`` as a path relative to the root, ``b""`` for the root itself. Raises TarError if ``..`` leads
    out.
    """
    if not (b"/." in name or b"//" in name or name[:1] in b"/." or name[-1:] == b"/"):
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise TarError(f"{show(name)}: the path leads out of the root directory")
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    return b"/".join(parts)


def _times(entry: Entry) -> tuple[int, int]:
    mtime = min(max(entry.mtime_ns, -_MAX_TIME_NS), _MAX_TIME_NS)
    return min(max(entry.atime_ns, mtime), _MAX_TIME_NS), mtime


def _write_sparse(fd: int, entry: Entry, stream: Stream) -> None:
    os.ftruncate(fd, entry.real_size)
    for offset, length in entry.sparse or ():
        os.lseek(fd, offset, os.SEEK_SET)
        for piece in stream.pieces(length):
            done = os.write(fd, piece)
            while done < len(piece):
                done += os.write(fd, piece[done:])


def _set_xattrs(file: int | bytes, entry: Entry) -> None:
    """Set them as Docker does: where the file system or the kind of file has no such thing, go on without."""
    for name, value in entry.xattrs.items():
        if name.startswith(("trusted.overlay.", "user.overlay.")):
            continue  # these steer overlayfs, and are ours
        try:
            os.setxattr(file, name, value, follow_symlinks=isinstance(file, int))
        except OSError as error:
            optional = error.errno == errno.EPERM and name.startswith("user.")
            if error.errno not in _GOES_ON_WITHOUT_XATTR and not optional:
                raise
