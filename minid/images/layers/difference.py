"""What a container has changed, written as a layer's tar: ``docker commit``.

Source: OCI image-spec layer.md § Representing Changes, Whiteouts.
"""

import os
from typing import Any

from minid.images.layers.canonical import write_changes
from minid.images.layers.changes import find_changes
from minid.images.layers.write import TreeWriter
from minid.kernel import rootpath
from minid.kernel.files import grow_pipe


def difference_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Write the layer of ``rootfs`` over ``layers`` (as for ``changes_job``) to ``fds[0]``; how many ``entries``.

    A running container may go on changing its files: what vanishes meanwhile is left out.
    """
    rootfs, out = request["rootfs"], fds[0]
    found, _ = find_changes(rootfs, request["layers"])
    os.chroot(rootfs["upper"] if rootfs["kind"] == "overlay" else rootfs["source"])
    os.chdir("/")
    grow_pipe(out)
    write_changes(TreeWriter(out, lambda path, directory: False), rootpath.open_root("/"), found)
    return {"entries": len(found)}
