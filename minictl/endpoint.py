"""Where the daemon listens, and what to tell the user when it can't be reached there."""

from __future__ import annotations

import _socket
import os

from minictl.errors import ConnectError, Failure

DEFAULT_HOST = "unix:///run/minid/minid.sock"


def chosen_host(option: str, environ: os._Environ[str]) -> str:
    """`-H`, else MINID_HOST, else DOCKER_HOST, else minid's own socket."""
    return option or environ.get("MINID_HOST", "") or environ.get("DOCKER_HOST", "") or DEFAULT_HOST


def socket_path(host: str) -> str:
    """The path of the unix socket that `host` names. Raises Failure for hosts of another kind."""
    scheme, found, rest = host.partition("://")
    if not found:
        scheme, rest = ("unix", host) if host.startswith("/") else ("", host)
    if scheme == "unix":
        return rest or DEFAULT_HOST[len("unix://") :]
    if scheme in ("tcp", "http", "https", "ssh", "npipe", "fd"):
        raise Failure(f"minictl can't use {scheme}:// yet: give a unix socket, such as -H {DEFAULT_HOST}")
    raise Failure(f"unable to parse docker host `{host}`: write it as unix:///PATH")


def connect(host: str) -> _socket.socket:
    """A connected stream socket. Raises ConnectError, whose text says what is wrong and what to do about it."""
    path = socket_path(host)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.connect(os.fsencode(path))
    except PermissionError:
        sock.close()
        raise ConnectError(_permission_text(host, path)) from None
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        raise ConnectError(
            f"Cannot connect to the minid daemon at {host}. Is the minid daemon running?\n"
            "Start it with: sudo systemctl start minid   (where systemd doesn't run: sudo minid &)\n"
            "If it listens elsewhere, name the socket: minictl -H unix:///PATH …, or set MINID_HOST."
        ) from None
    except OSError as error:
        sock.close()
        raise ConnectError(
            f"Cannot connect to the minid daemon at {host}: {error.strerror or error}"
        ) from None
    return sock


def _permission_text(host: str, path: str) -> str:
    import grp
    import pwd

    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    gid = -1
    for place in (path, os.path.dirname(path)):
        try:
            gid = os.stat(place).st_gid
            break
        except OSError:
            continue
    try:
        group = grp.getgrgid(gid) if gid > 0 else grp.getgrnam("minid")
    except (KeyError, OverflowError):
        group = None
    name = group.gr_name if group else "minid"
    text = f"permission denied while trying to connect to the minid daemon at {host}: "
    if group and user in group.gr_mem:
        return text + (
            f"you ({user}) are in the group {name}, but this session began before you were.\n"
            f"Log in again, or for this shell only: newgrp {name}"
        )
    return text + (
        f"it is for root and the group {name}, and you ({user}) are in neither.\n"
        f"To be let in: sudo usermod -aG {name} {user}   and then log in again (or: newgrp {name})"
    )
