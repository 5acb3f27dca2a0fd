"""Debian's docker-registry on a free loopback port, and a pusher that speaks its HTTP API v2."""

import hashlib
import http.client
import json
import os
import select
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = "/usr/bin/docker-registry"


@dataclass(frozen=True)
class Descriptor:
    media_type: str
    digest: str
    size: int

    def as_json(self, **more: Any) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **more}


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """A registry process with a filesystem store under ``root``; its address is ``127.0.0.1:PORT``."""

    def __init__(
        self, root: Path, *, extra: dict[str, Any] | None = None, environment: dict[str, str] | None = None
    ) -> None:
        self.root = root
        self.environment = environment or {}
        self.log = root / "log"
        self.extra = extra or {}
        root.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return when it answers; the port stays the same over restarts."""
        config = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": str(self.root / "store")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.address},
            **self.extra,
        }
        path = self.root / "config.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        with self.log.open("ab") as log:
            position = log.tell()
            self.process = subprocess.Popen(
                [PROGRAM, "serve", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        deadline = time.monotonic() + 20
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"docker-registry did not start:\n{self.log.read_text()}")
            if b"listening on" in self.log.read_bytes()[position:]:
                return
            select.select([], [], [], 0.01)  # its log is all that tells; there is nothing to wait on

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def destroy(self) -> None:
        self.stop()
        shutil.rmtree(self.root)

    def request(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(
                method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read()
        finally:
            connection.close()

    def push_blob(self, repository: str, data: bytes, media_type: str) -> Descriptor:
        """``POST /v2/NAME/blobs/uploads/`` then ``PUT ?digest=``; nothing is sent that is there already."""
        descriptor = Descriptor(media_type, digest_of(data), len(data))
        if self.request("HEAD", f"/v2/{repository}/blobs/{descriptor.digest}")[0] == 200:
            return descriptor
        status, headers, answer = self.request("POST", f"/v2/{repository}/blobs/uploads/", Content_Length="0")
        assert status == 202, (status, answer)
        location = headers["location"].removeprefix(f"http://{self.address}")
        separator = "&" if "?" in location else "?"
        status, _, answer = self.request(
            "PUT",
            f"{location}{separator}digest={descriptor.digest}",
            data,
            Content_Type="application/octet-stream",
        )
        assert status == 201, (status, answer)
        return descriptor

    def push_manifest(self, repository: str, reference: str, manifest: dict[str, Any]) -> Descriptor:
        """``reference`` is a tag, or "" to push by digest."""
        data = json.dumps(manifest, indent=1).encode()
        descriptor = Descriptor(manifest["mediaType"], digest_of(data), len(data))
        path = f"/v2/{repository}/manifests/{reference or descriptor.digest}"
        status, _, answer = self.request("PUT", path, data, Content_Type=descriptor.media_type)
        assert status == 201, (status, answer)
        return descriptor
