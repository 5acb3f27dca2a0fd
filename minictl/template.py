"""Go templates (text/template) for `--format`: lexer, parser and evaluator of the subset that people use.

Fields, chains, pipelines, variables, if/else if/else, range (with index, else, break, continue), with,
comments, trimming, Go's built-in functions and the docker CLI's own (json, join, split, lower, upper, title,
pad, truncate, println). Values are what JSON gives (dict, list, str, int, float, bool, None) and objects with
a `field(name)` method.
"""

from __future__ import annotations

from minictl import template_functions
from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A parsed template. Raises TemplateError when `text` isn't one."""

    def __init__(
        self, text: str, missing: Mapping[str, Any] | None = None, null: Mapping[str, str] | None = None
    ) -> None:
        """`missing` gives the values of fields that an answer may leave out (they are no error then), `null` what is
        printed for fields whose value is null (lists and maps that Go knows to be such: `[]`, `map[]`).
        """
        self._nodes = _Parser(_lex(text)).block(())[0]
        self._missing = missing or {}
        self._null = null or {}

    def render(self, data: Any) -> str:
        out: list[str] = []
        _Run(self._missing, self._null, data, out).nodes(self._nodes, data)
        return "".join(out)


# --- lexer: a list of ("text", str) and ("action", [tokens]); a token is (kind, value) -------------------------------


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


# --- parser: nodes are tuples ("text", s), ("print", pipe), ("if"|"with"|"range", pipe, body, otherwise), … ----------


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


# --- evaluator --------------------------------------------------------------------------------------------------------

_NO_ARGUMENT = object()


class _Run:
    def __init__(
        self, missing: Mapping[str, Any], null: Mapping[str, str], root: Any, out: list[str]
    ) -> None:
        self._missing = missing
        self._null = null
        self._out = out
        self._scopes: list[dict[str, Any]] = [{"$": root}]

    def nodes(self, nodes: list[Any], dot: Any) -> None:
        for node in nodes:
            kind = node[0]
            if kind == "text":
                self._out.append(node[1])
            elif kind == "print":
                value = self._pipe(node[1], dot)
                if not node[1][1]:
                    self._out.append(
                        self._null_text(node[1]) if value is None else template_functions.text_of(value)
                    )
            elif kind == "break":
                raise _Break
            elif kind == "continue":
                raise _Continue
            else:
                self._scopes.append({})
                try:
                    if kind == "range":
                        self._range(node, dot)
                    else:
                        value = self._pipe(node[1], dot)
                        if template_functions.truth(value):
                            self.nodes(node[2], value if kind == "with" else dot)
                        else:
                            self.nodes(node[3], dot)
                finally:
                    self._scopes.pop()

    def _null_text(self, pipe: Any) -> str:
        operand = pipe[3][-1][0]
        name = operand[2][-1][0] if operand[0] == "field" else ""
        return self._null.get(name, template_functions.text_of(None))

    def _range(self, node: Any, dot: Any) -> None:
        names = node[1][1]
        value = self._pipe(("pipe", [], False, node[1][3]), dot)
        items: list[tuple[Any, Any]]
        if isinstance(value, dict):
            items = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list | tuple):
            items = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            items = [(index, index) for index in range(value)]
        elif value is None or value == "":
            items = []
        else:
            raise TemplateError(f"range can't iterate over {template_functions.text_of(value)}")
        if not items:
            self.nodes(node[3], dot)
            return
        for key, item in items:
            self._scopes.append({})
            try:
                if len(names) == 1:
                    self._scopes[-1][names[0]] = item
                elif len(names) == 2:
                    self._scopes[-1][names[0]] = key
                    self._scopes[-1][names[1]] = item
                self.nodes(node[2], item)
            except _Break:
                return
            except _Continue:
                continue
            finally:
                self._scopes.pop()

    def _pipe(self, pipe: Any, dot: Any) -> Any:
        _, names, declares, commands = pipe
        value: Any = _NO_ARGUMENT
        for command in commands:
            value = self._command(command, dot, value)
        for name in names:
            if declares:
                self._scopes[-1][name] = value
            else:
                for scope in reversed(self._scopes):
                    if name in scope:
                        scope[name] = value
                        break
                else:
                    raise TemplateError(f"undefined variable {template_functions.quoted(name)}")
        return value

    def _command(self, command: list[Any], dot: Any, last: Any) -> Any:
        first = command[0]
        if first[0] == "function" and first[1] in ("and", "or"):
            value: Any = None
            for operand in command[1:]:
                value = self._operand(operand, dot)
                if template_functions.truth(value) == (first[1] == "or"):
                    return value
            return value if last is _NO_ARGUMENT else last
        arguments = [self._operand(operand, dot) for operand in command[1:]]
        if last is not _NO_ARGUMENT:
            arguments.append(last)
        if first[0] == "function":
            function = template_functions.FUNCTIONS[first[1]]
            return self._call(first[1], function, arguments, command)
        value = self._operand(first, dot)
        if callable(value):
            return self._call(_shown(first), value, arguments, command)
        if arguments:
            raise TemplateError(f"can't give argument to non-function {_shown(first)}")
        return value

    def _call(self, name: str, function: Callable[..., Any], arguments: list[Any], command: list[Any]) -> Any:
        try:
            return function(*arguments)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            shown = " ".join(_shown(operand) for operand in command)
            place = command[0][2] if command[0][0] == "function" else -1
            raise TemplateError(f'executing "" at <{shown}>: error calling {name}: {error}', place) from None

    def _operand(self, node: Any, dot: Any) -> Any:
        kind = node[0]
        if kind == "value":
            return node[1]
        if kind == "dot":
            return dot
        if kind == "variable":
            for scope in reversed(self._scopes):
                if node[1] in scope:
                    return scope[node[1]]
            raise TemplateError(f"undefined variable {template_functions.quoted(node[1])}")
        if kind == "function":
            return self._call(node[1], template_functions.FUNCTIONS[node[1]], [], [node])
        if kind == "pipe":
            return self._pipe(node, dot)
        value = self._operand(node[1], dot)
        for name, position in node[2]:
            value = self._field(value, name, node, position)
        return value

    def _field(self, value: Any, name: str, node: Any, position: int) -> Any:
        if isinstance(value, dict):
            if name in value:
                return value[name]
            if name in self._missing:
                return self._missing[name]
            problem = f"map has no entry for key {template_functions.quoted(name)}"
        elif hasattr(value, "field"):
            try:
                return value.field(name)
            except KeyError:
                problem = f"can't evaluate field {name} in this type"
        elif value is None:
            problem = f"nil pointer evaluating interface {{}}.{name}"
        else:
            problem = f"can't evaluate field {name} in type {template_functions.type_of(value)}"
        raise TemplateError(f'executing "" at <{_shown(node)}>: {problem}', position)


def _shown(node: Any) -> str:
    """An operand as it is written, for messages."""
    kind = node[0]
    if kind == "field":
        front = node[1][1] if node[1][0] == "variable" else ""
        return front + "".join(f".{name}" for name, _ in node[2])
    if kind == "value":
        value = node[1]
        return (
            template_functions.quoted(value) if isinstance(value, str) else template_functions.text_of(value)
        )
    return {"dot": ".", "pipe": "(…)"}.get(kind) or str(node[1])
