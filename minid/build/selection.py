"""What a COPY or ADD takes from its sources, and what it calls that: the rules of the reference. Pure over a ``Tree``.

Source: docs.docker.com/reference/dockerfile, ADD and COPY ("Source", "Destination", --parents, --exclude).
"""

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from minid.build import listing, modes
from minid.build.listing import Node
from minid.build.patterns import Patterns, match_glob
from minid.build.trees import Tree

_WILD = "*?["


class CopyError(ValueError):
    """The copy can't be made as it is written; the message is for a person."""


class MissingSource(CopyError):
    """A source is not there; the message goes behind "COPY failed: "."""


class Excluded:
    """``--exclude``: whether a file is left out. Paths are relative to the source, a directory; a single file is its
    name. What lies in an excluded directory is excluded with it, unless a pattern says otherwise ("!").
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self._patterns = Patterns(lines) if lines else None

    def __call__(self, path: str) -> bool:
        return self._patterns is not None and self._patterns.matches(path)

    def enters(self, path: str) -> bool:
        """Whether something in the directory ``path`` may be wanted."""
        return self._patterns is None or (
            not self._patterns.matches(path) or self._patterns.may_unignore_below(path)
        )

    def children(self, tree: Tree, node: Node, prefix: str) -> Iterator[tuple[str, Node]]:
        """What is left of the directory ``node``, whose path is ``prefix`` ("", "a/b/")."""
        if self._patterns is None:
            yield from tree.children(node)
            return
        for name, child in tree.children(node):
            path = prefix + name
            if not self._patterns.matches(path) or (
                child.kind == listing.DIRECTORY
                and self._patterns.may_unignore_below(path)
                and next(self.children(tree, child, path + "/"), None) is not None
            ):
                yield name, child


@dataclass(slots=True)
class Item:
    """One thing that is copied: ``node`` of ``tree``, a directory's contents or a file.

    ``name`` is a file's own; with ``parents`` (directories as (name, node), outermost first) it is made below them, and
    a directory is made itself. ``path`` is for messages.
    """

    tree: Tree
    node: Node
    name: str
    path: str
    parents: tuple[tuple[str, Node], ...] | None = None
    is_fetched: bool = False


def select(
    tree: Tree | None,
    sources: Sequence[str],
    fetched: Mapping[str, tuple[Tree, str, str]],
    *,
    parents: bool,
    excluded: Excluded,
    is_context: bool,
) -> list[Item]:
    """What ``sources`` name, in order. ``fetched``: remote ones → tree, path and name. Raises MissingSource."""
    items: list[Item] = []
    for source in sources:
        if source in fetched:
            items.append(_fetched_item(*fetched[source]))
        elif tree is None:
            raise _missing(source, is_context)
        elif parents:
            items += _with_parents(tree, source, excluded, is_context)
        else:
            items += _plain(tree, source, excluded, is_context)
    return items


def is_wild(path: str) -> bool:
    """Whether Go's filepath.Match would not take ``path`` literally."""
    return any(character in path for character in _WILD) or "\\" in path


def destination(workdir: str, word: str) -> tuple[str, bool]:
    """The absolute, clean destination, and whether it has to be a directory."""
    is_directory = word.endswith("/") or posixpath.basename(word) in (".", "..", "")
    path = posixpath.normpath("/" + posixpath.join("/" + workdir.lstrip("/"), word).lstrip("/"))
    return path, is_directory


def check_destination(items: Sequence[Item], is_directory: bool, instruction: str) -> None:
    """Raises CopyError where several things would become one file."""
    if not items:
        raise MissingSource("no source files were specified")
    if len(items) > 1 and not is_directory:
        raise CopyError(
            f"When using {instruction} with more than one source file, "
            "the destination must be a directory and end with a /"
        )


def _fetched_item(tree: Tree, path: str, name: str) -> Item:
    node = tree.find(path)
    if node is None:
        raise _missing(path, False)
    return Item(tree, node, name, name or path, is_fetched=True)


def _plain(tree: Tree, source: str, excluded: Excluded, is_context: bool) -> Iterator[Item]:
    path = _absolute(source)
    if not is_wild(path):
        yield from _item(tree, path, path, excluded, is_context, source)
        return
    for found in _expand(tree, path):
        yield from _item(tree, found, found, excluded, is_context, source)


def _item(
    tree: Tree, path: str, shown: str, excluded: Excluded, is_context: bool, source: str
) -> Iterator[Item]:
    real = listing.follow(path, tree.find)
    node = tree.find(real)
    if node is None:
        raise _missing(shown if is_wild(source) else source, is_context)
    if node.kind == listing.DIRECTORY or not excluded(posixpath.basename(path)):
        yield Item(tree, node, posixpath.basename(path), shown)


def _expand(tree: Tree, pattern: str) -> list[str]:
    """The paths that match, sorted. Links are followed in front of the first wildcard, not behind it."""
    names = pattern.strip("/").split("/")
    first = next(index for index, name in enumerate(names) if is_wild(name))
    prefix = "/".join(["", *names[:first]])
    start = listing.follow(prefix, tree.find)
    found = [(prefix, start)]
    for depth, name in enumerate(names[first:], first):
        following = []
        for shown, path in found:
            node = tree.find(path)
            if node is None or node.kind != listing.DIRECTORY:
                continue
            following += [
                (f"{shown}/{child}", posixpath.join(path, child))
                for child, _ in tree.children(node)
                if match_glob(name, child)
            ]
        found = following
        del depth
    return [shown for shown, _ in found]


def _with_parents(tree: Tree, source: str, excluded: Excluded, is_context: bool) -> list[Item]:
    """``--parents``: everything that matches behind the pivot ("/./", or the root), with its directories."""
    pivot, found, pattern = source.partition("/./")
    if not found:
        pivot, pattern = "/", source
    base = listing.follow(_absolute(pivot), tree.find)
    root = tree.find(base)
    pattern = _absolute(pattern).strip("/")
    if root is None:
        raise _missing(source, is_context)
    if root.kind != listing.DIRECTORY:
        raise CopyError(f"{pivot} is not a directory")
    items = list(_below(tree, root, "", (), pattern, excluded))
    if not items and not is_wild(pattern):
        raise _missing(source, is_context)
    return items


def _below(
    tree: Tree,
    directory: Node,
    prefix: str,
    parents: tuple[tuple[str, Node], ...],
    pattern: str,
    excluded: Excluded,
) -> Iterator[Item]:
    if not pattern:
        yield Item(tree, directory, "", "/", ())
        return
    for name, node in tree.children(directory):
        path = prefix + name
        out = excluded(path)
        if match_glob(pattern, path):
            if not out or (node.kind == listing.DIRECTORY and excluded.enters(path)):
                yield Item(tree, node, name, path, parents)
        elif node.kind == listing.DIRECTORY and excluded.enters(path) and _may_match_below(pattern, path):
            yield from _below(tree, node, path + "/", (*parents, (name, node)), pattern, excluded)


def _may_match_below(pattern: str, path: str) -> bool:
    """Whether the pattern can match something in the directory ``path``: its first components match."""
    names, parts = path.split("/"), pattern.split("/")
    for index, name in enumerate(names):
        if index >= len(parts):
            return False
        if parts[index] == "**":
            return True
        if not match_glob(parts[index], name):
            return False
    return len(parts) > len(names)


def _absolute(path: str) -> str:
    """Clean; leading ``..`` and trailing slashes count for nothing."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _missing(path: str, is_context: bool) -> MissingSource:
    reason = f"stat {path.lstrip('/')}: file does not exist"
    if is_context:
        reason = f"file not found in build context or excluded by .dockerignore: {reason}"
    return MissingSource(reason)


def chmod(text: str) -> Callable[[int, bool], int] | None:
    """Raises CopyError."""
    if not text:
        return None
    try:
        return modes.parse(text)
    except ValueError as error:
        raise CopyError(str(error)) from None
