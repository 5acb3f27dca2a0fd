"""stats: what containers use of the machine, once or refreshed on the screen."""

from __future__ import annotations

import select

from minictl import jsontext, table, terminal, units
from minictl.engine import Engine, segment
from minictl.errors import ApiError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADERS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")


def stats(options: Options, arguments: list[str], engine: Engine) -> int:
    fields = {name: _getter(name) for name in _HEADERS}
    while True:
        samples = _sample(engine, _wanted(options, arguments, engine), short=not options["no-trunc"])
        if terminal.is_terminal(1) and not options["no-stream"]:
            table.write("\x1b[H\x1b[2J")
        table.show(samples, fields, _HEADERS, _COLUMNS, options["format"])
        if options["no-stream"]:
            return 0
        select.select([], [], [], 0.5)


def _wanted(options: Options, arguments: list[str], engine: Engine) -> list[str]:
    if arguments:
        return arguments
    found = engine.call("GET", "/containers/json", {"all": options["all"] or None}) or []
    return [container["Id"] for container in found]


def _sample(engine: Engine, names: list[str], *, short: bool) -> list[dict[str, str]]:
    """Asks for all at once: the daemon takes a second over each to see how much CPU it uses."""
    sent = [
        (name, engine.send("GET", f"/containers/{segment(name)}/stats", {"stream": False})) for name in names
    ]
    rows = []
    problems = []
    for name, connection in sent:
        try:
            try:
                response = engine.receive(connection)
            except ApiError as error:
                if not engine.accepts_older(error):
                    raise
                response = engine.request("GET", f"/containers/{segment(name)}/stats", {"stream": False})
            row = _row(jsontext.loads(response.read()), name, short)
            engine.release(response)
            rows.append(row)
        except ApiError as error:
            problems.append(error.message)
    if problems:
        raise Failure("\n".join(problems))
    return rows


def _row(sample: dict[str, Any], name: str, short: bool) -> dict[str, str]:
    identity = sample.get("id", "")
    memory = sample.get("memory_stats") or {}
    used, limit = _memory(memory), memory.get("limit") or 0
    networks = (sample.get("networks") or {}).values()
    received = sum(network.get("rx_bytes", 0) for network in networks)
    sent = sum(network.get("tx_bytes", 0) for network in networks)
    read, written = _block(sample)
    return {
        "Container": name if not short or len(name) < 64 else name[:12],
        "ID": table.short_id(identity) if short else identity,
        "Name": (sample.get("name") or "--").removeprefix("/"),
        "CPUPerc": f"{_cpu(sample):.2f}%",
        "MemUsage": f"{units.binary_size(used)} / {units.binary_size(limit)}",
        "MemPerc": f"{100 * used / limit if limit else 0:.2f}%",
        "NetIO": f"{units.human_size(received, 3)} / {units.human_size(sent, 3)}",
        "BlockIO": f"{units.human_size(read, 3)} / {units.human_size(written, 3)}",
        "PIDs": str((sample.get("pids_stats") or {}).get("current") or 0),
    }


def _cpu(sample: dict[str, Any]) -> float:
    """Percent of one CPU, between the two moments that the sample holds."""
    now, before = sample.get("cpu_stats") or {}, sample.get("precpu_stats") or {}
    used = (now.get("cpu_usage") or {}).get("total_usage", 0) - (before.get("cpu_usage") or {}).get(
        "total_usage", 0
    )
    system = (now.get("system_cpu_usage") or 0) - (before.get("system_cpu_usage") or 0)
    cpus = now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or []) or 1
    return used / system * cpus * 100 if used > 0 and system > 0 else 0.0


def _memory(memory: dict[str, Any]) -> int:
    """Without the page cache that could be dropped: inactive_file, of cgroup v1 or v2."""
    used: int = memory.get("usage") or 0
    details = memory.get("stats") or {}
    cache: int = details.get("total_inactive_file", details.get("inactive_file", 0))
    return used - cache if cache < used else used


def _block(sample: dict[str, Any]) -> tuple[int, int]:
    read = written = 0
    for entry in (sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ():
        kind = entry["op"][:1].lower()
        if kind == "r":
            read += entry["value"]
        elif kind == "w":
            written += entry["value"]
    return read, written


def _getter(name: str) -> Any:
    return lambda row: row[name]


STATS = Command(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Show what containers use of the machine",
    stats,
    (
        ("all", "a", "bool", "Show all containers, not only those that run"),
        ("format", "", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
        ("no-stream", "", "bool", "Show it once and end"),
        ("no-trunc", "", "bool", "Don't shorten IDs"),
    ),
)
