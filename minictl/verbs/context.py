"""context create, export, import, inspect, ls, rm, show, update and use: addresses of daemons, in Docker's store."""

from __future__ import annotations

import os
import sys

from minictl import config, contexts, table
from minictl.endpoint import DEFAULT_CONTEXT
from minictl.engine import Engine
from minictl.errors import Failure
from minictl.flags import Command, Options, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minictl.endpoint import Choice

_DEFAULT_DESCRIPTION = "Current DOCKER_HOST based configuration"
_KEYS = ("from", "host", "ca", "cert", "key", "skip-tls-verify")
_ERROR_WIDTH = 45


def _choice(engine: Engine) -> Choice:
    assert engine.choice
    return engine.choice


# what there is


def ls(options: Options, arguments: list[str], engine: Engine) -> int:
    current = _choice(engine).context()
    items = [_item(name, current, engine) for name in sorted({*contexts.names(), DEFAULT_CONTEXT, current})]
    if options["quiet"] and not options["format"]:
        table.write("".join(f"{item['Name']}\n" for item in items if not item["Error"]))
        return 0
    if options["format"] in ("", "table"):  # in a table, the current one has a star
        items = [item | {"Name": item["Name"] + " *" if item["Current"] else item["Name"]} for item in items]
    table.show(
        items, _FIELDS, _HEADERS, ("Name", "Description", "DockerEndpoint", "Error"), options["format"]
    )
    if (variable := _choice(engine).host_variable()) and not options["format"]:
        sys.stderr.write(
            f"Warning: {variable} environment variable overrides the active context. To use a context, either set the "
            f"global --context flag, or unset {variable} environment variable.\n"
        )
    return 0


def _item(name: str, current: str, engine: Engine) -> dict[str, Any]:
    item = {"Name": name, "Current": name == current, "Description": "", "DockerEndpoint": "", "Error": ""}
    if name == DEFAULT_CONTEXT:
        endpoint = _choice(engine).default_endpoint()
        return item | {"Description": _DEFAULT_DESCRIPTION, "DockerEndpoint": endpoint.host}
    try:
        meta = contexts.get(name)
    except Failure as error:
        return item | {"Error": error.message}
    docker = contexts.docker_endpoint(meta)
    return item | {"Description": contexts.description(meta), "DockerEndpoint": str(docker.get("Host") or "")}


_FIELDS: dict[str, Callable[[Any], Any]] = {
    "Current": lambda item: item["Current"],
    "Description": lambda item: item["Description"],
    "DockerEndpoint": lambda item: item["DockerEndpoint"],
    "Error": lambda item: table.ellipsis(item["Error"], _ERROR_WIDTH),
    "Name": lambda item: item["Name"],
}
_HEADERS = {
    "Current": "CURRENT",
    "Description": "DESCRIPTION",
    "DockerEndpoint": "DOCKER ENDPOINT",
    "Error": "ERROR",
    "Name": "NAME",
}


def show(options: Options, arguments: list[str], engine: Engine) -> int:
    print(_choice(engine).context())
    return 0


def inspect(options: Options, arguments: list[str], engine: Engine) -> int:
    found, problems = [], []
    for name in arguments or [_choice(engine).context()]:
        try:
            found.append(_inspected(name, engine))
        except Failure as error:
            problems.append(error.message)
    template = options["format"]
    if template and template != "json":
        from minictl.template import Template

        parsed = Template(template)
        table.write("".join(parsed.render(item) + "\n" for item in found))
    else:
        import json

        text = json.dumps(found, indent=None if template else 4, ensure_ascii=False)
        for letter in "<>&":  # as Go's encoding/json
            text = text.replace(letter, f"\\u{ord(letter):04x}")
        table.write(text + "\n")
    if problems:
        raise Failure("\n".join(problems))
    return 0


def _inspected(name: str, engine: Engine) -> dict[str, Any]:
    meta, files = _content(name, engine)
    place = ("<IN MEMORY>", "<IN MEMORY>")
    if name != DEFAULT_CONTEXT:
        place = (contexts.meta_directory(name), contexts.tls_directory(name))
    return {
        "Name": name,
        "Metadata": meta.get("Metadata") or {},
        "Endpoints": meta.get("Endpoints") or {},
        "TLSMaterial": {"docker": list(files)} if files else {},
        "Storage": {"MetadataPath": place[0], "TLSPath": place[1]},
    }


def _content(name: str, engine: Engine) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What meta.json says and the certificates; of "default", as options and environment have it."""
    if name != DEFAULT_CONTEXT:
        return contexts.get(name), contexts.tls_files(name)
    endpoint = _choice(engine).default_endpoint()
    files = {}
    if tls := endpoint.tls:
        for file_name, path in zip(contexts.TLS_FILES, (tls.ca, tls.certificate, tls.key), strict=True):
            if path:
                files[file_name] = _read(path)
    docker = {"Host": endpoint.host, "SkipTLSVerify": bool(endpoint.tls and not endpoint.tls.verify)}
    return {"Name": name, "Metadata": {}, "Endpoints": {"docker": docker}}, files


# changes


def create(options: Options, arguments: list[str], engine: Engine) -> int:
    name = arguments[0]
    contexts.check_name(name)
    if contexts.exists(name):
        raise Failure(f'context "{name}" already exists')
    source = options["from"]
    if source and options["docker"]:
        raise Failure("cannot use --docker flag when --from is set")
    about = options["description"]
    if source or not options["docker"]:
        meta, files = _content(source or _choice(engine).context(), engine)
        contexts.put_meta(name, _described(meta, name, about), files)
    else:
        contexts.put(name, about, *_docker_endpoint(options["docker"], engine))
    print(name)
    sys.stderr.write(f'Successfully created context "{name}"\n')
    return 0


def update(options: Options, arguments: list[str], engine: Engine) -> int:
    name = arguments[0]
    _not_default(name)
    meta, files = contexts.get(name), contexts.tls_files(name)
    if options["docker"]:
        host, skip, files = _docker_endpoint(options["docker"], engine)
        docker = {"Host": host, "SkipTLSVerify": skip} if host else {"SkipTLSVerify": skip}
        meta["Endpoints"] = {**(meta.get("Endpoints") or {}), "docker": docker}
    contexts.put_meta(name, _described(meta, name, options["description"]), files)
    print(name)
    sys.stderr.write(f'Successfully updated context "{name}"\n')
    return 0


def _described(meta: dict[str, Any], name: str, about: str) -> dict[str, Any]:
    more = {"Description": about} if about else {}
    return {**meta, "Name": name, "Metadata": {**(meta.get("Metadata") or {}), **more}}


def _docker_endpoint(entries: list[str], engine: Engine) -> tuple[str, bool, dict[str, bytes]]:
    """Address, whether any certificate is taken, and certificates, of `host=…,ca=…,cert=…,key=…,skip-tls-verify=…`."""
    values = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals:
            raise Failure(
                f'invalid argument "{entry}" for "--docker" flag: {entry} must be formatted as key=value'
            )
        if key not in _KEYS:
            raise Failure(f"unable to create docker endpoint config: unrecognized config key: {key}")
        values[key] = value
    if source := values.get("from"):
        meta, files = _content(source, engine)
        docker = contexts.docker_endpoint(meta)
        return str(docker.get("Host") or ""), bool(docker.get("SkipTLSVerify")), files
    try:
        skip = truth(values["skip-tls-verify"]) if values.get("skip-tls-verify") else False
    except ValueError as error:
        raise Failure(f"unable to create docker endpoint config: skip-tls-verify: {error}") from None
    files = {}
    for file_name, key in zip(contexts.TLS_FILES, ("ca", "cert", "key"), strict=True):
        if path := values.get(key):
            files[file_name] = _read(os.path.expanduser(path))
    if bool(values.get("cert")) != bool(values.get("key")):
        raise Failure("unable to create docker endpoint config: cert and key go together: give both")
    return values.get("host", ""), skip, files


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Failure(f"unable to create docker endpoint config: open {path}: {reason}") from None


def use(options: Options, arguments: list[str], engine: Engine) -> int:
    name = arguments[0]
    if name != DEFAULT_CONTEXT:
        contexts.get(name)
    _choose(name)
    print(name)
    if variable := _choice(engine).host_variable():
        sys.stderr.write(
            f'Warning: {variable} environment variable overrides the active context. To use "{name}", either set the '
            f"global --context flag, or unset {variable} environment variable.\n"
        )
    sys.stderr.write(f'Current context is now "{name}"\n')
    return 0


def _choose(name: str) -> None:
    settings = config.load()
    chosen = "" if name == DEFAULT_CONTEXT else name
    if settings.get("currentContext", "") == chosen:
        return
    settings.pop("currentContext", None)
    if chosen:
        settings["currentContext"] = chosen
    config.save(settings)


def rm(options: Options, arguments: list[str], engine: Engine) -> int:
    problems = []
    for name in arguments:
        if name == DEFAULT_CONTEXT:
            problems.append('context "default" cannot be removed')
        elif not contexts.exists(name) and not options["force"]:
            problems.append(f'context "{name}" does not exist')
        elif name == _choice(engine).context() and not options["force"]:
            problems.append(f'context "{name}" is in use, set -f flag to force remove')
        else:
            contexts.remove(name)
            if config.current_context() == name:
                _choose(DEFAULT_CONTEXT)
            print(name)
    if problems:
        raise Failure("\n".join(problems))
    return 0


# to a file and back


def export(options: Options, arguments: list[str], engine: Engine) -> int:
    from minictl import context_archive

    name = arguments[0]
    target = arguments[1] if len(arguments) > 1 else f"{name}.dockercontext"
    data = context_archive.pack(*_content(name, engine))
    if target == "-":
        if os.isatty(1):
            raise Failure("cowardly refusing to export to a terminal, specify a file path")
        from minictl.streams import write_all

        write_all(1, data)
        return 0
    try:  # it may hold a private key
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
    except OSError as error:
        raise Failure(f"open {target}: {(error.strerror or str(error)).lower()}") from None
    sys.stderr.write(f'Written file "{target}"\n')
    return 0


def import_(options: Options, arguments: list[str], engine: Engine) -> int:
    from minictl import context_archive

    name, source = arguments
    contexts.check_name(name)
    if contexts.exists(name):
        raise Failure(f'context "{name}" already exists')
    try:
        with open(0 if source == "-" else source, "rb", closefd=source != "-") as file:
            data = file.read(context_archive.MAX_BYTES + 1)
    except OSError as error:
        raise Failure(f"open {source}: {(error.strerror or str(error)).lower()}") from None
    if len(data) > context_archive.MAX_BYTES:
        raise Failure("the defined maximum of 10485760 bytes was exceeded: this is no exported context")
    meta, files = context_archive.unpack(data)
    contexts.put_meta(name, {**meta, "Name": name}, files)
    print(name)
    sys.stderr.write(f'Successfully imported context "{name}"\n')
    return 0


def _not_default(name: str) -> None:
    if name == DEFAULT_CONTEXT:
        raise Failure('"default" is a reserved context name')


_DETAILS = """\
Docker endpoint config:
  from              Copy the endpoint of another context
  host              Where the daemon is: unix://PATH, tcp://HOST:PORT, ssh://USER@HOST
  ca, cert, key     PEM files: the CA to trust, and the certificate and key to show; copied into the context
  skip-tls-verify   Take whatever certificate the daemon shows

  minictl context create build --docker host=tcp://build:2376,ca=ca.pem,cert=cert.pem,key=key.pem"""
_DOCKER = ("docker", "", "strings", "Where the daemon is (key=value,…)")
_DESCRIPTION = ("description", "", "string", "Description of the context")

CREATE = Command(
    "context create",
    "[OPTIONS] CONTEXT",
    "Create a context",
    create,
    (_DESCRIPTION, _DOCKER, ("from", "", "string", "Copy this context")),
    1,
    1,
    details=_DETAILS,
)
UPDATE = Command(
    "context update",
    "[OPTIONS] CONTEXT",
    "Change a context",
    update,
    (_DESCRIPTION, _DOCKER),
    1,
    1,
    details=_DETAILS,
)
LS = Command(
    "context ls",
    "[OPTIONS]",
    "List contexts",
    ls,
    (
        ("format", "", "string", "How to print: table, json, or a Go template"),
        ("quiet", "q", "bool", "Only show context names"),
    ),
    0,
    0,
)
INSPECT = Command(
    "context inspect",
    "[OPTIONS] [CONTEXT...]",
    "Show all that is known of contexts",
    inspect,
    (("format", "f", "string", "How to print: json, or a Go template"),),
)
USE = Command(
    "context use", "CONTEXT", "Choose the context of commands without -H and --context", use, (), 1, 1
)
SHOW = Command("context show", "", "Print the name of the current context", show, (), 0, 0)
RM = Command(
    "context rm",
    "[OPTIONS] CONTEXT [CONTEXT...]",
    "Remove contexts",
    rm,
    (("force", "f", "bool", "Even one that is in use"),),
    1,
)
EXPORT = Command(
    "context export", "CONTEXT [FILE|-]", "Write a context, with its private key, to a file", export, (), 1, 2
)
IMPORT = Command("context import", "CONTEXT FILE|-", "Make a context from a file", import_, (), 2, 2)
