"""Daemons at a TCP port: the address, the connection, and what to tell the user when there is none."""

from __future__ import annotations

import _socket

from minictl.errors import ConnectError, Failure
from minictl.http import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl.endpoint import TlsFiles

PLAIN_PORT, TLS_PORT = 2375, 2376
_CONNECT_TIMEOUT_S = 10.0


def address(host: str, *, tls: bool) -> tuple[str, int]:
    """`tcp://[::1]:2376` → `("::1", 2376)`; localhost, and 2375 (2376 with TLS), if not said. Raises Failure."""
    rest = host.removeprefix("tcp://").partition("/")[0]
    if "@" in rest:
        raise Failure(f"invalid bind address format: {host}: a TCP address has no user; ssh:// has")
    name, colon, port = rest.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = rest, ""
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise Failure(f"invalid bind address format: {host}: {port!r} is no port")
    name = name.removeprefix("[").removesuffix("]")
    return name or "localhost", int(port or (TLS_PORT if tls else PLAIN_PORT))


def connect(host: str, tls: TlsFiles | None) -> Connection:
    """A connection to `host` (`tcp://…`), over TLS with `tls`. Raises ConnectError, Failure."""
    name, port = address(host, tls=tls is not None)
    shown = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    sock = dial(host, name, port)
    if tls is None:
        return Connection(sock, shown)
    from minictl import tls as secured

    return secured.connect(host, name, shown, sock, tls)


def encoded(name: str) -> str | bytes:
    """As bytes where that says the same: for a str Python loads its codec of international names, which takes 10 ms."""
    return name.encode() if name.isascii() else name


def dial(host: str, name: str, port: int) -> _socket.socket:
    """A socket that is connected to one of the addresses of `name`. Raises ConnectError."""
    try:
        found = _socket.getaddrinfo(encoded(name), port, 0, _socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConnectError(
            f"error during connect: dial tcp: lookup {name}: no such host ({reason})\n"
            f"Is the name in the address {host} right?"
        ) from None
    problem: OSError | None = None
    for family, kind, protocol, _, to in found:
        sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, protocol)
        try:
            sock.settimeout(_CONNECT_TIMEOUT_S)
            sock.connect(to)
            sock.settimeout(None)
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            sock.setsockopt(
                _socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1
            )  # a daemon that vanishes: found out in a minute
            for option, value in (
                (_socket.TCP_KEEPIDLE, 30),
                (_socket.TCP_KEEPINTVL, 10),
                (_socket.TCP_KEEPCNT, 3),
            ):
                sock.setsockopt(_socket.IPPROTO_TCP, option, value)
            return sock
        except OSError as error:
            sock.close()
            problem = problem or error
    if isinstance(problem, TimeoutError):
        why = f"no answer within {_CONNECT_TIMEOUT_S:.0f} s (i/o timeout)"
        advice = "Is the address right, and does no firewall keep this machine from it?"
    elif isinstance(problem, ConnectionRefusedError):
        why = "connection refused"
        advice = f"minid listens there only if it is told to: minid -H {host} --tlsverify … (docs/remote.md)"
    else:
        why = (problem and problem.strerror) or str(problem)
        advice = "Is the address right?"
    raise ConnectError(
        f"Cannot connect to the minid daemon at {host}. Is the minid daemon running?\n{why}: {advice}"
    )
