"""What can be seen of an instruction, or of a stage's, without the value of any variable."""

import re

from minid.build.dockerfile.checks.model import Findings
from minid.build.dockerfile.model import (
    Arg,
    Cmd,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Run,
    Shell,
    ShellForm,
    Stage,
    Volume,
)
from minid.build.dockerfile.words import json_rest, split_blank

_SECRET = frozenset(
    ("APIKEY", "AUTH", "CREDENTIAL", "CREDENTIALS", "KEY", "PASSWORD", "PASSWD", "PWORD", "SECRET", "TOKEN")
)
# A quoted word and a comma or the end: not ``[ "$a" = b ] && …``, which is a command as good as any.
_LIKE_A_LIST = re.compile(r"""\[\s*('[^']*'|"(?:\\.|[^"\\])*")\s*[],]""", re.DOTALL)
_ONCE = (Cmd, Entrypoint, Healthcheck)


def check_forms(dockerfile: Dockerfile, findings: Findings) -> None:
    everything: list[Instruction] = list(dockerfile.args)
    for stage in dockerfile.stages:
        everything += [stage.base, *stage.instructions]
    _casing(everything, findings)
    for instruction in everything:
        if instruction.has_empty_continuation:
            findings.add(
                "NoEmptyContinuation",
                instruction,
                f"Empty continuation line found in: {instruction.original}",
            )
        _one(instruction, findings)
    with_shell: set[str] = set()
    for stage in dockerfile.stages:
        _once(stage, findings)
        _commands(stage, with_shell, findings)


def _casing(everything: list[Instruction], findings: Findings) -> None:
    lower = sum(instruction.keyword.islower() for instruction in everything)
    upper = sum(instruction.keyword.isupper() for instruction in everything)
    case, fits = ("lowercase", str.islower) if lower > upper else ("uppercase", str.isupper)
    for instruction in everything:
        if not fits(instruction.keyword):
            findings.add(
                "ConsistentInstructionCasing",
                instruction,
                f"Command '{instruction.keyword}' should match the case of the command majority ({case})",
            )


def _one(instruction: Instruction, findings: Findings) -> None:
    match instruction:
        case Maintainer():
            findings.add(
                "MaintainerDeprecated",
                instruction,
                "Maintainer instruction is deprecated in favor of using label",
            )
        case Env() | Label():
            if instruction.is_legacy:
                name = instruction.KEYWORD
                findings.add(
                    "LegacyKeyValueFormat",
                    instruction,
                    f'"{name} key=value" should be used instead of legacy "{name} key value" format',
                )
            if isinstance(instruction, Env):
                _secrets(instruction, [pair.key for pair in instruction.pairs], findings)
        case Arg():
            names = [each.name for each in instruction.definitions]
            _secrets(instruction, names, findings)
            for name in names:
                _description(instruction, name, findings)
        case From():
            if instruction.stage_name:
                _description(instruction, instruction.stage_name, findings)
        case Expose():
            _ports(instruction, findings)
        case Run() | Cmd() | Entrypoint() | Healthcheck() | Volume() | Shell():
            _json(instruction, findings)


def _secrets(instruction: Instruction, names: list[str], findings: Findings) -> None:
    for name in names:
        words = set(name.upper().split("_"))
        if words & _SECRET and "PUBLIC" not in words:
            findings.add(
                "SecretsUsedInArgOrEnv",
                instruction,
                f'Do not use ARG or ENV instructions for sensitive data ({instruction.KEYWORD} "{name}")',
            )


def _description(instruction: Instruction, name: str, findings: Findings) -> None:
    if instruction.comments and not any(split_blank(line)[:1] == [name] for line in instruction.comments):
        findings.add("InvalidDefinitionDescription", instruction)


def _ports(instruction: Expose, findings: Findings) -> None:
    for port in instruction.ports:
        number, _, protocol = port.partition("/")
        if "$" in port:
            continue
        if protocol != protocol.lower():
            findings.add(
                "ExposeProtoCasing",
                instruction,
                f"Defined protocol '{port}' in EXPOSE instruction should be lowercase",
            )
        if ":" in number:
            findings.add(
                "ExposeInvalidFormat",
                instruction,
                f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'",
            )


def _json(instruction: Instruction, findings: Findings) -> None:
    arguments = instruction.original.partition("[")
    if isinstance(instruction, Run | Cmd | Entrypoint | Healthcheck):
        command = instruction.command
        if isinstance(command, ShellForm):
            text = command.text
            if _LIKE_A_LIST.match(text):
                findings.add(
                    "JSONFormMistaken",
                    instruction,
                    f"{instruction.KEYWORD}: not a JSON array (use double quotes), so the shell is given {text}",
                )
            return
        if command is None:
            return
    elif isinstance(instruction, Volume) and instruction.paths[0].startswith("["):
        findings.add(
            "JSONFormMistaken",
            instruction,
            f"VOLUME: not a JSON array (use double quotes), so the volumes are {' '.join(instruction.paths)}",
        )
        return
    rest = json_rest(arguments[1] + arguments[2])
    if rest:
        findings.add(
            "JSONFormMistaken", instruction, f"{instruction.KEYWORD}: {rest!r} after the array is ignored"
        )


def _once(stage: Stage, findings: Findings) -> None:
    last: dict[type[Instruction], Instruction] = {}
    for instruction in stage.instructions:
        if isinstance(instruction, _ONCE):
            earlier = last.get(type(instruction))
            if earlier is not None:
                findings.add(
                    "MultipleInstructionsDisallowed",
                    earlier,
                    f"Multiple {earlier.KEYWORD} instructions should not be used in the same stage because only the"
                    " last one will be used",
                )
            last[type(instruction)] = instruction


def _commands(stage: Stage, with_shell: set[str], findings: Findings) -> None:
    """``with_shell``: the stages that set a shell, in which the shell form is as meant."""
    has_shell = stage.base.image.lower() in with_shell
    for instruction in stage.instructions:
        if isinstance(instruction, Shell):
            has_shell = True
        elif isinstance(instruction, Cmd | Entrypoint):
            if has_shell or not isinstance(instruction.command, ShellForm):
                continue
            findings.add(
                "JSONArgsRecommended",
                instruction,
                f"JSON arguments recommended for {instruction.KEYWORD} to prevent unintended behavior related to OS"
                " signals",
            )
    if has_shell and stage.name:
        with_shell.add(stage.name)
