"""What a container has changed, written as a layer's tar: ``docker commit``.

Source: OCI image-spec layer.md § Representing Changes, Whiteouts.
"""

import errno
import os
from typing import Any

from minid.images.layers import tar
from minid.images.layers.changes import DELETED, find_changes
from minid.images.layers.header import header
from minid.images.layers.unpack import WHITEOUT
from minid.images.layers.write import TreeWriter
from minid.kernel import rootpath
from minid.kernel.files import grow_pipe
from minid.kernel.trees import OPEN_DIR

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


def difference_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write the layer of ``rootfs`` over ``layers`` (as for ``changes_job``) to ``fds[0]``; how many ``entries``.

    A running container may go on changing its files: what vanishes meanwhile is left out.
    """
    rootfs, out = request["rootfs"], fds[0]
    found, _ = find_changes(rootfs, request["layers"])
    os.chroot(rootfs["upper"] if rootfs["kind"] == "overlay" else rootfs["source"])
    os.chdir("/")
    root = rootpath.open_root("/")
    grow_pipe(out)
    writer = TreeWriter(
        out, lambda path, directory: False
    )  # what is in a directory has its own path in ``found``
    for path, kind in sorted(found):
        if kind == DELETED:
            parent, _, name = path.rpartition("/")
            hidden = f"{parent}/" * bool(parent) + WHITEOUT.decode() + name
            writer.write(header(os.fsencode(hidden), tar.REGULAR, mode=0))
        else:
            _add(writer, root, path)
    writer.close()
    return {"entries": len(found)}


def _add(writer: TreeWriter, root: int, path: str) -> None:
    parent, _, name = path.rpartition("/")
    try:
        directory = rootpath.open_in_root(root, parent or ".", OPEN_DIR)
        try:
            writer.add(directory, name, path)
        finally:
            os.close(directory)
    except OSError as error:
        if error.errno not in _GONE:
            raise OSError(error.errno, error.strerror, path) from None
