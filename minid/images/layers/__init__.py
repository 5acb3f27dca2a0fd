"""Layers: tar archives of a file system's changes (OCI image-spec layer.md), read and unpacked by our own
code.

    tar      blocks to entries, pure             stream   pipe → inflate, hash → blocks, in a thread
    unpack   entries to files below the root     merge    several unpacked layers to one tree
    changes  what a container has changed     difference   the same as a layer's tar
    canonical  layers that are made here      compare  an unpacked layer with what it should be
    members  an archive of images taken apart pack         a tar stream made into a layer's blob
    probe    what the kernel and the file system can do

The functions named ``…_job`` run in processes of their own, which the forkserver forks; this package is
stdlib-only (plus isal, zstandard and ``minid.kernel``) for its sake.
"""

import json
import os
from typing import Any

from minid.images.layers.canonical import adopt_job, describe_job, rewrite_job
from minid.images.layers.changes import changes_job
from minid.images.layers.compare import compare_job
from minid.images.layers.difference import difference_job
from minid.images.layers.members import receive_job
from minid.images.layers.merge import merge_job
from minid.images.layers.pack import pack_job
from minid.images.layers.probe import probe_job
from minid.images.layers.stream import Stream, check_media_type
from minid.images.layers.tar import TarError
from minid.images.layers.unpack import Unpacker
from minid.kernel.files import grow_pipe, remove_tree, syncfs

__all__ = [
    "TarError",
    "adopt_job",
    "changes_job",
    "compare_job",
    "describe_job",
    "difference_job",
    "merge_job",
    "pack_job",
    "probe_job",
    "receive_job",
    "remove_job",
    "rewrite_job",
    "unpack_job",
]


def unpack_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Unpack the layer in the pipe ``fds[0]`` into ``directory``/fs, describe it in
    ``directory``/layer.json, syncfs.

    A job: chroots, so its process must end after it. ``request``: ``directory`` (with an empty ``fs`` in
    it), ``media_type`` (may be ""), ``style`` ("overlay" or "list"), ``diff_id`` ("sha256:…" to be
    verified, or ""), ``verified`` (it has been: the stream is that, uncompressed). Returns ``diff_id``,
    ``size_bytes``, ``entries``; ``layer.json`` also has ``root_entry``, ``implied``, ``hidden`` and ``opaque``
    (paths as hex; see ``Unpacker``). Raises TarError and OSError naming the entry and the reason.
    """
    check_media_type(request["media_type"])
    description = os.open(
        os.path.join(request["directory"], "layer.json"),
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
        0o600,
    )
    os.chroot(os.path.join(request["directory"], "fs"))
    os.chdir("/")
    grow_pipe(fds[0])
    verified = bool(request.get("verified"))
    stream = Stream(fds[0], hashed=not verified)
    try:
        unpacker = Unpacker(request["style"])
        unpacker.run(stream)
        digest = stream.finish()
        diff_id = request["diff_id"] if verified else f"sha256:{digest}"
    finally:
        stream.close()
    if request["diff_id"] and diff_id != request["diff_id"]:
        raise TarError(
            f"the layer's contents have the digest {diff_id}, but the image says {request['diff_id']}"
        )
    result = {"diff_id": diff_id, "size_bytes": unpacker.size_bytes, "entries": unpacker.entries}
    details = {
        "root_entry": unpacker.root_entry,
        "implied": [path.hex() for path in unpacker.implied],
        "hidden": [path.hex() for path in unpacker.hidden],
        "opaque": [path.hex() for path in unpacker.opaque],
    }
    with open(description, "w") as file:
        json.dump(result | details, file)
        file.flush()
        if request.get("sync", True):
            syncfs(description)
    return result


def remove_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Remove the trees ``paths``; idempotent."""
    for path in request["paths"]:
        remove_tree(path)
    return {}
