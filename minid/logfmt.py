"""The daemon's own log: one line an event on stderr, ``key=value`` for people and tools, or JSON.

    time=2025-11-23T14:00:00.123Z level=info msg="container started" container=4f66… image=busybox

Callers use the standard ``logging`` with ``extra={…}`` for the fields (``name``, ``args`` and the like are
taken by ``logging`` itself and raise KeyError). Under systemd (``$JOURNAL_STREAM`` names our stderr) the time
is left to the journal, and each line begins with its priority, ``sd-daemon(3)``.
"""

import json
import logging
import os
import re
import sys
import time
from typing import Any, TextIO

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
_NAMES = {number: name for name, number in LEVELS.items()}
_PRIORITIES = {"debug": 7, "info": 6, "warn": 4, "error": 3, "fatal": 2}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_BARE = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+")


def level_name(number: int) -> str:
    """``debug`` to ``fatal`` for a number of ``logging``."""
    return _NAMES[min(max(number // 10 * 10, logging.DEBUG), logging.CRITICAL)]


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave as ``extra``, and the exception if there is one."""
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if record.exc_info and record.exc_info[0] is not None:
        fields["error"] = f"{record.exc_info[0].__name__}: {record.exc_info[1]}"
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


def quoted(value: object) -> str:
    """A value that stays on its line and can be read back: bare if it may, else as a JSON string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds * 1000) % 1000:03}Z"


class TextFormatter(logging.Formatter):
    """``key=value``; ``journal`` leaves the time out and puts the priority in front."""

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self.journal = journal

    def format(self, record: logging.LogRecord) -> str:
        level = level_name(record.levelno)
        fields = {"level": level, "msg": record.getMessage(), **fields_of(record)}
        if not self.journal:
            fields = {"time": timestamp(record.created), **fields}
        line = " ".join(f"{key}={quoted(value)}" for key, value in fields.items())
        return f"<{_PRIORITIES[level]}>{line}" if self.journal else line


class JSONFormatter(logging.Formatter):
    """One JSON object a line, always with the time."""

    def format(self, record: logging.LogRecord) -> str:
        level = level_name(record.levelno)
        fields = {"time": timestamp(record.created), "level": level, "msg": record.getMessage()}
        return json.dumps(fields | fields_of(record), default=str, ensure_ascii=False)


def is_journal(stream: TextIO) -> bool:
    """Whether ``stream`` is what ``$JOURNAL_STREAM`` names: the journal (``systemd.exec(5)``)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def configure(level: str = "info", format: str = "text", stream: TextIO | None = None) -> None:
    """Send all logging to ``stream`` (stderr) at ``level``. May be called again, as on a reload."""
    stream = stream or sys.stderr
    formatter = JSONFormatter() if format == "json" else TextFormatter(journal=is_journal(stream))
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    # asyncio's debug lines name selectors, not things of ours.
    logging.getLogger("asyncio").setLevel(max(LEVELS[level], logging.WARNING))
    logging.captureWarnings(True)
