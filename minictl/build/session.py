"""What a build may ask its client for: secrets, an SSH agent, more contexts (minid's extension of the protocol).

The daemon keeps a session in memory, for one build. docs/compatibility.md has the requests.
"""

from __future__ import annotations

import os

from minictl.build import context
from minictl.errors import ApiError, Failure, UsageError
from minictl.mounts import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minictl.build.tree import Tree
    from minictl.engine import Engine
    from minictl.flags import Options

    Send = Callable[[str, str, Tree], None]  # path, name, files

_LARGEST_SECRET = 500 * 1024  # as BuildKit's
_ELSEWHERE = ("docker-image://", "oci-layout://", "target:")


def wanted(options: Options) -> bool:
    return bool(options["secret"] or options["ssh"] or options["build-context"])


def begin(options: Options, engine: Engine, send: Send) -> str:
    """Opens a session with all that the flags name, sends the contexts, and gives its id. Raises Failure."""
    places = contexts(options["build-context"])
    body: dict[str, Any] = {
        "secrets": secrets(options["secret"]),
        "ssh": sorted(name for name, _ in ssh_sources(options["ssh"])),
    }
    elsewhere = {name: place for name, place in places.items() if _is_elsewhere(place)}
    if elsewhere:
        body["contexts"] = elsewhere
    trees = {name: context.named(place) for name, place in places.items() if name not in elsewhere}
    try:
        session: str = engine.call("POST", "/build/session", body=body)["id"]
    except ApiError as error:
        if error.http_status != 404:
            raise
        raise Failure(
            "--secret, --ssh and --build-context need minid: this daemon does not know how to ask for them"
        ) from None
    for name, tree in trees.items():
        send(f"/build/session/{session}/context", name, tree)
    return session


def secrets(texts: list[str]) -> dict[str, str]:
    """`id=NAME[,src=PATH|,env=VARIABLE]` as base64 by id; NAME alone is a variable or else a file of that name."""
    found = {}
    for text in texts:
        values = _values("secret", text, ("id", "src", "source", "env", "type"))
        name = values.get("id", "")
        path = values.get("src", values.get("source", ""))
        variable = values.get("env", "")
        if values.get("type", "file") not in ("file", "env"):
            raise UsageError(f"--secret {text}: type is file or env")
        if values.get("type") == "env" and not variable:
            path, variable = "", path
        name = name or path
        if not name:
            raise UsageError(f"--secret {text}: it has no id")
        if not path and not variable:
            path, variable = ("", name) if name in os.environ else (name, "")
        found[name] = _base64(_from_variable(name, variable) if variable else _from_file(name, path))
    return found


def ssh_sources(texts: list[str]) -> list[tuple[str, list[str]]]:
    """`default`, `NAME=SOCKET` or `NAME=KEY[,KEY…]` as (name, paths); no path is the agent of the environment."""
    found = []
    for text in texts:
        name, equals, rest = text.partition("=")
        paths = [path for path in rest.split(",") if path] if equals else []
        if not paths and not os.environ.get("SSH_AUTH_SOCK"):
            raise Failure(f"--ssh {text}: there is no SSH agent here (SSH_AUTH_SOCK is not set)")
        found.append((name or "default", paths))
    return found


def contexts(texts: list[str]) -> dict[str, str]:
    """`name=PLACE` by name. Raises UsageError."""
    found = {}
    for text in texts:
        name, equals, place = text.partition("=")
        if not equals or not name or not place:
            raise UsageError(
                f"--build-context {text}: expected NAME=DIRECTORY, NAME=docker-image://IMAGE or NAME=URL"
            )
        found[name.lower()] = place
    return found


def _is_elsewhere(place: str) -> bool:
    """Whether the daemon gets it itself."""
    return place.startswith(_ELSEWHERE) or (not os.path.isdir(place) and context.is_remote(place))


def _values(flag: str, text: str, allowed: tuple[str, ...]) -> dict[str, str]:
    values = {}
    for field in fields(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            raise UsageError(f"--{flag} {text}: {field!r} is no key=value pair")
        if key not in allowed:
            raise UsageError(f"--{flag} {text}: unexpected key {key!r}")
        values[key] = value
    return values


def _from_variable(name: str, variable: str) -> bytes:
    value = os.environ.get(variable)
    if value is None:
        raise Failure(f"secret {name}: the environment variable {variable} is not set")
    return os.fsencode(value)


def _from_file(name: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_SECRET + 1)
    except OSError as error:
        raise Failure(f"secret {name}: open {path}: {(error.strerror or str(error)).lower()}") from None
    if len(data) > _LARGEST_SECRET:
        raise Failure(f"secret {name}: {path} is larger than {_LARGEST_SECRET} bytes")
    return data


def _base64(data: bytes) -> str:
    import binascii

    return binascii.b2a_base64(data, newline=False).decode("ascii")
