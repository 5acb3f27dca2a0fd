"""certs: certificates for a daemon and a team. Another program makes them: minictl has the standard library only."""

from __future__ import annotations

import os
import sys

from minictl.errors import Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl.engine import Engine

PROGRAM = "minid-certs"


def certs(options: Options, arguments: list[str], engine: Engine) -> int:
    """Becomes minid-certs: the one beside this program, else the one in PATH. Never returns if there is one."""
    os.environ["MINID_CERTS_PROG"] = "minictl certs"
    for directory in (os.path.dirname(sys.executable), os.path.dirname(os.path.realpath(sys.argv[0]))):
        path = os.path.join(directory, PROGRAM)
        if os.access(path, os.X_OK):
            os.execv(path, [path, *arguments])
    try:
        os.execvp(PROGRAM, [PROGRAM, *arguments])
    except OSError:
        raise Failure(
            f"`minictl certs` needs {PROGRAM} and its library cryptography: pip install 'minid[certs]'\n"
            "Any other CA will do, too: docs/remote.md says what the certificates have to be."
        ) from None


CERTS = Command(
    "certs",
    "init|server|client|revoke|ls [OPTIONS]",
    "Make and revoke certificates for TLS",
    certs,
    (),
    details="See minictl certs -- --help.",
    interspersed=False,
)
