"""The rules' names and descriptions, what a check finds, and what a user may switch.

Source: docs.docker.com/reference/build-checks; docs.docker.com/reference/dockerfile § check.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from minid.build.dockerfile.flags import boolean
from minid.build.dockerfile.model import Instruction, Location
from minid.errors import InvalidParameter

RULES: Mapping[str, str] = {
    "StageNameCasing": "Stage names should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "ConsistentInstructionCasing": (
        "All commands within the Dockerfile should use the same casing (either upper or lower)"
    ),
    "DuplicateStageName": "Stage names should be unique",
    "ReservedStageName": "Reserved words should not be used as stage names",
    "JSONArgsRecommended": (
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals"
    ),
    "MaintainerDeprecated": (
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
    ),
    "UndefinedArgInFrom": "FROM command must use declared ARGs",
    "WorkdirRelativePath": (
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the"
        " base image changes"
    ),
    "UndefinedVar": "Variables should be defined before their use",
    "MultipleInstructionsDisallowed": "Multiple instructions of the same type should not be used in the same stage",
    "LegacyKeyValueFormat": "Legacy key/value format with whitespace separator should not be used",
    "RedundantTargetPlatform": (
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
    ),
    "SecretsUsedInArgOrEnv": "Sensitive data should not be used in the ARG or ENV commands",
    "InvalidDefaultArgInFrom": "Default value for global ARG results in an empty or invalid base image name",
    "FromPlatformFlagConstDisallowed": "FROM --platform flag should not use a constant value",
    "CopyIgnoredFile": "Attempting to Copy file that is excluded by .dockerignore",
    "InvalidDefinitionDescription": (
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is"
        " not intended to be a description comment, add an empty line or comment between the instruction and the"
        " comment."
    ),
    "ExposeProtoCasing": "Protocol in EXPOSE instruction should be lowercase",
    "ExposeInvalidFormat": (
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a"
        " future release"
    ),
    # Ours: Docker says nothing, and does what was not meant.
    "JSONFormMistaken": "What begins like a JSON array should be one, with nothing behind it",
}
EXPERIMENTAL = frozenset(("InvalidDefinitionDescription",))


@dataclass(frozen=True, slots=True)
class CheckWarning:
    rule: str
    message: str  # this case
    location: Location

    @property
    def description(self) -> str:
        """What the rule says of all cases."""
        return RULES[self.rule]

    def __str__(self) -> str:
        return f"{self.rule}: {self.message} ({self.location})"


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """``# check=skip=A,B;error=true``, or the build argument BUILDKIT_DOCKERFILE_CHECK."""

    skip: frozenset[str] = frozenset()  # "all" skips all
    error: bool = False  # warnings fail the build
    experimental: frozenset[str] = frozenset()  # rules that are off if not named here; "all"

    def has(self, rule: str) -> bool:
        if rule in self.skip or "all" in self.skip:
            return False
        return rule not in EXPERIMENTAL or bool(self.experimental & {rule, "all"})


def parse_options(text: str) -> CheckOptions:
    """``InvalidParameter``. Names of rules that do not exist are no error: they may exist elsewhere."""
    values: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not name and not equals:
            continue
        if name not in ("skip", "error", "experimental") or not equals:
            raise InvalidParameter(
                f"invalid check option {part.strip()!r}: expected skip=, error= or experimental="
            )
        values[name] = value
    error = boolean(values.get("error", "false"))
    if error is None:
        raise InvalidParameter(
            f"failed to parse check option error={values['error']!r}: expected true or false"
        )
    return CheckOptions(_names(values.get("skip", "")), error, _names(values.get("experimental", "")))


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a Dockerfile alone does not say. Without them fewer things can be found, and none is invented."""

    build_args: Mapping[str, str] = field(default_factory=dict)
    # The names of an image's variables; None if that is not known.
    variables_of: Callable[[str], Collection[str] | None] = field(default=lambda image: None)
    # Whether .dockerignore excludes a path of the context.
    is_ignored: Callable[[str], bool] = field(default=lambda path: False)


class Findings:
    """Collects warnings."""

    def __init__(self, options: CheckOptions):
        self._options = options
        self.warnings: list[CheckWarning] = []

    def add(self, rule: str, instruction: Instruction, message: str = "") -> None:
        if self._options.has(rule):
            self.warnings.append(CheckWarning(rule, message or RULES[rule], instruction.location))
