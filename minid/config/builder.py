"""The key ``builder``: how much the build cache may keep. As in ``daemon.json``.

    builder:
      gc:
        enabled: true
        defaultKeepStorage: 20GB

What no image needs is removed after a build, the least recently used first, until at most so much is left. Pure.
Source: docs.docker.com/build/cache/garbage-collection.
"""

from dataclasses import dataclass
from typing import Any

from minid.config.kinds import BOOL, SIZE, Kind
from minid.config.located import Entries, Located, Wrong

KEEP_BYTES = 20 << 30


@dataclass(frozen=True, slots=True)
class BuilderGc:
    enabled: bool = True
    keep_bytes: int = KEEP_BYTES


_KEYS = {"enabled": ("enabled", BOOL.from_file), "defaultKeepStorage": ("keep_bytes", SIZE.from_file)}


def _entries(node: Located, known: tuple[str, ...]) -> list[tuple[str, Located]]:
    if not isinstance(node.value, Entries):
        raise Wrong(f"expected a mapping, got {node.described()}", node.line)
    for key, line, _ in node.value.items:
        if key not in known:
            raise Wrong(f"{key}: unknown key (known are {', '.join(known)})", line)
    return [(key, value) for key, _, value in node.value.items]


def _from_file(node: Located) -> BuilderGc:
    fields: dict[str, Any] = {}
    for _, gc in _entries(node, ("gc",)):
        for key, value in _entries(gc, tuple(_KEYS)):
            name, read = _KEYS[key]
            try:
                fields[name] = read(value)
            except Wrong as error:
                raise Wrong(f"gc: {key}: {error}", error.line) from None
    return BuilderGc(**fields)


def _from_text(raw: str) -> BuilderGc:
    raise Wrong("only in the configuration file")


BUILDER = Kind("map", _from_text, _from_file)
