"""What an automatic garbage collection takes, and why each other thing stays. Pure.

A *thing* is an image, or a left-over of an interrupted pull: a layer, a blob or an unfinished download that no image
has. Things share *parts* (layers and blobs): what removing one frees are the parts that nothing else keeps.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Policy:
    """What may stay; None is no limit. With ``tagged`` a tag does not keep an image."""

    max_age_s: float | None = None  # since it was last used
    max_size_bytes: int | None = None  # of all images, unpacked and as blobs
    min_free_bytes: int | None = None  # on the file system
    tagged: bool = False

    @property
    def has_limit(self) -> bool:
        return any(each is not None for each in (self.max_age_s, self.max_size_bytes, self.min_free_bytes))


@dataclass(frozen=True, slots=True)
class Thing:
    """``kind`` image|layer|blob|partial. ``needed``: who needs it whatever the policy says, "" if nobody does."""

    kind: str
    id: str
    last_used_ns: int
    parts: frozenset[str]
    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    parent_id: str = ""
    needed: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``size_bytes``: what its removal frees, or what it alone keeps. ``reason``: why it goes or stays."""

    thing: Thing
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """``collected`` in the order in which they go; ``total_bytes`` of all parts before that."""

    collected: tuple[Verdict, ...]
    kept: tuple[Verdict, ...]
    total_bytes: int
    free_bytes: int

    @property
    def freed_bytes(self) -> int:
        return sum(verdict.size_bytes for verdict in self.collected)


def make_plan(
    things: Sequence[Thing],
    sizes: Mapping[str, int],
    pinned: Iterable[str],
    policy: Policy,
    *,
    now_ns: int,
    free_bytes: int,
) -> Plan:
    """``sizes``: bytes of every part; ``pinned``: parts that stay even if nothing here has them.

    The least recently used goes first; no image goes before those that are made from it.
    """
    state = _State(things, sizes, pinned)
    total, free = state.total_bytes, free_bytes
    collected: list[Verdict] = []
    while True:
        for thing in state.removable(policy):
            reason = _why(thing, policy, now_ns, total, free)
            if reason:
                break
        else:
            break
        size = state.remove(thing)
        total, free = total - size, free + size
        collected.append(Verdict(thing, size, reason))
    kept = tuple(
        Verdict(thing, state.own_bytes(thing), state.stays(thing, policy, now_ns)) for thing in state.left
    )
    return Plan(tuple(collected), kept, state.total_bytes, free_bytes)


class _State:
    """What is left of the things, and who keeps which part."""

    def __init__(self, things: Sequence[Thing], sizes: Mapping[str, int], pinned: Iterable[str]) -> None:
        self.left = sorted(things, key=lambda thing: (thing.last_used_ns, thing.id))
        self._sizes = sizes
        self._users = Counter(part for thing in things for part in thing.parts)
        self._users.update(set(pinned))
        self._children = Counter(thing.parent_id for thing in things if thing.parent_id)
        self.total_bytes = sum(sizes.get(part, 0) for part in self._users)

    def removable(self, policy: Policy) -> list[Thing]:
        return [
            thing
            for thing in self.left
            if not thing.needed and not self._children[thing.id] and (policy.tagged or not thing.tags)
        ]

    def own_bytes(self, thing: Thing) -> int:
        return sum(self._sizes.get(part, 0) for part in thing.parts if self._users[part] == 1)

    def remove(self, thing: Thing) -> int:
        """Take it out; the bytes that this frees."""
        size = self.own_bytes(thing)
        self.left.remove(thing)
        self._users.subtract(thing.parts)
        if thing.parent_id:
            self._children[thing.parent_id] -= 1
        return size

    def stays(self, thing: Thing, policy: Policy, now_ns: int) -> str:
        if thing.needed:
            return thing.needed
        if self._children[thing.id]:
            child = next(each for each in self.left if each.parent_id == thing.id)
            return f"image {_short(child.id)} is made from it"
        if thing.tags and not policy.tagged:
            return f"has the tag {thing.tags[0]}"
        return f"used {ago(now_ns - thing.last_used_ns)}, within the limits"


def _why(thing: Thing, policy: Policy, now_ns: int, total: int, free: int) -> str:
    """Why the policy wants ``thing`` gone, the least recently used of what may go; "" if it does not."""
    age_ns = now_ns - thing.last_used_ns
    if policy.max_age_s is not None and age_ns > policy.max_age_s * NS:
        return f"used {ago(age_ns)}, more than {span(policy.max_age_s)} is too long"
    if policy.max_size_bytes is not None and total > policy.max_size_bytes:
        return (
            f"used {ago(age_ns)}, the longest ago, and images take {total} of {policy.max_size_bytes} bytes"
        )
    if policy.min_free_bytes is not None and free < policy.min_free_bytes:
        return f"used {ago(age_ns)}, the longest ago, and {free} of {policy.min_free_bytes} bytes are free"
    return ""


def ago(age_ns: int) -> str:
    return f"{span(max(0, age_ns) / NS)} ago"


def span(seconds: float) -> str:
    """``3 days``, ``1 hour``: in the largest unit that is there at least once, rounded down."""
    for name, unit_s in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= unit_s:
            count = int(seconds // unit_s)
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{int(seconds)} second{'' if int(seconds) == 1 else 's'}"


def _short(image_id: str) -> str:
    return image_id.partition(":")[2][:12]
