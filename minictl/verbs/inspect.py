"""inspect: all that the daemon knows of containers, images, volumes and networks."""

from __future__ import annotations

from minictl import table
from minictl.engine import Engine, segment
from minictl.errors import ApiError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
# Fields that the API leaves out when they have no value: a template may ask for them all the same.
_OMITTED = {"Health": None, "Healthcheck": None, "ExposedPorts": None, "StopSignal": "", "StopTimeout": None}
# What Go prints for lists, maps and pointers that are nil (null in JSON).
_LISTS = (
    "Aliases", "Args", "Binds", "BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps", "BlkioWeightDevice", "CapAdd", "CapDrop", "Cmd", "DeviceCgroupRules", "DeviceRequests",
    "Devices", "Dns", "DnsOptions", "DnsSearch", "DNSNames", "Entrypoint", "Env", "ExecIDs", "ExtraHosts", "GroupAdd",
    "Layers", "Links", "MaskedPaths", "Mounts", "OnBuild", "ReadonlyPaths", "RepoDigests", "RepoTags", "SecurityOpt",
    "SecondaryIPAddresses", "SecondaryIPv6Addresses", "Shell", "Ulimits", "VolumesFrom",
)  # fmt: skip
_MAPS = (
    "DriverOpts", "ExposedPorts", "Labels", "Networks", "Options", "PortBindings", "Ports", "Sysctls", "Tmpfs",
    "Volumes",
)  # fmt: skip
_POINTERS = (
    "Health", "Healthcheck", "IPAMConfig", "Init", "MemorySwappiness", "OomKillDisable", "PidsLimit", "StopTimeout",
)  # fmt: skip
_NULL = dict.fromkeys(_LISTS, "[]") | dict.fromkeys(_MAPS, "map[]") | dict.fromkeys(_POINTERS, "<nil>")
_OTHER_TYPES = ("config", "node", "plugin", "secret", "service", "task")


def inspect(options: Options, arguments: list[str], engine: Engine) -> int:
    kind = options["type"]
    if options.given("type") and kind not in _PATHS:
        if kind in _OTHER_TYPES:
            raise Failure(f"minid has no objects of type {kind}")
        known = '"' + '", "'.join(sorted((*_PATHS, *_OTHER_TYPES))) + '"'
        raise Failure(f'unknown type: "{kind}": must be one of {known}')
    kinds = (kind,) if kind else ("container", "image", "network", "volume")
    return _show(arguments, options["format"], lambda name: _find(engine, kinds, name, options["size"]))


def inspect_container(options: Options, arguments: list[str], engine: Engine) -> int:
    return _show(
        arguments, options["format"], lambda name: _find(engine, ("container",), name, options["size"])
    )


def inspect_image(options: Options, arguments: list[str], engine: Engine) -> int:
    return _show(arguments, options["format"], lambda name: _find(engine, ("image",), name, False))


def inspect_volume(options: Options, arguments: list[str], engine: Engine) -> int:
    return _show(arguments, options["format"], lambda name: _find(engine, ("volume",), name, False))


def inspect_network(options: Options, arguments: list[str], engine: Engine) -> int:
    return _show(arguments, options["format"], lambda name: _find(engine, ("network",), name, False))


def _find(engine: Engine, kinds: Sequence[str], name: str, size: bool) -> Any:
    for kind in kinds:
        query = {"size": True} if size and kind == "container" else None
        try:
            return engine.call("GET", _PATHS[kind].format(segment(name)), query)
        except ApiError as error:
            if len(kinds) == 1 or error.http_status not in (400, 404, 501):
                raise
    raise Failure(f"Error: No such object: {name}")


def _show(names: list[str], template: str, find: Callable[[str], Any]) -> int:
    """Prints what was found, then raises Failure with what was not."""
    parsed = None
    if template and template != "json":
        from minictl.template import Template
        from minictl.template_syntax import TemplateError

        try:
            parsed = Template(template, _OMITTED, _NULL)
        except TemplateError as error:
            raise Failure(error.message, 64) from None
    found = []
    problems = []
    for name in names:
        try:
            found.append(find(name))
        except ApiError as error:
            problems.append(error.message)
        except Failure as error:
            if not error.message.startswith("Error: No such object"):
                raise
            problems.append(error.message)
    if parsed:
        text = ""
        try:
            for item in found:
                text += parsed.render(item) + "\n"
        except Failure:
            table.write(text or "\n")
            raise
        table.write(text or "\n")
    elif template == "json":
        from minictl import jsontext

        table.write(jsontext.dumps(found) + "\n")
    else:
        import json

        table.write(json.dumps(found, indent=4, ensure_ascii=False) + "\n")
    if problems:
        raise Failure("\n".join(problems))
    return 0


_FORMAT = ("format", "f", "string", "How to print: json, or a Go template")

INSPECT = Command(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Show all that is known of containers, images, volumes, networks",
    inspect,
    (
        _FORMAT,
        ("size", "s", "bool", "Show sizes too, of containers"),
        ("type", "", "string", "Look only for things of this type"),
    ),
    1,
)
INSPECT_CONTAINER = Command(
    "container inspect",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Show all that is known of containers",
    inspect_container,
    (_FORMAT, ("size", "s", "bool", "Show sizes too")),
    1,
)
INSPECT_IMAGE = Command(
    "image inspect",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Show all that is known of images",
    inspect_image,
    (_FORMAT, ("platform", "", "string", "Accepted and ignored: minid keeps one platform of an image")),
    1,
)
INSPECT_VOLUME = Command(
    "volume inspect",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Show all that is known of volumes",
    inspect_volume,
    (_FORMAT,),
    1,
)
INSPECT_NETWORK = Command(
    "network inspect",
    "[OPTIONS] NETWORK [NETWORK...]",
    "Show all that is known of networks",
    inspect_network,
    (_FORMAT, ("verbose", "v", "bool", "Show more, of swarm networks")),
    1,
)
