"""The key ``builder``: how much the build cache may keep. As in ``daemon.json``.

    builder:
      gc:
        enabled: true
        defaultKeepStorage: 20GB
        policy: [{keepStorage: 10GB}, {keepStorage: 50GB, all: true}]

What no image needs is removed after a build, the least recently used first, until at most so much is left. Of policies
the most generous one counts: there is one kind of record, and no filter tells them apart. Pure.
Source: docs.docker.com/build/cache/garbage-collection.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minid.config.kinds import BOOL, SIZE, Kind
from minid.config.located import Entries, Located, Wrong

KEEP_BYTES = 20 << 30


@dataclass(frozen=True, slots=True)
class BuilderGc:
    enabled: bool = True
    keep_bytes: int = KEEP_BYTES


_SIZES = ("keepStorage", "reservedSpace", "maxUsedSpace", "minFreeSpace")


def _policy(node: Located) -> int | None:
    """What the policies let stay, in bytes."""
    if not isinstance(node.value, list):
        raise Wrong(f"expected a list, got {node.described()}", node.line)
    sizes = []
    for item in node.value:
        for key, value in _entries(item, (*_SIZES, "all", "filter", "keepDuration")):
            if key in ("keepStorage", "maxUsedSpace"):
                sizes.append(SIZE.from_file(value))
            elif key == "all":
                BOOL.from_file(value)
    return max(sizes, default=None)


_KEYS: dict[str, tuple[str, Callable[[Located], Any]]] = {
    "enabled": ("enabled", BOOL.from_file),
    "defaultKeepStorage": ("keep_bytes", SIZE.from_file),
    "defaultReservedSpace": ("keep_bytes", SIZE.from_file),
    "policy": ("keep_bytes", _policy),
}


def _entries(node: Located, known: tuple[str, ...]) -> list[tuple[str, Located]]:
    if not isinstance(node.value, Entries):
        raise Wrong(f"expected a mapping, got {node.described()}", node.line)
    for key, line, _ in node.value.items:
        if key not in known:
            raise Wrong(f"{key}: unknown key (known are {', '.join(known)})", line)
    return [(key, value) for key, _, value in node.value.items]


def _from_file(node: Located) -> BuilderGc:
    fields: dict[str, Any] = {}
    for part, gc in _entries(node, ("gc", "entitlements", "history")):
        for key, value in _entries(gc, tuple(_KEYS)) if part == "gc" else ():
            name, read = _KEYS[key]
            try:
                found = read(value)
            except Wrong as error:
                raise Wrong(f"gc: {key}: {error}", error.line) from None
            if found is not None:
                fields[name] = found
    return BuilderGc(**fields)


def _from_text(raw: str) -> BuilderGc:
    raise Wrong("only in the configuration file")


BUILDER = Kind("map", _from_text, _from_file)
