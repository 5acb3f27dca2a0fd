"""From bytes to statements: directives, comments, continuation lines, here-documents.

Source: docs.docker.com/reference/dockerfile § Format, Parser directives, Here-Documents.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from minid.build.dockerfile.errors import DockerfileError
from minid.build.dockerfile.heredocs import Opening, find_openings
from minid.build.dockerfile.model import Directives, Heredoc, Location
from minid.build.dockerfile.words import TRIMMED, is_json, split_once

_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(.+)", re.DOTALL)
_DIRECTIVES = ("syntax", "escape", "check")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")
_FLAG = re.compile(r"--\S*\s+")


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction's text: its lines joined, without comments and bodies of here-documents."""

    text: str
    location: Location
    comments: tuple[str, ...] = ()
    has_empty_continuation: bool = False
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(slots=True)
class _Lines:
    """The lines of the file (with their line ends) and how far they have been read."""

    name: str
    lines: list[str]
    escape: str = "\\"
    position: int = 0
    comments: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        while self.position < len(self.lines):
            self.position += 1
            yield self.lines[self.position - 1]

    def error(self, reason: str, first: int, expected: str = "") -> DockerfileError:
        text = self.lines[first - 1].strip(TRIMMED)
        return DockerfileError(reason, Location(self.name, first, max(first, self.position)), text, expected)


def decode(data: bytes, name: str) -> str:
    """The text of the file. What is not UTF-8 becomes U+FFFD, as Docker shows it; UTF-16 is refused."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DockerfileError(f"{name} is UTF-16 text: save it as UTF-8")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")


def source_lines(text: str) -> tuple[str, ...]:
    """The lines without their ends; what follows the last newline is a line only if it is not empty."""
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return tuple(lines if lines[-1] else lines[:-1])


def read(text: str, name: str, escape: str = "\\") -> tuple[Directives, list[Statement]]:
    """The directives at the top and all statements. ``DockerfileError``."""
    lines = _Lines(name, re.findall(r"[^\n]*\n|[^\n]+", text), escape)
    directives = replace(_read_directives(lines), escape=lines.escape)
    return directives, list(_read_statements(lines))


def _read_directives(lines: _Lines) -> Directives:
    found: dict[str, str] = {}
    for line in lines:
        match = _DIRECTIVE.fullmatch(line.strip(TRIMMED))
        key = match[1].lower() if match else ""
        if match is None or key not in _DIRECTIVES:
            lines.position -= 1
            break
        if key in found:
            raise lines.error(f"only one {key} parser directive can be used", lines.position)
        found[key] = match[2]
        if key == "escape":
            if match[2] not in ("\\", "`"):
                raise lines.error(f"invalid escape token '{match[2]}' does not match ` or \\", lines.position)
            lines.escape = match[2]
    return Directives(**found)


def _read_statements(lines: _Lines) -> Iterator[Statement]:
    for line in lines:
        stripped = line.strip(TRIMMED)
        if not stripped:
            lines.comments.clear()
        elif stripped.startswith("#"):
            lines.comments.append(stripped[1:].strip(TRIMMED))
        else:
            yield _read_statement(lines, line)
            lines.comments.clear()


def _read_statement(lines: _Lines, line: str) -> Statement:
    first = lines.position
    pieces: list[str] = []
    has_empty = False
    piece, goes_on = _without_continuation(line.lstrip(TRIMMED), lines.escape)
    pieces.append(piece)
    while goes_on and lines.position < len(lines.lines):
        line = next(iter(lines))
        stripped = line.strip(TRIMMED)
        if not stripped:
            has_empty = True
        elif not stripped.startswith("#"):
            piece, goes_on = _without_continuation(line, lines.escape)
            pieces.append(piece)
    text = "".join(pieces).strip(TRIMMED)
    if "\0" in text:
        raise lines.error("a NUL character in the instruction", first)
    heredocs = tuple(
        _read_heredoc(lines, opening, first) for opening in _heredoc_openings(text, lines.escape)
    )
    return Statement(
        text=text,
        location=Location(lines.name, first, lines.position),
        comments=tuple(lines.comments),
        has_empty_continuation=has_empty,
        heredocs=heredocs,
    )


def _without_continuation(line: str, escape: str) -> tuple[str, bool]:
    """The line without its end, and without an escape there (blanks may follow it), which means that it goes on.

    Two escapes mean no such thing, whatever an example of the reference says: dockerd 20.10 does the same.
    """
    line = line.rstrip("\r\n")
    trimmed = line.rstrip(" \t")
    if trimmed.endswith(escape) and not trimmed.endswith(escape * 2):
        return trimmed[:-1], True
    return line, False


def _heredoc_openings(text: str, escape: str) -> list[Opening]:
    if "<<" not in text:
        return []
    keyword, rest = split_once(text)
    if keyword.upper() == "ONBUILD":
        keyword, rest = split_once(rest)
    if keyword.upper() not in _WITH_HEREDOCS:
        return []
    command = rest
    while match := _FLAG.match(command):
        command = command[match.end() :]
    return [] if is_json(command) else find_openings(rest, escape)


def _read_heredoc(lines: _Lines, opening: Opening, first: int) -> Heredoc:
    body: list[str] = []
    for line in lines:
        ended = line.rstrip("\r\n")
        if (ended.lstrip("\t") if opening.strip_tabs else ended) == opening.name:
            return Heredoc(
                opening.name, "".join(body), opening.expand, opening.strip_tabs, opening.descriptor
            )
        body.append(line)
    raise lines.error(
        f"unterminated heredoc: {opening.name} is missing", first, f"a line with nothing but {opening.name}"
    )
