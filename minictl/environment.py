"""Environment variables and labels as command lines and files give them."""

from __future__ import annotations

import os

from minictl.errors import Failure, invalid_argument


def environment(entries: list[str], defaults: dict[str, str] | None = None) -> list[str]:
    """NAME=value as it is, NAME with the caller's own value if there is one; `defaults` ahead, where not named."""
    result = []
    for entry in entries:
        name, equals, _ = entry.partition("=")
        if not name:
            raise invalid_argument("env", "e", entry, f"invalid environment variable: {entry}")
        value = None if equals else os.environ.get(name)
        result.append(entry if value is None else f"{entry}={value}")
    if defaults:
        named = {entry.partition("=")[0] for entry in entries}
        result = [f"{name}={value}" for name, value in defaults.items() if name not in named] + result
    return result


def read_lines_file(path: str, status: int = 125) -> list[str]:
    """Entries of an env or label file: one a line, `#` comments, NAME alone takes the caller's value if set."""
    entries = []
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in file:
                text = line.rstrip("\r\n").lstrip()
                if not text or text.startswith("#"):
                    continue
                name, equals, value = text.partition("=")
                if any(letter in name for letter in " \t"):
                    raise Failure(
                        f"invalid env file ({path}): variable '{name}' contains whitespaces", status
                    )
                if not name:
                    raise Failure(f"invalid env file ({path}): no variable name on line '{text}'", status)
                if equals:
                    entries.append(f"{name}={value}")
                elif name in os.environ:
                    entries.append(f"{name}={os.environ[name]}")
    except OSError as error:
        raise Failure(f"open {path}: {(error.strerror or str(error)).lower()}", status) from None
    except UnicodeDecodeError:
        raise Failure(f"invalid env file ({path}): it contains bytes that are not UTF-8", status) from None
    return entries


def pairs(entries: list[str]) -> dict[str, str]:
    """`NAME=value` texts as a dict; a NAME alone has the value ""."""
    return {name: value for name, _, value in (entry.partition("=") for entry in entries)}
