"""A tar stream from a container put down in a local directory, for `cp` out of one.

What is in a container is not trusted: every path is walked from the target directory one component at a time,
following no symbolic link, so that no entry can land outside.
"""

from __future__ import annotations

import os
import stat
import tarfile

from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

    from minictl.http import Response

_COPY_BYTES = 256 * 1024


class BodyFile:
    """The body of an answer as a file that can only be read forward."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._data = b""
        self.size_bytes = 0

    def read(self, size: int) -> bytes:
        while len(self._data) < size:
            part = self._response.read_part()
            if not part:
                break
            self._data += part
        data, self._data = self._data[:size], self._data[size:]
        self.size_bytes += len(data)
        return data


def extract(source: BodyFile, directory: str, rename: Callable[[str], str], *, devices: bool = True) -> None:
    """Puts each entry at `rename(its name)` below `directory`, which exists. Owners are the caller's.

    Without `devices` those are left out, as only root may make them.

    A directory doesn't give way to something else, nor something else to a directory: Failure.
    """
    root = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    times: list[tuple[str, float, int]] = []
    try:
        with tarfile.open(fileobj=_as_io(source), mode="r|", errorlevel=2) as archive:
            for member in archive:
                if (member.ischr() or member.isblk()) and not devices:
                    continue
                name = rename(member.name)
                _put(archive, member, root, name)
                if member.isdir():
                    times.append((name, member.mtime, member.mode))
        for name, mtime, mode in reversed(times):
            with _parent(root, name) as (parent, last):
                if last:
                    os.chmod(last, stat.S_IMODE(mode), dir_fd=parent)
                    os.utime(last, (mtime, mtime), dir_fd=parent, follow_symlinks=False)
    except tarfile.TarError as error:
        raise Failure(f"the daemon's archive can't be read: {error}") from None
    finally:
        os.close(root)


def _as_io(source: BodyFile) -> IO[bytes]:
    return source  # type: ignore[return-value]  # tarfile in stream mode only reads


def _put(archive: tarfile.TarFile, member: tarfile.TarInfo, root: int, name: str) -> None:
    with _parent(root, name) as (parent, last):
        if not last:  # the directory itself
            return
        _make_room(member, parent, last, name)
        if member.isdir():
            try:
                os.mkdir(last, 0o700, dir_fd=parent)
            except FileExistsError:
                pass
            return
        if member.issym():
            os.symlink(member.linkname, last, dir_fd=parent)
            os.utime(last, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
            return
        if member.islnk():
            with _parent(root, member.linkname) as (source, source_name):
                os.link(source_name, last, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            return
        if member.isfifo():
            os.mkfifo(last, 0o600, dir_fd=parent)
        elif member.isdev():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            os.mknod(last, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
        else:
            _write_file(archive, member, parent, last)
        os.chmod(last, stat.S_IMODE(member.mode), dir_fd=parent)
        os.utime(last, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)


def _write_file(archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, last: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    content = archive.extractfile(member)
    with open(os.open(last, flags, 0o600, dir_fd=parent), "wb", buffering=0) as file:
        while content and (data := content.read(_COPY_BYTES)):
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]


def _make_room(member: tarfile.TarInfo, parent: int, last: str, name: str) -> None:
    try:
        mode = os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode) and not member.isdir():
        raise Failure(f'cannot overwrite directory "{name}" with non-directory')
    if not stat.S_ISDIR(mode) and member.isdir():
        raise Failure(f'cannot overwrite non-directory "{name}" with directory')
    if not stat.S_ISDIR(mode):
        os.unlink(last, dir_fd=parent)


class _parent:
    """The open directory that holds `name`, and its last component ("" for the root itself)."""

    def __init__(self, root: int, name: str) -> None:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise Failure(f"the archive names {name!r}, which leads out of the target: refused")
        self._fds: list[int] = []
        self._parts = parts
        self._root = root

    def __enter__(self) -> tuple[int, str]:
        parent = self._root
        try:
            for part in self._parts[:-1]:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                try:
                    fd = os.open(part, flags, dir_fd=parent)
                except FileNotFoundError:
                    os.mkdir(part, 0o777, dir_fd=parent)
                    fd = os.open(part, flags, dir_fd=parent)
                self._fds.append(fd)
                parent = fd
        except OSError:
            self.__exit__()
            raise
        return parent, self._parts[-1] if self._parts else ""

    def __exit__(self, *error: Any) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []
