"""Which records of the build cache go. Pure.

    layer        what a step came to; its size counts only if no image has the layer, else removing it frees nothing
    cache mount  a directory of ``RUN --mount=type=cache``
    source       what was downloaded for ADD or as a context

``Engine API v1.44 POST /build/prune``.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from minid.errors import InvalidParameter

LAYER, CACHE_MOUNT, SOURCE = "regular", "exec.cachemount", "source.local"
FILTERS = ("until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private")


@dataclass(frozen=True, slots=True)
class Record:
    """``shared``: an image has the layer, too. ``in_use``: a build has it mounted right now."""

    id: str
    kind: str
    description: str
    size_bytes: int
    created_ns: int
    last_used_ns: int
    uses: int
    shared: bool = False
    in_use: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """``all``: what images have, too. ``before_ns``: only what was last used before. ``keep_bytes``: stop there."""

    all: bool = False
    keep_bytes: int = 0
    before_ns: int | None = None
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)


def choose(records: Iterable[Record], wanted: Wanted) -> list[Record]:
    """Those to remove, the least recently used first. InvalidParameter for an unknown filter."""
    filters = dict(wanted.filters)
    for name in filters:
        if name not in FILTERS:
            raise InvalidParameter(f"invalid filter '{name}': build prune takes {', '.join(FILTERS)}")
    ordered = sorted(records, key=lambda record: (record.last_used_ns, record.id))
    left_bytes = sum(record.size_bytes for record in ordered if not record.shared)
    chosen = []
    for record in ordered:
        if record.in_use or (record.shared and not wanted.all) or not _matches(record, filters):
            continue
        if wanted.before_ns is not None and record.last_used_ns >= wanted.before_ns:
            continue
        if wanted.keep_bytes and left_bytes <= wanted.keep_bytes:
            break
        chosen.append(record)
        left_bytes -= 0 if record.shared else record.size_bytes
    return chosen


def _matches(record: Record, filters: Mapping[str, Collection[str]]) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "id": lambda value: record.id.startswith(value),
        "type": lambda value: record.kind == value,
        "description": lambda value: value in record.description,
        "parent": lambda value: False,  # records have none: a key stands for itself
        "inuse": lambda value: record.in_use,
        "shared": lambda value: record.shared,
        "private": lambda value: not record.shared,
    }
    return all(
        any(tests[name](value) for value in values) for name, values in filters.items() if name in tests
    )
