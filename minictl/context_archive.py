"""A context as one file, the docker CLI's `.dockercontext`: tar of meta.json and tls/docker/*.pem; zip is read, too."""

from __future__ import annotations

import io
import tarfile

from minictl import contexts, jsontext
from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_BYTES = 10 << 20
_TLS = "tls/docker/"


def pack(meta: dict[str, Any], files: dict[str, bytes]) -> bytes:
    """The tar, with the private key in it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, "meta.json", jsontext.dumps(meta).encode(), 0o644)
        for directory in ("tls", "tls/docker") if files else ("tls",):
            member = tarfile.TarInfo(directory)
            member.type, member.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(member)
        for name, data in files.items():
            _add(archive, _TLS + name, data, 0o600)
    return out.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """meta.json and the certificates by name. Raises Failure for anything that is no context."""
    members = _zip_members(data) if data.startswith(b"PK") else _tar_members(data)
    if "meta.json" not in members:
        raise Failure("invalid context: no metadata found")
    try:
        meta = jsontext.loads(members.pop("meta.json"))
    except ValueError:
        meta = None
    if not isinstance(meta, dict):
        raise Failure("invalid context: meta.json is not a JSON object")
    files = {}
    for name, content in members.items():
        if name.removeprefix(_TLS) not in contexts.TLS_FILES:
            raise Failure(f"{name}: unexpected context file")
        files[name.removeprefix(_TLS)] = content
    return meta, files


def _tar_members(data: bytes) -> dict[str, bytes]:
    found = {}
    try:
        # The docker CLI leaves off what follows the last file's last byte.
        with tarfile.open(fileobj=io.BytesIO(data + bytes(-len(data) % 512 + 1024))) as archive:
            for member in archive:
                if member.isdir():
                    continue
                file = archive.extractfile(member) if member.isreg() else None
                if file is None or member.size > MAX_BYTES:
                    raise Failure(f"{member.name}: unexpected context file")
                found[member.name] = file.read()
    except tarfile.TarError as error:
        raise Failure(f"this is no exported context: {error}") from None
    return found


def _zip_members(data: bytes) -> dict[str, bytes]:
    import zipfile

    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                with archive.open(member) as file:
                    found[member.filename] = file.read(MAX_BYTES + 1)
                if len(found[member.filename]) > MAX_BYTES:
                    raise Failure(f"{member.filename}: unexpected context file")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise Failure(f"this is no exported context: {error}") from None
    return found
