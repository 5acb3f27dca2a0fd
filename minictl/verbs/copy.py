"""cp: files between a container and here, with docker's rules for what the destination means."""

from __future__ import annotations

import os
import stat
import sys

from minictl import jsontext, streams, terminal, units
from minictl.engine import Engine, segment
from minictl.errors import ApiError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_DIRECTORY, _SYMLINK = 1 << 31, 1 << 27  # Go's os.FileMode bits


def cp(options: Options, arguments: list[str], engine: Engine) -> int:
    source, target = _split(arguments[0]), _split(arguments[1])
    if source[0] and target[0]:
        raise Failure("copying between containers is not supported")
    if source[0] or target[0]:
        engine.settle_version()  # an answer to HEAD can't say that the version is too new, and a body goes once
    if source[0]:
        return _copy_out(options, engine, source[0], source[1], target[1])
    if target[0]:
        return _copy_in(options, engine, source[1], target[0], target[1])
    raise Failure("must specify at least one container source")


def _split(text: str) -> tuple[str, str]:
    """(container, path); the container is "" for a local path (absolute, or with a "." or "/" before the
    colon).
    """
    if text == "-" or os.path.isabs(text):
        return "", text
    container, colon, path = text.partition(":")
    if not colon or container.startswith(".") or "/" in container:
        return "", text
    return container, path


# --- where things go: docker's rules, without touching anything ------------------------------------------------------


def asserts_directory(path: str) -> bool:
    return path.endswith("/") or path.split("/")[-1] == "."


def base_name(path: str) -> str:
    """The last component; "." for a path that asks for the content of a directory (`dir/.`), "/" for the
    root.
    """
    if path.split("/")[-1] == ".":
        return "."
    return os.path.basename(path.rstrip("/")) or "/"


def destination(
    source_name: str, source_is_directory: bool, target: str, exists: bool, is_directory: bool
) -> tuple[str, str, str]:
    """(directory to unpack in, old first component, its new name): what `target` means for what is copied.

    A directory takes the source into itself; a file is replaced; a name that doesn't exist is what the copy
    is called. Raises Failure where docker refuses.
    """
    if exists and is_directory:
        return target, "", ""
    if exists and source_is_directory:
        raise Failure("cannot copy directory")
    if not exists and not source_is_directory and asserts_directory(target):
        raise Failure("no such directory")
    plain = os.path.normpath(target)
    return os.path.dirname(plain) or ".", source_name, os.path.basename(plain)


def renamed(name: str, old: str, new: str) -> str:
    """An entry's name with the first component `old` called `new`."""
    if not new:
        return name
    if old == "/":
        return f"{new}/{name}"
    plain = name[2:] if name.startswith("./") and old != "." else name
    first, slash, rest = plain.partition("/")
    return f"{new}{slash}{rest}" if first == old or (old == "." and first == ".") else plain


# --- out of a container -----------------------------------------------------------------------------------------------


def _copy_out(options: Options, engine: Engine, container: str, path: str, target: str) -> int:
    where = f"/containers/{segment(container)}/archive"
    name = base_name(path)
    if target not in ("", "-"):
        directory = os.path.dirname(os.path.abspath(target))
        if not os.path.isdir(directory):
            raise Failure(f'invalid output path: directory "{directory}" does not exist')
    if options["follow-link"]:
        found = _stat(engine, where, path)
        if found and found["mode"] & _SYMLINK:
            link = found["linkTarget"]
            link = link if os.path.isabs(link) else os.path.join(os.path.dirname(path.rstrip("/")), link)
            path = link
    response = engine.request("GET", where, {"path": path})
    if target == "-":
        for part in response.parts():
            streams.write_all(1, part)
        return 0
    found = _decoded(response.headers.get("x-docker-container-path-stat", ""))
    from minictl import tar_reading

    body = tar_reading.BodyFile(response)
    is_directory = bool(found["mode"] & _DIRECTORY)
    follow = not os.path.islink(target) or os.path.exists(target)
    exists = os.path.lexists(target) if not follow else os.path.exists(target)
    unpack_in, old, new = destination(base_name(path), is_directory, target, exists, os.path.isdir(target))
    if not new and name not in (".", "/") and name != base_name(path):  # -L: under the link's name
        old, new = base_name(path), name
    _quiet_errors(lambda: tar_reading.extract(body, unpack_in, lambda entry: renamed(entry, old, new)))
    engine.release(response)
    _tell(options, body.size_bytes, target)
    return 0


# --- into a container -------------------------------------------------------------------------------------------------


def _copy_in(options: Options, engine: Engine, path: str, container: str, target: str) -> int:
    where = f"/containers/{segment(container)}/archive"
    found, target = _target(engine, where, target)
    is_directory = bool(found and found["mode"] & _DIRECTORY)
    query = {"noOverwriteDirNonDir": "true", "copyUIDGID": "true" if options["archive"] else None}
    counted = [0]
    if path == "-":
        if not is_directory:
            raise Failure(f'destination "{container}:{target}" must be a directory')
        content = _read_stdin()
        unpack_in = target
    else:
        full = os.path.abspath(path)
        if asserts_directory(path):
            full += "/." if base_name(path) == "." else "/"
        name = base_name(full)
        full = os.path.realpath(full) if options["follow-link"] else full
        try:
            mode = os.lstat(full).st_mode
            if stat.S_ISLNK(mode) and asserts_directory(path):
                mode = os.stat(full).st_mode
        except OSError as error:
            raise Failure(f"lstat {full}: {(error.strerror or str(error)).lower()}") from None
        if not stat.S_ISDIR(mode) and asserts_directory(path):
            raise Failure("not a directory")
        unpack_in, _, new = destination(name, stat.S_ISDIR(mode), target, found is not None, is_directory)
        from minictl import tar_writing

        content = tar_writing.tar_stream(full.rstrip("/") or "/", new or name)
    response = engine.request("PUT", where, query | {"path": unpack_in}, _counting(content, counted))
    response.read()
    engine.release(response)
    _tell(options, counted[0], f"{container}:{target}")
    return 0


def _target(engine: Engine, where: str, target: str) -> tuple[dict[str, Any] | None, str]:
    """What is at `target` (None: nothing), and the path that a symbolic link there leads to."""
    target = target or "/"
    if not target.startswith("/"):
        target = f"/{target}"
    found = _stat(engine, where, target)
    if found and found["mode"] & _SYMLINK:
        link = found["linkTarget"]
        target = link if os.path.isabs(link) else os.path.join(os.path.dirname(target.rstrip("/")), link)
        found = _stat(engine, where, target)
    return found, target


def _stat(engine: Engine, where: str, path: str) -> dict[str, Any] | None:
    """What the daemon says of `path` in the container, None when it can't: the request that follows then tells why.

    That there is no such container is an error at once.
    """
    try:
        response = engine.request("HEAD", where, {"path": path})
    except ApiError:
        container = where.split("/")[2]
        engine.call("GET", f"/containers/{container}/json")
        return None
    engine.release(response)
    return _decoded(response.headers.get("x-docker-container-path-stat", ""))


def _decoded(header: str) -> dict[str, Any]:
    import binascii

    try:
        value: dict[str, Any] = jsontext.loads(binascii.a2b_base64(header))
    except ValueError:
        raise Failure("unable to decode container path stat header") from None
    return value


def _read_stdin() -> Iterator[bytes]:
    while data := os.read(0, 256 * 1024):
        yield data


def _counting(content: Iterator[bytes], counted: list[int]) -> Iterator[bytes]:
    for data in content:
        counted[0] += len(data)
        yield data


def _quiet_errors(work: Any) -> None:
    try:
        work()
    except OSError as error:
        raise Failure(f"{error.filename or 'copy'}: {(error.strerror or str(error)).lower()}") from None


def _tell(options: Options, size_bytes: int, target: str) -> None:
    if not options["quiet"] and terminal.is_terminal(2):
        sys.stderr.write(f"Successfully copied {units.human_size(size_bytes, 3)} to {target}\n")


CP = Command(
    "cp",
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files between a container and the local file system",
    cp,
    (
        ("archive", "a", "bool", "Keep the numeric owner and group of files"),
        ("follow-link", "L", "bool", "Copy what a symbolic link points at"),
        ("quiet", "q", "bool", "Don't say what was copied"),
    ),
    2,
    2,
    details=(
        "With - as the source, a tar archive is read from stdin and unpacked in the container;\n"
        "with - as the destination, one is written to stdout."
    ),
)
