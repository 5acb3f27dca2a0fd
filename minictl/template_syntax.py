"""The syntax of Go templates: from text to a tree.

Lexer: a list of ("text", str) and ("action", [tokens]), a token being (kind, value). Parser: nodes are tuples, of
which the first says what they are: ("text", s), ("print", pipe), ("if" | "with" | "range", pipe, body, otherwise),
("break",), ("continue",); a pipe is ("pipe", variables, declares, [commands]); a command is a list of operands:
("value", v), ("dot",), ("variable", name), ("function", name, position), ("field", operand, [(name, position)]), pipe.
"""

from __future__ import annotations

from minictl import template_functions
from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KEYWORDS = ("if", "else", "end", "range", "with", "break", "continue", "define", "template", "block")
_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
}


class TemplateError(Failure):
    """The template is wrong, or doesn't fit what it is applied to."""

    def __init__(self, reason: str, position: int = -1) -> None:
        place = f"1:{position}" if position >= 0 else "1"
        self.detail = f"template: :{place}: {reason}"
        super().__init__(f"template parsing error: {self.detail}")


def parse(text: str) -> list[Any]:
    """The nodes of a template. Raises TemplateError."""
    return _Parser(_lex(text)).block(())[0]


def _lex(text: str) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = []
    position = 0
    trim = False
    while True:
        start = text.find("{{", position)
        chunk = text[position:] if start < 0 else text[position:start]
        if trim:
            chunk = chunk.lstrip(" \t\r\n")
        if start >= 0 and text.startswith("- ", start + 2):
            chunk = chunk.rstrip(" \t\r\n")
        if chunk:
            parts.append(("text", chunk))
        if start < 0:
            return parts
        inside = start + (4 if text.startswith("- ", start + 2) else 2)
        if text.startswith("/*", inside):
            close = text.find("*/", inside)
            end = text.find("}}", close) if close >= 0 else -1
            if end < 0:
                raise TemplateError("unclosed comment")
            trim = text[end - 2 : end] == " -"
            position = end + 2
            continue
        tokens, end = _lex_action(text, inside)
        trim = text[end - 2 : end] == " -"
        position = end + 2
        parts.append(("action", tokens))


def _lex_action(text: str, position: int) -> tuple[list[tuple[str, Any]], int]:
    tokens: list[tuple[str, Any]] = []
    value: Any
    count = len(text)
    while position < count:
        letter = text[position]
        if text.startswith("}}", position):
            return tokens, position
        if text.startswith("-}}", position) and text[position - 1] in " \t\r\n":
            return tokens, position + 1
        if letter in " \t\r\n":
            end = position
            while end < count and text[end] in " \t\r\n":
                end += 1
            tokens.append(("space", " "))
            position = end
        elif letter in "\"'":
            value, position = _quoted(text, position)
            tokens.append(("value", ord(value[0]) if letter == "'" and value else value))
        elif letter == "`":
            end = text.find("`", position + 1)
            if end < 0:
                raise TemplateError("unterminated raw quoted string")
            tokens.append(("value", text[position + 1 : end]))
            position = end + 1
        elif text.startswith(":=", position):
            tokens.append((":=", ":="))
            position += 2
        elif letter in "()|,=":
            tokens.append((letter, letter))
            position += 1
        elif letter == "." or letter == "$" or letter.isalpha() or letter == "_":
            end = position + 1
            if letter == "." and end < count and text[end].isdigit():
                value, position = _number(text, position)
                tokens.append(("value", value))
                continue
            while end < count and (text[end].isalnum() or text[end] == "_"):
                end += 1
            word = text[position:end]
            kind = "field" if letter == "." and len(word) > 1 else "dot" if letter == "." else "word"
            if kind == "field":
                tokens.append((kind, (word[1:], position)))
            elif kind == "word" and letter != "$" and word not in _KEYWORDS:
                tokens.append(("name", (word, position)))
            else:
                tokens.append(("variable" if letter == "$" else kind, word))
            position = end
        elif letter.isdigit() or letter in "+-":
            value, position = _number(text, position)
            tokens.append(("value", value))
        else:
            raise TemplateError(f"unexpected {letter!r} in command".replace("'", '"', 2))
    raise TemplateError("unclosed action")


def _quoted(text: str, position: int) -> tuple[str, int]:
    quote = text[position]
    result: list[str] = []
    position += 1
    while position < len(text):
        letter = text[position]
        if letter == quote:
            return "".join(result), position + 1
        if letter == "\n":
            break
        if letter == "\\" and position + 1 < len(text):
            position += 1
            escape = text[position]
            digits = {"x": 2, "u": 4, "U": 8}.get(escape, 0)
            if digits:
                result.append(chr(int(text[position + 1 : position + 1 + digits], 16)))
                position += digits
            elif escape in _ESCAPES:
                result.append(_ESCAPES[escape])
            else:
                raise TemplateError("invalid syntax in a quoted string")
        else:
            result.append(letter)
        position += 1
    raise TemplateError("unterminated quoted string")


def _number(text: str, position: int) -> tuple[int | float, int]:
    end = position + 1
    while end < len(text) and (text[end].isalnum() or text[end] in "._"):
        end += 1
    word = text[position:end]
    try:
        return int(word, 0), end
    except ValueError:
        try:
            return float(word), end
        except ValueError:
            raise TemplateError(f"bad number syntax: {template_functions.quoted(word)}") from None


class _Parser:
    def __init__(self, parts: list[tuple[str, Any]]) -> None:
        self._parts = parts
        self._at = 0

    def block(self, stops: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
        """Nodes up to an action that is one of `stops`, and that action's tokens."""
        nodes: list[Any] = []
        while self._at < len(self._parts):
            kind, value = self._parts[self._at]
            self._at += 1
            if kind == "text":
                nodes.append(("text", value))
                continue
            tokens = _strip(value)
            word = tokens[0][1] if tokens and tokens[0][0] == "word" else ""
            if word in stops:
                return nodes, tokens
            if word in ("if", "with", "range"):
                nodes.append(self._branch(word, tokens[1:]))
            elif word in ("break", "continue"):
                nodes.append((word,))
            elif word in _KEYWORDS:
                raise TemplateError(f"unexpected {{{{{word}}}}}")
            else:
                nodes.append(("print", _Pipe(tokens).parse()))
        if stops:
            raise TemplateError("unexpected EOF")
        return nodes, []

    def _branch(self, word: str, tokens: list[Any]) -> Any:
        pipe = _Pipe(tokens).parse()
        body, stop = self.block(("else", "end"))
        otherwise: list[Any] = []
        if stop[0][1] == "else":
            rest = _strip(stop[1:])
            if rest and rest[0] in (("word", "if"), ("word", "with")):
                return (word, pipe, body, [self._branch(rest[0][1], rest[1:])])
            if rest:
                raise TemplateError("unexpected tokens after else")
            otherwise, _ = self.block(("end",))
        return (word, pipe, body, otherwise)


def _strip(tokens: list[Any]) -> list[Any]:
    while tokens and tokens[0][0] == "space":
        tokens = tokens[1:]
    while tokens and tokens[-1][0] == "space":
        tokens = tokens[:-1]
    return tokens


class _Pipe:
    """Parses one pipeline: ("pipe", variables, assign?, [commands]); a command is a list of operands."""

    def __init__(self, tokens: list[Any]) -> None:
        self._tokens = _strip(tokens)
        self._at = 0

    def parse(self) -> Any:
        pipe = self._pipeline()
        if self._at < len(self._tokens):
            raise TemplateError(
                f"unexpected {template_functions.quoted(str(self._tokens[self._at][1]))} in operand"
            )
        return pipe

    def _peek(self) -> tuple[str, Any]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _space(self) -> bool:
        found = False
        while self._peek()[0] == "space":
            self._at += 1
            found = True
        return found

    def _pipeline(self) -> Any:
        variables, declares = self._variables()
        commands = []
        while True:
            commands.append(self._command())
            self._space()
            if self._peek()[0] != "|":
                break
            self._at += 1
        return ("pipe", variables, declares, commands)

    def _variables(self) -> tuple[list[str], bool]:
        start = self._at
        names: list[str] = []
        while self._peek()[0] == "variable":
            names.append(self._peek()[1])
            self._at += 1
            self._space()
            if self._peek()[0] == ",":
                self._at += 1
                self._space()
                continue
            if self._peek()[0] in (":=", "="):
                declares = self._peek()[0] == ":="
                self._at += 1
                return names, declares
            break
        self._at = start
        return [], False

    def _command(self) -> list[Any]:
        operands = []
        while True:
            self._space()
            if self._peek()[0] in ("end", "|", ")"):
                break
            operands.append(self._operand())
        if not operands:
            raise TemplateError("missing value for command")
        return operands

    def _operand(self) -> Any:
        kind, value = self._peek()
        self._at += 1
        node: Any
        if kind == "value":
            node = ("value", value)
        elif kind == "dot":
            node = ("dot",)
        elif kind == "variable":
            node = ("variable", value)
        elif kind == "name":
            word, position = value
            if word in ("true", "false"):
                node = ("value", word == "true")
            elif word == "nil":
                node = ("value", None)
            elif word in template_functions.FUNCTIONS or word in ("and", "or"):
                node = ("function", word, position)
            else:
                raise TemplateError(f"function {template_functions.quoted(word)} not defined")
        elif kind == "field":
            node = ("field", ("dot",), [value])
        elif kind == "(":
            node = self._pipeline()
            self._space()
            if self._peek()[0] != ")":
                raise TemplateError("unclosed left paren")
            self._at += 1
        else:
            raise TemplateError(f"unexpected {template_functions.quoted(str(value))} in operand")
        chain = []
        while self._peek()[0] == "field":
            chain.append(self._peek()[1])
            self._at += 1
        if chain:
            node = ("field", node[1], node[2] + chain) if node[0] == "field" else ("field", node, chain)
        return node
