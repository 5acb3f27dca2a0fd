"""Layers: tar archives of a file system's changes (OCI image-spec layer.md), read and unpacked by our own
code.

tar      blocks to entries, pure               stream   pipe → inflate, hash → blocks, in a thread
unpack   entries to files below the root       write    files to entries (cp, export, commit)
"""

import os
from typing import Any

from minid.images.layers.stream import Stream, check_media_type
from minid.images.layers.tar import TarError
from minid.images.layers.unpack import Unpacker
from minid.kernel.files import grow_pipe, syncfs

__all__ = ["TarError", "unpack_job"]


def unpack_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Unpack the layer in the pipe ``fds[0]`` into the directory ``target`` and make it durable (syncfs(2)).

    A job: chroots, so its process must end after it. ``request``: ``target``, ``media_type`` (may be ""),
    ``style`` ("overlay" or "apply"), ``diff_id`` ("sha256:…" to be verified, or ""). Returns ``diff_id``,
    ``size_bytes``, ``entries``, ``root_entry`` and ``implied`` (hex, directories without an entry of their
    own). Raises TarError and OSError naming the entry and the reason.
    """
    check_media_type(request["media_type"])
    os.chroot(request["target"])
    os.chdir("/")
    grow_pipe(fds[0])
    stream = Stream(fds[0])
    try:
        unpacker = Unpacker(request["style"])
        unpacker.run(stream)
        diff_id = "sha256:" + stream.finish()
    finally:
        stream.close()
    if request["diff_id"] and diff_id != request["diff_id"]:
        raise TarError(
            f"the layer's contents have the digest {diff_id}, but the image says {request['diff_id']}"
        )
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    syncfs(root)
    os.close(root)
    return {
        "diff_id": diff_id,
        "size_bytes": unpacker.size_bytes,
        "entries": unpacker.entries,
        "root_entry": unpacker.root_entry,
        "implied": [path.hex() for path in unpacker.implied],
    }
