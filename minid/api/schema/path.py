"""What a path in a container is, for ``docker cp``: the API's only object with camelCase keys."""

import stat as modes
from typing import Any

from minid.api.schema.naming import timestamp
from minid.containers.archive import PathStat

GO_TYPE_BITS = {  # of Go's fs.FileMode
    modes.S_IFDIR: 1 << 31,
    modes.S_IFLNK: 1 << 27,
    modes.S_IFBLK: 1 << 26,
    modes.S_IFIFO: 1 << 25,
    modes.S_IFSOCK: 1 << 24,
    modes.S_IFCHR: 1 << 26 | 1 << 21,
    modes.S_IFREG: 0,
}
GO_SPECIAL_BITS = {modes.S_ISUID: 1 << 23, modes.S_ISGID: 1 << 22, modes.S_ISVTX: 1 << 20}


def path_stat(stat: PathStat) -> dict[str, Any]:
    """``X-Docker-Container-Path-Stat`` before base64; ``stat.mode`` is a ``stat(2)`` st_mode."""
    return {
        "name": stat.name,
        "size": stat.size_bytes,
        "mode": go_file_mode(stat.mode),
        "mtime": timestamp(stat.mtime_ns),
        "linkTarget": stat.link_target,
    }


def go_file_mode(mode: int) -> int:
    """A ``stat(2)`` mode as Go's ``fs.FileMode``, which clients of the API expect."""
    special = sum(go for unix, go in GO_SPECIAL_BITS.items() if mode & unix)
    return GO_TYPE_BITS.get(modes.S_IFMT(mode), 1 << 19) | special | (mode & 0o777)
