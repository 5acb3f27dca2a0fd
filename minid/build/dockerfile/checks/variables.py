"""What depends on the values of variables: FROM, undefined names, working directories, ignored files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from minid.build.dockerfile.args import PLATFORM_ARGS, PREDEFINED_ARGS
from minid.build.dockerfile.checks.model import Findings, Surroundings
from minid.build.dockerfile.errors import DockerfileError, ExpansionError
from minid.build.dockerfile.expansion import Expander
from minid.build.dockerfile.model import Add, Arg, Copy, Dockerfile, Env, From, Instruction, Stage, Workdir
from minid.build.dockerfile.resolution import resolve_with
from minid.errors import InvalidParameter
from minid.images.reference import parse as parse_reference

_RESERVED_NAMES = ("context", "scratch")
_SCRATCH = "scratch"
_REMOTE = ("http://", "https://", "git@", "git://", "ssh://")
_WILD = "*?["
_KNOWN_MAX, _NAME_MAX = 300, 64  # what a hint is looked for among


@dataclass(slots=True)
class _Scope:
    """The variables of a stage as far as they are known: names without a known value have None."""

    values: dict[str, str | None] = field(default_factory=dict)
    is_complete: bool = False  # all variables of the base are known
    has_workdir: bool = False

    def copy(self) -> "_Scope":
        return _Scope(dict(self.values), self.is_complete, self.has_workdir)


def check_variables(dockerfile: Dockerfile, surroundings: Surroundings, findings: Findings) -> None:
    escape = dockerfile.directives.escape
    defaults = _globals(dockerfile, {}, escape)
    given = _globals(dockerfile, surroundings.build_args, escape)
    scopes: dict[str, _Scope] = {}
    for stage in dockerfile.stages:
        _check_name(stage, stage.name in scopes, findings)
        _check_from(stage, defaults, escape, findings)
        image = _image(stage.base, given, escape)
        scope = _base_scope(image, scopes, surroundings)
        for instruction in stage.instructions:
            _check_instruction(instruction, scope, given, surroundings, escape, findings)
        if stage.name:
            scopes[stage.name] = scope


def _globals(dockerfile: Dockerfile, build_args: Mapping[str, str], escape: str) -> dict[str, str | None]:
    """Global arguments and their values; None where there is none, or none that can be known."""
    values: dict[str, str | None] = dict.fromkeys(PLATFORM_ARGS)
    for arg in dockerfile.args:
        try:
            resolved = resolve_with(arg, Expander(values.get, escape))
        except DockerfileError:
            continue
        for each in resolved.definitions:
            values[each.name] = build_args.get(each.name, each.default)
    return values


def _image(base: From, values: Mapping[str, str | None], escape: str) -> str:
    """The image of a FROM with these values; "" if that cannot be said."""
    try:
        return Expander(values.get, escape).word(base.image)
    except ExpansionError:
        return ""


def _base_scope(image: str, scopes: Mapping[str, _Scope], surroundings: Surroundings) -> _Scope:
    if image.lower() in scopes:
        return scopes[image.lower()].copy()
    known = () if image == _SCRATCH else surroundings.variables_of(image) if image else None
    values: dict[str, str | None] = dict.fromkeys(("PATH", *PREDEFINED_ARGS, *(known or ())))
    return _Scope(values, is_complete=known is not None)


def _check_name(stage: Stage, is_taken: bool, findings: Findings) -> None:
    base = stage.base
    if base.stage_name != stage.name:
        findings.add("StageNameCasing", base, f"Stage name '{base.stage_name}' should be lowercase")
    if base.as_keyword and _case(base.keyword) not in (None, _case(base.as_keyword)):
        findings.add(
            "FromAsCasing", base, f"'{base.as_keyword}' and '{base.keyword}' keywords' casing do not match"
        )
    if stage.name in _RESERVED_NAMES:
        findings.add(
            "ReservedStageName",
            base,
            f"'{base.stage_name}' is reserved and should not be used as a stage name",
        )
    if is_taken:
        findings.add(
            "DuplicateStageName",
            base,
            f"Duplicate stage name '{base.stage_name}', stage names should be unique",
        )


def _check_from(stage: Stage, defaults: Mapping[str, str | None], escape: str, findings: Findings) -> None:
    base = stage.base
    _check_platform(stage, findings)
    used, undefined = _names(base, defaults, escape)
    for name in undefined:
        findings.add(
            "UndefinedArgInFrom", base, f"FROM argument '{name}' is not declared{_hint(name, defaults, '')}"
        )
    if used and not undefined and used.isdisjoint(PLATFORM_ARGS):
        _check_default(base, defaults, escape, findings)


def _case(word: str) -> str | None:
    """None for a word of both cases."""
    return "lower" if word.islower() else "upper" if word.isupper() else None


def _check_platform(stage: Stage, findings: Findings) -> None:
    platform = stage.base.platform
    if platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        findings.add("RedundantTargetPlatform", stage.base)
    if platform and "$" not in platform:
        parts = [part for part in platform.lower().split("/") if part]
        if not any(part in stage.name for part in parts[:2]):
            findings.add(
                "FromPlatformFlagConstDisallowed",
                stage.base,
                f'FROM --platform flag should not use constant value "{platform}"',
            )


def _names(base: From, defaults: Mapping[str, str | None], escape: str) -> tuple[frozenset[str], list[str]]:
    """The arguments in the name of the image, and all that are used and not declared."""
    expander = Expander(lambda name: (defaults[name] or "") if name in defaults else None, escape)
    used: frozenset[str] = frozenset()
    try:
        expander.word(base.image)
        used = frozenset(expander.used)
        expander.word(base.platform)
    except ExpansionError:
        pass  # the build says it
    return used, list(dict.fromkeys(expander.undefined))


def _check_default(base: From, defaults: Mapping[str, str | None], escape: str, findings: Findings) -> None:
    image = _image(base, defaults, escape)
    try:
        parse_reference(image)
    except InvalidParameter:
        findings.add(
            "InvalidDefaultArgInFrom",
            base,
            f"Default value for ARG {base.image} results in empty or invalid base image name",
        )


def _check_instruction(
    instruction: Instruction,
    scope: _Scope,
    given: Mapping[str, str | None],
    surroundings: Surroundings,
    escape: str,
    findings: Findings,
) -> None:
    expander = Expander(lambda name: (scope.values[name] or "") if name in scope.values else None, escape)
    try:
        resolved = resolve_with(instruction, expander)
    except DockerfileError:
        resolved = instruction  # the build says it
    for name in dict.fromkeys(expander.undefined):
        # Of a base image nobody looked into, only what must be a slip of the pen is worth a warning.
        hint = _hint(name, scope.values, "$")
        if scope.is_complete or (hint and any(_is_slip(name, known) for known in scope.values)):
            findings.add("UndefinedVar", instruction, f"Usage of undefined variable '${name}'{hint}")
    match resolved:
        case Workdir():
            known = all(scope.values.get(name) is not None for name in expander.used)
            if not scope.has_workdir and known and not _is_absolute(resolved.path):
                findings.add(
                    "WorkdirRelativePath",
                    instruction,
                    f"Relative workdir '{resolved.path}' can have unexpected results if the base image changes",
                )
            scope.has_workdir = True
        case Env():
            scope.values |= {pair.key: pair.value for pair in resolved.pairs}
        case Arg():
            for each in resolved.definitions:
                default = given.get(each.name) if each.default is None else each.default
                if each.name not in scope.values:
                    scope.values[each.name] = surroundings.build_args.get(each.name, default)
        case Copy() | Add():
            _check_ignored(resolved, surroundings, findings)


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "\\")) or path[1:2] == ":"


def _check_ignored(instruction: Copy | Add, surroundings: Surroundings, findings: Findings) -> None:
    if isinstance(instruction, Copy) and instruction.from_:
        return
    for source in instruction.sources:
        if not isinstance(source, str) or source.startswith(_REMOTE) or any(each in source for each in _WILD):
            continue
        if surroundings.is_ignored(source.removeprefix("./").strip("/")):
            findings.add(
                "CopyIgnoredFile",
                instruction,
                f'Attempting to Copy file "{source}" that is excluded by .dockerignore',
            )


def _hint(name: str, known: Mapping[str, str | None], prefix: str) -> str:
    if len(known) > _KNOWN_MAX or len(name) > _NAME_MAX:
        return ""  # nobody wrote this by hand
    close = get_close_matches(name, [each for each in known if each != name], 1, cutoff=0.74)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def _is_slip(name: str, known: str) -> bool:
    """Whether they differ by one character, or in the order of two: ``PAHT``."""
    if len(known) < 3 or abs(len(name) - len(known)) > 1 or name == known:
        return False
    start = 0
    while name[start : start + 1] == known[start : start + 1]:
        start += 1
    name, known = name[start:], known[start:]
    return (
        name[1:] in (known, known[1:])
        or name == known[1:]
        or (name[2:] == known[2:] and name[:2] == known[1::-1])
    )
