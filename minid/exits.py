"""How the ``minid`` program ends: a status of its own for each reason not to start."""

from enum import IntEnum

from minid.errors import MinidError


class ExitStatus(IntEnum):
    """The exit status of ``minid``; ``meaning`` is the line that ``--help`` and docs/daemon.md show."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitStatus":
        status = int.__new__(cls, value)
        status._value_ = value
        status.meaning = meaning
        return status

    OK = 0, "stopped as asked (SIGTERM, SIGINT); containers keep running"
    CONFIGURATION = 1, "the configuration file, or a flag's value, is wrong (also from --validate)"
    USAGE = 2, "no such flag, or a flag without its value"
    NOT_ROOT = 3, "not started as root"
    DATA_ROOT_IN_USE = 4, "another minid uses the same data root"
    PIDFILE_IN_USE = 5, "the process named in the pid file still runs"
    SOCKET = 6, "a socket cannot be listened on, or another daemon answers there"
    DATA_ROOT_UNUSABLE = 7, "the data root is on a file system that cannot hold images and containers"
    EXEC_ROOT_UNUSABLE = 8, "the exec root cannot be made or written"
    DATA_ROOT_NEWER = 9, "the data root was written by a newer minid"
    HOST = 10, "the configuration is right, and this host cannot run containers (from --validate)"
    FAILED = 70, "an unexpected failure; the log has the reason"


class StartupError(MinidError):
    """The daemon cannot start; ``status`` says why, the message what to do about it."""

    def __init__(self, status: ExitStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def table() -> str:
    """All statuses, one a line, for ``--help``."""
    return "\n".join(f"  {status.value:>3}  {status.meaning}" for status in ExitStatus)
