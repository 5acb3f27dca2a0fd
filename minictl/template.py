"""Go templates (text/template) for `--format`: the subset that people use (its syntax is in template_syntax).

Fields, chains, pipelines, variables, if/else if/else, range (with index, else, break, continue), with,
comments, trimming, Go's built-in functions and the docker CLI's own (json, join, split, lower, upper, title,
pad, truncate, println). Values are what JSON gives (dict, list, str, int, float, bool, None) and objects with
a `field(name)` method.
"""

from __future__ import annotations

from minictl import template_functions, template_syntax
from minictl.template_syntax import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A parsed template. Raises TemplateError when `text` isn't one."""

    def __init__(
        self,
        text: str,
        missing: Mapping[str, Any] | None = None,
        null: Mapping[str, str] | None = None,
        *,
        strict: bool = True,
    ) -> None:
        """`missing` gives the values of fields that an answer may leave out (they are no error then), `null` what is
        printed for fields whose value is null (lists and maps that Go knows to be such: `[]`, `map[]`). Unless
        `strict`, a field that isn't there has no value, and is no error.
        """
        self._nodes = template_syntax.parse(text)
        self._missing = missing or {}
        self._null = null or {}
        self._strict = strict

    def render(self, data: Any) -> str:
        out: list[str] = []
        _Run(self._missing, self._null, self._strict, data, out).nodes(self._nodes, data)
        return "".join(out)


_NO_ARGUMENT = object()


class _Run:
    def __init__(
        self, missing: Mapping[str, Any], null: Mapping[str, str], strict: bool, root: Any, out: list[str]
    ) -> None:
        self._missing = missing
        self._strict = strict
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
            if not self._strict:
                return None
            problem = f"map has no entry for key {template_functions.quoted(name)}"
        elif hasattr(value, "field"):
            try:
                return value.field(name)
            except KeyError:
                known = ", ".join(sorted(value.names()))
                problem = f"can't evaluate field {name} (there are {known})"
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
