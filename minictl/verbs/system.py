"""version, info, events, system df and system prune: the daemon itself."""

from __future__ import annotations

import os
import sys
import time

from minictl import __version__, table, units
from minictl.engine import API_VERSION, Engine
from minictl.errors import Failure
from minictl.filters import parse_filters
from minictl.flags import Command, Options
from minictl.timestamps import parse_timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def version(options: Options, arguments: list[str], engine: Engine) -> int:
    problem = None
    server = None
    try:
        server = engine.call("GET", "/version")
    except Failure as error:
        problem = error
    machine = os.uname().machine
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    client = {
        "Version": __version__,
        "ApiVersion": engine.version,
        "DefaultAPIVersion": API_VERSION,
        "PythonVersion": ".".join(str(number) for number in sys.version_info[:3]),
        "Os": "linux",
        "Arch": architecture,
        "Context": "default",
    }
    if options["format"]:
        _templated(options["format"], {"Client": _go_names(client), "Server": server and _go_names(server)})
    else:
        shown = engine.version
        if shown != API_VERSION:
            shown += f" (downgraded from {API_VERSION})"
        text = "Client: minictl\n" + _aligned(
            [
                (" Version", __version__),
                (" API version", shown),
                (" Python version", client["PythonVersion"]),
                (" OS/Arch", f"linux/{architecture}"),
                (" Daemon", engine.host),
            ]
        )
        table.write(text + (_server_text(server) if server else ""))
    if problem:
        raise Failure(problem.message)
    return 0


def _go_names(versions: dict[str, Any]) -> dict[str, Any]:
    """With the name that templates use too."""
    return versions | {"APIVersion": versions.get("ApiVersion", "")}


def _server_text(server: dict[str, Any]) -> str:
    text = f"\nServer: {(server.get('Platform') or {}).get('Name', '')}".rstrip() + "\n"
    components = server.get("Components") or []
    if not components:
        components = [{"Name": "Engine", "Version": server["Version"], "Details": server}]
    for component in components:
        details = component.get("Details") or {}
        rows = [("  Version", component.get("Version", ""))]
        if component.get("Name") == "Engine":
            api = details.get("ApiVersion") or server.get("ApiVersion", "")
            lowest = details.get("MinAPIVersion") or server.get("MinAPIVersion", "")
            rows += [
                ("  API version", f"{api} (minimum version {lowest})"),
                ("  Go version", details.get("GoVersion") or server.get("GoVersion", "")),
                ("  Git commit", details.get("GitCommit") or server.get("GitCommit", "")),
                ("  Built", _built(details.get("BuildTime") or server.get("BuildTime") or "")),
                ("  OS/Arch", f"{server.get('Os', '')}/{server.get('Arch', '')}"),
                (
                    "  Experimental",
                    str(details.get("Experimental", server.get("Experimental", False))).lower(),
                ),
            ]
            rows = [
                row for row in rows if row[1] or not row[0].endswith(("Go version", "Git commit", "Built"))
            ]
        else:
            rows += [(f"  {name}", str(details[name])) for name in sorted(details)]
        text += f" {component.get('Name', '')}:\n{_aligned(rows)}"
    return text


def _built(text: str) -> str:
    try:
        return time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(units.parse_time(text)))
    except ValueError:
        return text


def _aligned(rows: list[tuple[str, str]]) -> str:
    return "".join(f"{name + ':':19} {value}\n" for name, value in rows)


def info(options: Options, arguments: list[str], engine: Engine) -> int:
    answer: dict[str, Any] = {}
    problem = None
    try:
        answer = engine.call("GET", "/info")
    except Failure as error:
        problem = error
        answer["ServerErrors"] = [error.message]
    answer["ClientInfo"] = {"Debug": False, "Context": "default", "Plugins": [], "Warnings": None,
                            "Version": __version__, "Os": "linux"}  # fmt: skip
    if options["format"]:
        _templated(options["format"], answer)
    else:
        text = f"Client: minictl\n Version:    {__version__}\n Context:    default\n Debug Mode: false\n\nServer:\n"
        table.write(text if problem else text + _info_text(answer))
        for warning in answer.get("Warnings") or ():
            sys.stderr.write(f"{warning}\n")
    if problem:
        raise Failure(problem.message)
    return 0


def _info_text(answer: dict[str, Any]) -> str:
    get = answer.get
    lines = [
        f"Containers: {get('Containers', 0)}",
        f" Running: {get('ContainersRunning', 0)}",
        f" Paused: {get('ContainersPaused', 0)}",
        f" Stopped: {get('ContainersStopped', 0)}",
        f"Images: {get('Images', 0)}",
        f"Server Version: {get('ServerVersion', '')}",
        f"Storage Driver: {get('Driver', '')}",
    ]
    lines += [f" {name}: {value}" for name, value in get("DriverStatus") or ()]
    lines.append(f"Logging Driver: {get('LoggingDriver', '')}")
    lines.append(f"Cgroup Driver: {get('CgroupDriver', '')}")
    lines.append(f"Cgroup Version: {get('CgroupVersion', '')}")
    plugins = get("Plugins") or {}
    lines.append("Plugins:")
    for kind in ("Volume", "Network", "Authorization", "Log"):
        if plugins.get(kind):
            lines.append(f" {kind}: {' '.join(plugins[kind])}")
    lines.append(f"Swarm: {(get('Swarm') or {}).get('LocalNodeState') or 'inactive'}")
    if get("Runtimes"):
        lines.append(f"Runtimes: {' '.join(sorted(get('Runtimes') or {}))}")
        lines.append(f"Default Runtime: {get('DefaultRuntime', '')}")
    if get("InitBinary"):
        lines.append(f"Init Binary: {get('InitBinary')}")
    security = get("SecurityOptions") or []
    if security:
        lines.append("Security Options:")
        for option in security:
            fields = dict(field.partition("=")[::2] for field in option.split(","))
            lines.append(f" {fields.pop('name', option)}")
            lines += [f"  {name.capitalize()}: {value}" for name, value in fields.items() if value]
    for name, key in (
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ):
        lines.append(f"{name}: {get(key, '')}")
    lines.append(f"Total Memory: {units.binary_size(get('MemTotal') or 0)}")
    lines.append(f"Name: {get('Name', '')}")
    lines.append(f"ID: {get('ID', '')}")
    lines.append(f"Docker Root Dir: {get('DockerRootDir', '')}")
    lines.append(f"Debug Mode: {str(bool(get('Debug'))).lower()}")
    for name, key in (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")):
        if get(key):
            lines.append(f"{name}: {get(key)}")
    if get("Labels"):
        lines += ["Labels:", *(f" {label}" for label in get("Labels") or ())]
    lines.append(f"Experimental: {str(bool(get('ExperimentalBuild'))).lower()}")
    registries = get("RegistryConfig") or {}
    insecure = [
        name
        for name, entry in (registries.get("IndexConfigs") or {}).items()
        if not entry.get("Secure", True)
    ]
    insecure += registries.get("InsecureRegistryCIDRs") or []
    if insecure:
        lines += ["Insecure Registries:", *(f" {name}" for name in insecure)]
    lines.append(f"Live Restore Enabled: {str(bool(get('LiveRestoreEnabled'))).lower()}")
    return "".join(f" {line}\n" for line in lines) + "\n"


def events(options: Options, arguments: list[str], engine: Engine) -> int:
    from minictl import jsontext

    query = {
        "filters": parse_filters(options["filter"]),
        "since": parse_timestamp("since", options["since"]),
        "until": parse_timestamp("until", options["until"]),
    }
    template = None
    if options["format"] and options["format"] != "json":
        from minictl.template import Template

        template = Template(options["format"])
    response = engine.request("GET", "/events", query)
    pending = b""
    rest = ""
    for part in response.parts():
        pending += part
        cut = max(pending.rfind(b"}"), pending.rfind(b"\n")) + 1
        if not cut:
            continue
        found, rest = jsontext.loads_many(rest + pending[:cut].decode("utf-8", "replace"))
        pending = pending[cut:]
        text = ""
        for event in found:
            if template:
                text += template.render(_event_fields(event)) + "\n"
            elif options["format"]:
                text += jsontext.dumps(event) + "\n"
            else:
                text += _event_line(event)
        table.write(text)
    return 0


def _event_fields(event: dict[str, Any]) -> dict[str, Any]:
    """With the names of the Go struct too, which differ from the JSON's."""
    return event | {
        "Status": event.get("status", ""),
        "ID": event.get("id", ""),
        "From": event.get("from", ""),
        "Scope": event.get("scope", ""),
        "Time": event.get("time", 0),
        "TimeNano": event.get("timeNano", 0),
    }


def _event_line(event: dict[str, Any]) -> str:
    nano = event.get("timeNano") or event.get("time", 0) * 1_000_000_000
    seconds, rest = divmod(nano, 1_000_000_000)
    zone = time.strftime("%z", time.localtime(seconds))
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(seconds))}.{rest:09d}{zone}"
    actor = event.get("Actor") or {}
    line = f"{when} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    attributes = actor.get("Attributes") or {}
    if attributes:
        line += " (" + ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes)) + ")"
    return line + "\n"


def df(options: Options, arguments: list[str], engine: Engine) -> int:
    answer = engine.call("GET", "/system/df")
    images = answer.get("Images") or []
    containers = answer.get("Containers") or []
    volumes = answer.get("Volumes") or []
    cache = answer.get("BuildCache") or []
    total = answer.get("LayersSize") or 0
    used = sum(
        (image.get("Size") or 0) - max(image.get("SharedSize", 0), 0)
        for image in images
        if image.get("Containers")
    )
    stopped = sum(c.get("SizeRw") or 0 for c in containers if c.get("State") not in ("running", "paused"))
    volume_sizes = [(volume.get("UsageData") or {}) for volume in volumes]
    rows = [
        _usage("Images", len(images), sum(bool(i.get("Containers")) for i in images), total, total - used),
        _usage(
            "Containers",
            len(containers),
            sum(c.get("State") in ("running", "paused", "restarting") for c in containers),
            sum(c.get("SizeRw") or 0 for c in containers),
            stopped,
        ),
        _usage(
            "Local Volumes",
            len(volumes),
            sum(usage.get("RefCount", 0) > 0 for usage in volume_sizes),
            sum(max(usage.get("Size", 0), 0) for usage in volume_sizes),
            sum(max(usage.get("Size", 0), 0) for usage in volume_sizes if not usage.get("RefCount")),
        ),
        _usage(
            "Build Cache",
            len(cache),
            sum(bool(entry.get("InUse")) for entry in cache),
            sum(entry.get("Size") or 0 for entry in cache),
            sum(entry.get("Size") or 0 for entry in cache if not entry.get("InUse")),
        ),
    ]
    headers = {
        "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE",
    }  # fmt: skip
    table.show(rows, {name: _getter(name) for name in headers}, headers, tuple(headers), options["format"])
    return 0


def _getter(name: str) -> Any:
    return lambda row: row[name]


def _usage(kind: str, total: int, active: int, size: int, reclaimable: int) -> dict[str, str]:
    text = units.human_size(max(reclaimable, 0))
    if size > 0:
        text += f" ({max(reclaimable, 0) * 100 // size}%)"
    elif kind == "Images":
        text += " (0%)"
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": units.human_size(size),
        "Reclaimable": text,
    }


def prune(options: Options, arguments: list[str], engine: Engine) -> int:
    from minictl import prompt

    things = ["all stopped containers", "all networks not used by at least one container"]
    if options["volumes"]:
        things.append("all anonymous volumes not used by at least one container")
    things.append(
        "all images without at least one container associated to them"
        if options["all"]
        else "all dangling images"
    )
    warning = "This will remove:\n" + "".join(f"  - {thing}\n" for thing in things)
    if not options["force"] and not prompt.agreed(warning):
        raise Failure("system prune has been cancelled")
    reclaimed = 0
    text = ""
    filters = options["filter"]
    steps = [("Deleted Containers", "/containers/prune", "ContainersDeleted", filters)]
    steps.append(("Deleted Networks", "/networks/prune", "NetworksDeleted", filters))
    if options["volumes"]:
        steps.append(("Deleted Volumes", "/volumes/prune", "VolumesDeleted", filters))
    dangling = f"dangling={'false' if options['all'] else 'true'}"
    steps.append(("Deleted Images", "/images/prune", "ImagesDeleted", [*filters, dangling]))
    for title, path, key, wanted in steps:
        try:
            answer = engine.call("POST", path, {"filters": parse_filters(wanted)})
        except Failure:
            if path == "/networks/prune":  # a daemon without networks has none to prune
                continue
            raise
        reclaimed += answer.get("SpaceReclaimed") or 0
        deleted = answer.get(key) or []
        if deleted:
            lines = [
                entry
                if isinstance(entry, str)
                else f"untagged: {entry['Untagged']}"
                if entry.get("Untagged")
                else f"deleted: {entry['Deleted']}"
                for entry in deleted
            ]
            text += f"{title}:\n" + "\n".join(lines) + "\n\n"
    table.write(f"{text}Total reclaimed space: {units.human_size(reclaimed)}\n")
    return 0


def _templated(template: str, data: Any) -> None:
    if template == "json":
        template = "{{json .}}"
    from minictl.template import Template

    table.write(Template(template).render(data) + "\n")


_FORMAT = ("format", "f", "string", "How to print: json, or a Go template")

VERSION = Command(
    "version", "[OPTIONS]", "Show the versions of minictl and of the daemon", version, (_FORMAT,), 0, 0
)
INFO = Command("info", "[OPTIONS]", "Show what the daemon is, has and can do", info, (_FORMAT,), 0, 0)
EVENTS = Command(
    "events",
    "[OPTIONS]",
    "Show what happens in the daemon, as it happens",
    events,
    (
        ("filter", "f", "list", "Show only what fits (type=container, event=start, container=…)"),
        ("format", "", "string", "How to print: json, or a Go template"),
        ("since", "", "string", "Begin with what happened since: a time, or how long ago"),
        ("until", "", "string", "End at this time"),
    ),
    0,
    0,
)
DF = Command(
    "system df",
    "[OPTIONS]",
    "Show how much disk is used",
    df,
    (("format", "", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),),
    0,
    0,
)
PRUNE = Command(
    "system prune",
    "[OPTIONS]",
    "Remove all that is not in use",
    prune,
    (
        ("all", "a", "bool", "Remove all images that no container uses, not only untagged ones"),
        ("filter", "", "list", "Remove only what fits (until=24h, label=…)"),
        ("force", "f", "bool", "Don't ask"),
        ("volumes", "", "bool", "Remove anonymous volumes too"),
    ),
    0,
    0,
)
