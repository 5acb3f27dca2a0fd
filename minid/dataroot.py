"""Whether a directory can be a data root: found out by doing there what images and containers need.

Sources: ``statvfs(3)``, ``xattr(7)``, kernel ``filesystems/overlayfs.rst``, ``proc(5)`` mountinfo.
"""

import errno
import logging
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from minid.exits import ExitStatus, StartupError

log = logging.getLogger(__name__)

# On these, locks and SQLite's shared memory are another machine's business, or owners and modes are made up.
UNFIT = {
    "nfs": "a network file system",
    "nfs4": "a network file system",
    "cifs": "a network file system",
    "smb3": "a network file system",
    "smbfs": "a network file system",
    "afs": "a network file system",
    "9p": "a network file system",
    "fuse.sshfs": "a network file system",
    "vfat": "without owners and modes",
    "msdos": "without owners and modes",
    "exfat": "without owners and modes",
    "iso9660": "read-only by nature",
    "squashfs": "read-only by nature",
    "proc": "not a place for files",
    "sysfs": "not a place for files",
}
LITTLE_SPACE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A line of mountinfo: where, and which type of file system."""

    path: str
    type: str


def mount_point_of(path: Path, mountinfo: str) -> MountPoint:
    """The mount that holds ``path`` (absolute, resolved), by the text of ``/proc/self/mountinfo``."""
    best = MountPoint("/", "unknown")
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 6 or not after:
            continue
        point = fields[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        inside = path.is_relative_to(point)
        if inside and len(point) >= len(best.path):
            best = MountPoint(point, after.split(" ")[0])
    return best


def find_unfitness(type: str, flags: int) -> str | None:
    """Why such a file system, with those ``f_flag`` of ``statvfs(3)``, cannot serve; None if it may."""
    if type in UNFIT:
        return UNFIT[type]
    if flags & os.ST_RDONLY:
        return "which is mounted read-only"
    if flags & os.ST_NOEXEC:
        return "which is mounted noexec: no container could run a program"
    return None


def prepare(data_root: Path) -> None:
    """Make the directory (0710 root) if it is missing, and try it. Needs root.

    Raises ``StartupError`` (DATA_ROOT_UNUSABLE) that names the file system and what it cannot do. Logs what
    it can only do badly.
    """
    try:
        data_root.mkdir(0o710, parents=True, exist_ok=True)
        data_root.chmod(0o710)
        real = data_root.resolve(strict=True)
        mountinfo = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError as error:
        raise _unusable(data_root, f"the directory cannot be made: {error.strerror}") from error
    mount = mount_point_of(real, mountinfo)
    where = f"{mount.type} at {mount.path}"
    flags = os.statvfs(real).f_flag
    if reason := find_unfitness(mount.type, flags):
        raise _unusable(data_root, f"it is on {where}, {reason}")
    if flags & os.ST_NOSUID:
        log.warning(
            "the data root is mounted nosuid: su, sudo and ping in containers may fail",
            extra={"mount": where},
        )
    _try_out(data_root, real, where)
    room = os.statvfs(real)
    if room.f_bavail * room.f_frsize < LITTLE_SPACE_BYTES:
        log.warning(
            "the data root is almost full",
            extra={"mount": where, "free_bytes": room.f_bavail * room.f_frsize},
        )


def _try_out(data_root: Path, real: Path, where: str) -> None:
    probe = real / f".probe-{secrets.token_hex(8)}"
    other = probe.with_name(f"{probe.name}.link")
    doing = "create files"
    try:
        descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o700)
        try:
            doing = "set owners"
            os.fchown(descriptor, 1, 1)
            os.fchmod(descriptor, 0o4711)
            status = os.fstat(descriptor)
            if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != (1, 1, 0o4711):
                raise OSError(errno.ENOTSUP, "owner and mode are not kept")
            doing = "keep extended attributes (trusted.*)"
            os.setxattr(descriptor, "trusted.minid.probe", b"1")
        finally:
            os.close(descriptor)
        doing = "make hard links"
        os.link(probe, other)
        os.unlink(other)
        doing = "make symbolic links"
        os.symlink("target", other)
    except OSError as error:
        raise _unusable(data_root, f"it is on {where}, which cannot {doing}: {error.strerror}") from error
    finally:
        for path in (probe, other):
            try:
                path.unlink()
            except OSError:
                pass


def _unusable(data_root: Path, reason: str) -> StartupError:
    return StartupError(
        ExitStatus.DATA_ROOT_UNUSABLE,
        f"{data_root}: cannot be the data root: {reason}; choose another directory with --data-root",
    )
