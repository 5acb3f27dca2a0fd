"""The digest of what a COPY copies: names, kinds, permissions, owners, contents, attributes; never times. Pure.

It says nothing of where the files come from: an equal file of another stage, or of another context, is the same.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minid.build import listing
from minid.build.listing import Node
from minid.build.selection import Excluded, Item
from minid.build.trees import Tree


def fingerprint(
    items: Sequence[Item],
    excluded: Excluded,
    options: Mapping[str, Any],
    change: Callable[[int, bool], int] | None,
    *,
    owners: bool,
) -> str:
    """``sha256:…`` over the items, and over ``options`` (JSON) that change what becomes of them.

    ``change`` is ``--chmod``; without ``owners`` the files' own do not count (``--chown``).
    """
    total = hashlib.sha256(_line(dict(options)))
    for item in items:
        walk = _Walk(total.update, item.tree, excluded, change, owners)
        if item.parents is None and item.node.kind == listing.DIRECTORY:
            total.update(b"contents\n")  # its own name and permissions get lost
            walk.children(item.node, "")
            continue
        prefix = ""
        for name, node in item.parents or ():
            walk.node(name, node)
            prefix += name + "/"
        total.update(_line([item.is_fetched, item.parents is not None]))
        walk.tree(item.name, item.node, prefix + item.name + "/" if item.name else "")
    return "sha256:" + total.hexdigest()


class _Walk:
    """Over one item."""

    def __init__(
        self,
        update: Callable[[bytes], object],
        tree: Tree,
        excluded: Excluded,
        change: Callable[[int, bool], int] | None,
        owners: bool,
    ) -> None:
        self._update = update
        self._tree = tree
        self._excluded = excluded
        self._change = change
        self._owners = owners
        self._files = 0
        self._links: dict[int, int] = {}  # link → the number of the file that was its first name

    def tree(self, name: str, node: Node, prefix: str) -> None:
        self.node(name, node)
        if node.kind == listing.DIRECTORY:
            self.children(node, prefix)

    def children(self, node: Node, prefix: str) -> None:
        for name, child in self._excluded.children(self._tree, node, prefix):
            self.tree(name, child, f"{prefix}{name}/")
        self._update(b"/\n")

    def node(self, name: str, node: Node) -> None:
        fields: list[Any] = [name, node.kind]
        if node.kind == listing.SYMLINK:
            fields.append(node.target)
        elif self._change is None:
            fields.append(node.mode)
        else:
            fields.append(self._change(node.mode, node.kind == listing.DIRECTORY))
        if self._owners:
            fields += [node.uid, node.gid]
        if node.kind == listing.FILE:
            fields += [node.size, self._tree.digest(node)]
            if node.link in self._links:  # whether the other names are copied too shows at the second
                fields.append({"link": self._links[node.link]})
            elif node.link:
                self._links[node.link] = self._files
            self._files += 1
        elif node.kind in (listing.CHARACTER, listing.BLOCK):
            fields += [node.major, node.minor]
        if node.xattrs:
            fields.append(sorted(node.xattrs.items()))
        self._update(_line(fields))


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode() + b"\n"
