"""What can go wrong in a build beside the Dockerfile's own mistakes."""

from minid.errors import Failed


class StepFailed(Failed):
    """A RUN ended with ``exit_code`` (126 and 127: its program could not be started)."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
