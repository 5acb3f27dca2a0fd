"""Pulling an image, and showing the progress that the daemon reports (pull, push, load, import report it alike)."""

from __future__ import annotations

import os

from minictl import jsontext, reference, terminal
from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minictl.engine import Engine
    from minictl.http import Response


def pull(
    engine: Engine,
    name: str,
    *,
    platform: str = "",
    quiet: bool = False,
    all_tags: bool = False,
    out_fd: int = 1,
) -> None:
    """Pulls `name` (its tag, digest, or `latest`). Raises Failure, ApiError; an error after the 200 is one too."""
    wanted = reference.parse(name)
    if all_tags and (wanted.tag or wanted.digest):
        raise Failure("tag can't be used with --all-tags/-a")
    tag = wanted.digest or wanted.tag
    if not tag and not all_tags:
        tag = "latest"
    from minictl import registry_auth

    response = engine.request(
        "POST",
        "/images/create",
        {"fromImage": wanted.name, "platform": platform, "tag": tag},
        headers={"X-Registry-Auth": registry_auth.header_for(wanted.domain)},
    )
    show_progress(engine, response, None if quiet else out_fd)


def show_progress(engine: Engine, response: Response, out_fd: int | None) -> list[dict[str, Any]]:
    """Shows a stream of progress messages on `out_fd` (None: nowhere); gives the `aux` values. Raises Failure."""
    screen = Screen(out_fd) if out_fd is not None else None
    aux: list[dict[str, Any]] = []
    rest = ""
    pending = b""
    for part in response.parts():
        pending += part
        cut = pending.rfind(b"\n") + 1
        if not cut:
            continue
        messages, rest = jsontext.loads_many(rest + pending[:cut].decode("utf-8", "replace"))
        pending = pending[cut:]
        for message in messages:
            _take(message, screen, aux)
    for message in jsontext.loads_many(rest + pending.decode("utf-8", "replace"))[0]:
        _take(message, screen, aux)
    engine.release(response)
    return aux


def _take(message: dict[str, Any], screen: Screen | None, aux: list[dict[str, Any]]) -> None:
    error = message.get("errorDetail") or message.get("error")
    if error:
        if isinstance(error, dict):
            error = error.get("message") or message.get("error")
        raise Failure(str(error))
    if isinstance(message.get("aux"), dict):
        aux.append(message["aux"])
    elif screen:
        screen.show(message)


class Screen:
    """Progress on a terminal: one line a layer, each rewritten in place; elsewhere a line for each message.

    Without a terminal, messages that only count bytes are left out, as the docker CLI does.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._terminal = terminal.is_terminal(fd)
        self._rows: dict[str, int] = {}
        self._count = 0

    def show(self, message: dict[str, Any]) -> None:
        name = message.get("id") or ""
        detail = message.get("progressDetail") or {}
        if not self._terminal:
            if not detail and "stream" in message:
                self._write(message["stream"])
            elif not detail and "status" in message:
                self._write(_line(name, message["status"], "") + "\n")
            return
        if "stream" in message:
            self._write(message["stream"])
            return
        if "status" not in message:
            return
        width = terminal.size(self._fd)[1] or 80
        text = _line(name, message["status"], _bar(detail, width) or message.get("progress", ""))
        if not name or not ("progressDetail" in message or "progress" in message):
            self._rows.clear()  # a message of its own: later lines of layers begin anew below it
            self._count = 0
            self._write(f"{text}\n")
            return
        up = 0
        if name in self._rows:
            up = self._count - self._rows[name]
        else:
            self._rows[name] = self._count
            self._count += 1
            self._write("\n")
            up = 1
        self._write(f"\x1b[{up}A\x1b[2K\r{text[: max(width, 20)]}\x1b[{up}B\r")

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._fd, data) :]


def _line(name: str, status: str, progress: str) -> str:
    head = f"{name}: {status}" if name else status
    return f"{head} {progress}" if progress else head


def _bar(detail: dict[str, Any], width: int) -> str:
    """`[====>    ]  1.2MB/3.4MB`, without the bar in a narrow terminal or for an unknown total."""
    current, total = detail.get("current") or 0, detail.get("total") or 0
    if not current and not total:
        return ""
    from minictl import units

    if detail.get("units"):
        return f"{current}/{total} {detail['units']}" if total else f"{current} {detail['units']}"
    if total <= 0 or current > total:
        return f"{units.human_size(current):>8}"
    numbers = f"{units.human_size(current):>8}/{units.human_size(total)}"
    if width <= 110:
        return numbers
    done = min(50, int(current / total * 50))
    return f"[{'=' * done}>{' ' * (50 - done)}] {numbers}"
