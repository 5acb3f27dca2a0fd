"""``--name=value`` before an instruction's arguments."""

from dataclasses import dataclass, field
from difflib import get_close_matches

from minid.build.dockerfile.words import TRIMMED, end_of_word, skip_blank

_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


class FlagError(ValueError):
    """An option that is wrong; the message says how."""


def boolean(text: str) -> bool | None:
    """The value of ``true``, ``1``, ``f`` …; None for what is neither true nor false."""
    return _BOOLEANS.get(text)


@dataclass(slots=True)
class Flags:
    """The options of one instruction. Each is taken once by its instruction; ``finish`` refuses what is left."""

    values: list[tuple[str, str | None]]
    known: list[str] = field(default_factory=list)

    def strings(self, name: str) -> tuple[str, ...]:
        self.known.append(name)
        found = [value for key, value in self.values if key == name]
        self.values = [(key, value) for key, value in self.values if key != name]
        given = [value for value in found if value is not None]
        if len(given) < len(found):
            raise FlagError(f"missing a value on flag: --{name}")
        return tuple(given)

    def string(self, name: str) -> str | None:
        found = self.strings(name)
        if len(found) > 1:
            raise FlagError(f"flag can only be given once: --{name}")
        return found[0] if found else None

    def boolean(self, name: str) -> bool | None:
        self.values = [
            (key, "true" if key == name and value is None else value) for key, value in self.values
        ]
        given = self.string(name)
        if given is None:
            return None
        value = boolean(given)
        if value is None:
            raise FlagError(f"expected a boolean value for flag --{name}, not {given!r}")
        return value

    def finish(self) -> None:
        for name, _ in self.values:
            close = get_close_matches(name.lower(), self.known, 1)
            hint = f" (did you mean --{close[0]}?)" if close else ""
            raise FlagError(f"unknown flag: --{name}{hint}")


def split_flags(text: str, escape: str) -> tuple[Flags, str]:
    """The options at the beginning of ``text``, unquoted, and the rest. ``--`` alone ends them."""
    values: list[tuple[str, str | None]] = []
    position = skip_blank(text, 0)
    while text.startswith("--", position):
        end = end_of_word(text, position, escape)
        word = _unquoted(text[position:end], escape)
        position = skip_blank(text, end)
        if word == "--":
            break
        name, equals, value = word[2:].partition("=")
        values.append((name, value if equals else None))
    return Flags(values), text[position:].strip(TRIMMED)


def _unquoted(word: str, escape: str) -> str:
    """Without quotes; an escape goes where it escapes a quote, a blank or itself, and stays before ``$`` for later."""
    result: list[str] = []
    quote = ""
    position = 0
    while position < len(word):
        character = word[position]
        position += 1
        if character == escape and quote != "'" and position < len(word):
            following = word[position]
            position += 1
            result.append(following if following in "'\"" + TRIMMED + escape else character + following)
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        else:
            result.append(character)
    return "".join(result)
