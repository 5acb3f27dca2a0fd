"""Who is at the other end: of a unix socket as the kernel says it (``SO_PEERCRED``, ``unix(7)``), of a TLS connection
as the client's certificate does.
"""

import pwd
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

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

    def __str__(self) -> str:
        return f"uid={self.uid} gid={self.gid} pid={self.pid}"

    @property
    def user(self) -> str:
        """The user's name for logs; the number when it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


@dataclass(frozen=True, slots=True)
class RemotePeer:
    """A client over TCP. Without a certificate (``--tls`` alone, or no TLS) the names are empty.

    ``alternative_names`` are the certificate's subject alternative names: DNS names, addresses, e-mail, URIs.
    """

    address: str
    port: int
    common_name: str = ""
    organizational_units: tuple[str, ...] = ()
    alternative_names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"cn={self.common_name or '-'} from={self.address}:{self.port}"

    @classmethod
    def of_certificate(cls, certificate: Mapping[str, Any], address: str, port: int) -> "RemotePeer":
        """``certificate``: as ``ssl.SSLSocket.getpeercert`` has it."""
        fields = [pair for group in certificate.get("subject", ()) for pair in group]
        names = [value for key, value in fields if key == "commonName"]
        return cls(
            address,
            port,
            names[-1] if names else "",
            tuple(value for key, value in fields if key == "organizationalUnitName"),
            tuple(str(value) for _, value in certificate.get("subjectAltName", ())),
        )


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
