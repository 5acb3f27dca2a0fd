"""A registry inside the test's own event loop, which can be told to misbehave; and images to put in it.

What Debian's docker-registry cannot be made to do (cut connections, ignore ranges, send wrong bytes, hand out tokens)
is tested with this one; the rest is tested with that one, in tests/system.
"""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import ssl
import tarfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import zstandard
from aiohttp import web

OCI = "application/vnd.oci.image"
LAYER_TYPES = {
    "gzip": f"{OCI}.layer.v1.tar+gzip",
    "zstd": f"{OCI}.layer.v1.tar+zstd",
    "none": f"{OCI}.layer.v1.tar",
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "zstd": lambda data: zstandard.ZstdCompressor(1).compress(data),
    "none": lambda data: data,
}


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer_tar(seed: str, size_bytes: int = 1000) -> bytes:
    """A tar with one file of pseudo-random (hardly compressible) bytes."""
    content = b"".join(
        hashlib.sha256(f"{seed}{number}".encode()).digest() for number in range(size_bytes // 32 + 1)
    )[:size_bytes]
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        entry = tarfile.TarInfo(f"{seed}.bin")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()


@dataclass
class Built:
    """An image as it was put into the registry."""

    manifest_digest: str
    config_digest: str
    layer_digests: list[str]
    diff_ids: list[str]


@dataclass
class InProcessRegistry:
    """Start it with ``async with``; ``faults`` are set by the tests."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    ranges: bool = True
    chunked: bool = False
    cuts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # bytes before each cut
    statuses: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # by end of path
    stall: dict[str, int] = field(default_factory=dict)  # digest → bytes after which nothing more comes
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    basic: tuple[str, str] | None = None
    bearer: "TokenServer | None" = None
    redirect_blobs: str = ""
    tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> "InProcessRegistry":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await self._site.start()
        self.port: int = self._runner.addresses[0][1]
        self.address = f"127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.released.set()
        await self._runner.cleanup()

    def count(self, method: str, ending: str) -> int:
        return sum(1 for verb, path in self.requests if verb == method and path.endswith(ending))

    # what is in it

    def add_blob(self, data: bytes) -> str:
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    def add_manifest(self, name: str, tag: str, document: Any, media_type: str) -> str:
        data = json.dumps(document).encode()
        for reference in (tag, digest_of(data)):
            if reference:
                self.manifests[name, reference] = (data, media_type)
        return digest_of(data)

    def add_image(
        self,
        name: str,
        tag: str = "latest",
        *,
        layers: Sequence[bytes] = (),
        compression: str = "gzip",
        architecture: str = "amd64",
        change: Callable[[dict[str, Any], dict[str, Any]], None] = lambda manifest, config: None,
    ) -> Built:
        """``change(manifest, config)`` may spoil both before they are stored."""
        config: dict[str, Any] = {
            "architecture": architecture,
            "os": "linux",
            "created": "2024-03-01T12:00:00Z",
            "config": {"Cmd": ["sh"], "Labels": {"name": name}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "history": [{"created_by": f"layer {number}"} for number in range(len(layers))]
            + [{"created_by": "CMD", "empty_layer": True, "comment": "the end"}],
        }
        compressed = [COMPRESS[compression](layer) for layer in layers]
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": {"mediaType": f"{OCI}.config.v1+json"},
            "layers": [
                {"mediaType": LAYER_TYPES[compression], "digest": self.add_blob(data), "size": len(data)}
                for data in compressed
            ],
        }
        change(manifest, config)
        config_data = json.dumps(config).encode()
        manifest["config"].update(digest=self.add_blob(config_data), size=len(config_data))
        digest = self.add_manifest(name, tag, manifest, manifest["mediaType"])
        return Built(
            digest,
            digest_of(config_data),
            [layer["digest"] for layer in manifest["layers"]],
            config["rootfs"].get("diff_ids", []),
        )

    # how it answers

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.path
        self.requests.append((request.method, path))
        self.headers.append(dict(request.headers))
        self.queries.append(request.rel_url.raw_query_string)
        if (refusal := self._refusal(request)) is not None:
            return refusal
        for ending, statuses in self.statuses.items():
            if path.endswith(ending) and statuses:
                return self._error(statuses.pop(0), "UNAVAILABLE", "told to")
        name, _, rest = path.removeprefix("/v2/").rpartition("/manifests/")
        if name:
            return self._manifest(name, rest)
        name, _, digest = path.removeprefix("/v2/").rpartition("/blobs/")
        if name and self.redirect_blobs:
            return web.Response(status=307, headers={"Location": f"{self.redirect_blobs}/{digest}"})
        if digest in self.blobs:
            return await self._blob(request, digest)
        if path.endswith("/tags/list"):
            return self._tags(request, path.removeprefix("/v2/").removesuffix("/tags/list"))
        return self._error(404, "BLOB_UNKNOWN", "blob unknown to registry")

    def _refusal(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        if self.basic:
            expected = base64.b64encode(":".join(self.basic).encode()).decode()
            if given != f"Basic {expected}":
                return self._error(401, "UNAUTHORIZED", "no", {"WWW-Authenticate": 'Basic realm="test"'})
        if self.bearer and given.removeprefix("Bearer ") not in self.bearer.valid:
            challenge = f'Bearer realm="{self.bearer.url}",service="test",scope="ignored"'
            return self._error(401, "UNAUTHORIZED", "no", {"WWW-Authenticate": challenge})
        return None

    def _error(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> web.Response:
        return web.json_response(
            {"errors": [{"code": code, "message": message}]}, status=status, headers=headers
        )

    def _manifest(self, name: str, reference: str) -> web.Response:
        found = self.manifests.get((name, reference))
        if found is None:
            return self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        data, media_type = found
        return web.Response(
            body=data, content_type=media_type, headers={"Docker-Content-Digest": digest_of(data)}
        )

    def _tags(self, request: web.Request, name: str) -> web.Response:
        tags = sorted(
            tag for repository, tag in self.manifests if repository == name and not tag.startswith("sha256:")
        )
        last = request.query.get("last", "")
        page = [tag for tag in tags if tag > last][:2]
        more = page and page[-1] != tags[-1]
        link = {"Link": f'</v2/{name}/tags/list?last={page[-1]}&n=2>; rel="next"'} if more else {}
        return web.json_response({"name": name, "tags": page}, headers=link)

    async def _blob(self, request: web.Request, digest: str) -> web.StreamResponse:
        data, start = self.blobs[digest], 0
        wanted = request.headers.get("Range")
        headers: dict[str, str] = {}
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                return web.Response(status=416)
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        response = web.StreamResponse(status=206 if "Content-Range" in headers else 200, headers=headers)
        if not self.chunked:
            response.content_length = len(data) - start
        await response.prepare(request)
        body = data[start:]
        if self.cuts[digest]:
            await response.write(body[: self.cuts[digest].pop(0)])
            assert request.transport is not None
            if self.tls is not None:
                request.transport.abort()
            else:
                request.transport.close()
            return response
        if digest in self.stall:
            await response.write(body[: self.stall[digest]])
            self.stalled.set()
            await self.released.wait()
            if request.transport is not None:
                request.transport.close()
            return response
        await response.write(body)
        await response.write_eof()
        return response


@dataclass
class TokenServer:
    """Hands out tokens ``t1``, ``t2`` …; only the latest ``valid`` ones are good at the registry."""

    accounts: dict[str, str] = field(default_factory=dict)
    refresh_tokens: set[str] = field(default_factory=set)
    anonymous: bool = True
    queries: list[dict[str, str]] = field(default_factory=list)
    valid: set[str] = field(default_factory=set)
    issued: int = 0
    url: str = ""

    async def __aenter__(self) -> "TokenServer":
        app = web.Application()
        app.router.add_get("/token", self._get)
        app.router.add_post("/token", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/token"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _get(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        given = request.headers.get("Authorization", "").removeprefix("Basic ")
        name, _, password = base64.b64decode(given).decode().partition(":")
        if (not given and self.anonymous) or (given and self.accounts.get(name) == password):
            return self._token("token")
        return web.json_response({"details": "incorrect username or password"}, status=401)

    async def _post(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.queries.append(form)
        if form.get("refresh_token") in self.refresh_tokens:
            return self._token("access_token")
        return web.json_response({}, status=401)

    def _token(self, key: str) -> web.Response:
        self.issued += 1
        self.valid.add(f"t{self.issued}")
        return web.json_response({key: f"t{self.issued}", "expires_in": 300})
