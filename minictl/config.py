"""The client's own settings: `config.json` in $DOCKER_CONFIG or ~/.docker, the docker CLI's file."""

from __future__ import annotations

import os

from minictl import jsontext
from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def directory() -> str:
    """Where the client's files are: $DOCKER_CONFIG, else ~/.docker."""
    return os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")


def path() -> str:
    return os.path.join(directory(), "config.json")


def current_context() -> str:
    """The context that `context use` has chosen, "" for none."""
    return str(load().get("currentContext") or "")


def load() -> dict[str, Any]:
    """What the file holds, {} without one. Raises Failure when it is not a JSON object."""
    try:
        with open(path(), encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return {}
    try:
        value = jsontext.loads(text) if text.strip() else {}
    except ValueError as error:
        raise Failure(f"Error loading config file: {path()}: {error}") from None
    if not isinstance(value, dict):
        raise Failure(f"Error loading config file: {path()}: it is not a JSON object")
    return value


def proxies(host: str) -> dict[str, str]:
    """The proxy variables (HTTP_PROXY, http_proxy, …) that the file sets for containers of the daemon at `host`."""
    settings = load().get("proxies") or {}
    chosen = settings.get(host) or settings.get("default") or {}
    result = {}
    for key in ("httpProxy", "httpsProxy", "ftpProxy", "noProxy", "allProxy"):
        if chosen.get(key):
            name = f"{key.removesuffix('Proxy').upper()}_PROXY"
            result[name] = result[name.lower()] = str(chosen[key])
    return result


def save(settings: dict[str, Any]) -> None:
    """Replaces the file, readable by its owner only; it appears whole. Raises Failure."""
    import json

    target = path()
    aside = f"{target}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(settings, file, indent="\t")
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, target)
    except OSError as error:
        raise Failure(f"Error saving config file: {error}") from None
