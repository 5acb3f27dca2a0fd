"""version and info: the client and the daemon."""

from __future__ import annotations

import os
import sys
import time

from minictl import __version__, table, units
from minictl.engine import API_VERSION, Engine
from minictl.errors import Failure
from minictl.flags import Command, Options

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
        "Context": _context(engine),
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


def _context(engine: Engine) -> str:
    return engine.choice.context() if engine.choice else "default"


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
    answer["ClientInfo"] = {"Debug": False, "Context": _context(engine), "Plugins": [], "Warnings": None,
                            "Version": __version__, "Os": "linux"}  # fmt: skip
    if options["format"]:
        _templated(options["format"], answer)
    else:
        text = (
            f"Client: minictl\n Version:    {__version__}\n Context:    {_context(engine)}\n Debug Mode: false\n\n"
            "Server:\n"
        )
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
    if registries.get("Mirrors"):
        lines += ["Registry Mirrors:", *(f" {url}" for url in registries["Mirrors"])]
    lines.append(f"Live Restore Enabled: {str(bool(get('LiveRestoreEnabled'))).lower()}")
    return "".join(f" {line}\n" for line in lines) + "\n"


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
