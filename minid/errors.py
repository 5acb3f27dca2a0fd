"""What can go wrong, in the words of the domain.

Every error that a service raises on purpose is one of these; only ``minid.api`` knows which HTTP status each
becomes. The message is a complete sentence fragment for a person: what happened, to which thing, what to do.
"""


class MinidError(Exception):
    """Base of all expected errors; ``str(error)`` is the message shown to the user."""


class InvalidParameter(MinidError):
    """The request itself is wrong: a malformed name, a field of the wrong type, options that exclude each
    other.
    """


class Unauthorized(MinidError):
    """Credentials were missing or refused (by a registry, for instance)."""


class Forbidden(MinidError):
    """The caller is known and may not do this."""


class NotFound(MinidError):
    """The named thing does not exist."""


class Conflict(MinidError):
    """The thing is in a state, or has a name or a user, that stands in the way."""


class NotModified(MinidError):
    """Nothing to do: the thing already is as asked for."""


class Unsupported(MinidError):
    """A feature that this version, kernel or machine does not have."""


class Unavailable(MinidError):
    """A service that is needed cannot be reached now; trying again may help."""


class Failed(MinidError):
    """The operation was right and went wrong on this machine (disk, kernel, network)."""


class CommandNotFound(InvalidParameter):
    """The container's command does not exist in its file system (exit code 127)."""


class CommandNotExecutable(InvalidParameter):
    """The container's command exists and cannot be executed (exit code 126)."""
