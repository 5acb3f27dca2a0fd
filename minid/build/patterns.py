"""Patterns of file names: those of .dockerignore and ``COPY --exclude``, and the globs of COPY sources. Pure.

    *         any characters but "/"            [a-z] [^a-z]   one character (not) of the class
    ?         one character but "/"             \\c            the character c
    **/       any number of directories, none too;  ** at the end: anything

Source: docs.docker.com/build/concepts/context § .dockerignore files; pkg.go.dev/path/filepath, Match;
github.com/moby/patternmatcher for what a pattern matches and github.com/moby/buildkit for exceptions below directories.
"""

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from minid.errors import InvalidParameter

_WILD = re.compile(r"[*?\[\\]")
_FLAGS = re.DOTALL


def match_glob(pattern: str, path: str) -> bool:
    """Whether the pattern matches the whole path. ``InvalidParameter`` if it is malformed."""
    return _compiled(pattern).fullmatch(path) is not None


def read_ignore_file(text: str) -> list[str]:
    """The patterns of a .dockerignore file: no comments ("#" in column 1), no blank lines."""
    lines = text.removeprefix("\ufeff").split("\n")
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@dataclass(frozen=True, slots=True)
class _Pattern:
    is_exception: bool
    components: tuple[str, ...]
    expression: re.Pattern[str]  # matches the paths themselves and what is below them


class Patterns:
    """A list of patterns, of which the last that matches a path (or a directory above it) decides.

    ``!`` before one makes what it matches an exception. Leading slashes, ``./`` and trailing slashes mean nothing.
    Paths are relative to the root of the tree, with ``/`` between names.
    """

    def __init__(self, patterns: Iterable[str]):
        """``InvalidParameter`` names the pattern that is malformed."""
        self._patterns = tuple(pattern for line in patterns if (pattern := _parse(line.strip())) is not None)
        self.has_exceptions = any(pattern.is_exception for pattern in self._patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def matches(self, path: str) -> bool:
        """Whether the path is ignored. The root itself ("." or "") never is."""
        path = path.strip("/")
        if path in ("", "."):
            return False
        ignored = False
        for pattern in self._patterns:
            # Only a pattern that would change the answer is worth asking.
            if pattern.is_exception == ignored and pattern.expression.fullmatch(path):
                ignored = not ignored
        return ignored

    def may_unignore_below(self, directory: str) -> bool:
        """Whether a walk has to look into a directory that is ignored: an exception may match something below it."""
        names = directory.strip("/").split("/")
        return any(
            pattern.is_exception and _may_match_below(pattern.components, names) for pattern in self._patterns
        )


def _parse(line: str) -> _Pattern | None:
    if not line:
        return None
    is_exception = line.startswith("!")
    pattern = line[1:].strip() if is_exception else line
    if not pattern:
        raise InvalidParameter('illegal exclusion pattern: "!" must be followed by a pattern')
    cleaned = posixpath.normpath(pattern).lstrip("/") or "/"
    expression = _compiled(cleaned).pattern
    return _Pattern(is_exception, tuple(cleaned.split("/")), re.compile(f"(?:{expression})(?:/.*)?", _FLAGS))


def _may_match_below(components: tuple[str, ...], names: list[str]) -> bool:
    for component, name in zip(components, names, strict=False):
        if "**" in component or "[" in component:  # may reach beyond its own directory
            return True
        if not match_glob(component, name):
            return False
    return True


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    rest = pattern[2:]
    if pattern.startswith("**") and not rest.startswith("/") and not _WILD.search(rest):
        return re.compile(".*" + re.escape(rest), _FLAGS)  # **name: whatever ends in it
    return re.compile(_translate(pattern), _FLAGS)


def _translate(pattern: str) -> str:
    """As a regular expression. Between two stars the first match is as good as any: ``(?>…)`` does not try others."""
    result: list[str] = []
    position = 0
    star = -1  # where in ``result`` the last "*" of this component is
    while position < len(pattern):
        if pattern.startswith("**", position):
            position, piece = _double_star(pattern, position)
            result.append(piece)
            star = -1
            continue
        character = pattern[position]
        position += 1
        if character == "*":
            if star >= 0:
                result[star:] = ["(?>[^/]*?", *result[star + 1 :], ")"]
            star = len(result)
            result.append("[^/]*")
        elif character == "?":
            result.append("[^/]")
        elif character == "[":
            position, piece = _character_class(pattern, position)
            result.append(piece)
            star = -1  # a class may match "/", so that the first match may not be the right one
        else:
            if character == "\\":
                if position == len(pattern):
                    raise _malformed(pattern)
                character = pattern[position]
                position += 1
            elif character == "/":
                star = -1
            result.append(re.escape(character))
    return "".join(result)


def _double_star(pattern: str, position: int) -> tuple[int, str]:
    """From ``**`` on; ``**/**/`` is the same as ``**/``."""
    while pattern.startswith("**/**/", position):
        position += 3
    position += 2
    position += pattern.startswith("/", position)
    return position, ".*" if position == len(pattern) else "(?:.*/)?"


def _character_class(pattern: str, position: int) -> tuple[int, str]:
    """From behind ``[`` on."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", position)):
        position, low = _class_character(pattern, position)
        high = low
        if pattern.startswith("-", position):
            position, high = _class_character(pattern, position + 1)
        if low <= high:  # a range that runs backwards matches nothing
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")
    body = "".join(ranges)
    if not body:
        return position + 1, "." if negated else r"(?!)"
    return position + 1, f"[{'^' if negated else ''}{body}]"


def _class_character(pattern: str, position: int) -> tuple[int, str]:
    character = pattern[position : position + 1]
    if character in ("", "-", "]"):
        raise _malformed(pattern)
    if character == "\\":
        position += 1
        character = pattern[position : position + 1]
    if not character or position + 1 >= len(pattern):
        raise _malformed(pattern)
    return position + 1, character


def _malformed(pattern: str) -> InvalidParameter:
    return InvalidParameter(f"syntax error in pattern {pattern!r}")
