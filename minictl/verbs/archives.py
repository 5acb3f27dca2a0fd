"""save, load, import and export: images and file systems as tar archives, streamed."""

from __future__ import annotations

import os

from minictl import pulling, reference, streams, terminal
from minictl.engine import Engine, segment
from minictl.errors import Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minictl.http import Response

_READ_BYTES = 256 * 1024


def export(options: Options, arguments: list[str], engine: Engine) -> int:
    check_output(options["output"])
    deliver(engine.request("GET", f"/containers/{segment(arguments[0])}/export"), options["output"])
    return 0


def save(options: Options, arguments: list[str], engine: Engine) -> int:
    check_output(options["output"])
    deliver(engine.request("GET", "/images/get", {"names": arguments}), options["output"])
    return 0


def load(options: Options, arguments: list[str], engine: Engine) -> int:
    if not options["input"] and terminal.is_terminal(0):
        raise Failure("requested load from stdin, but stdin is empty")
    quiet = options["quiet"] or not terminal.is_terminal(1)
    body = _file(options["input"] or "-")
    response = _upload(engine, "/images/load", {"quiet": quiet}, body)
    pulling.show_progress(engine, response, 1)
    return 0


def import_image(options: Options, arguments: list[str], engine: Engine) -> int:
    source = arguments[0]
    query: dict[str, Any] = {
        "changes": options["change"],
        "fromSrc": "-",
        "message": options["message"],
        "platform": options["platform"],
    }
    if len(arguments) > 1:
        wanted = reference.parse(arguments[1])
        query |= {"repo": wanted.familiar, "tag": wanted.tag or "latest"}
    if source.startswith(("http://", "https://")):
        query["fromSrc"] = source
        response = engine.request("POST", "/images/create", query)
    else:
        response = _upload(engine, "/images/create", query, _file(source))
    pulling.show_progress(engine, response, 1)
    return 0


def _upload(engine: Engine, path: str, query: dict[str, Any], body: Iterator[bytes]) -> Response:
    engine.settle_version()
    return engine.request("POST", path, query, body, {"Content-Type": "application/x-tar"})


def _file(path: str) -> Iterator[bytes]:
    """The bytes of a file, "-" for stdin. Raises Failure when it can't be opened."""
    if path == "-":
        return _read(0)
    try:
        return _read(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise Failure(f"open {path}: {(error.strerror or str(error)).lower()}") from None


def _read(fd: int) -> Iterator[bytes]:
    while data := os.read(fd, _READ_BYTES):
        yield data
    os.close(fd)


def check_output(path: str) -> None:
    if not path:
        if terminal.is_terminal(1):
            raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        return
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise Failure(f'invalid output path: directory "{directory}" does not exist')
    if os.path.isdir(path):
        raise Failure(f'invalid output path: "{path}" must be a regular file')


def deliver(response: Response, path: str) -> None:
    """The body to stdout, or to a file that appears only when it is whole."""
    if not path:
        for part in response.parts():
            streams.write_all(1, part)
        return
    aside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for part in response.parts():
                streams.write_all(fd, part)
        finally:
            os.close(fd)
        os.rename(aside, path)
    except OSError as error:
        _forget(aside)
        raise Failure(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    except BaseException:
        _forget(aside)
        raise


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


_OUTPUT = ("output", "o", "string", "Write to a file instead of STDOUT")

EXPORT = Command(
    "export",
    "[OPTIONS] CONTAINER",
    "Write a container's file system as a tar archive",
    export,
    (_OUTPUT,),
    1,
    1,
)
SAVE = Command(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Write images as a tar archive",
    save,
    (_OUTPUT, ("platform", "", "string", "Accepted and ignored: minid keeps one platform of an image")),
    1,
)
LOAD = Command(
    "load",
    "[OPTIONS]",
    "Read images from a tar archive or STDIN",
    load,
    (
        ("input", "i", "string", "Read from a file instead of STDIN"),
        ("platform", "", "string", "Accepted and ignored: minid keeps one platform of an image"),
        ("quiet", "q", "bool", "Don't show progress"),
    ),
    0,
    0,
)
IMPORT = Command(
    "import",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Make an image of a tar archive of a file system",
    import_image,
    (
        ("change", "c", "list", "Apply a Dockerfile instruction to the image"),
        ("message", "m", "string", "Message that history shows"),
        ("platform", "", "string", "Platform of the image (os[/arch[/variant]])"),
    ),
    1,
    2,
)
