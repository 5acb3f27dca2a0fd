"""Splitting instruction arguments into words, as they are written: quotes, escapes and variables stay in.

Source: docs.docker.com/reference/dockerfile § Shell and exec form, ENV, LABEL, ARG.
"""

import json
import re

BLANK = " \t\v\f\r\n"  # what separates words that nothing can quote
# What is trimmed from the ends of a line, and what separates words that may be quoted: Unicode's White_Space (not
# U+001C to U+001F, which ``str.strip`` has, too).
TRIMMED = "".join(
    chr(code) for code in (*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B))
)
TRIMMED += "\u2028\u2029\u202f\u205f\u3000"
_JSON = json.JSONDecoder()
_BLANKS = re.compile(f"[{BLANK}]+")


def split_once(text: str) -> tuple[str, str]:
    """The first word and the rest, trimmed."""
    first, *rest = _BLANKS.split(text.strip(TRIMMED), maxsplit=1)
    return first, rest[0].strip(TRIMMED) if rest else ""


def split_blank(text: str) -> list[str]:
    """Words between white space; quotes mean nothing."""
    return [word for word in _BLANKS.split(text) if word]


def split_quoted(text: str, escape: str) -> list[str]:
    """Words between white space that is not quoted and not escaped. A quote without end goes to the end."""
    words: list[str] = []
    position = skip_blank(text, 0)
    while position < len(text):
        end = end_of_word(text, position, escape)
        words.append(text[position:end])
        position = skip_blank(text, end)
    return words


def skip_blank(text: str, position: int) -> int:
    while position < len(text) and text[position] in TRIMMED:
        position += 1
    return position


def end_of_word(text: str, position: int, escape: str) -> int:
    """Where the word that begins at ``position`` ends: at white space outside quotes. In '…' nothing is escaped."""
    quote = ""
    while position < len(text):
        character = text[position]
        if character == escape and quote != "'":
            position += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in TRIMMED:
            return position
        position += 1
    return min(position, len(text))


class NotStrings(ValueError):
    """A JSON list with something in it that is no string."""


def json_list(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON list; None for what is none, which is then the shell form. ``NotStrings``.

    Text after the list means nothing, as in Docker (``check`` warns of it).
    """
    text = text.strip(TRIMMED)
    if not text.startswith("["):
        return None
    try:
        value, _ = _JSON.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise NotStrings("When using JSON array syntax, arrays must be comprised of strings only.")
    return tuple(_without_surrogates(item) for item in value)


def is_json(text: str) -> bool:
    """Whether it begins with a JSON list, whatever is in it."""
    try:
        return json_list(text) is not None
    except NotStrings:
        return True


def json_rest(text: str) -> str:
    """What follows the JSON list at the beginning of ``text``; "" if there is none."""
    text = text.strip(TRIMMED)
    try:
        return text[_JSON.raw_decode(text)[1] :].strip(TRIMMED)
    except (ValueError, RecursionError):
        return ""


def _without_surrogates(text: str) -> str:
    """JSON can name half a character (``\\ud800``), which no encoding can write: U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
