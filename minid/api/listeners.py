"""The sockets the daemon listens on: made here (``unix://``, ``tcp://``) or handed over by systemd (``fd://``).

A unix socket is bound beside its name, given its owner and mode, put to listening, and only then renamed into
place: at no moment can someone connect who may not. Sources: ``unix(7)``, ``sd_listen_fds(3)``,
``systemd.socket(5)``.
"""

import errno
import fcntl
import grp
import logging
import os
import socket
import stat
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from minid.config.tcp import split
from minid.exits import ExitStatus, StartupError

log = logging.getLogger(__name__)

BACKLOG = 4096
FIRST_FD = 3  # SD_LISTEN_FDS_START
SOCKET_MODE = 0o660
DIRECTORY_MODE = 0o711  # anyone may look the socket up and is then refused by its mode
CONNECT_TIMEOUT_S = 2.0


@dataclass(slots=True)
class Listener:
    """A listening, non-blocking socket. ``path`` is set when the socket's file is ours to remove."""

    address: str
    sock: socket.socket
    path: Path | None = None
    inode: tuple[int, int] | None = None

    def close(self) -> None:
        """Stop listening; remove the socket's file if it is still this one. Idempotent."""
        if self.path is not None and self.inode is not None:
            with _locked(self.path.parent):
                if _inode(self.path) == self.inode:
                    self.path.unlink()
            self.path = None
        self.sock.close()


def open_listeners(
    hosts: Sequence[str], group: str, environment: MutableMapping[str, str] | None = None
) -> list[Listener]:
    """Listen on every address in ``hosts`` (``unix://PATH``, ``tcp://HOST:PORT``, ``fd://``, ``fd://3``, ``fd://NAME``).

    ``group`` (a name or number, "" for none) owns the unix sockets beside root. Takes systemd's variables out
    of ``environment`` (default: the process's), so that no child sees them. Raises ``StartupError`` (SOCKET),
    with nothing left open.
    """
    inherited = _inherited(os.environ if environment is None else environment)
    listeners: list[Listener] = []
    used: set[int] = set()
    try:
        for address in dict.fromkeys(hosts):
            scheme, _, rest = address.partition("://")
            if scheme == "unix":
                listeners.append(_listen(Path(rest), group))
            elif scheme == "tcp":
                listeners.append(_listen_tcp(address))
            elif scheme == "fd":
                listeners.extend(_handed_over(address, rest, inherited, used))
            else:
                raise StartupError(
                    ExitStatus.SOCKET, f"{address}: only unix://, tcp:// and fd:// can be listened on"
                )
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    for number in inherited.keys() - used:
        log.warning("socket from systemd is not used: no -H fd:// asks for it", extra={"fd": number})
        os.close(number)
    return listeners


# unix://


def _listen(path: Path, group: str) -> Listener:
    address = f"unix://{path}"
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(DIRECTORY_MODE, parents=True)
            path.parent.chmod(DIRECTORY_MODE)
        with _locked(path.parent):
            _make_way(path)
            return _bound(path, address, _group_id(group))
    except OSError as error:
        raise StartupError(
            ExitStatus.SOCKET, f"{address}: cannot be listened on: {error.strerror or error}"
        ) from error


def _bound(path: Path, address: str, gid: int | None) -> Listener:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            aside.unlink(missing_ok=True)
            # Through the descriptor, so that only the final name has to fit into sun_path. The mode needs no
            # umask: fchmod(2) on an unbound socket sets the mode of the file that bind(2) makes.
            os.fchmod(sock.fileno(), 0o600)
            sock.bind(f"/proc/self/fd/{directory}/{aside.name}")
        finally:
            os.close(directory)
        if gid is not None:
            os.chown(aside, 0, gid)
        aside.chmod(SOCKET_MODE)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        inode = _inode(aside)
        aside.rename(path)
    except BaseException:
        sock.close()
        aside.unlink(missing_ok=True)
        raise
    return Listener(address, sock, path, inode)


def _make_way(path: Path) -> None:
    """Nothing but a dead daemon's socket may be replaced."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartupError(
            ExitStatus.SOCKET, f"unix://{path}: there is something else than a socket at that path: remove it"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            log.info("replacing the socket of a daemon that is gone", extra={"path": path})
            return
        except OSError as error:
            # A full backlog (EAGAIN) or no answer in time: someone is there.
            if error.errno not in (errno.EAGAIN, None) and not isinstance(error, TimeoutError):
                raise
    raise StartupError(
        ExitStatus.SOCKET,
        f"unix://{path}: another daemon answers there: stop it, or choose another socket with --host",
    )


def _group_id(group: str) -> int | None:
    if not group:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isdecimal():
            return int(group)
    log.warning(
        "there is no group %s, so only root can use the socket: make the group and restart minid",
        group,
    )
    return None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One process at a time looks at the directory's sockets and changes them."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


# tcp://


def _listen_tcp(address: str) -> Listener:
    host, port = split(address)
    try:
        return Listener(address, _bound_tcp("127.0.0.1" if host == "localhost" else host, port))
    except OSError as error:
        raise StartupError(
            ExitStatus.SOCKET, f"{address}: cannot be listened on: {error.strerror or error}"
        ) from error


def _bound_tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What is accepted inherits these (tcp(7)): a client that has vanished is found out in a minute, not two hours.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


# fd://


def _inherited(environment: MutableMapping[str, str]) -> dict[int, str]:
    """Descriptor -> name of what systemd passed to this very process; the variables are taken away."""
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "0")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    numbers = range(FIRST_FD, FIRST_FD + int(count))
    return {n: names[i] if i < len(names) and names[i] else "unknown" for i, n in enumerate(numbers)}


def _handed_over(address: str, wanted: str, inherited: dict[int, str], used: set[int]) -> Iterator[Listener]:
    if not inherited:
        raise StartupError(
            ExitStatus.SOCKET,
            f"{address}: no socket was handed over: start minid through minid.socket, or listen on unix://",
        )
    if not wanted:
        chosen = list(inherited)
    elif wanted.isdecimal():
        chosen = [int(wanted)] if int(wanted) in inherited else []
    else:
        chosen = [number for number, name in inherited.items() if name in (wanted, f"{wanted}.socket")]
    if not chosen:
        there = ", ".join(f"fd://{number} ({name})" for number, name in inherited.items())
        raise StartupError(ExitStatus.SOCKET, f"{address}: not among the sockets handed over: {there}")
    for number in chosen:
        if number not in used:
            used.add(number)
            yield _adopted(number, inherited[number])


def _adopted(number: int, name: str) -> Listener:
    address = f"fd://{number}"
    try:
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
        listening = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as error:
        raise StartupError(
            ExitStatus.SOCKET, f"{address} ({name}): not a socket: {error.strerror}"
        ) from error
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM or not listening:
        sock.detach()
        raise StartupError(
            ExitStatus.SOCKET,
            f"{address} ({name}): not a listening unix stream socket: let minid listen on TCP itself (-H tcp://…)",
        )
    sock.setblocking(False)
    return Listener(address, sock)
