"""What JIB does, request by request, for machines without Maven; and a project that the real one builds.

The sequence is that of jib-core 0.27 (jib-maven-plugin 3.4.6), recorded: HTTPS first, then HTTP; ``GET /v2/``; for each
blob HEAD, POST with ``mount`` and ``from``, one PATCH in chunks without Content-Range, an empty PUT; the manifest last.
"""

import gzip
import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.images import Layer
from tests.registry import digest_of

PLUGIN = "com.google.cloud.tools:jib-maven-plugin"
VERSION = "3.4.6"
AGENT = f"jib {VERSION} jib-maven-plugin"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json,application/vnd.docker.distribution.manifest.v2+json,"
    "application/vnd.docker.distribution.manifest.v1+json,application/vnd.oci.image.index.v1+json,"
    "application/vnd.docker.distribution.manifest.list.v2+json"
)
CHUNK_BYTES = 8192

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>example</groupId>
  <artifactId>hello</artifactId>
  <version>1</version>
  <properties>
    <maven.compiler.source>11</maven.compiler.source>
    <maven.compiler.target>11</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <build>
    <plugins>
      <plugin>
        <groupId>com.google.cloud.tools</groupId>
        <artifactId>jib-maven-plugin</artifactId>
        <version>{VERSION}</version>
        <configuration>
          <from><image>${{base}}</image></from>
          <to><image>${{target}}</image></to>
          <container><entrypoint><arg>ls</arg><arg>/app/classes/example</arg></entrypoint></container>
          <allowInsecureRegistries>true</allowInsecureRegistries>
        </configuration>
      </plugin>
    </plugins>
  </build>
</project>
"""
MAIN = """package example;

public final class Main {
    public static void main(String[] arguments) {
        System.out.println("hello from jib");
    }
}
"""


def write_project(directory: Path) -> None:
    """A Maven project whose image lists its own classes when it is run."""
    sources = directory / "src/main/java/example"
    sources.mkdir(parents=True)
    (directory / "pom.xml").write_text(POM)
    (sources / "Main.java").write_text(MAIN)


class RegistryClient:
    """JIB's half of a registry conversation; every assertion is something that JIB itself insists on."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.log: list[str] = []
        host, _, port = address.rpartition(":")
        self._connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=60)
        self._try_tls(host.strip("[]"), int(port))

    def close(self) -> None:
        self._connection.close()

    def build(self, base: str, repository: str, tag: str, files: dict[str, bytes]) -> str:
        """``jib:build``: an image of ``base`` (in the same registry) and a layer of ``files``; the manifest's digest."""
        status, _, _ = self._ask("GET", "/v2/")
        assert status == 200
        status, headers, data = self._ask("GET", f"/v2/{base}/manifests/latest", Accept=ACCEPT)
        assert status == 200 and headers["Content-Type"] == MANIFEST, (status, headers)
        manifest = json.loads(data)
        status, _, data = self._ask("GET", f"/v2/{base}/blobs/{manifest['config']['digest']}")
        assert status == 200
        config = json.loads(data)
        layer = Layer()
        for name, content in files.items():
            layer.file(name, content, mtime=1, uname="", gname="")
        plain = layer.done()
        own = gzip.compress(plain, mtime=0)
        self._push_blob(repository, own, base)
        layers = []
        for each in manifest["layers"]:
            self._mount_blob(repository, each["digest"], base)
            layers.append({"mediaType": LAYER, "digest": each["digest"], "size": each["size"]})
        layers.append({"mediaType": LAYER, "digest": digest_of(own), "size": len(own)})
        config["rootfs"]["diff_ids"].append(digest_of(plain))
        config["created"] = "1970-01-01T00:00:00Z"
        config["config"] = {
            **config["config"],
            "Entrypoint": ["cat", *(f"/{name}" for name in files)],
            "Cmd": None,
        }
        config_data = json.dumps(config).encode()
        self._push_blob(repository, config_data, base)
        made = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest_of(config_data), "size": len(config_data)},
            "layers": layers,
        }
        body = json.dumps(made).encode()
        path = f"/v2/{repository}/manifests/{tag}"
        status, headers, data = self._ask("PUT", path, body, Content_Type=MANIFEST)
        assert status in (200, 201), data
        assert headers["Docker-Content-Digest"] == digest_of(body)  # else JIB warns
        return digest_of(body)

    def _push_blob(self, repository: str, data: bytes, base: str) -> None:
        digest = digest_of(data)
        status, headers, _ = self._ask("HEAD", f"/v2/{repository}/blobs/{digest}")
        if status == 200:
            assert headers["Content-Length"]
            return
        assert status == 404
        location = self._begin(repository, digest, base)
        assert location
        status, headers, answer = self._ask(
            "PATCH",
            location,
            _chunks(data),
            Content_Type="application/octet-stream",
            Transfer_Encoding="chunked",
        )
        assert status in (201, 202, 204), answer
        location = headers["Location"] or location
        location += ("&" if "?" in location else "?") + f"digest={digest}"
        status, _, answer = self._ask("PUT", location, b"")
        assert status in (200, 201, 202, 204), answer

    def _mount_blob(self, repository: str, digest: str, base: str) -> None:
        if self._ask("HEAD", f"/v2/{repository}/blobs/{digest}")[0] != 200:
            assert self._begin(repository, digest, base) == "", "what the registry has, it should mount"

    def _begin(self, repository: str, digest: str, base: str) -> str:
        """Where to upload to; "" if the blob has been mounted."""
        path = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={base}"
        status, headers, answer = self._ask("POST", path, b"")
        if status == 201:
            return ""
        assert status == 202, answer
        locations = headers.get_all("Location") or []
        assert len(locations) == 1  # JIB takes exactly one
        return locations[0]

    def _try_tls(self, host: str, port: int) -> None:
        """HTTPS, verified and then not: a registry of plain HTTP must refuse it at once, not hang."""
        for verify in (True, False):
            context = ssl.create_default_context()
            if not verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(host, port, timeout=20, context=context)
            try:
                connection.request("GET", "/v2/")
            except (ssl.SSLError, ConnectionError):
                continue
            finally:
                connection.close()
            raise AssertionError(f"{self.address} speaks TLS")

    def _ask(
        self, method: str, target: str, body: Any = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        if "://" in target:
            parts = urlsplit(target)
            assert parts.netloc == self.address, f"sent elsewhere: {target}"
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        sent = {"User-Agent": AGENT, "Accept-Encoding": "gzip"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, target, body=body, headers=sent, encode_chunked=True)
        response = self._connection.getresponse()
        data = response.read()
        self.log.append(f"{method} {target.partition('?')[0]} {response.status}")
        return response.status, response.headers, data


def _chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
