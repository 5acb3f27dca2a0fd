"""Jobs with which tests look into a root file system, mounted in a mount namespace of its own."""

import hashlib
import json
import os
import socket
import stat
from typing import Any

from minid.images.layers import unpack_job
from minid.kernel import mounts, syscall
from minid.kernel.files import remove_tree


def mount(rootfs: dict[str, Any]) -> str:
    """Mount ``rootfs`` where only this process sees it; the path."""
    syscall.unshare(syscall.CLONE_NEWNS)
    mounts.set_propagation("/", syscall.MS_REC | syscall.MS_PRIVATE)
    syscall.mount("tmpfs", "/mnt", "tmpfs")
    os.mkdir("/mnt/root")
    if rootfs["kind"] == "overlay":
        mounts.overlay(rootfs["lower"], rootfs["upper"], rootfs["work"], "/mnt/root")
    else:
        syscall.mount(rootfs["source"], "/mnt/root", None, syscall.MS_BIND)
    return "/mnt/root"


def describe_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Describe every file (path → facts, JSON in ``fds[0]``), after ``delete`` and ``write`` (path → text)."""
    os.chdir(mount(request["rootfs"]))
    for path in request.get("delete", ()):
        remove_tree(path)
    for path, text in request.get("write", {}).items():
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if not path.endswith("/"):
            with open(path, "w") as file:
                file.write(text)
    tree = {"": facts(".", request.get("data_limit", 4096))}
    for directory, directories, files in os.walk("."):
        for name in directories + files:
            path = os.path.join(directory, name)
            tree[path[2:]] = facts(path, request.get("data_limit", 4096))
    os.write(fds[0], json.dumps(tree).encode())
    return {}


def script_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Run the shell script ``script`` with $ROOT at the mounted ``rootfs``."""
    environment = {"ROOT": mount(request["rootfs"]), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    status = os.spawnve(os.P_WAIT, "/bin/sh", ["sh", "-c", request["script"]], environment)
    if status != 0:
        raise OSError(status, "the script failed")
    return {}


def facts(path: str, data_limit: int) -> dict[str, Any]:
    info = os.lstat(path)
    result: dict[str, Any] = {
        "mode": info.st_mode,
        "uid": info.st_uid,
        "gid": info.st_gid,
        "size": info.st_size,
        "blocks": info.st_blocks,
        "mtime_ns": info.st_mtime_ns,
        "links": info.st_nlink,
        "inode": info.st_ino,
        "device": [os.major(info.st_rdev), os.minor(info.st_rdev)],
        "xattrs": {
            name: os.getxattr(path, name, follow_symlinks=False).hex()
            for name in os.listxattr(path, follow_symlinks=False)
        },
    }
    if stat.S_ISLNK(info.st_mode):
        result["target"] = os.readlink(path)
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            data = file.read()
        result["sha256"] = hashlib.sha256(data).hexdigest()
        result["data"] = data[:data_limit].hex()
    return result


def unpack_to_small_disk_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """``unpack_job`` where the layer's file system has 1 MiB."""
    syscall.unshare(syscall.CLONE_NEWNS)
    mounts.set_propagation("/", syscall.MS_REC | syscall.MS_PRIVATE)
    syscall.mount("tmpfs", request["directory"] + "/fs", "tmpfs", 0, "size=1m")
    return unpack_job(request, fds)


def live_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Be a running container: make ``rootfs`` the root of a mount namespace, with /proc, volumes and a
    tmpfs on /run, send it over the socket ``fds[0]`` and stay until that is closed at the other end.
    """
    root = mount(request["rootfs"])
    for source, destination in request["binds"]:
        os.makedirs(root + destination, exist_ok=True)
        syscall.mount(source, root + destination, None, syscall.MS_BIND)
    for kind, destination in (("proc", "/proc"), ("tmpfs", "/run")):
        os.makedirs(root + destination, exist_ok=True)
        syscall.mount(kind, root + destination, kind)
    if request["readonly"]:
        mounts.remount_bind(root, syscall.MS_RDONLY)
    os.chdir(root)
    syscall.pivot_root(".", ".")
    syscall.umount(".", syscall.MNT_DETACH)
    os.chdir("/")
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    with socket.socket(fileno=fds[0]) as sock:
        socket.send_fds(sock, [b"x"], [namespace])
        sock.recv(1)
    return {}
