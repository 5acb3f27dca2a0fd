"""The in-process registry that takes uploads, too, and can be told to misbehave while it does."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.unit.images.in_process_registry import Built, InProcessRegistry, digest_of

_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/([^/]*)")


@dataclass
class UploadingRegistry(InProcessRegistry):
    """Blobs belong to repositories here: ``held``. ``bodies`` has the size of every upload request's body."""

    held: set[tuple[str, str]] = field(default_factory=set)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    bodies: list[tuple[str, int]] = field(default_factory=list)
    upload_cuts: list[int] = field(default_factory=list)  # bytes of a body after which the connection breaks
    forgetful: bool = False  # a broken upload is gone
    deaf: bool = False  # the size of a broken upload is not told: docker-registry 2
    lost_answers: int = 0  # PUTs that are carried out and not answered
    mounting: bool = True
    location: Callable[[str, str], list[str]] = lambda name, upload: [
        f"/v2/{name}/blobs/uploads/{upload}?state=a%2Bb"
    ]
    wrong_digests: int = 0
    part_min_bytes: int = 0
    begun: int = 0
    redirect_uploads: str = ""  # where PATCH and PUT are redirected to (307)

    async def __aenter__(self) -> "UploadingRegistry":
        await super().__aenter__()
        return self

    def put_image(self, name: str, **more: Any) -> Built:
        """As ``add_image``, and the repository holds its blobs."""
        before = set(self.blobs)
        built = self.add_image(name, **more)
        self.held |= {
            (name, digest)
            for digest in [*built.layer_digests, built.config_digest, *set(self.blobs) - before]
        }
        return built

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.path
        match = _UPLOAD.fullmatch(path)
        name, _, digest = path.removeprefix("/v2/").rpartition("/blobs/")
        is_manifest = request.method == "PUT" and "/manifests/" in path
        if match is None and not is_manifest:
            if request.method == "HEAD" and name:
                return self._head(request, name, digest)
            return await super()._handle(request)
        self.requests.append((request.method, path))
        self.headers.append(dict(request.headers))
        if (refusal := self._refusal(request)) is not None:
            return refusal
        for ending, statuses in self.statuses.items():
            if path.endswith(ending) and statuses:
                return self._error(statuses.pop(0), "UNAVAILABLE", "told to", {"Retry-After": "0"})
        if match is None:
            return await self._put_manifest(request)
        return await self._upload(request, match[1], match[2])

    def _head(self, request: web.Request, name: str, digest: str) -> web.Response:
        self.requests.append((request.method, request.rel_url.path))
        self.headers.append(dict(request.headers))
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if self.statuses.get(digest):
            return web.Response(status=self.statuses[digest].pop(0))
        if (name, digest) not in self.held:
            return web.Response(status=404)
        return web.Response(headers={"Content-Length": str(len(self.blobs[digest]))})

    async def _upload(self, request: web.Request, name: str, upload: str) -> web.Response:
        if request.method == "POST":
            return self._begin(request, name)
        if upload not in self.uploads:
            return self._error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        data = self.uploads[upload]
        if self.redirect_uploads and request.method != "GET":
            target = f"{self.redirect_uploads}{request.rel_url}"
            return web.Response(status=307, headers={"Location": target, "Connection": "close"})
        if request.method == "GET":
            if self.deaf:
                return self._error(416, "RANGE_INVALID", "no")
            return self._progress(name, upload, 204)
        begins = request.headers.get("Content-Range", "").partition("-")[0]
        if begins and int(begins) != len(data):
            return self._error(416, "RANGE_INVALID", f"{begins}, not {len(data)}")
        if not await self._receive(request, upload):
            return web.Response(status=499)
        if request.method == "PATCH":
            return self._progress(name, upload, 202)
        return self._finish(request, name, upload)

    def _begin(self, request: web.Request, name: str) -> web.Response:
        mount, source = request.query.get("mount"), request.query.get("from")
        if mount and self.mounting and (source, mount) in self.held:
            self.held.add((name, mount))
            return web.Response(status=201, headers={"Location": f"/v2/{name}/blobs/{mount}"})
        self.begun += 1
        upload = f"u{self.begun}"
        self.uploads[upload] = bytearray()
        return self._progress(name, upload, 202)

    def _progress(self, name: str, upload: str, status: int) -> web.Response:
        size = len(self.uploads[upload])
        response = web.Response(status=status, headers={"Range": f"0-{max(0, size - 1)}"})
        for location in self.location(name, upload):
            response.headers.add("Location", location)
        if self.part_min_bytes:
            response.headers["OCI-Chunk-Min-Length"] = str(self.part_min_bytes)
        return response

    async def _receive(self, request: web.Request, upload: str) -> bool:
        """Take the body; False if the connection was broken in the middle of it."""
        data, received = self.uploads[upload], 0
        cut = self.upload_cuts.pop(0) if self.upload_cuts and request.content_length else None
        async for part in request.content.iter_any():
            if cut is not None and received + len(part) >= cut:
                data += part[: cut - received]
                self.bodies.append((request.method, cut))
                if self.forgetful:
                    del self.uploads[upload]
                assert request.transport is not None
                request.transport.abort()
                return False
            data += part
            received += len(part)
        self.bodies.append((request.method, received))
        return True

    def _finish(self, request: web.Request, name: str, upload: str) -> web.Response:
        data, digest = bytes(self.uploads.pop(upload)), request.query["digest"]
        if self.wrong_digests or digest_of(data) != digest:
            self.wrong_digests = max(0, self.wrong_digests - 1)
            return self._error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.blobs[digest] = data
        self.held.add((name, digest))
        if self.lost_answers:
            self.lost_answers -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=201, headers={"Location": "/x", "Docker-Content-Digest": digest})

    async def _put_manifest(self, request: web.Request) -> web.Response:
        name, _, reference = request.rel_url.path.removeprefix("/v2/").rpartition("/manifests/")
        data = await request.read()
        manifest = json.loads(data)
        for item in (manifest["config"], *manifest["layers"]):
            if (name, item["digest"]) not in self.held:
                return self._error(400, "MANIFEST_BLOB_UNKNOWN", item["digest"])
        for key in (reference, digest_of(data)):
            self.manifests[name, key] = (data, request.content_type)
        return web.Response(status=201, headers={"Docker-Content-Digest": digest_of(data)})
