"""Several unpacked layers made into one tree by copying, for drivers without overlayfs (vfs, btrfs).

The layers are in the form of style "list": what they hide of the layers below is in ``layer.json``, not in
the tree. OCI image-spec layer.md § Applying Changesets: hide first, then put the layer's own files over the
rest.
"""

import contextlib
import errno
import json
import os
from typing import Any

from minid.kernel import syscall
from minid.kernel.files import remove_tree, syncfs
from minid.kernel.trees import OPEN_DIR, TreeCopy

_NO_LINKS = syscall.RESOLVE_BENEATH | syscall.RESOLVE_NO_SYMLINKS


def merge_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Merge the layers in the directories ``layers`` (base first) into the directory ``target``; ``sync``
    to be durable.
    """
    target = os.open(request["target"], OPEN_DIR)
    copy = TreeCopy(target)
    for directory in request["layers"]:
        with open(os.path.join(directory, "layer.json")) as file:
            layer = json.load(file)
        _hide(target, layer)
        keep = {_text(path) for path in layer["implied"]}
        if not layer["root_entry"]:
            keep.add("")
        source = os.open(os.path.join(directory, "fs"), OPEN_DIR)
        try:
            copy.merge(source, keep_attributes=keep)
        finally:
            os.close(source)
    if request["sync"]:
        syncfs(target)
    os.close(target)
    return {}


def _hide(target: int, layer: dict[str, Any]) -> None:
    for path in layer["opaque"]:
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            _Directory(target, _text(path)) as fd,
        ):
            for name in os.listdir(fd):
                remove_tree(name, fd)
    for path in layer["hidden"]:
        parent, name = os.path.split(_text(path))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), _Directory(target, parent) as fd:
            remove_tree(name, fd)


class _Directory:
    """The directory ``path`` below ``root``, reached over no symlink: where one is, this layer replaces it
    anyway.
    """

    def __init__(self, root: int, path: str) -> None:
        self._root = root
        self._path = path or "."

    def __enter__(self) -> int:
        try:
            self._fd = syscall.openat2(self._root, self._path, os.O_RDONLY | os.O_DIRECTORY, 0, _NO_LINKS)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(error.errno, error.strerror, self._path) from None
            raise
        return self._fd

    def __exit__(self, *exception: object) -> None:
        os.close(self._fd)


def _text(path: str) -> str:
    return os.fsdecode(bytes.fromhex(path))
