"""What the daemon claims before it begins, in order; given back at the end."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from minid import dataroot, rootversion
from minid.config import Config
from minid.exits import ExitStatus, StartupError
from minid.pidfile import Pidfile
from minid.rootlock import RootLock


@contextmanager
def claimed(config: Config) -> Iterator[None]:
    """Hold the data root's lock and the pid file, with both roots there and usable, and of a version that is known.

    Raises ``StartupError``; whatever was claimed until then is given back.
    """
    if os.geteuid() != 0:
        raise StartupError(
            ExitStatus.NOT_ROOT,
            "minid has to be started as root: it makes namespaces, mounts and cgroups (try sudo minid)",
        )
    from minid.tables import KNOWN  # all services: not for those who are refused before this

    rootversion.check(config.data_root, KNOWN)
    with ExitStack() as claims:
        dataroot.prepare(config.data_root)
        try:
            lock = RootLock(config.data_root)
        except OSError as error:
            raise StartupError(
                ExitStatus.DATA_ROOT_UNUSABLE,
                f"{config.data_root}: cannot be locked: {error.strerror}; choose another --data-root",
            ) from error
        claims.callback(lock.release)
        _ensure_exec_root(config.exec_root)
        try:
            pidfile = Pidfile(config.pidfile)
        except OSError as error:
            raise StartupError(
                ExitStatus.EXEC_ROOT_UNUSABLE, f"{config.pidfile}: cannot be written: {error.strerror}"
            ) from error
        claims.callback(pidfile.remove)
        try:
            rootversion.bring_up(config.data_root, KNOWN)
        except OSError as error:
            raise StartupError(
                ExitStatus.DATA_ROOT_UNUSABLE, f"{config.data_root}: cannot be written: {error}"
            ) from error
        yield


def _ensure_exec_root(exec_root: Path) -> None:
    try:
        exec_root.mkdir(0o711, parents=True, exist_ok=True)
        exec_root.chmod(0o711)
        if os.statvfs(exec_root).f_flag & os.ST_RDONLY:
            raise OSError(30, os.strerror(30))
    except OSError as error:
        raise StartupError(
            ExitStatus.EXEC_ROOT_UNUSABLE,
            f"{exec_root}: cannot be the exec root: {error.strerror}; choose another --exec-root",
        ) from error
