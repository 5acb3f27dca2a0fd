"""Who is at the other end of a unix socket, as the kernel says it (``SO_PEERCRED``, ``unix(7)``)."""

import pwd
import socket
import struct
from dataclasses import dataclass
from typing import Protocol

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid


class HasSocketOptions(Protocol):
    """A socket, or asyncio's ``TransportSocket``."""

    @property
    def family(self) -> int: ...

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, as it was at that moment: ``pid`` may be gone, or another process, since.

    ``pid`` is 0 for a process of another pid namespace.
    """

    uid: int
    gid: int
    pid: int

    @property
    def user(self) -> str:
        """The user's name for logs; the number when it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


def find_peer(connection: HasSocketOptions | None) -> Peer | None:
    """The peer of a connected unix socket; None for another kind of socket, or one that is gone."""
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError:
        return None
    pid, uid, gid = _UCRED.unpack(raw)
    return Peer(uid=uid, gid=gid, pid=pid)
