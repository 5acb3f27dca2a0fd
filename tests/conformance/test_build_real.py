"""Dockerfiles as people write them, built by minid and by docker's classic builder: the same files, config and history.

Both get the same context and base image. Compared are the images as `docker save` gives them: each layer entry by entry,
every field of the config, each entry of the history. What differs by design is listed here, and nowhere else.
"""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.cli import Cli
from tests.conftest import _root, make_cli, pull, run_once
from tests.engine import Dockerd, Engine
from tests.registry import Registry
from tests.wire import Wire

pytestmark = [
    pytest.mark.minid_only("compares with dockerd, which it starts itself"),
    pytest.mark.skipif(shutil.which("dockerd") is None, reason="dockerd (docker.io) is not installed"),
    pytest.mark.timeout(900),
]

needs_debian = pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not installed")

# What a program writes that takes the time, the order of a hash or the host's name into it.
VOLATILE = re.compile(
    r"var/log/.*|var/cache/ldconfig/aux-cache|var/cache/apt/.*|var/lib/apt/lists/.*|.*\.pyc|var/lib/dpkg/.*-old"
    r"|etc/(shadow|passwd|group|gshadow)-?|etc/\.pwd\.lock|var/lib/systemd/.*|etc/machine-id|tmp/.*"
)


@dataclass(frozen=True)
class Entry:
    kind: bytes
    mode: int
    owner: tuple[int, int]
    link: str
    device: tuple[int, int]
    content: str
    xattrs: tuple[tuple[str, str], ...]
    mtime: int | None


@dataclass(frozen=True)
class Saved:
    config: dict[str, Any]
    layers: list[dict[str, Entry]]


@pytest.fixture(scope="module")
def dockerd() -> Iterator[Dockerd]:
    engine = Dockerd(_root())
    try:
        engine.start()
        yield engine
    finally:
        engine.destroy()


@pytest.fixture(scope="module")
def both(engine: Engine, dockerd: Dockerd, client_config: Path) -> tuple[Cli, Cli, Cli]:
    """(minictl on minid, docker on minid, docker on dockerd)."""
    return (
        make_cli("minictl", engine, client_config),
        make_cli("docker", engine, client_config),
        make_cli("docker", dockerd, client_config),
    )


CLASSIC = {"DOCKER_BUILDKIT": "0"}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """What every context has: this machine's own settings for apt and pip, which are part of no test."""
    path = tmp_path / "context"
    machine = path / "machine"
    (machine / "etc/ssl/certs").mkdir(parents=True)
    (machine / "etc/apt/apt.conf.d").mkdir(parents=True)
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if bundle.exists():
        shutil.copy(bundle, machine / "etc/ssl/certs/ca-certificates.crt")
    if shutil.which("apt-config"):
        dump = subprocess.run(
            ["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True
        ).stdout
        lines = [line for line in dump.splitlines() if "::Proxy" in line]
        (machine / "etc/apt/apt.conf.d/99machine").write_text("\n".join(lines) + "\n")
    done = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False)
    found = dict(
        re.findall(r"^(?:global|:env:)\.(index-url|extra-index-url|trusted-host)='(.*)'$", done.stdout, re.M)
    )
    settings = [f"{key} = {value}" for key, value in found.items()]
    (machine / "etc/pip.conf").write_text(
        "\n".join(["[global]", "cert = /etc/ssl/certs/ca-certificates.crt", *settings]) + "\n"
    )
    return path


@pytest.fixture
def forget(wire: Wire) -> Iterator[None]:
    before = {image["Id"] for image in wire.get("/images/json", all="1")}
    yield
    for image in wire.get("/images/json", all="1"):
        if image["Id"] not in before:
            wire("DELETE", f"/images/{image['Id']}", query={"force": "1"})
    wire.post("/build/prune", all="1")


def write(top: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        os.utime(path, (1_700_000_000, 1_700_000_000))


def built(
    both: tuple[Cli, Cli, Cli], context: Path, *flags: str, docker_dockerfile: str = "Dockerfile"
) -> tuple[Saved, Saved]:
    """The image by minictl and minid, and by docker and dockerd. The docker CLI gets the same from minid's cache."""
    minictl, docker_on_minid, docker = both
    network = ("--network", "host")  # dockerd's bridge is off in tests
    done = minictl("build", *network, *flags, "-t", "real", ".", cwd=str(context), timeout_s=600)
    assert done.code == 0, done.err
    by_docker = docker(
        "build",
        *network,
        *flags,
        "-f",
        docker_dockerfile,
        "-t",
        "real",
        ".",
        cwd=str(context),
        env=CLASSIC,
        timeout_s=600,
    )
    assert by_docker.code == 0, by_docker.out + by_docker.err
    again = docker_on_minid("build", *network, *flags, "-q", ".", cwd=str(context), env=CLASSIC)
    assert again.code == 0, again.err
    assert again.out.strip() == docker_on_minid.ok("image", "inspect", "-f", "{{.Id}}", "real")
    return saved(docker_on_minid, "real"), saved(docker, "real")


def saved(docker: Cli, name: str) -> Saved:
    done = subprocess.run(
        [*docker.argv, "save", name],
        env={**os.environ, **docker.environment},
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        [manifest] = json.loads(member(archive, "manifest.json"))
        layers = [layer(member(archive, path)) for path in manifest["Layers"]]
        return Saved(json.loads(member(archive, manifest["Config"])), layers)


def member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


def layer(data: bytes) -> dict[str, Entry]:
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            name = info.name.removeprefix("./").rstrip("/")
            if name in ("", "."):
                continue
            content = ""
            if info.isreg():
                content = hashlib.sha256(member(archive, info.name)).hexdigest()
            xattrs = {
                key.rpartition("SCHILY.xattr.")[2]: value
                for key, value in info.pax_headers.items()
                if "xattr" in key
            }
            found[name] = Entry(
                info.type,
                info.mode & 0o7777,
                (info.uid, info.gid),
                info.linkname.removeprefix("./"),
                (info.devmajor, info.devminor),
                "volatile" if VOLATILE.fullmatch(name) else content,
                tuple(sorted(xattrs.items())),
                int(info.mtime) if int(info.mtime) == 1_700_000_000 else None,  # of files that were copied
            )
    return found


def instruction(created_by: str) -> tuple[str, ...]:
    """A history entry of either form, docker's classic (`/bin/sh -c #(nop)  ENV A=b`) or BuildKit's (`ENV A=b`)."""
    text = re.sub(r"^.*? #\(nop\) +", "", created_by).strip()
    word = text.split(" ")[0]
    if created_by == text and not word.isupper():
        return ("RUN", text)
    if word in ("COPY", "ADD"):  # the classic one has digests in place of the sources
        return (word, text.split(" ")[-1])
    if word == "EXPOSE":
        return (word, *sorted(port.removesuffix("/tcp") for port in text.split(" ")[1:]))
    if word == "ARG":
        return (word, text.partition(" ")[2].partition("=")[0])
    if word in ("HEALTHCHECK", "SHELL"):  # Go's way of printing a struct
        return (word,)
    if word == "RUN":
        return (word, text.partition(" ")[2])
    return (word, text)


def history(image: Saved) -> list[tuple[tuple[str, ...], bool]]:
    return [
        (instruction(entry.get("created_by", "")), bool(entry.get("empty_layer")))
        for entry in image.config["history"]
    ]


def settings(image: Saved) -> dict[str, Any]:
    """The config of containers, without what the classic builder keeps of the container that it made it in."""
    config = {
        key: value for key, value in image.config["config"].items() if value not in (None, False, "", [], {})
    }
    config.pop("Image", None)
    config.pop("Hostname", None)
    return config


def differences(ours: Saved, theirs: Saved, allowed: Callable[[str], bool] = lambda path: False) -> list[str]:
    """What a layer adds or changes, and what it takes away, in whichever form (whiteouts, opaque directories)."""
    assert len(ours.layers) == len(theirs.layers)
    found = []
    below_mine: set[str] = set()
    below_other: set[str] = set()
    for index, (mine, other) in enumerate(zip(ours.layers, theirs.layers, strict=True)):
        gone_mine, gone_other = taken_away(mine, below_mine), taken_away(other, below_other)
        found += [
            f"layer {index}: {path}: not removed by both"
            for path in sorted(gone_mine ^ gone_other)
            if not allowed(path)
        ]
        for path in sorted(set(mine) | set(other)):
            if ".wh." not in path and mine.get(path) != other.get(path) and not allowed(path):
                found.append(f"layer {index}: {path}: {mine.get(path)} instead of {other.get(path)}")
        below_mine = (below_mine - gone_mine) | set(mine)
        below_other = (below_other - gone_other) | set(other)
    return found


def taken_away(changes: dict[str, Entry], below: set[str]) -> set[str]:
    """The paths of lower layers that are no longer there. OCI image-spec, layer.md, Whiteouts."""
    removed, emptied = set(), set()
    for path in changes:
        directory, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            emptied.add(f"{directory}/")
        elif name.startswith(".wh."):
            removed.add(f"{directory}/{name.removeprefix('.wh.')}".lstrip("/"))
    gone = set()
    for path in below:
        above = {path[:at] for at, letter in enumerate(path) if letter == "/"} | {path}
        if above & removed or any(path.startswith(directory) for directory in emptied):
            gone.add(path)
    return gone - set(changes)


def compare(ours: Saved, theirs: Saved, allowed: Callable[[str], bool] = lambda path: False) -> None:
    assert settings(ours) == settings(theirs)
    for key in ("architecture", "os", "author"):
        assert ours.config.get(key) == theirs.config.get(key), key
    assert history(ours) == history(theirs)
    found = differences(ours, theirs, allowed)
    assert not found, "\n".join(found)


SITE = r"""
ARG BASE
FROM ${BASE} AS base
ARG VERSION=1.0
ARG TITLE
LABEL org.opencontainers.image.title="My site" version=$VERSION \
      multi="a b"
ENV WWW=/srv/www PORT=8080
ENV PATH=$WWW/bin:$PATH GREETING="hello you"
WORKDIR $WWW
COPY public/ ./
COPY --chown=1000:1000 conf/httpd.conf /etc/httpd.conf
COPY --chown=app:extra public/index.html /home/app/
COPY public/*.html public/css /flat/
ADD extra.tgz /extra/
ADD extra.tgz public/home /added/
RUN mkdir -p bin && echo "$GREETING ${TITLE:-none}" > version.txt && chmod 0640 version.txt && rm /etc/httpd.conf
RUN ["/bin/sh", "-c", "echo exec > exec.txt; rm -r /flat; mkdir /flat; ln -s exec.txt link; ln exec.txt hard"]
EXPOSE 80 $PORT/tcp 53/udp
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=3s --retries=2 CMD wget -q -O- http://localhost:$PORT/ || exit 1
SHELL ["/bin/sh", "-ec"]
RUN echo with shell >> version.txt && mknod pipe p
ONBUILD COPY . /onbuild
ONBUILD RUN echo built
MAINTAINER me@example
WORKDIR sub/dir
USER 1000:1000
VOLUME /data /var/log
VOLUME ["/more"]
ENTRYPOINT ["httpd", "-f"]
CMD ["-p", "8080"]
"""


def archive(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid, info.mode = len(text), 1_700_000_000, 7, 0o640
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def test_a_static_site(
    both: tuple[Cli, Cli, Cli],
    busybox: str,
    dockerd: Dockerd,
    registry: Registry,
    context: Path,
    forget: None,
) -> None:
    pull(Wire(dockerd.socket), busybox)
    write(
        context,
        {
            "Dockerfile": SITE,
            "public/index.html": "<h1>hi</h1>",
            "public/css/a.css": "a{}",
            "public/.hidden": "x",
            "conf/httpd.conf": "log",
            "extra.tgz": archive({"one": "1", "deep/two": "22"}),
            ".env": "SECRET=1",
            ".dockerignore": ".env\n*.log\nmachine\nDockerfile*\n.dockerignore\n",
        },
    )
    (context / "public/home").symlink_to("index.html")
    ours, theirs = built(both, context, "--build-arg", f"BASE={busybox}", "--build-arg", "TITLE=t")
    compare(ours, theirs)


@pytest.fixture(scope="module")
def debian(registry: Registry, wire: Wire, dockerd: Dockerd) -> Iterator[str]:
    """Debian 12 in three layers, on both daemons."""
    name = f"{registry.address}/debian:12"
    images.debian().push(registry, "debian", "12")
    for one in (wire, Wire(dockerd.socket)):
        pull(one, name)
    run_once(wire, name)
    yield name
    wire("DELETE", f"/images/{name}", query={"force": "1"})


C_PROGRAM = r"""
ARG BASE
FROM ${BASE} AS build
COPY machine/ /
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile *.c *.h ./
ARG CFLAGS="-O2 -g0"
RUN make CFLAGS="$CFLAGS" && ./hello > said.txt

FROM scratch AS bare
COPY --from=build /src/hello-static /hello
ENTRYPOINT ["/hello"]

FROM ${BASE}
COPY --from=build /src/hello /src/said.txt /usr/local/bin/
COPY --from=bare /hello /usr/local/bin/hello-static
RUN useradd --uid 4000 --create-home runner && hello | grep -q world
USER runner
CMD ["hello"]
"""


@pytest.mark.long
@needs_debian
def test_a_c_program(both: tuple[Cli, Cli, Cli], debian: str, context: Path, forget: None) -> None:
    write(
        context,
        {
            "Dockerfile": C_PROGRAM,
            "hello.c": '#include <stdio.h>\n#include "hello.h"\nint main(void) { puts(WORDS); return 0; }\n',
            "hello.h": '#define WORDS "hello, world"\n',
            "Makefile": "all: hello hello-static\nhello-static: hello.c\n\t$(CC) $(CFLAGS) -static -o $@ $<\n",
        },
    )
    ours, theirs = built(both, context, "--build-arg", f"BASE={debian}")
    compare(ours, theirs)
    minictl, _, docker = both
    bare = ("build", "-q", "--network", "host", "--build-arg", f"BASE={debian}", "--target", "bare", ".")
    images_ = [minictl(*bare, cwd=str(context)), docker(*bare, cwd=str(context), env=CLASSIC)]
    assert [one.code for one in images_] == [0, 0], images_
    compare(saved(both[1], images_[0].out.strip()), saved(docker, images_[1].out.strip()))
    assert minictl.ok("run", "--rm", "--network", "none", images_[0].out.strip()) == "hello, world"


PYTHON_SERVICE = r"""# syntax=docker/dockerfile:1
ARG BASE
FROM ${BASE}
COPY machine/ /
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_COMPILE=1
RUN --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    apt-get update && apt-get install -y --no-install-recommends python3-pip python3-venv && apt-get clean
WORKDIR /app
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /venv && /venv/bin/pip install -r requirements.txt
ENV PATH=/venv/bin:$PATH
COPY --chown=1000:1000 service ./service
EXPOSE 8000
USER 1000
HEALTHCHECK --interval=1s CMD ["python", "-c", "import service"]
CMD ["python", "-m", "service"]
"""


@pytest.mark.long
@needs_debian
def test_a_python_service(both: tuple[Cli, Cli, Cli], debian: str, context: Path, forget: None) -> None:
    classic = PYTHON_SERVICE
    for mount, cleaned in (
        (r"--mount=type=cache,target=/var/lib/apt/lists,sharing=locked", "/var/lib/apt/lists/*"),
        (r"--mount=type=cache,target=/root/.cache/pip", "/root/.cache"),
    ):  # which the classic builder does not know: what is left in the directory is removed instead
        head, _, rest = classic.partition(f"{mount} \\\n   ")
        body, end, rest = rest.partition("\n")
        classic = f"{head}{body.strip()} && rm -rf {cleaned}{end}{rest}"
    assert "--mount" not in classic
    write(
        context,
        {
            "Dockerfile": PYTHON_SERVICE,
            "Dockerfile.classic": classic,
            "requirements.txt": "itsdangerous==2.1.2\nwerkzeug==3.0.1\n",
            "service/__init__.py": "from werkzeug.wrappers import Response\n",
            "service/__main__.py": "import service\nprint('serving', service.Response('x').status)\n",
            "service/.env": "no",
            ".dockerignore": "**/.env\n**/__pycache__\nDockerfile*\n",
        },
    )
    minictl, docker_on_minid, docker = both
    flags = ("build", "--network", "host", "--build-arg", f"BASE={debian}", "-t", "real")
    done = minictl(*flags, ".", cwd=str(context), timeout_s=600)
    assert done.code == 0, done.err
    by_docker = docker(*flags, "-f", "Dockerfile.classic", ".", cwd=str(context), env=CLASSIC, timeout_s=600)
    assert by_docker.code == 0, by_docker.out + by_docker.err
    ours, theirs = saved(docker_on_minid, "real"), saved(docker, "real")
    assert settings(ours) == settings(theirs)
    ours_history, theirs_history = history(ours), history(theirs)
    assert [(entry[0], empty) for entry, empty in ours_history] == [
        (entry[0], empty) for entry, empty in theirs_history
    ]
    cached = ("var/lib/apt/lists", "root/.cache")  # the mountpoints of the caches
    found = differences(ours, theirs, lambda path: path.startswith(cached))
    assert not found, "\n".join(found)
    assert not any(
        path.startswith(tuple(f"{one}/" for one in cached)) for one in ours.layers[3:] for path in one
    )
    assert minictl.ok("run", "--rm", "--network", "none", "real") == "serving 200 OK"


DEBIAN_BASE = r"""
FROM scratch
ADD rootfs.tar.gz /
COPY machine/ /
ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
RUN set -ex; \
    apt-get update; \
    apt-get install -y --no-install-recommends nginx-light tzdata; \
    apt-get clean; rm -rf /var/lib/apt/lists/*; \
    ln -sf /dev/stdout /var/log/nginx/access.log
COPY default.conf /etc/nginx/conf.d/default.conf
STOPSIGNAL SIGQUIT
EXPOSE 80
CMD ["nginx", "-g", "daemon off;"]
"""


@pytest.mark.long
@needs_debian
def test_a_debian_base(both: tuple[Cli, Cli, Cli], context: Path, forget: None) -> None:
    base = images.debian().layers[0]
    assert isinstance(base, Path)
    write(context, {"Dockerfile": DEBIAN_BASE, "default.conf": "# nothing\n", ".dockerignore": "Dockerfile"})
    with base.open("rb") as source, gzip.open(context / "rootfs.tar.gz", "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target)
    ours, theirs = built(both, context)
    compare(ours, theirs)
