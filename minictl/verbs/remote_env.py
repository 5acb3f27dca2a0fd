"""remote-env: what to `eval` for a shell to use a daemon far away, as `minikube docker-env` prints it."""

from __future__ import annotations

import os

from minictl.endpoint import Endpoint
from minictl.engine import Engine
from minictl.errors import Failure
from minictl.flags import Command, Options

_NAMES = (
    "DOCKER_TLS_VERIFY",
    "DOCKER_TLS",
    "DOCKER_HOST",
    "DOCKER_CERT_PATH",
    "DOCKER_CONTEXT",
    "MINID_HOST",
)
_SHELLS = ("bash", "csh", "fish", "sh", "tcsh", "zsh")


def remote_env(options: Options, arguments: list[str], engine: Engine) -> int:
    """Prints nothing to be evaluated unless the daemon answers."""
    shell = options["shell"] or os.path.basename(os.environ.get("SHELL", "sh"))
    if options["shell"] and shell not in _SHELLS:
        raise Failure(f"unknown shell: {shell}: one of {', '.join(_SHELLS)}")
    if options["unset"]:
        for name in _NAMES:
            print(_unset(shell, name))
        return 0
    if not arguments:
        raise Failure(
            "minictl remote-env needs a HOST (tcp://…, ssh://… or the name of a machine), or --unset"
        )
    host, asked = _asked(arguments[0], engine)
    version = asked.call("GET", "/version")
    variables = {"DOCKER_HOST": host}
    if tls := asked.endpoint.tls:
        place = os.path.dirname(tls.ca or tls.certificate)
        variables["DOCKER_TLS_VERIFY" if tls.verify else "DOCKER_TLS"] = "1"
        if place:
            variables["DOCKER_CERT_PATH"] = os.path.abspath(place)
    for name in _NAMES:
        if name not in variables and os.environ.get(name):
            print(_unset(shell, name))
    for name, value in variables.items():
        print(_set(shell, name, value))
    print(f"# {host} is {_platform(version)}")
    print(f"# To use it in this shell, run: eval $(minictl remote-env {arguments[0]})")
    return 0


def _asked(name: str, engine: Engine) -> tuple[str, Engine]:
    """The daemon's address, and a way to it; a machine's name alone is tcp, with TLS."""
    assert engine.choice
    host = name if "://" in name else f"tcp://{name}"
    tls = None
    if host.startswith("tcp://"):
        from minictl import tcp

        tls = engine.choice.tls() or ("://" not in name and engine.choice.tls(assumed=True)) or None
        machine, port = tcp.address(host, tls=tls is not None)
        host = f"tcp://[{machine}]:{port}" if ":" in machine else f"tcp://{machine}:{port}"
    return host, Engine(Endpoint(host, tls))


def _platform(version: dict[str, object]) -> str:
    platform = version.get("Platform")
    name = platform.get("Name") if isinstance(platform, dict) else ""
    return f"{name or 'a Docker daemon'}, version {version.get('Version', '')}".replace("\n", " ")


def _set(shell: str, name: str, value: str) -> str:
    quoted = "'" + value.replace("'", "'\\''") + "'"
    if shell == "fish":
        return f"set -gx {name} {quoted};"
    if shell in ("csh", "tcsh"):
        return f"setenv {name} {quoted};"
    return f"export {name}={quoted}"


def _unset(shell: str, name: str) -> str:
    if shell == "fish":
        return f"set -e {name};"
    if shell in ("csh", "tcsh"):
        return f"unsetenv {name};"
    return f"unset {name}"


REMOTE_ENV = Command(
    "remote-env",
    "[OPTIONS] [HOST]",
    "Print what to eval for a shell to use a daemon elsewhere",
    remote_env,
    (
        ("shell", "", "string", f"For this shell: {', '.join(_SHELLS)} (default: that of $SHELL)"),
        ("unset", "u", "bool", "Print what undoes it"),
    ),
    0,
    1,
    details=(
        "The daemon is asked first; nothing is printed if it doesn't answer. A HOST without tcp:// is spoken to with\n"
        "TLS and verified, by ca.pem, cert.pem and key.pem of ~/.docker or DOCKER_CERT_PATH.\n\n"
        "  eval $(minictl remote-env build.example)"
    ),
)
