"""Lists of things on stdout: aligned columns, `--format` templates over rows, JSON lines."""

from __future__ import annotations

import os
import sys

from minictl import jsontext
from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

_MIN_WIDTH = 10
_PADDING = 3


class Row:
    """One thing in a list: its fields are computed only when asked for (`.Names` in a template)."""

    __slots__ = ("_fields", "item")

    def __init__(self, item: Any, fields: Mapping[str, Callable[[Any], Any]]) -> None:
        self.item = item
        self._fields = fields

    def field(self, name: str) -> Any:
        """Raises KeyError when there is no such field."""
        return self._fields[name](self.item)

    def names(self) -> list[str]:
        return list(self._fields)

    def plain(self) -> dict[str, Any]:
        """All fields that need no argument, sorted: what `{{json .}}` and `--format json` show."""
        values = {name: self.field(name) for name in sorted(self._fields)}
        return {name: value for name, value in values.items() if not callable(value)}


class _Headers:
    """Stands for a row when the head line of `table TEMPLATE` is made."""

    def __init__(self, headers: Mapping[str, str], labels: bool) -> None:
        self._headers = headers
        self._labels = labels

    def names(self) -> list[str]:
        return list(self._headers)

    def field(self, name: str) -> Any:
        if name == "Label" and self._labels:
            return _label_header
        return self._headers[name]


def _label_header(name: str) -> str:
    """A label's column is headed by its last part: com.example.some-thing → some thing."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def show(
    items: Sequence[Any],
    fields: Mapping[str, Callable[[Any], Any]],
    headers: Mapping[str, str],
    default: Sequence[str],
    template: str,
) -> None:
    """Writes `items` to stdout: a table of the `default` fields, or as `template` (`table …`, `json`, `TEMPLATE`)."""
    if template in ("", "table"):
        lines = [[headers[name] for name in default]]
        lines += [[str(fields[name](item)) for name in default] for item in items]
        write(aligned(lines))
        return
    if template == "json":
        write("".join(jsontext.dumps_for_html(Row(item, fields).plain()) + "\n" for item in items))
        return
    from minictl.template import Template
    from minictl.template_syntax import TemplateError

    wants_table = template.startswith("table ")
    text = template.removeprefix("table ").strip() if wants_table else template
    text = text.replace("\\t", "\t").replace("\\n", "\n")
    try:
        parsed = Template(text)
    except TemplateError as error:
        raise Failure(f"failed to parse template: {error.detail}") from None
    try:
        rendered = [parsed.render(Row(item, fields)) for item in items]
    except TemplateError as error:
        raise Failure(f"failed to execute template: {error.detail}") from None
    if not wants_table:
        write("".join(line + "\n" for line in rendered))
        return
    head = parsed.render(_Headers(headers, "Label" in fields))
    lines = [line.split("\t") for text in (head, *rendered) for line in text.split("\n")]
    write(aligned(lines))


def aligned(lines: Sequence[Sequence[str]], minimum: int = _MIN_WIDTH, padding: int = _PADDING) -> str:
    """Columns at least `minimum` wide, `padding` spaces between (Go's tabwriter: a line's last cell is not
    padded).

    A column is a run of lines that have such a cell; a line without it ends the run.
    """
    widths: list[list[int]] = [[0] * max(len(line) - 1, 0) for line in lines]
    for column in range(max((len(row) for row in widths), default=0)):
        start = 0
        while start < len(lines):
            if len(widths[start]) <= column:
                start += 1
                continue
            end = start
            widest = 0
            while end < len(lines) and len(widths[end]) > column:
                widest = max(widest, len(lines[end][column]))
                end += 1
            for index in range(start, end):
                widths[index][column] = max(widest + padding, minimum)
            start = end
    text = []
    for line, row in zip(lines, widths, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(line, row, strict=False)]
        text.append("".join(cells) + (line[-1] if line else "") + "\n")
    return "".join(text)


def write(text: str) -> None:
    """All of `text` to stdout, at once, as UTF-8 whatever the locale says; after what has been printed there."""
    from minictl.streams import write_all

    if text:
        sys.stdout.flush()
        write_all(1, text.encode("utf-8", "surrogateescape"))


def ellipsis(text: str, width: int) -> str:
    """`text`, or its beginning and "…" where it is longer than `width`."""
    return text if len(text) <= width else text[: width - 1] + "…" if width > 1 else text[:width]


def short_id(identity: str) -> str:
    """The first twelve digits of an ID, without `sha256:`."""
    return identity.removeprefix("sha256:")[:12]


def config_format(key: str) -> str:
    """The format that config.json sets for a list (`psFormat`, `imagesFormat`, …), "" if none."""
    from minictl import config

    if not os.path.exists(config.path()):
        return ""
    return str(config.load().get(key, ""))
