"""Files in and out of containers: the jobs behind ``docker cp`` and ``export`` (stdlib and minid.kernel
only).

Each runs in a process of its own that enters the container's file system for good: the mount namespace of a
running one (``fds[0]``), or a mount of a stopped one's layers, volumes and binds in a namespace of the
job's own; then it chroots there. So every path means what it means in the container, and nothing else can
be reached.

A request has ``running`` (then ``fds[0]`` is the mount namespace), ``rootfs``, ``mounts`` (``source``,
``destination``, ``rw``; for a stopped one) and ``path``.
"""

import errno
import os
import stat
from typing import Any

from minid.images.layers.stream import Stream
from minid.images.layers.unpack import Unpacker
from minid.images.layers.write import TreeWriter
from minid.kernel import mounts, rootmount, rootpath, syscall
from minid.kernel.files import fs_type, grow_pipe
from minid.shim import users

# File systems that hold no files of anybody's: proc, sysfs, cgroup, cgroup2, devpts, mqueue, debugfs,
# tracefs, securityfs.
_PSEUDO = {
    *(0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x1CD1, 0x19800202),
    *(0x64626720, 0x74726163, 0x73636673),
}


class NotADestination(ValueError):
    """An archive can't be unpacked at that path; the message is for the client."""


def stat_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """What ``path`` is: ``name``, ``size_bytes``, ``mode`` (as lstat(2)), ``mtime_ns``, ``link_target``
    (resolved).
    """
    _enter(request, fds, scratch=True)
    path = _absolute(request["path"])
    info = os.lstat(path)
    return {
        "name": base_name(path),
        "size_bytes": info.st_size,
        "mode": info.st_mode,
        "mtime_ns": info.st_mtime_ns,
        "link_target": os.path.realpath(path) if stat.S_ISLNK(info.st_mode) else "",
    }


def get_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write ``path`` as a tar archive to the last descriptor; its names start with the last part of
    ``path``.
    """
    out = fds[-1]
    _enter(request, fds, scratch=True)
    path = _absolute(request["path"])
    name = base_name(path)
    grow_pipe(out)
    writer = TreeWriter(out, _enters)
    if stat.S_ISDIR(os.lstat(path).st_mode):
        # "dir/." gives "./…", "/" gives "/…", as Docker has it
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        writer.add(directory, ".", "" if name == "/" else name)
    else:
        parent, last = os.path.split(path)
        writer.add(os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), last, name)
    writer.close()
    return {}


def export_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write the whole root file system, without anything mounted in it, as a tar archive to the last
    descriptor.
    """
    out = fds[-1]
    if request["running"]:
        syscall.setns(fds[0], syscall.CLONE_NEWNS)
        root = syscall.open_tree("/", syscall.OPEN_TREE_CLONE | syscall.OPEN_TREE_CLOEXEC)
    else:
        root = rootmount.mount_root(request["rootfs"], scratch=True)
    rootmount.enter(root)
    grow_pipe(out)
    writer = TreeWriter(out)
    writer.add_contents(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), "")
    writer.close()
    return {}


def put_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Unpack the archive in the last descriptor (a pipe, compressed or not) into the directory ``path``.

    Also in the request: ``user`` (owner of everything, as ``USER``; "" keeps the archive's), ``keep_kind``
    (see ``Unpacker``) and ``readonly_rootfs``. Raises NotADestination, TarError, OSError.
    """
    archive = fds[-1]
    root = _enter(request, fds, scratch=False)
    path = os.path.realpath(_absolute(request["path"]), strict=True)
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise NotADestination("extraction point is not a directory")
    _check_writable(path, request)
    owner = _owner(request["user"]) if request["user"] else None
    grow_pipe(archive)
    stream = Stream(archive)
    try:
        unpacker = Unpacker("plain", base=os.fsencode(path), owner=owner, keep_kind=request["keep_kind"])
        unpacker.run(stream)
        stream.finish()
    finally:
        stream.close()
    os.close(root)
    return {}


def base_name(path: str) -> str:
    """The last part of ``path``, as Go's filepath.Base: "/" for the root, "." for "dir/."."""
    stripped = path.rstrip("/")
    return stripped.rpartition("/")[2] if stripped else "/"


def _enter(request: dict[str, Any], fds: list[int], *, scratch: bool) -> int:
    """Make the container's root this process's; a descriptor of it."""
    if request["running"]:
        syscall.setns(fds[0], syscall.CLONE_NEWNS)
        os.chdir("/")
        return rootpath.open_root("/")
    root = rootmount.mount_root(request["rootfs"], scratch=scratch)
    for mount in request["mounts"]:
        rootmount.bind(root, mount["source"], mount["destination"], read_only=not mount["rw"])
    if request.get("readonly_rootfs"):
        mounts.make_readonly(root, recursive=False)
    rootmount.enter(root)
    return root


def _absolute(path: str) -> str:
    """``path`` from the root, cleaned, but with the "/" or "/." at its end that means "what is behind the
    link".
    """
    cleaned = rootpath.clean(path)
    if cleaned != "/":
        if path.endswith("/"):
            cleaned += "/"
        elif path.rpartition("/")[2] == ".":
            cleaned += "/."
    return cleaned


def _enters(path: str, directory: int) -> bool:
    """Not into /proc and its like, which a container has mounted; asked for by name they are read, though."""
    return fs_type(directory) not in _PSEUDO


def _check_writable(path: str, request: dict[str, Any]) -> None:
    if not os.statvfs(path).f_flag & os.ST_RDONLY:
        return
    for mount in request["mounts"]:
        destination = rootpath.clean(mount["destination"])
        if not mount["rw"] and (path == destination or path.startswith(destination + "/")):
            raise NotADestination("mounted volume is marked read-only")
    raise NotADestination("container rootfs is marked read-only")


def _owner(user: str) -> tuple[int, int]:
    root = rootpath.open_root("/")
    files = [_read(root, path) for path in ("/etc/passwd", "/etc/group")]
    os.close(root)
    found = users.resolve(user, (), *files)
    return found.uid, found.gid


def _read(root: int, path: str) -> bytes:
    try:
        fd = rootpath.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return b""
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        return os.read(fd, users.LIMIT_BYTES + 1)
    finally:
        os.close(fd)
