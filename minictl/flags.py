"""Command lines: tables of flags, and a parser with the syntax of pflag (which the docker CLI uses).

A flag is a constant tuple, so that a table of a hundred costs nothing to load:

    (long, short, kind, help)   or   (long, short, kind, help, default)

`kind` says how the value is written and what it becomes:

    bool      True/False; `--x`, `--x=false`, -x, -xy     string    the text
    list      list of texts, one for each time given       map       list of texts, shown as a map
    int       int                                          uint16    int, 0..65535
    bytes     int, "64m" (binary units)                    decimal   the text, a number of CPUs
    swap      like bytes, and -1                           strings   list, comma-separated or repeated
    duration  nanoseconds, "1m30s"

`--x value`, `--x=value`, `-x value`, `-xvalue`, `-x=value`; `--` ends the flags; where a command's flags are
not interspersed (run, exec), the first positional argument ends them too.
"""

from __future__ import annotations

from minictl.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minictl.engine import Engine

    Flag = tuple[Any, ...]
    Handler = Callable[["Options", list[str], Engine], int]


class Command:
    """One verb: how it is called, what it takes, and the function that does it.

    `usage` follows the name (`[OPTIONS] CONTAINER`); `minimum` and `maximum` bound the number of arguments
    (-1: no bound); `renamed` maps old flag names, not shown in help, to the present ones.
    """

    __slots__ = (
        "aliases", "details", "flags", "handler", "interspersed", "maximum", "minimum", "name", "renamed", "summary",
        "usage",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        usage: str,
        summary: str,
        handler: Handler,
        flags: tuple[Flag, ...] = (),
        minimum: int = 0,
        maximum: int = -1,
        *,
        interspersed: bool = True,
        renamed: dict[str, str] | None = None,
        details: str = "",
        aliases: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.usage = usage
        self.summary = summary
        self.handler = handler
        self.flags = flags
        self.minimum = minimum
        self.maximum = maximum
        self.interspersed = interspersed
        self.renamed = renamed or {}
        self.details = details
        self.aliases = aliases


class Options:
    """The values of a command's flags: `options["cap-add"]`; `given("memory")` says whether it was on the
    line.
    """

    __slots__ = ("_defaults", "_values")

    def __init__(self, defaults: dict[str, Any]) -> None:
        self._defaults = defaults
        self._values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        return self._defaults[name]

    def given(self, name: str) -> bool:
        return name in self._values

    def put(self, name: str, value: Any) -> None:
        self._values[name] = value

    def append(self, name: str, values: list[str]) -> None:
        self._values.setdefault(name, []).extend(values)


class HelpWanted(Exception):
    """`--help` was on the command line."""


_ZERO: dict[str, Any] = {
    "bool": False,
    "int": 0,
    "uint16": 0,
    "bytes": 0,
    "swap": 0,
    "duration": 0,
    "decimal": "",
}
_LISTS = ("list", "map", "strings")


def parse(command: Command, arguments: list[str]) -> tuple[Options, list[str]]:
    """Options and positional arguments. Raises UsageError with pflag's text, HelpWanted."""
    flags = {flag[0]: flag for flag in command.flags}
    shorts = {flag[1]: flag for flag in command.flags if flag[1]}
    options = Options({flag[0]: default(flag) for flag in command.flags})
    positional: list[str] = []
    index = 0
    count = len(arguments)
    while index < count:
        word = arguments[index]
        index += 1
        if word == "--":
            positional += arguments[index:]
            break
        if len(word) < 2 or word[0] != "-":
            positional.append(word)
            if not command.interspersed:
                positional += arguments[index:]
                break
            continue
        if word[1] == "-":
            name, equals, value = word[2:].partition("=")
            flag = flags.get(command.renamed.get(name, name))
            if flag is None:
                if name == "help":
                    raise HelpWanted
                raise UsageError(f"unknown flag: --{name}")
            if not equals:
                if flag[2] == "bool":
                    value = "true"
                elif index < count:
                    value = arguments[index]
                    index += 1
                else:
                    raise UsageError(f"flag needs an argument: --{name}")
            _set(options, flag, value)
            continue
        letters = word[1:]
        while letters:
            letter, rest = letters[0], letters[1:]
            flag = shorts.get(letter)
            if flag is None:
                if letter == "h":
                    raise HelpWanted
                raise UsageError(f"unknown shorthand flag: {letter!r} in -{letters}")
            letters = ""
            if rest.startswith("="):
                value = rest[1:]
            elif flag[2] == "bool":
                value, letters = "true", rest
            elif rest:
                value = rest
            elif index < count:
                value = arguments[index]
                index += 1
            else:
                raise UsageError(f"flag needs an argument: {letter!r} in -{letter}")
            _set(options, flag, value)
    _check_count(command, len(positional))
    return options, positional


def default(flag: Flag) -> Any:
    if len(flag) > 4:
        return flag[4]
    return [] if flag[2] in _LISTS else _ZERO.get(flag[2], "")


def _set(options: Options, flag: Flag, text: str) -> None:
    name, short, kind = flag[:3]
    try:
        if kind == "list" or kind == "map":
            options.append(name, [text])
        elif kind == "strings":
            options.append(name, text.split(",") if text else [])
        else:
            options.put(name, text if kind == "string" else _converted(kind, text))
    except ValueError as error:
        shown = f"-{short}, --{name}" if short else f"--{name}"
        raise UsageError(f'invalid argument "{text}" for "{shown}" flag: {error}') from None


def _converted(kind: str, text: str) -> Any:
    """The value of a flag of `kind`. Raises ValueError with the reason in Go's words."""
    if kind == "bool":
        return truth(text)
    if kind == "int" or kind == "uint16":
        function = "ParseUint" if kind == "uint16" else "ParseInt"
        digits = text.lstrip("+-") if kind == "int" else text
        if not digits.isascii() or not digits.isdigit():
            raise ValueError(f'strconv.{function}: parsing "{text}": invalid syntax')
        number = int(text)
        if (kind == "uint16" and number > 65535) or abs(number) >= 1 << 63:
            raise ValueError(f'strconv.{function}: parsing "{text}": value out of range')
        return number
    from minictl import units

    if kind == "swap" and text == "-1":
        return -1
    if kind == "bytes" or kind == "swap":
        return units.parse_bytes(text)
    if kind == "duration":
        return units.parse_duration(text)
    if kind == "decimal":
        units.parse_nano_cpus(text)
        return text
    raise AssertionError(f"no flag kind {kind}")


def truth(text: str) -> bool:
    """What Go's strconv.ParseBool makes of `text`. Raises ValueError."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def _check_count(command: Command, count: int) -> None:
    """cobra's and docker's words for a wrong number of arguments."""
    low, high = command.minimum, command.maximum
    if count >= low and (high < 0 or count <= high):
        return
    name = f"minictl {command.name}"
    if high == 0:
        wanted = "accepts no arguments"
    elif low == high:
        wanted = f"requires {low} argument{'s' if low != 1 else ''}"
    elif high < 0:
        wanted = f"requires at least {low} argument{'s' if low != 1 else ''}"
    elif count > high:
        wanted = f"requires at most {high} argument{'s' if high != 1 else ''}"
    else:
        wanted = f"requires at least {low} and at most {high} arguments"
    raise UsageError(f"minictl: '{name}' {wanted}", 1)
