"""Trees of files made into a tar archive: owner, mode, xattrs, hard links, devices, holes; nothing is
followed.

Used for ``docker cp`` and ``export``. Directories are opened by descriptor, so a container that changes
links under our feet leads us nowhere; what vanishes on the way is left out. Times are whole seconds, as
Docker writes them.
"""

import errno
import os
import stat
from collections.abc import Callable

from minid.images.layers import tar
from minid.images.layers.header import END, header, padding, sparse_map
from minid.kernel.files import data_pieces
from minid.kernel.trees import OPEN_DIR

SMALL_BYTES = 64 * 1024
SPARSE_BYTES = 1 << 20  # a file with holes of at least this size is written as sparse
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)
_UNREADABLE = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENODATA, errno.EACCES)

Enters = Callable[[str, int], bool]


class TreeWriter:
    """Writes entries to ``out``, a pipe or a file; ``close`` ends the archive (and does not close ``out``).

    ``enters(path, directory)`` says whether what is in a directory is wanted; ``path`` is the name in the
    archive.
    """

    def __init__(
        self,
        out: int,
        enters: Enters = lambda path, directory: True,
        *,
        sparse: bool = True,
        latest_s: int | None = None,
    ) -> None:
        """Without ``sparse``, holes are written as zeros, so that the bytes do not depend on how the file system
        keeps a file. Times after ``latest_s`` (seconds since the epoch) are written as that.
        """
        self._out = out
        self._sparse_too = sparse
        self._latest_s = latest_s
        self._enters = enters
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._links: dict[tuple[int, int], bytes] = {}

    def add(self, directory: int, name: str, path: str) -> None:
        """Add the file ``name`` in ``directory`` as ``path``, and all below it as ``path/…``.

        Raises OSError if it is not there.
        """
        info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        self._entry(directory, name, path, info)

    def add_contents(self, directory: int, prefix: str) -> None:
        """Add what is in ``directory``, each named ``prefix`` + its own name."""
        for name in sorted(os.listdir(directory), key=os.fsencode):
            try:
                info = os.stat(name, dir_fd=directory, follow_symlinks=False)
                self._entry(directory, name, prefix + name, info)
            except OSError as error:
                if error.errno not in _GONE:
                    raise OSError(error.errno, error.strerror, prefix + name) from None

    def close(self) -> None:
        self._write(END)
        self._flush()

    def _entry(self, directory: int, name: str, path: str, info: os.stat_result) -> None:
        mode = info.st_mode
        raw = os.fsencode(path)
        if info.st_nlink > 1 and not stat.S_ISDIR(mode):
            first = self._links.setdefault((info.st_dev, info.st_ino), raw)
            if first != raw:
                self._header(raw, tar.HARDLINK, info, linkname=first)
                return
        if stat.S_ISREG(mode):
            self._regular(directory, name, raw, info)
        elif stat.S_ISDIR(mode):
            fd = os.open(name, OPEN_DIR, dir_fd=directory)
            try:
                self._header(raw, tar.DIRECTORY, info, xattrs=_xattrs(fd))
                if self._enters(path, fd):
                    self.add_contents(fd, path + "/")
            finally:
                os.close(fd)
        elif stat.S_ISLNK(mode):
            target = os.fsencode(os.readlink(name, dir_fd=directory))
            self._header(raw, tar.SYMLINK, info, linkname=target, xattrs=_xattrs_at(directory, name))
        elif not stat.S_ISSOCK(mode):
            kinds = {stat.S_IFCHR: tar.CHARACTER, stat.S_IFBLK: tar.BLOCK_DEVICE, stat.S_IFIFO: tar.FIFO}
            self._header(raw, kinds[stat.S_IFMT(mode)], info, xattrs=_xattrs_at(directory, name))

    def _regular(self, directory: int, name: str, raw: bytes, info: os.stat_result) -> None:
        fd = os.open(name, _OPEN_FILE, dir_fd=directory)
        try:
            opened = os.fstat(fd)
            if (opened.st_dev, opened.st_ino) != (info.st_dev, info.st_ino):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)  # replaced by now
            size = info.st_size
            xattrs = _xattrs(fd)
            if self._sparse_too and size - info.st_blocks * 512 >= SPARSE_BYTES:
                pieces = list(data_pieces(fd, size))
                if size - sum(end - start for start, end in pieces) >= SPARSE_BYTES:
                    self._sparse(fd, raw, info, pieces, xattrs)
                    return
            self._header(raw, tar.REGULAR, info, size=size, xattrs=xattrs)
            self._data(fd, 0, size)
            self._write(padding(size))
        finally:
            os.close(fd)

    def _sparse(
        self,
        fd: int,
        raw: bytes,
        info: os.stat_result,
        pieces: list[tuple[int, int]],
        xattrs: dict[str, bytes],
    ) -> None:
        if not pieces or pieces[-1][1] < info.st_size:
            pieces.append((info.st_size, info.st_size))  # as GNU tar marks a hole at the end
        told = sparse_map(pieces)
        size = len(told) + sum(end - start for start, end in pieces)
        self._header(raw, tar.REGULAR, info, size=size, xattrs=xattrs, sparse_real_size=info.st_size)
        self._write(told)
        for start, end in pieces:
            self._data(fd, start, end)
        self._write(padding(size))

    def _data(self, fd: int, start: int, end: int) -> None:
        """Exactly ``end - start`` bytes: a file that shrinks meanwhile is filled up with zeros."""
        if end - start > SMALL_BYTES:
            self._flush()
            start = self.send(fd, start, end)
        while start < end:
            data = os.pread(fd, min(end - start, 1 << 20), start) or bytes(min(end - start, 1 << 20))
            self._write(data)
            start += len(data)

    def send(self, fd: int, start: int, end: int) -> int:
        """Write a piece of a file: sendfile(2) as far as it goes; where it got to."""
        try:
            while start < end:
                count = os.sendfile(self._out, fd, start, end - start)
                if count == 0:
                    break
                start += count
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
        return start

    def _header(
        self,
        raw: bytes,
        kind: bytes,
        info: os.stat_result,
        *,
        size: int = 0,
        linkname: bytes = b"",
        xattrs: dict[str, bytes] | None = None,
        sparse_real_size: int | None = None,
    ) -> None:
        device = info.st_rdev if kind in (tar.CHARACTER, tar.BLOCK_DEVICE) else 0
        mtime_s = info.st_mtime_ns // 1_000_000_000
        if self._latest_s is not None and mtime_s > self._latest_s:
            mtime_s = self._latest_s
        self._write(
            header(
                raw,
                kind,
                mode=stat.S_IMODE(info.st_mode),
                uid=info.st_uid,
                gid=info.st_gid,
                size=size,
                mtime_s=mtime_s,
                linkname=linkname,
                major=os.major(device),
                minor=os.minor(device),
                xattrs=xattrs,
                sparse_real_size=sparse_real_size,
            )
        )

    def write(self, data: bytes) -> None:
        """Whole blocks that the caller has made (``header``)."""
        self._write(data)

    def _write(self, data: bytes) -> None:
        if data:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            if self._waiting_bytes >= SMALL_BYTES:
                self._flush()

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self.put(data)

    def put(self, data: bytes) -> None:
        """Where all bytes but those of ``send`` go."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._out, rest) :]


def _xattrs(fd: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(fd, name) for name in os.listxattr(fd) if _wanted(name)}
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
        return {}


def _xattrs_at(directory: int, name: str) -> dict[str, bytes]:
    """Of links and devices, which can't be opened: by name, in the directory."""
    os.fchdir(directory)
    try:
        names = os.listxattr(name, follow_symlinks=False)
        return {key: os.getxattr(name, key, follow_symlinks=False) for key in names if _wanted(key)}
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
        return {}


def _wanted(name: str) -> bool:
    """What belongs to the file, not to this machine: ACLs, but no SELinux labels, nothing of a file
    system's own.
    """
    if name.startswith("system."):
        return name.startswith("system.posix_acl_")
    return not name.startswith(("trusted.overlay.", "security.selinux"))
