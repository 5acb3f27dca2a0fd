"""The client's own settings: `config.json` in $DOCKER_CONFIG or ~/.docker, the docker CLI's file, only read here."""

from __future__ import annotations

import os

from minictl import jsontext
from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def path() -> str:
    directory = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    return os.path.join(directory, "config.json")


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
