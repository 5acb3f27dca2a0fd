"""One daemon for each data root: an exclusive ``flock(2)`` on ``<data_root>/lock`` while it lives."""

import fcntl
import os
from pathlib import Path

from minid.exits import ExitStatus, StartupError


class RootLock:
    """Holds the lock; the kernel lets go however the process ends. Close-on-exec."""

    def __init__(self, data_root: Path) -> None:
        """Take the lock. Raises ``StartupError`` (DATA_ROOT_IN_USE) with the holder's pid; OSError."""
        self.path = data_root / "lock"
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise StartupError(
                ExitStatus.DATA_ROOT_IN_USE,
                f"{data_root}: another minid{f' (pid {holder})' if holder else ''} uses this data root: "
                "stop it, or choose another one with --data-root",
            ) from None
        except BaseException:
            os.close(self._descriptor)
            raise
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Idempotent. The file stays: removing it would let two processes hold two locks."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1
