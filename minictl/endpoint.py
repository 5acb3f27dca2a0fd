"""Where the daemon is, how its address is chosen, and what to tell the user when it can't be reached there."""

from __future__ import annotations

import _socket
import os

from minictl.errors import ConnectError, Failure
from minictl.http import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl.flags import Options

DEFAULT_HOST = "unix:///run/minid/minid.sock"
DEFAULT_CONTEXT = "default"


class TlsFiles:
    """PEM files of a client, "" for none; without `verify` whatever certificate the daemon shows is taken."""

    __slots__ = ("ca", "certificate", "key", "verify")

    def __init__(self, ca: str, certificate: str, key: str, *, verify: bool) -> None:
        self.ca = ca
        self.certificate = certificate
        self.key = key
        self.verify = verify


class Endpoint:
    """A daemon's address: `unix://PATH`, `tcp://HOST:PORT` (with `tls`: over TLS), `ssh://USER@HOST:PORT/PATH`."""

    __slots__ = ("host", "scheme", "tls")

    def __init__(self, host: str, tls: TlsFiles | None = None) -> None:
        """Raises Failure for addresses of another kind."""
        self.scheme, self.host = _normal(host)
        self.tls = tls

    def open(self) -> Connection:
        """A new connection. Raises ConnectError, whose text says what is wrong and what to do about it."""
        if self.scheme == "unix":
            return Connection(connect(self.host), "minid")
        if self.scheme == "ssh":
            from minictl import ssh

            return ssh.connect(self.host)
        from minictl import tcp

        return tcp.connect(self.host, self.tls)


class Choice:
    """What the command line and the environment say about where the daemon is; looked up when it is needed."""

    __slots__ = ("_environ", "_options")

    def __init__(self, options: Options, environ: os._Environ[str]) -> None:
        """Raises Failure when the options contradict each other."""
        self._options = options
        self._environ = environ
        if len(options["host"]) > 1:
            raise Failure("Failed to initialize: unable to resolve docker endpoint: Specify only one -H")
        if options["host"] and options["context"]:
            raise Failure("conflicting options: cannot specify both --host and --context")

    def host_variable(self) -> str:
        """The variable that names the daemon's address, and so goes before the chosen context; "" for none."""
        return next((name for name in ("MINID_HOST", "DOCKER_HOST") if self._environ.get(name)), "")

    def context(self) -> str:
        """The context's name: --context; "default" with -H or a variable; DOCKER_CONTEXT; `currentContext`."""
        if self._options["context"]:
            return str(self._options["context"])
        if self._options["host"] or self.host_variable():
            return DEFAULT_CONTEXT
        if name := self._environ.get("DOCKER_CONTEXT"):
            return name
        from minictl import config

        return str(config.current_context() or DEFAULT_CONTEXT)

    def endpoint(self) -> Endpoint:
        """Raises Failure for a context that isn't there, an address that isn't one."""
        name = self.context()
        if name != DEFAULT_CONTEXT:
            from minictl import contexts

            try:
                return contexts.endpoint(name)
            except Failure as error:
                raise Failure(
                    f"Failed to initialize: unable to resolve docker endpoint: {error.message}"
                ) from None
        return self.default_endpoint()

    def default_endpoint(self) -> Endpoint:
        """That of the context "default": -H, else MINID_HOST, else DOCKER_HOST, else minid's own socket."""
        hosts = self._options["host"]
        host = hosts[0] if hosts else self._environ.get(self.host_variable() or "-", "")
        return Endpoint(host or DEFAULT_HOST, self.tls())

    def elsewhere(self, place: str) -> Endpoint:
        """Another daemon's: at an address, with TLS as for -H, or a context's. Raises Failure."""
        if "://" in place or place.startswith("/"):
            return Endpoint(place, self.tls())
        if place == DEFAULT_CONTEXT:
            return self.default_endpoint()
        from minictl import contexts

        return contexts.endpoint(place)

    def tls(self, *, assumed: bool = False) -> TlsFiles | None:
        """What TLS is to be done with, None for none; `assumed`: as if --tlsverify were given.

        As the docker CLI: DOCKER_TLS and DOCKER_TLS_VERIFY mean yes whatever they say; --tlsverify turns TLS on even
        as --tlsverify=false. Files that are missing where they were only looked for are left out.
        """
        options = self._options
        asked = options["tlsverify"] if options.given("tlsverify") else self._environ.get("DOCKER_TLS_VERIFY")
        verify = assumed or bool(asked)
        wanted = options["tls"] if options.given("tls") else self._environ.get("DOCKER_TLS")
        if not (verify or wanted or options.given("tlsverify")):
            return None
        place = self._environ.get("DOCKER_CERT_PATH", "")
        if not place:
            from minictl import config

            place = config.directory()
        paths = []
        for flag, name in (("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem")):
            path = os.path.join(place, name)
            optional = flag != "tlscacert" or not verify
            if options.given(flag):
                path = options[flag]
            elif optional and not os.path.exists(path):
                path = ""
            paths.append(path)
        return TlsFiles(*paths, verify=verify)


def _normal(host: str) -> tuple[str, str]:
    """The scheme and the address with it: `/PATH` is a unix socket's, `HOST:PORT` is tcp's. Raises Failure."""
    scheme, found, rest = host.partition("://")
    if not found:
        if host.startswith("/"):
            return "unix", f"unix://{host}"
        if ":" in host and "/" not in host:
            return "tcp", f"tcp://{host}"
        raise Failure(
            f"unable to parse docker host `{host}`: write it as unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST"
        )
    if scheme == "unix":
        return scheme, host if rest else DEFAULT_HOST
    if scheme == "tcp" or scheme == "ssh":
        return scheme, host
    if scheme == "http" or scheme == "https":
        raise Failure(f"invalid bind address format: {host}: write tcp://{rest}, with --tlsverify for TLS")
    raise Failure(f"invalid bind address format: {host}: minictl knows unix://, tcp:// and ssh://")


def socket_path(host: str) -> str:
    """The path of the unix socket that `host` names."""
    return host.removeprefix("unix://")


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
