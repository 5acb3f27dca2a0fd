"""What minictl can fail with; `main` turns each into a line on stderr and an exit status."""


class Failure(Exception):
    """A command failed: `message` goes to stderr as it is (nothing when empty), `status` is the exit code."""

    def __init__(self, message: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class UsageError(Failure):
    """The command line is wrong: shown with the command's usage line, as pflag and cobra do."""

    def __init__(self, message: str, status: int = 125) -> None:
        super().__init__(message, status)


class ConnectError(Failure):
    """No daemon could be reached; the message says at which address and what to do."""


class ApiError(Failure):
    """The daemon answered with an error status.

    `http_status` is its number, `detail` the daemon's own text (the `message` of the JSON body).
    """

    def __init__(self, http_status: int, detail: str) -> None:
        super().__init__(f"Error response from daemon: {detail}")
        self.http_status = http_status
        self.detail = detail


def invalid_argument(name: str, short: str, value: str, reason: str) -> UsageError:
    """pflag's words for a value that a flag can't take."""
    shown = f"-{short}, --{name}" if short else f"--{name}"
    return UsageError(f'invalid argument "{value}" for "{shown}" flag: {reason}')


def refused(reason: str) -> Failure:
    """A container that can't be asked for: `run` and `create` show the reason with their own name (status 125)."""
    return Failure(reason, 125)
