"""A YAML (or JSON) document whose every value knows the line it stands on.

PyYAML's own loader forgets lines; the composer's node tree has them. JSON is read by the same path,
as it is YAML but for two things that real ``daemon.json`` files have: tabs between tokens, a byte order mark.
"""

import codecs
import json
from dataclasses import dataclass
from typing import Any

import yaml

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Wrong(ValueError):
    """A value that cannot be accepted; ``line`` counts from 1, 0 when there is none (a flag)."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Located:
    """``value``: None, bool, int, float, str, list of Located, or Entries; ``line`` counts from 1."""

    value: Any
    line: int

    def described(self) -> str:
        """The value as an error message shows it: ``the number 5``, ``the text "x"``, ``a list``."""
        match self.value:
            case None:
                return "nothing"
            case bool():
                return "true" if self.value else "false"
            case int() | float():
                return f"the number {self.value}"
            case str():
                return f"the text {json.dumps(self.value, ensure_ascii=False)}"
            case Entries():
                return "a mapping"
            case _:
                return "a list"


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping's entries in the file's order: key, its line, value. A key may stand there twice."""

    items: tuple[tuple[str, int, Located], ...]


def parse(raw: bytes) -> Located:
    """The document in ``raw``; an empty one is None. Raises ``Wrong`` at the first syntax error."""
    bom, encoding = next(((mark, name) for mark, name in _BOMS if raw.startswith(mark)), (b"", "utf-8"))
    raw = raw.removeprefix(bom)
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Wrong(f"not {encoding.upper()} text: {error.reason}", line) from None
    if "\t" in text and text.lstrip().startswith("{"):
        # JSON allows tabs between tokens and forbids them inside of strings, so no content is touched.
        text = text.replace("\t", " ")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "syntax error"
        raise Wrong(f"not valid YAML: {problem}", mark.line + 1 if mark else 0) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Wrong(
            f"not valid YAML: a character that is not allowed (0x{error.character:02x})", line
        ) from None
    except RecursionError:
        raise Wrong("not valid YAML: nested too deeply") from None
    if node is None:
        return Located(None, 1)
    return _located(node, 0)


def _located(node: yaml.Node, depth: int) -> Located:
    line = node.start_mark.line + 1
    if depth > 20:
        raise Wrong("nested too deeply", line)
    if isinstance(node, yaml.SequenceNode):
        return Located([_located(item, depth + 1) for item in node.value], line)
    if isinstance(node, yaml.MappingNode):
        entries = []
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise Wrong("a key must be text", key_line)
            entries.append((str(key_node.value), key_line, _located(value_node, depth + 1)))
        return Located(Entries(tuple(entries)), line)
    assert isinstance(node, yaml.ScalarNode)
    return Located(_scalar(node, line), line)


def _scalar(node: yaml.ScalarNode, line: int) -> Any:
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind in ("bool", "int", "float", "null"):
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (ValueError, yaml.YAMLError) as error:
            raise Wrong(f"not a valid value: {error}", line) from None
    if kind in ("str", "timestamp", "value", "merge"):
        # \ud83d\ude00 in JSON is one character written as a surrogate pair; YAML leaves the halves.
        text = str(node.value)
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise Wrong("half of a surrogate pair", line) from None
    raise Wrong(f"the tag {node.tag} is not understood here", line)
