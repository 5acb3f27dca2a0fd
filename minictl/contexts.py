"""Docker's store of contexts, `contexts` beside config.json: named addresses of daemons, with what TLS needs.

`meta/ID/meta.json` is Name, Metadata (Description) and Endpoints.docker (Host, SkipTLSVerify); `tls/ID/docker/` has
ca.pem, cert.pem and key.pem; ID is the name's SHA-256. The docker CLI reads and writes the same files.
"""

from __future__ import annotations

import os

from minictl import config, jsontext
from minictl.endpoint import DEFAULT_CONTEXT, Endpoint, TlsFiles
from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PATTERN = "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"
TLS_FILES = ("ca.pem", "cert.pem", "key.pem")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def check_name(name: str) -> None:
    """Raises Failure for a name that no new context may have."""
    if name == DEFAULT_CONTEXT:
        raise Failure('"default" is a reserved context name')
    if len(name) < 2 or name[0] not in _LETTERS or not _LETTERS.union("_.+-").issuperset(name):
        raise Failure(f'context name "{name}" is invalid, names are validated against regexp "{PATTERN}"')


def meta_directory(name: str) -> str:
    return os.path.join(config.directory(), "contexts", "meta", _identifier(name))


def tls_directory(name: str) -> str:
    return os.path.join(config.directory(), "contexts", "tls", _identifier(name))


def _identifier(name: str) -> str:
    import hashlib

    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def exists(name: str) -> bool:
    return os.path.exists(os.path.join(meta_directory(name), "meta.json"))


def get(name: str) -> dict[str, Any]:
    """What meta.json says. Raises Failure when there is no such context."""
    return _read(os.path.join(meta_directory(name), "meta.json"), name)


def _read(path: str, name: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            value = jsontext.loads(file.read())
    except FileNotFoundError:
        raise Failure(
            f'context "{name}": context not found: open {path}: no such file or directory'
        ) from None
    except (OSError, ValueError) as error:
        raise Failure(f'context "{name}": {path} cannot be read: {error}') from None
    if not isinstance(value, dict):
        raise Failure(f'context "{name}": {path} is not a JSON object')
    return value


def names() -> list[str]:
    """All but "default", in order."""
    place = os.path.join(config.directory(), "contexts", "meta")
    try:
        entries = os.listdir(place)
    except OSError:
        return []
    found = []
    for entry in entries:
        path = os.path.join(place, entry, "meta.json")
        if os.path.exists(path):
            found.append(str(_read(path, entry).get("Name", "")))
    return sorted(found)


def docker_endpoint(meta: dict[str, Any]) -> dict[str, Any]:
    value = (meta.get("Endpoints") or {}).get("docker") or {}
    return value if isinstance(value, dict) else {}


def description(meta: dict[str, Any]) -> str:
    value = meta.get("Metadata") or {}
    return str(value.get("Description") or "") if isinstance(value, dict) else ""


def tls_files(name: str) -> dict[str, bytes]:
    """The context's certificates by name (`ca.pem`, …), those that it has."""
    found = {}
    for file_name in TLS_FILES:
        try:
            with open(os.path.join(tls_directory(name), "docker", file_name), "rb") as file:
                found[file_name] = file.read()
        except FileNotFoundError:
            pass
    return found


def endpoint(name: str) -> Endpoint:
    """Where the context says that the daemon is. Raises Failure."""
    meta = get(name)
    value = docker_endpoint(meta)
    if not value.get("Host"):
        raise Failure(f'context "{name}" has no address: minictl context update {name} --docker host=…')
    place = os.path.join(tls_directory(name), "docker")
    paths = [os.path.join(place, file_name) for file_name in TLS_FILES]
    paths = [path if os.path.exists(path) else "" for path in paths]
    skip = bool(value.get("SkipTLSVerify"))
    return Endpoint(str(value["Host"]), TlsFiles(*paths, verify=not skip) if any(paths) or skip else None)


def put(name: str, about: str, host: str, skip_verify: bool, files: dict[str, bytes]) -> None:
    """Writes a context in place of what had its name; the certificates first, so that it is never without them."""
    metadata = {"Description": about} if about else {}
    docker: dict[str, Any] = {"Host": host} if host else {}
    docker["SkipTLSVerify"] = skip_verify
    meta = {"Name": name, "Metadata": metadata, "Endpoints": {"docker": docker}}
    put_meta(name, meta, files)


def put_meta(name: str, meta: dict[str, Any], files: dict[str, bytes]) -> None:
    """The same, as meta.json says it (of other programs there may be more in it)."""
    _remove_tree(tls_directory(name))
    place = os.path.join(tls_directory(name), "docker")
    try:
        for file_name, data in files.items():
            os.makedirs(place, 0o700, exist_ok=True)
            _write(os.path.join(place, file_name), data, 0o600)
        os.makedirs(meta_directory(name), 0o755, exist_ok=True)
        _write(os.path.join(meta_directory(name), "meta.json"), jsontext.dumps(meta).encode(), 0o644)
    except OSError as error:
        raise Failure(f"context {name}: {error.filename}: {error.strerror}") from None


def _write(path: str, data: bytes, mode: int) -> None:
    aside = f"{path}.{os.getpid()}.tmp"
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
        file.write(data)
    os.rename(aside, path)


def remove(name: str) -> None:
    _remove_tree(meta_directory(name))
    _remove_tree(tls_directory(name))


def _remove_tree(path: str) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)
