"""Reads the command line as dockerd's flag parser (pflag) does. Pure.

``--flag value``, ``--flag=value``, ``-f value``, ``-fvalue``, ``-f=value``, joined switches (``-Dv``), a
switch with ``=false``; ``--`` ends the flags. (argparse has no ``--debug=false``.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minid.config.kinds import BOOL
from minid.config.located import Wrong
from minid.config.model import ConfigError
from minid.config.options import BY_FLAG, BY_SHORT, NO_EFFECT, OPTIONS, Option
from minid.errors import MinidError
from minid.exits import table

_PROGRAM_SWITCHES = {"help": "h", "version": "v", "validate": ""}


class UsageError(MinidError):
    """The command line itself is wrong: an unknown flag, a missing value, an argument too many."""


@dataclass(slots=True)
class CommandLine:
    """``given``: values by option key, for ``load``; ``config_file`` None means the default one."""

    given: dict[str, Any] = field(default_factory=dict)
    config_file: Path | None = None
    help: bool = False
    version: bool = False
    validate: bool = False


def parse(arguments: Sequence[str]) -> CommandLine:
    """``arguments`` without the program's name. Raises ``UsageError``, and ``ConfigError`` for values."""
    line = CommandLine()
    seen: dict[str, list[Any]] = {}
    problems: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            if rest:
                raise UsageError(f"minid takes no arguments, only flags: {rest[0]!r}")
            break
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            _one(line, seen, problems, f"--{name}", name, value if equals else None, rest)
        elif argument.startswith("-") and len(argument) > 1:
            _shorts(line, seen, problems, argument[1:], rest)
        else:
            raise UsageError(f"minid takes no arguments, only flags: {argument!r}")
    if problems:
        raise ConfigError(tuple(problems))
    for key, values in seen.items():
        join = next(option for option in OPTIONS if option.key == key).kind.join
        line.given[key] = join(values) if join else values[-1]
    return line


def _shorts(
    line: CommandLine, seen: dict[str, list[Any]], problems: list[str], letters: str, rest: list[str]
) -> None:
    while letters:
        letter, letters = letters[0], letters[1:]
        long = next((name for name, short in _PROGRAM_SWITCHES.items() if short == letter), "")
        option = BY_SHORT.get(letter)
        if not long and option is None:
            raise UsageError(f"unknown flag: -{letter}")
        is_switch = bool(long) or (option is not None and option.kind is BOOL)
        value: str | None = None
        if letters.startswith("=") or (letters and not is_switch):
            value, letters = letters.removeprefix("="), ""
        _one(line, seen, problems, f"-{letter}", long or (option.flag if option else ""), value, rest)


def _one(
    line: CommandLine,
    seen: dict[str, list[Any]],
    problems: list[str],
    shown: str,
    name: str,
    value: str | None,
    rest: list[str],
) -> None:
    option = BY_FLAG.get(name)
    if option is None and name not in _PROGRAM_SWITCHES and name != "config-file":
        raise UsageError(f"unknown flag: {shown}")
    is_switch = name in _PROGRAM_SWITCHES or (option is not None and option.kind is BOOL)
    if value is None:
        if is_switch:
            value = "true"
        elif rest:
            value = rest.pop(0)
        else:
            raise UsageError(f"flag needs a value: {shown}")
    try:
        if name == "config-file":
            line.config_file = Path(value)
        elif option is None:
            setattr(line, name, BOOL.from_text(value))
        else:
            seen.setdefault(option.key, []).append(option.kind.from_text(value))
    except Wrong as error:
        problems.append(f"{shown}: {error}")


PROGRAM_FLAGS = (
    ("    --config-file string", "Configuration file (default /etc/minid/minid.yaml)"),
    ("-h, --help", "Print this and quit"),
    ("    --validate", "Check the configuration and the host, and quit"),
    ("-v, --version", "Print the version and quit"),
)


def effective() -> list[Option]:
    """The options that are flags and do something."""
    return [option for option in OPTIONS if option.flag and option.field and option.why == NO_EFFECT]


def usage() -> str:
    """The text of ``--help``."""
    rows = [*PROGRAM_FLAGS, *(row(option) for option in effective())]
    width = max(len(left) for left, _ in rows) + 2
    rows.sort(key=lambda row: row[0][4:])
    others = sorted(f"--{option.flag}" for option in OPTIONS if option.flag and option not in effective())
    return "\n".join(
        [
            "Usage: minid [OPTIONS]",
            "",
            "A small dockerd: one daemon that pulls images and runs containers behind the Docker Engine API.",
            "",
            "Options:",
            *(f"  {left:<{width}}{right}" for left, right in rows),
            "",
            "Flags of dockerd that are understood and have no effect in this version:",
            *_wrapped(others),
            "",
            "Each option is a key of the configuration file too, spelled as in dockerd's daemon.json.",
            "",
            "Exit status:",
            table(),
        ]
    )


def row(option: Option) -> tuple[str, str]:
    """The flag with its type, and what it does: a line of ``--help``, an entry of the man page."""
    short = f"-{option.short}, " if option.short else "    "
    metavar = f" {option.kind.metavar}" if option.kind.metavar else ""
    default = ""
    if option.default not in (None, "", (), False) and option.default != {}:
        shown = "64m" if option.field == "default_shm_size_bytes" else option.default
        default = f" (default {shown})"
    return f"{short}--{option.flag}{metavar}", option.help + default


def _wrapped(words: list[str]) -> list[str]:
    lines = ["  "]
    for word in words:
        if len(lines[-1]) + len(word) > 98:
            lines.append("  ")
        lines[-1] += f"{word} "
    return [line.rstrip() for line in lines]
