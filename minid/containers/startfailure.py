"""Why a program could not be started: from what shim and kernel say to an error and an exit code. Pure.

Clients (the docker CLI among them) read 126 and 127 from Docker's words, so these are kept.
"""

from minid.errors import CommandNotExecutable, CommandNotFound, Conflict, Failed, InvalidParameter, MinidError
from minid.shim.client import JobError

CANNOT_START = 128
CANNOT_EXEC = 126
KINDS: dict[str, tuple[type[MinidError], int]] = {
    "CommandNotFound": (CommandNotFound, 127),
    "CommandNotExecutable": (CommandNotExecutable, 126),
    "UserError": (InvalidParameter, CANNOT_START),
}


def of_container(name: str, error: Exception) -> tuple[MinidError, int]:
    """The error for a failed ``start`` and the exit code that the container is left with."""
    if isinstance(error, MinidError) and not isinstance(
        error, JobError
    ):  # it says all by itself: a network is missing, a port taken
        return error, CANNOT_START
    kind: type[MinidError] = Failed
    exit_code, text = CANNOT_START, str(error)
    if isinstance(error, JobError):
        kind, exit_code = KINDS.get(error.kind, (Failed, CANNOT_START))
        text = f"unable to start container process: {error}"
    return kind(f"failed to create task for container {name}: {text}"), exit_code


def of_exec(error: JobError | OSError) -> tuple[MinidError, int]:
    """The error for a failed exec and its exit code; an OSError means that the shim is gone."""
    if isinstance(error, OSError):
        return Conflict(f"the container is not running (any more): {error}"), CANNOT_EXEC
    kind, exit_code = KINDS.get(error.kind, (Failed, CANNOT_EXEC))
    return kind(str(error)), exit_code if exit_code != CANNOT_START else CANNOT_EXEC
