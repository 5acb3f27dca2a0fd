"""`.dockerignore`: which paths of a context stay behind, by the rules of moby's patternmatcher.

A file is a list of patterns, the last that matches counts. `*` and `?` match within one component, `**` any number of
them, `[a-z]` one character, `\\` takes a meaning away, `!` in front brings back what an earlier pattern ignored. A path
is ignored too when a pattern matches a directory above it, unless a later `!` pattern matches the path or one of
these. github.com/moby/patternmatcher; its oddities (`**x` matches at the end of any name, `[]x]` is refused) are kept.
"""

from __future__ import annotations

import os

from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Matches = Sequence[bool]

_WILD = frozenset("*?[]^\\")
_LITERAL = frozenset(".+()|{}$")
_BLANKS = " \t\n\v\f\r\x85\xa0"


class Pattern:
    """One line: `text` without `!`, cleaned; `exception` when there was one; `match(path)`."""

    __slots__ = ("exception", "match", "text")

    def __init__(self, line: str) -> None:
        line = clean(line)
        self.exception = line.startswith("!")
        self.text = line[1:] if self.exception else line
        if not self.text:
            raise Failure('illegal exclusion pattern: "!"')
        _check_syntax(self.text)
        self.match: Callable[[str], bool] = _matcher(self.text)

    @property
    def prefix(self) -> str:
        """The directory or file that the pattern begins with, `/**` or `/*` at its end left out."""
        return self.text.removesuffix("/**").removesuffix("/*")


class Patterns:
    """A whole list. `ignored` is asked from the top downwards, with what it said of the directory above."""

    __slots__ = ("_patterns", "_plain_exceptions", "_prefixes")

    def __init__(self, lines: Sequence[str]) -> None:
        self._patterns = [Pattern(line) for line in (line.strip(_BLANKS) for line in lines) if line]
        self._prefixes = [pattern.prefix + "/" for pattern in self._patterns if pattern.exception]
        self._plain_exceptions = all(_WILD.isdisjoint(prefix) for prefix in self._prefixes)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def ignored(self, path: str, above: Matches = ()) -> tuple[bool, Matches]:
        """(whether `path` stays behind, what to pass as `above` for the entries in it).

        `path` is relative, with "/"; `above` is () for an entry of the top directory.
        """
        ignored = False
        matches = []
        for index, pattern in enumerate(self._patterns):
            matched = bool(above) and above[index]
            # An exception changes nothing for what is not ignored, nor a pattern for what is: not even looked at.
            if not matched and pattern.exception == ignored:
                matched = pattern.match(path)
            matches.append(matched)
            if matched:
                ignored = not pattern.exception
        return ignored, matches

    def ignored_alone(self, path: str) -> bool:
        """Whether `path` stays behind, asked without a walk."""
        ignored = False
        above: Matches = ()
        parts = path.split("/")
        for count in range(len(parts)):
            ignored, above = self.ignored("/".join(parts[: count + 1]), above)
        return ignored

    def may_bring_back(self, directory: str) -> bool:
        """Whether something in the ignored `directory` may not be ignored, so that it has to be walked."""
        if not self._plain_exceptions:
            return True
        return any(prefix.startswith(directory + "/") for prefix in self._prefixes)


def parse(data: bytes) -> list[str]:
    """The patterns that an ignore file holds: comments and empty lines left out, paths made relative."""
    lines = []
    for line in data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n"):
        if line.startswith("#"):
            continue
        text = line.strip(_BLANKS)
        if not text:
            continue
        exception = text.startswith("!")
        if exception:
            text = text[1:].strip(_BLANKS)
        if text:
            text = clean(text)
            if len(text) > 1 and text.startswith("/"):
                text = text[1:]
        lines.append("!" + text if exception else text)
    return lines


def clean(path: str) -> str:
    """The shortest path that means the same, as Go's filepath.Clean."""
    if path.startswith("//"):  # which os.path.normpath keeps, as POSIX allows
        path = "/" + path.lstrip("/")
    return os.path.normpath(path) if path else "."


def _check_syntax(text: str) -> None:
    """Refuses what Go's filepath.Match calls a bad pattern: an unfinished class or escape."""
    index = 0
    while index < len(text):
        letter = text[index]
        index += 1
        if letter == "\\":
            index += 1
            if index > len(text):
                raise _bad(text)
        elif letter == "[":
            index = _after_class(text, index)


def _after_class(text: str, index: int) -> int:
    """Where the class ends whose `[` is before `index`."""
    if text[index : index + 1] == "^":
        index += 1
    ranges = 0
    while True:
        if text[index : index + 1] == "]" and ranges:
            return index + 1
        index = _after_member(text, index)
        if text[index] == "-":
            index = _after_member(text, index + 1)
        ranges += 1


def _after_member(text: str, index: int) -> int:
    if index >= len(text) or text[index] in "-]":
        raise _bad(text)
    index += 2 if text[index] == "\\" else 1
    if index >= len(text):
        raise _bad(text)
    return index


def _bad(text: str) -> Failure:
    return Failure(f"syntax error in pattern: {text!r}")


def _matcher(text: str) -> Callable[[str], bool]:
    """A plain comparison where the pattern allows one (most do), else a regular expression."""
    if text[:2] == "**" and _is_plain(text[2:]):
        return _ends_with(text[2:])
    if _is_plain(text):
        return text.__eq__
    if text[-2:] == "**" and _is_plain(text[:-2]):
        start = text[:-2]
        return lambda path: path.startswith(start)
    return _expression(text)


def _is_plain(text: str) -> bool:
    return not any(letter in text for letter in "*?[]\\")


def _ends_with(end: str) -> Callable[[str], bool]:
    """`**/foo` and `**foo`; `**` alone takes everything."""
    alone = end[1:] if end.startswith("/") else None
    return lambda path: path.endswith(end) or path == alone


def _expression(text: str) -> Callable[[str], bool]:
    import re
    import warnings

    parts = []
    index = 0
    while index < len(text):
        letter = text[index]
        index += 1
        if letter == "*" and text[index : index + 1] == "*":
            index += 1
            if text[index : index + 1] == "/":
                index += 1
            parts.append("(.*/)?" if index < len(text) else ".*")
        elif letter == "*":
            parts.append("[^/]*")
        elif letter == "?":
            parts.append("[^/]")
        elif letter in _LITERAL:
            parts.append("\\" + letter)
        elif letter == "\\":
            parts.append(letter + text[index])
            index += 1
        else:
            parts.append(letter)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets in sets, which Python may have some day
            found = re.compile("".join(parts) + r"\Z").match
    except re.error:
        raise _bad(text) from None
    return lambda path: found(path) is not None
