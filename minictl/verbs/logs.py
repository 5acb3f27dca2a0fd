"""logs: what a container has written."""

from __future__ import annotations

from minictl import streams
from minictl.engine import Engine, segment
from minictl.flags import Command, Options
from minictl.timestamps import parse_timestamp


def logs(options: Options, arguments: list[str], engine: Engine) -> int:
    path = f"/containers/{segment(arguments[0])}"
    query = {
        "stdout": True,
        "stderr": True,
        "since": parse_timestamp("since", options["since"]),
        "until": parse_timestamp("until", options["until"]),
        "follow": options["follow"] or None,
        "timestamps": options["timestamps"] or None,
        "details": options["details"] or None,
        "tail": options["tail"],
    }
    response = engine.request("GET", f"{path}/logs", query)
    framed = response.content_type == "application/vnd.docker.multiplexed-stream"
    if not framed and response.content_type != "application/vnd.docker.raw-stream":
        framed = not engine.call("GET", f"{path}/json")["Config"]["Tty"]  # a daemon before API 1.42
    elif not framed and _before_1_42(engine.version):
        framed = not engine.call("GET", f"{path}/json")["Config"]["Tty"]
    feed = streams.Frames(streams.write_all).feed if framed else _write_out
    for part in response.parts():
        feed(part)
    return 0


def _write_out(data: bytes) -> None:
    streams.write_all(1, data)


def _before_1_42(version: str) -> bool:
    major, _, minor = version.partition(".")
    return (int(major), int(minor or 0)) < (1, 42)


LOGS = Command(
    "logs",
    "[OPTIONS] CONTAINER",
    "Show what a container has written",
    logs,
    (
        ("details", "", "bool", "Show the attributes given to the log"),
        ("follow", "f", "bool", "Go on showing what comes"),
        ("since", "", "string", "Show only what is newer: a time, or how long ago (42m)"),
        ("tail", "n", "string", "Number of lines from the end", "all"),
        ("timestamps", "t", "bool", "Show when each line was written"),
        ("until", "", "string", "Show only what is older: a time, or how long ago (42m)"),
    ),
    1,
    1,
)
