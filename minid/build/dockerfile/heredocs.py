"""Where here-documents begin in a line: ``<<NAME``, ``<<-NAME``, ``<<"NAME"``, ``3<<NAME``, as a word of their own.

Source: docs.docker.com/reference/dockerfile § Here-Documents; POSIX XCU 2.7.4 Here-Document.
"""

import re
from dataclasses import dataclass

from minid.build.dockerfile.words import end_of_word, skip_blank

_OPERATOR = re.compile(r"(\d*)<<(-?)(?!<)", re.ASCII)
_ENDS = ";&|<>()"  # what ends a word for a shell


@dataclass(frozen=True, slots=True)
class Opening:
    name: str  # without quotes
    expand: bool  # nothing of it was quoted
    strip_tabs: bool
    descriptor: int
    is_whole: bool  # nothing follows it in its word


def find_openings(text: str, escape: str) -> list[Opening]:
    """All openings in ``text``, in their order. None inside quotes, words or ``$((…))``, where ``<<`` is a shift."""
    openings = []
    position = skip_blank(text, 0)
    while position < len(text):
        if text.startswith("$((", position):
            position = _beyond_arithmetic(text, position)
            continue
        opening = parse_opening(text, position, escape)
        if opening is not None:
            openings.append(opening)
        end = end_of_word(text, position, escape)
        arithmetic = text.find("$((", position, end)
        position = _beyond_arithmetic(text, arithmetic) if arithmetic >= 0 else end
        position = skip_blank(text, position)
    return openings


def parse_opening(text: str, position: int, escape: str) -> Opening | None:
    """The opening that begins at ``position``, which is the beginning of a word; None if there is none."""
    match = _OPERATOR.match(text, position)
    if match is None:
        return None
    start, end = match.end(), end_of_word(text, match.end(), escape)
    name: list[str] = []
    quote, is_quoted = "", False
    while start < end:
        character = text[start]
        start += 1
        if character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote, is_quoted = character, True
        elif character == escape and quote != "'" and start < end:
            name.append(text[start])
            start, is_quoted = start + 1, True
        elif not quote and character in _ENDS:
            start -= 1
            break
        else:
            name.append(character)
    if not name or quote:
        return None
    return Opening(
        "".join(name), not is_quoted, bool(match[2]), int((match[1] or "0")[:6]), is_whole=start >= end
    )


def _beyond_arithmetic(text: str, position: int) -> int:
    end = text.find("))", position)
    return len(text) if end < 0 else end + 2
