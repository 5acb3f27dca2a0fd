"""The jobs behind COPY, ADD and WORKDIR (standard library, isal, zstandard, minid.kernel, minid.images.layers only).

A request is JSON in the file ``fds[0]`` (a Dockerfile may have more words than a message holds), the contexts' files
are the descriptors behind it. The target is mounted where only this process sees it, then chrooted into: no link in it,
and nothing in an archive, leads anywhere else.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minid.build import listing, selection
from minid.build.fingerprint import fingerprint
from minid.build.selection import CopyError, Excluded, Item
from minid.build.trees import DiskTree, InlineTree, ListedTree, Tree
from minid.build.writing import Owner, Placer, find_owner
from minid.kernel import rootmount

MAX_CONTEXT_FDS = 14  # a message has at most 16 descriptors


def digest_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """``digest`` of what would be copied; of a root file system the files are read."""
    del request
    order = _order(fds[0])
    source = rootmount.mount_to_read(order["rootfs"]) if order["rootfs"] is not None else None
    return {"digest": _digest(order, _trees(order, fds, source))}


def digest_of_contexts(order: Mapping[str, Any], fds: Sequence[int]) -> str:
    """The same without a root file system; needs no job."""
    return _digest(order, _trees(order, fds, None))


def copy_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Copy into the root file system ``target``."""
    del request
    order = _order(fds[0])
    source = None
    if order["rootfs"] is None:
        target = rootmount.mount_root(order["target"])
    else:
        target, source = rootmount.mount_with_source(order["target"], order["rootfs"])
    rootmount.enter(target)
    os.umask(0)
    copy = order["copy"]
    trees = _trees(order, fds, source)
    excluded = Excluded(copy["exclude"])
    change = selection.chmod(copy["chmod"])
    owner = find_owner(copy["chown"]) if copy["chown"] else None
    if owner is None and source is None:
        owner = Owner(0, 0)
    path, is_directory = selection.destination(copy["workdir"], copy["destination"])
    items = _items(order, trees, excluded)
    selection.check_destination(items, is_directory, copy["instruction"])
    placer = Placer(owner, change, excluded, copy["epoch_s"], chown_given=bool(copy["chown"]))
    for item in items:
        unpack = copy["unpack_fetched"] if item.is_fetched else copy["unpack"]
        placer.place(item, path, is_directory, unpack=unpack)
    placer.finish()
    return {}


def make_directory_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Make the directory ``path`` in ``target``; ``made``: whether it was missing."""
    del fds
    target = rootmount.mount_root(request["target"])
    rootmount.enter(target)
    os.umask(0)
    owner = find_owner(request["owner"]) if request["owner"] else Owner(0, 0)
    placer = Placer(owner, None, Excluded(()), request["epoch_s"])
    path = selection.destination("/", request["path"])[0]
    try:
        made = placer.make_directory(path)
    except NotADirectoryError:
        raise CopyError(f"Cannot mkdir: {path} is not a directory") from None
    placer.finish()
    return {"made": made}


def unpack_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Make the whole context of ``fds[0]`` (``listing``: where its listing is) as files in ``directory``."""
    os.chroot(request["directory"])
    os.chdir("/")
    os.umask(0)
    tree = _listed(fds[0], fds[-1], *request["listing"])
    root = tree.find("/")
    assert root is not None
    placer = Placer(Owner(0, 0), None, Excluded(()), None)
    placer.place(Item(tree, root, "", "/"), "/", True, unpack=False)
    placer.finish()
    return {}


def _order(fd: int) -> dict[str, Any]:
    order: dict[str, Any] = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
    return order


class _Trees:
    """The trees of one copy: ``main`` is a context or root file system, or None."""

    def __init__(self) -> None:
        self.main: Tree | None = None
        self.fetched: dict[str, tuple[Tree, str, str]] = {}
        self.inline: list[Item] = []


def _trees(order: Mapping[str, Any], fds: Sequence[int], rootfs: int | None) -> _Trees:
    trees = _Trees()
    listed = {
        contents: _listed(fds[contents], fds[listing_], *place)
        for contents, listing_, place in order["contexts"]
    }
    if rootfs is not None:
        trees.main = DiskTree(rootfs)
    elif order["context"] is not None:
        trees.main = listed[order["context"]]
    for word, number, path, name in order["fetched"]:
        trees.fetched[word] = (listed[number], path, name)
    trees.inline = _inline(order["copy"]["inline"])
    return trees


def _listed(contents: int, fd: int, offset: int, length: int) -> ListedTree:
    data = b""
    while len(data) < length and (piece := os.pread(fd, length - len(data), offset + len(data))):
        data += piece
    return ListedTree(contents, listing.load(data))


def _inline(files: Sequence[tuple[str, str]]) -> list[Item]:
    """Heredocs, as files in a tree of their own."""
    items = []
    for name, text in files:
        tree = InlineTree(os.fsencode(text))
        items.append(Item(tree, tree.node, name, name))
    return items


def _items(order: Mapping[str, Any], trees: _Trees, excluded: Excluded) -> list[Item]:
    copy = order["copy"]
    chosen = selection.select(
        trees.main,
        copy["sources"],
        trees.fetched,
        parents=copy["parents"],
        excluded=excluded,
        is_context=order["rootfs"] is None,
    )
    return chosen + trees.inline


def _digest(order: Mapping[str, Any], trees: _Trees) -> str:
    copy = order["copy"]
    excluded = Excluded(copy["exclude"])
    items = _items(order, trees, excluded)
    path, is_directory = selection.destination(copy["workdir"], copy["destination"])
    selection.check_destination(items, is_directory, copy["instruction"])
    options = {
        "destination": [path, is_directory],
        **{key: copy[key] for key in ("chown", "chmod", "parents", "exclude", "epoch_s")},
        **{key: copy[key] for key in ("unpack", "unpack_fetched")},
    }
    change: Callable[[int, bool], int] | None = selection.chmod(copy["chmod"])
    return fingerprint(items, excluded, options, change, owners=not copy["chown"])
