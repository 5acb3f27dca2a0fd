"""Archives of images for tests, made with Python's tarfile in the forms that tools write."""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.images import Image
from tests.registry import digest_of

EPOCH_PLUS_ONE = 1  # JIB's times, in seconds


def tar(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """An archive of these members, in order: bytes for a file, or a whole entry."""
    data = io.BytesIO()
    with tarfile.TarFile(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), EPOCH_PLUS_ONE
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def entry(name: str, kind: bytes) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    return made


def layer_bytes(layer: bytes | Path) -> bytes:
    return layer if isinstance(layer, bytes) else layer.read_bytes()


def config_bytes(image: Image) -> bytes:
    return json.dumps(image.config_json()).encode()


def image_id(image: Image) -> str:
    return digest_of(config_bytes(image))


def legacy_members(image: Image, *tags: str) -> dict[str, bytes | tarfile.TarInfo]:
    """As ``docker save`` wrote it before version 25; a layer that is there twice is a link the second time."""
    config = config_bytes(image)
    members: dict[str, bytes | tarfile.TarInfo] = {}
    first: dict[bytes, str] = {}
    paths = []
    for number, layer in enumerate(image.layers):
        data = layer_bytes(layer)
        folder = digest_of(data + bytes([number])).partition(":")[2]
        paths.append(f"{folder}/layer.tar")
        members[f"{folder}/"] = entry(f"{folder}/", tarfile.DIRTYPE)
        members[f"{folder}/VERSION"] = b"1.0"
        members[f"{folder}/json"] = b"{}"
        if data in first:
            members[paths[-1]] = link(paths[-1], f"../{first[data]}/layer.tar")
        else:
            members[paths[-1]] = data
            first[data] = folder
    config_name = f"{digest_of(config).partition(':')[2]}.json"
    members[config_name] = config
    members["manifest.json"] = json.dumps(
        [{"Config": config_name, "RepoTags": list(tags) or None, "Layers": paths}]
    ).encode()
    return members


def jib_members(image: Image, *tags: str) -> dict[str, bytes | tarfile.TarInfo]:
    """As jib-maven-plugin gives it to ``docker load``: field-notes, "JIB to daemon"."""
    members: dict[str, bytes | tarfile.TarInfo] = {}
    names = []
    for layer in image.layers:
        data = gzip.compress(layer_bytes(layer), mtime=0)
        names.append(f"{digest_of(data).partition(':')[2]}.tar.gz")
        members[names[-1]] = data
    members["config.json"] = config_bytes(image)
    members["manifest.json"] = json.dumps(
        [{"Config": "config.json", "RepoTags": list(tags), "Layers": names}]
    ).encode()
    return members


def oci_members(
    image: Image, name: str = "", *, compression: str = "gzip", nested: bool = False
) -> dict[str, bytes | tarfile.TarInfo]:
    """An OCI layout; with ``nested`` the image is behind an index of its own."""
    members: dict[str, bytes | tarfile.TarInfo] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(data: bytes, media_type: str) -> dict[str, Any]:
        digest = digest_of(data)
        members[f"blobs/{digest.replace(':', '/')}"] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    suffix = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}[compression]
    layers = [
        blob(_compressed(layer_bytes(layer), compression), f"application/vnd.oci.image.layer.v1.tar{suffix}")
        for layer in image.layers
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(config_bytes(image), "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
    }
    top = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    if nested:
        index = {
            "schemaVersion": 2,
            "manifests": [{**top, "platform": {"os": "linux", "architecture": "amd64"}}],
        }
        top = blob(json.dumps(index).encode(), "application/vnd.oci.image.index.v1+json")
    if name:
        top["annotations"] = {"io.containerd.image.name": name}
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    return members


def _compressed(data: bytes, compression: str) -> bytes:
    if compression == "none":
        return data
    if compression == "gzip":
        return gzip.compress(data, mtime=0)
    import zstandard

    return zstandard.ZstdCompressor().compress(data)
