"""image copy: an image from one daemon or registry to another; what the other side has already is not sent.

    NAME                    at the daemon that minictl speaks to (-H)
    HOST::NAME              at another daemon: unix:///run/other.sock::app:1, ssh://user@host::app:1, CONTEXT::app:1
    registry://NAME         at a registry: registry://registry.example:5000/team/app:1

As the destination, `HOST::` alone keeps the names.
"""

from __future__ import annotations

import sys

from minictl import pulling, reference, registry_auth, units
from minictl.engine import Engine, segment
from minictl.errors import ApiError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_REGISTRY = "registry://"
_LEFT_OUT = "that layer is not here either"  # the daemon has lost a layer since it was asked
_TRIES = 3


class Place:
    """One end of a copy: in a registry, or at a daemon (`engine`). `name` is "" for the names that the image has."""

    __slots__ = ("engine", "name", "registry")

    def __init__(self, text: str, engine: Engine) -> None:
        self.registry = text.startswith(_REGISTRY)
        self.engine = engine
        self.name = text.removeprefix(_REGISTRY)
        if self.registry:
            self.name = reference.familiar_tagged(self.name)
        elif "::" in text:
            host, _, self.name = text.rpartition("::")  # an address may be [::1]
            self.engine = engine.beside(host)
        elif "://" in text:
            raise Failure(f"{text}: write {text}::NAME for an image at another daemon, or registry://NAME")

    @property
    def auth(self) -> str:
        return registry_auth.header_for(reference.parse(self.name).domain)


def copy(options: Options, arguments: list[str], engine: Engine) -> int:
    source, target = (Place(text, engine) for text in arguments)
    if not source.name:
        raise Failure("the source needs the name of an image")
    out = None if options["quiet"] else 1
    if target.registry:
        _to_registry(source, target, options, engine, out)
    elif options["all"]:
        raise Failure(
            "--all is for copies from registry to registry: a daemon keeps one platform of an image"
        )
    elif source.registry:
        _pull(source, target, options, out)
    elif options["platform"]:
        raise Failure("--platform is for copies from a registry: a daemon keeps one platform of an image")
    elif source.engine is target.engine:
        _tag(source.engine, source.name, target.name or source.name)
    else:
        _between_daemons(source, target, out)
    return 0


# to and from a registry


def _to_registry(source: Place, target: Place, options: Options, engine: Engine, out: int | None) -> None:
    """The source's daemon does it; between two registries, the one that minictl speaks to."""
    headers = {"X-Registry-Auth": target.auth}
    if source.registry:
        headers["X-Registry-Auth-Source"] = source.auth
    query = {
        "source": (_REGISTRY if source.registry else "") + source.name,
        "destination": _REGISTRY + target.name,
        "all": options["all"] or None,
        "platform": options["platform"],
    }
    try:
        response = source.engine.request("POST", "/minid/images/copy", query, headers=headers)
    except ApiError as error:
        raise _explained(error) from None
    pulling.show_progress(source.engine, response, out)


def _pull(source: Place, target: Place, options: Options, out: int | None) -> None:
    """Under its name in the registry, which it keeps only if it is to have no other."""
    engine = target.engine
    had = target.name and _inspect(engine, source.name)
    pulling.pull(engine, source.name, platform=options["platform"], quiet=out is None)
    if target.name:
        _tag(engine, source.name, target.name)
        if not had:
            engine.call("DELETE", f"/images/{segment(source.name)}")


def _tag(engine: Engine, name: str, target: str) -> None:
    wanted = reference.parse(target)
    query = {"repo": wanted.name, "tag": wanted.tag or "latest"}
    engine.call("POST", f"/images/{segment(name)}/tag", query)


def _inspect(engine: Engine, name: str) -> Any:
    try:
        return engine.call("GET", f"/images/{segment(name)}/json")
    except ApiError as error:
        if error.http_status == 404:
            return None
        raise


# between daemons


def _between_daemons(source: Place, target: Place, out: int | None) -> None:
    for attempt in range(1, _TRIES + 1):
        try:
            _send(source, target, out)
            return
        except Failure as error:
            if _LEFT_OUT not in error.message or attempt == _TRIES:
                raise


def _send(source: Place, target: Place, out: int | None) -> None:
    """Ask what there is and what is missing, and let one daemon load what the other saves. One try."""
    contents = _contents(source)
    layers = contents["Layers"] if contents else []
    missing = _missing(target.engine, layers) if contents else None
    without = [] if missing is None else [each["Digest"] for each in layers if each["Digest"] not in missing]
    if contents:
        body = {"As": target.name, "Without": without}
        path = f"/minid/images/{segment(source.name)}/save"
        archive = source.engine.request("POST", path, None, body)
    else:
        archive = source.engine.request("GET", "/images/get", {"names": [source.name]})
    target.engine.settle_version()
    response = target.engine.request(
        "POST", "/images/load", {"quiet": True}, _parts(archive), {"Content-Type": "application/x-tar"}
    )
    pulling.show_progress(target.engine, response, None if out is None or missing is not None else out)
    source.engine.release(archive)
    if not contents and target.name:
        _tag(target.engine, source.name, target.name)
    if out is not None and contents:
        _tell(source, target, contents, layers, set(without))


def _tell(
    source: Place, target: Place, contents: dict[str, Any], layers: list[dict[str, Any]], without: set[str]
) -> None:
    sizes = {each["Digest"]: each["Size"] for each in layers}
    sent = {digest: size for digest, size in sizes.items() if digest not in without}
    names = [target.name] if target.name else contents["Names"] or [contents["Id"]]
    for name in names:
        print(f"Copied: {name}")
    total = units.human_size(sum(sizes.values()))
    print(f"{len(sent)} of {len(sizes)} layers sent, {units.human_size(sum(sent.values()))} of {total}")
    sys.stdout.flush()


def _contents(place: Place) -> dict[str, Any] | None:
    """Names and layers of the image; None where the daemon is not minid, or an older one."""
    try:
        contents: dict[str, Any] = place.engine.call("GET", f"/minid/images/{segment(place.name)}/contents")
    except ApiError as error:
        if error.http_status == 404 and not _is_image_error(error):
            return None
        raise
    return contents


def _missing(engine: Engine, layers: list[dict[str, Any]]) -> set[str] | None:
    """None where the daemon does not know the question: then it gets all."""
    body = {"Layers": [{"Digest": each["Digest"], "DiffId": each["DiffId"]} for each in layers]}
    try:
        return set(engine.call("POST", "/minid/images/missing", None, body)["Missing"])
    except ApiError as error:
        if error.http_status == 404:
            return None
        raise


def _parts(archive: Any) -> Iterator[bytes]:
    yield from archive.parts()


def _is_image_error(error: ApiError) -> bool:
    return "no such image" in error.detail.lower()


def _explained(error: ApiError) -> Failure:
    if error.http_status == 404 and "page not found" in error.detail.lower():
        return Failure("copying to a registry is minid's own: this daemon is not minid, or an older one")
    return error


COPY = Command(
    "copy",
    "[OPTIONS] SOURCE DESTINATION",
    "Copy an image between daemons and registries, sending only what the other side lacks",
    copy,
    (
        ("all", "a", "bool", "Copy all platforms of an image (from registry to registry)"),
        ("platform", "", "string", "Copy this platform of it (os[/arch[/variant]])"),
        ("quiet", "q", "bool", "Don't show progress"),
    ),
    2,
    2,
    details=(
        "SOURCE and DESTINATION are\n"
        "  NAME               an image at the daemon that minictl speaks to\n"
        "  HOST::NAME         at another daemon (unix:///run/other.sock::app:1, ssh://user@host::app:1)\n"
        "  CONTEXT::NAME      at the daemon of a context\n"
        "  registry://NAME    in a registry (registry://registry.example:5000/team/app:1)\n"
        "HOST:: alone as the destination keeps the image's names."
    ),
)
