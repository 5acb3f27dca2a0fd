"""`--output`: what becomes of the image that was built: kept, pushed, written to a file or unpacked into a directory.

The daemon builds an image in any case. The rest is done here by calls that every daemon has, and what was only made
for it is removed again.
"""

from __future__ import annotations

import os

from minictl import pulling, reference, registry_auth, terminal
from minictl.engine import segment
from minictl.errors import ApiError, Failure, UsageError
from minictl.flags import truth
from minictl.mounts import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minictl.engine import Engine
    from minictl.flags import Options

_KINDS = ("local", "tar", "oci", "docker", "image", "registry", "cacheonly")
_ARCHIVES = ("tar", "oci", "docker")


class Output:
    """One `--output`: `dest` is a path, "-" for stdout, "" for none; `names` are given with name=."""

    __slots__ = ("dest", "kind", "names", "push")

    def __init__(
        self, kind: str, dest: str = "", names: list[str] | None = None, *, push: bool = False
    ) -> None:
        self.kind = kind
        self.dest = dest
        self.names = names or []
        self.push = push

    @property
    def keeps_image(self) -> bool:
        return self.kind in ("image", "registry") or (self.kind == "docker" and not self.dest)

    @property
    def to_stdout(self) -> bool:
        return self.dest == "-"


def outputs(options: Options) -> list[Output]:
    """What --output, --load and --push ask for; an image that is kept when they ask for nothing. Raises UsageError."""
    found = [_parse(text) for text in options["output"]]
    if options["push"]:
        found.append(Output("registry", push=True))
    if options["load"] or not found:
        found.append(Output("image"))
    if sum(output.to_stdout for output in found) > 1:
        raise UsageError("only one --output can go to stdout")
    for output in found:
        if output.push and not (output.names or options["tag"]):
            raise UsageError("an image needs a name to be pushed: give it one with -t")
        if output.to_stdout and terminal.is_terminal(1):
            raise Failure(f"--output type={output.kind}: not to a terminal; use dest= or redirect")
    return found


def _parse(text: str) -> Output:
    if "=" not in text:
        return Output("tar", "-") if text == "-" else Output("local", text)
    values = {}
    for field in fields(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            raise UsageError(f"--output {text}: {field!r} is no key=value pair")
        values[key] = value
    kind = values.pop("type", "")
    if kind not in _KINDS:
        raise UsageError(f"--output {text}: type is one of {', '.join(_KINDS)}")
    dest = values.pop("dest", "")
    names = [name for name in values.pop("name", "").split(",") if name]
    try:
        push = truth(values.pop("push", "false"))
    except ValueError as error:
        raise UsageError(f"--output {text}: push: {error}") from None
    if values.pop("tar", "true") == "false":
        raise UsageError(f"--output {text}: only archives are written, no directories of blobs (tar=false)")
    if values:
        raise UsageError(f"--output {text}: {next(iter(values))} is not supported")
    if kind == "local" and (not dest or dest == "-"):
        raise UsageError(f"--output {text}: a directory is needed (dest=PATH)")
    if kind in ("tar", "oci") and not dest:
        dest = "-"
    if push and kind not in ("image", "registry"):
        raise UsageError(f"--output {text}: type={kind} can't be pushed")
    for name in names:
        try:
            reference.parse(name)
        except Failure as error:
            raise UsageError(f"--output {text}: {name}: {error.message}") from None
    return Output(kind, dest, names, push=push or kind == "registry")


def names_to_build(wanted: list[Output], tags: list[str]) -> list[str]:
    """The names that the daemon is to give the image: none when it is not kept, so that none is taken away."""
    if not any(output.keeps_image for output in wanted):
        return []
    names = list(tags)
    for output in wanted:
        if output.keeps_image:
            names += [name for name in output.names if name not in names]
    return names


def known_images(engine: Engine) -> set[str]:
    """The ids of the images that are there already, and so are not removed."""
    return {image["Id"] for image in engine.call("GET", "/images/json", {"all": True}) or []}


def deliver(
    engine: Engine, image: str, wanted: list[Output], tags: list[str], known: set[str] | None
) -> None:
    """Does with the image `image` (an id) what is wanted; `known`: images that were there before, None: keep it."""
    names_before: dict[str, str] = {}
    try:
        for output in wanted:
            if output.kind == "local":
                _unpack(engine, image, output.dest)
            elif output.kind == "tar":
                _export(engine, image, output.dest)
            elif output.kind in _ARCHIVES and output.dest:
                _save(engine, image, output, output.names or tags, names_before)
            elif output.push:
                for name in output.names or tags:
                    push(engine, name)
    finally:
        for name, old in names_before.items():
            if old:
                _tag(engine, old, name)
            else:
                _remove(engine, f"/images/{segment(name)}", {"noprune": True})
        if known is not None and image not in known:
            _remove(engine, f"/images/{segment(image)}")


def push(engine: Engine, name: str) -> None:
    """Pushes one tag, and shows how it goes on stderr. Raises Failure."""
    wanted = reference.parse(name)
    response = engine.request(
        "POST",
        f"/images/{segment(wanted.name)}/push",
        {"tag": wanted.tag or "latest"},
        headers={"X-Registry-Auth": registry_auth.header_for(wanted.domain)},
    )
    pulling.show_progress(engine, response, 2)


def _export(engine: Engine, image: str, dest: str) -> None:
    from minictl.verbs.archives import deliver as write

    container = _container(engine, image)
    try:
        response = engine.request("GET", f"/containers/{container}/export")
        write(response, "" if dest == "-" else dest)
    finally:
        _remove(engine, f"/containers/{container}", {"force": True, "v": True})


def _unpack(engine: Engine, image: str, directory: str) -> None:
    """The file system as files of the caller's in `directory`, beside what is there already."""
    from minictl import tar_reading

    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise Failure(f"--output {directory}: {(error.strerror or str(error)).lower()}") from None
    container = _container(engine, image)
    try:
        response = engine.request("GET", f"/containers/{container}/export")
        tar_reading.extract(
            tar_reading.BodyFile(response), directory, lambda name: name, devices=os.geteuid() == 0
        )
        response.read()
        engine.release(response)
    finally:
        _remove(engine, f"/containers/{container}", {"force": True, "v": True})


def _container(engine: Engine, image: str) -> str:
    """A container that is never started: what it would run does not matter, but an image may have no command."""
    body = {"Image": image, "Cmd": ["-"], "NetworkDisabled": True, "HostConfig": {"NetworkMode": "none"}}
    container: str = engine.call("POST", "/containers/create", body=body)["Id"]
    return container


def _save(engine: Engine, image: str, output: Output, names: list[str], names_before: dict[str, str]) -> None:
    """An archive of the image with its names, which it has for that time; `names_before` takes whose they were."""
    from minictl.verbs.archives import deliver as write

    for name in names:
        old = _image_of(engine, name)
        if old != image:
            names_before.setdefault(name, old)
            _tag(engine, image, name)
    write(
        engine.request("GET", "/images/get", {"names": names or [image]}),
        "" if output.dest == "-" else output.dest,
    )


def _image_of(engine: Engine, name: str) -> str:
    try:
        found: dict[str, Any] = engine.call("GET", f"/images/{segment(name)}/json")
    except ApiError as error:
        if error.http_status == 404:
            return ""
        raise
    return str(found["Id"])


def _tag(engine: Engine, image: str, name: str) -> None:
    wanted = reference.parse(name)
    engine.call("POST", f"/images/{segment(image)}/tag", {"repo": wanted.name, "tag": wanted.tag or "latest"})


def _remove(engine: Engine, path: str, query: dict[str, Any] | None = None) -> None:
    """Takes away what was only made for an output; that somebody uses it by now is no failure of the build."""
    try:
        engine.call("DELETE", path, query)
    except ApiError as error:
        if error.http_status not in (404, 409):
            raise
