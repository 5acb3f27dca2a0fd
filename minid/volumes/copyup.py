"""Copy-up: a new, empty volume gets what the image has at the place where it is mounted, as Docker does it."""

import os
from typing import Any

from minid.kernel import rootmount, rootpath
from minid.kernel.trees import OPEN_DIR, TreeCopy


def copy_up_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Copy the directory ``path`` of ``rootfs`` (with its owner and mode) into the directory ``volume``.

    A job: unshares its mount namespace. Nothing is done where ``path`` is missing or no directory, or
    ``volume`` is not empty. Returns ``{"copied": bool}``; raises OSError with the path.
    """
    volume = os.open(request["volume"], OPEN_DIR & ~os.O_NOFOLLOW)
    if os.listdir(volume):
        return {"copied": False}
    root = rootmount.mount_root(request["rootfs"], scratch=True)
    source = rootpath.find_in_root(root, request["path"], os.O_RDONLY | os.O_DIRECTORY)
    if source is None:
        return {"copied": False}
    TreeCopy(volume).merge(source)
    return {"copied": True}
