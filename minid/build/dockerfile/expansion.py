"""Variables, quotes and escapes in words.

    $NAME  ${NAME}              the value, or nothing
    ${NAME:-word}  ${NAME-word} word if NAME is unset (with the colon: or empty)
    ${NAME:+word}  ${NAME+word} word if NAME is set (and not empty)
    ${NAME:?word}  ${NAME?word} an error that says word if NAME is unset (or empty)
    ${NAME#pattern}   ##        without the shortest (longest) beginning that matches
    ${NAME%pattern}   %%        without the shortest (longest) end that matches
    ${NAME/pattern/word}   //   the first (every) longest match replaced

In 'single quotes' all is literal. In "double quotes" the escape character is one before ``"``, ``$`` and itself.
``word`` and ``pattern`` may have variables and quotes in them. A pattern has ``*`` and ``?``; quoted they are
literal.

Source: docs.docker.com/reference/dockerfile § Environment replacement; POSIX XCU 2.6.2 Parameter Expansion.
"""

import re
from collections.abc import Callable

from minid.build.dockerfile import globs
from minid.build.dockerfile.errors import ExpansionError
from minid.build.dockerfile.words import TRIMMED

Lookup = Callable[[str], str | None]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-]", re.ASCII)
_DEPTH_MAX = 50


def expand(word: str, lookup: Lookup, *, escape: str = "\\") -> str:
    """One word, expanded; its blanks stay. ``ExpansionError``."""
    return Expander(lookup, escape).word(word)


def process_words(text: str, lookup: Lookup, *, escape: str = "\\") -> list[str]:
    """``text`` expanded and split at white space that is neither quoted nor escaped; values split, too."""
    return Expander(lookup, escape).words(text)


class Expander:
    """Expands words with one set of variables, and remembers which ones they used."""

    def __init__(self, lookup: Lookup, escape: str = "\\"):
        self.lookup = lookup
        self.escape = escape
        self.used: list[str] = []  # all names that were looked up
        self.undefined: list[str] = []  # those without value and without an alternative (":-" …)

    def word(self, text: str) -> str:
        if not any(special in text for special in (self.escape, "$", "'", '"')):
            return text
        return _Reader(self, text).read().text

    def words(self, text: str) -> list[str]:
        return _Reader(self, text).read().words()

    def heredoc(self, text: str) -> str:
        """As in a shell's here-document: quotes are text, the escape is one before ``$ ` \\`` and a newline."""
        return _Reader(self, text, in_heredoc=True).read().text

    def value(self, name: str) -> str | None:
        self.used.append(name)
        return self.lookup(name)


class _Result:
    """What has been read: as one ``text``, and as the words that unquoted white space makes of it."""

    def __init__(self) -> None:
        self._pieces: list[tuple[str, bool]] = []

    def add(self, text: str, quoted: bool) -> None:
        self._pieces.append((text, quoted))

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self._pieces)

    def words(self) -> list[str]:
        words: list[list[str]] = []
        inside = False
        for text, quoted in self._pieces:
            for character in [text] if quoted else text:
                if not quoted and character in TRIMMED:
                    inside = False
                    continue
                if not inside:
                    words.append([])
                inside = True
                words[-1].append(character)
        return ["".join(word) for word in words]


class _Reader:
    def __init__(self, expander: Expander, text: str, in_heredoc: bool = False):
        self.expander = expander
        self.escape = expander.escape
        self.text = text
        self.position = 0
        self.in_heredoc = in_heredoc
        self.depth = 0

    def read(self, stop: str = "", in_pattern: bool = False) -> _Result:
        """Reads up to an unquoted character of ``stop`` (not consumed) or the end.

        In a pattern, literal ``* ? \\`` come out with a backslash.
        """
        result = _Result()

        def literal(text: str) -> None:
            result.add(globs.escaped(text) if in_pattern else text, True)

        while (character := self._peek()) and character not in stop:
            self.position += 1
            if character == "'" and not self.in_heredoc:
                literal(self._single_quoted())
            elif character == '"' and not self.in_heredoc:
                self._double_quoted(literal)
            elif character == self.escape:
                self._escaped(literal)
            elif character == "$":
                result.add(self._dollar(), self.in_heredoc)
            else:
                result.add(character, self.in_heredoc)
        return result

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _escaped(self, literal: Callable[[str], None]) -> None:
        following = self._peek()
        self.position += 1
        special = ("$", "`", "\n", self.escape, "}" if self.depth else "$")
        if self.in_heredoc and following not in special:
            literal(self.escape + following)
        elif not (self.in_heredoc and following == "\n"):
            literal(following)

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.position)
        if end < 0:
            raise self._error("unexpected end of statement while looking for matching single-quote")
        quoted = self.text[self.position : end]
        self.position = end + 1
        return quoted

    def _double_quoted(self, literal: Callable[[str], None]) -> None:
        literal("")  # "" is a word, too
        while (character := self._peek()) != '"':
            self.position += 1
            if not character:
                raise self._error("unexpected end of statement while looking for matching double-quote")
            if character == "$":
                literal(self._dollar())
            elif character == self.escape:
                following = self._peek()
                if following and following in ('"', "$", self.escape):
                    self.position += 1
                    literal(following)
                else:
                    literal(self.escape)
            else:
                literal(character)
        self.position += 1

    def _dollar(self) -> str:
        if self._peek() == "{":
            self.position += 1
            self.depth += 1
            if self.depth > _DEPTH_MAX:
                raise self._error(f"syntax error: more than {_DEPTH_MAX} substitutions in each other")
            value = self._braced()
            self.depth -= 1
            return value
        match = _NAME.match(self.text, self.position)
        if match is None:
            return "$"
        self.position = match.end()
        return self._plain(match[0])

    def _plain(self, name: str) -> str:
        value = self.expander.value(name)
        if value is None:
            self.expander.undefined.append(name)
        return value or ""

    def _braced(self) -> str:
        match = _NAME.match(self.text, self.position)
        if match is None:
            raise self._error("syntax error: bad substitution")
        name = match[0]
        self.position = match.end()
        modifier = self._take("}", ":-", ":+", ":?", "-", "+", "?", "##", "#", "%%", "%", "//", "/")
        if modifier == "}":
            return self._plain(name)
        if not modifier:
            if not self._peek():
                raise self._error("syntax error: missing '}'")
            shown = self.text[self.position : self.position + (2 if self._peek() == ":" else 1)]
            raise self._error(f"unsupported modifier ({shown}) in substitution")
        value = self.expander.value(name)
        if modifier[0] in "#%":
            pattern = self._argument("}", in_pattern=True)
            return globs.without(value or "", pattern, modifier)
        if modifier[0] == "/":
            pattern = self._argument("/}", in_pattern=True, closes=False)
            self._take("/")
            replacement = self._argument("}")
            return (
                "" if value is None else globs.replaced(value, pattern, replacement, every=modifier == "//")
            )
        undefined = len(self.expander.undefined)
        argument = self._argument("}")
        is_given = bool(value) if modifier[0] == ":" else value is not None
        if is_given != (modifier[-1] == "+"):
            del self.expander.undefined[undefined:]  # the argument was not used
        if modifier[-1] == "+":
            return argument if is_given else ""
        if is_given:
            return value or ""
        if modifier[-1] == "?":
            what = "not allowed to be unset" if value is None else "not allowed to be empty"
            raise self._error(f"{name}: {argument or what}")
        return argument

    def _take(self, *choices: str) -> str:
        for choice in choices:
            if self.text.startswith(choice, self.position):
                self.position += len(choice)
                return choice
        return ""

    def _argument(self, stop: str, in_pattern: bool = False, closes: bool = True) -> str:
        """The text up to ``stop``; if it ``closes``, the brace is consumed."""
        argument = self.read(stop, in_pattern).text
        if not self._peek():
            raise self._error("syntax error: missing '}'")
        if closes:
            self.position += 1
        return argument

    def _error(self, reason: str) -> ExpansionError:
        return ExpansionError(f'failed to process "{self.text}": {reason}')
