"""What is wrong with a Dockerfile, and where."""

from minid.build.dockerfile.model import Location
from minid.errors import InvalidParameter


class ExpansionError(InvalidParameter):
    """A word that cannot be expanded: a quote or brace without end, an unknown modifier, ``${x:?}`` unset."""


class DockerfileError(InvalidParameter):
    """The file is wrong at ``location``. ``str`` shows reason, file, line, the text, and what was expected.

    ``dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)``
    ``  Dockerfile:3: RUNN make``
    """

    def __init__(self, reason: str, location: Location | None = None, text: str = "", expected: str = ""):
        self.reason = reason
        self.location = location
        self.text = text
        self.expected = expected
        lines = [reason]
        if location is not None:
            lines = [f"dockerfile parse error on line {location.first}: {reason}", f"  {location}: {text}"]
        if expected:
            lines.append(f"  expected: {expected}")
        super().__init__("\n".join(lines))
