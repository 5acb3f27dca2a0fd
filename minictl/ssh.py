"""Daemons behind ssh: `ssh://USER@HOST:PORT/SOCKET` runs `minictl system dial-stdio` there, one ssh a connection.

MINICTL_SSH names another program than ssh, with arguments if need be. The far side needs minictl or docker in the PATH
of a shell that is no login shell, and a user who may use the daemon's socket.
"""

from __future__ import annotations

import _socket
import os

from minictl.errors import Failure
from minictl.http import Connection

_STDERR_BYTES = 4096


def connect(host: str) -> Connection:
    """Raises Failure for an address that isn't one, or when there is no ssh."""
    import shlex

    words = [*(shlex.split(os.environ.get("MINICTL_SSH", "")) or ["ssh"]), *arguments(host)]
    near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    errors = os.memfd_create("ssh-stderr", os.MFD_CLOEXEC)
    moved = [(os.POSIX_SPAWN_DUP2, far.fileno(), 0), (os.POSIX_SPAWN_DUP2, far.fileno(), 1),
             (os.POSIX_SPAWN_DUP2, errors, 2)]  # fmt: skip
    try:
        pid = os.posix_spawnp(words[0], words, os.environ, file_actions=moved)
    except FileNotFoundError:
        near.close()
        os.close(errors)
        raise Failure(
            f"{host} needs the program {words[0]} on this machine: install it (Debian: openssh-client)"
        ) from None
    finally:
        far.close()

    def trouble() -> str:
        try:
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
        except ChildProcessError:  # asked before
            code = 0
        return _explained(host, words, code, _tail(errors)) if code else ""

    return Connection(near, "minid", trouble)


def arguments(host: str) -> list[str]:
    """What ssh is given for `ssh://USER@HOST:PORT/PATH`. Raises Failure, in the docker CLI's words."""
    from urllib.parse import unquote, urlsplit

    try:
        url = urlsplit(host)
        port = url.port
    except ValueError as error:
        raise _invalid(str(error)) from None
    if url.password is not None:
        raise _invalid("plain-text password is not supported")
    if not url.hostname:
        raise _invalid("hostname is empty")
    if url.query or url.fragment:
        raise _invalid(f'query parameters are not allowed: "{url.query or url.fragment}"')
    name = url.netloc.rpartition("@")[2].partition(":")[0] if "[" not in url.netloc else url.hostname
    words = ["-o", "ConnectTimeout=30", "-T"]
    if url.username:
        words += ["-l", unquote(url.username)]
    if port:
        words += ["-p", str(port)]
    return [*words, "--", name, far_command(unquote(url.path))]


def far_command(path: str) -> str:
    """What the shell of the far side is to run; its own default address without a `path` to a socket."""
    import shlex

    option = f" -H {shlex.quote(f'unix://{path}')}" if path.strip("/") else ""
    script = (
        f"command -v minictl >/dev/null 2>&1 && exec minictl{option} system dial-stdio; "
        f"exec docker{option} system dial-stdio"
    )
    return f"sh -c {shlex.quote(script)}"


def _invalid(reason: str) -> Failure:
    return Failure(f"ssh host connection is not valid: invalid SSH URL: {reason}")


def _tail(errors: int) -> str:
    size = os.fstat(errors).st_size
    return os.pread(errors, _STDERR_BYTES, max(0, size - _STDERR_BYTES)).decode("utf-8", "replace").strip()


def _explained(host: str, words: list[str], code: int, said: str) -> str:
    text = (
        f"error during connect: command {words} has exited with exit status {code}, make sure the URL is valid, and "
        f"that minictl or docker is installed on the remote host: stderr={said}\n"
    )
    if code == 255:
        return text + f"ssh could not log in at {host}: try `ssh {words[-2]} true` until it asks nothing."
    if code == 127:
        return text + "There is neither minictl nor docker in the PATH that ssh finds there."
    return text + "Over there, as that user, `minictl version` has to work."
