"""The pid file: for scripts and people. That its daemon lives is told by a lock, not by the number."""

import fcntl
import os
import time
from pathlib import Path

from minid.exits import ExitStatus, StartupError


class Pidfile:
    """``path`` holds this process's pid, and an exclusive lock, until ``remove``."""

    def __init__(self, path: Path) -> None:
        """Write the file. Raises ``StartupError`` (PIDFILE_IN_USE) if the process it names still runs."""
        self.path = path
        path.parent.mkdir(0o711, parents=True, exist_ok=True)
        self._descriptor = _locked(path)
        try:
            pid = os.pread(self._descriptor, 32, 0).strip()
            # A file without lock may be another program's, which does not lock.
            if pid.isdigit() and int(pid) != os.getpid():
                written = os.fstat(self._descriptor).st_mtime
                started = find_start_time(int(pid))
                if started is not None and started <= written:
                    raise _in_use(path, int(pid))
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(self._descriptor)
            raise

    def remove(self) -> None:
        """Take the file away if it is still ours. Idempotent."""
        if self._descriptor < 0:
            return
        if _is_at(self._descriptor, self.path):
            self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1


def find_start_time(pid: int) -> float | None:
    """When the process began, seconds since the epoch, to about 10 ms; None if there is none.

    A pid file older than that named another process, of the same pid (``proc(5)``, stat field 22).
    """
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    ticks = int(raw.rpartition(b")")[2].split()[19])
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + ticks / os.sysconf("SC_CLK_TCK")


def _locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).strip()
            os.close(descriptor)
            raise _in_use(path, int(pid) if pid.isdigit() else 0) from None
        except BaseException:
            os.close(descriptor)
            raise
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its owner removed it between our open and our lock


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _in_use(path: Path, pid: int) -> StartupError:
    return StartupError(
        ExitStatus.PIDFILE_IN_USE,
        f"{path}: the process it names{f' ({pid})' if pid else ''} still runs: stop it, "
        "or choose another file with --pidfile",
    )
