"""`POST /build` as the docker CLI's classic builder, docker-py and raw requests see it; Podman's bugs of this kind (26)."""

import bz2
import gzip
import io
import json
import lzma
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.errors import BuildError

from tests.cli import Cli, Result
from tests.engine import Engine
from tests.wire import Response, Wire

CLASSIC = {"DOCKER_BUILDKIT": "0"}
ID = re.compile(r"sha256:[0-9a-f]{64}")

Docker = Callable[..., Result]


@pytest.fixture
def forget(busybox: str, wire: Wire) -> Iterator[str]:
    """The base image's name; all images that a test makes go after it."""
    before = {image["Id"] for image in wire.get("/images/json", all="1")}
    yield busybox
    for container in wire.get("/containers/json", all="1"):
        wire("DELETE", f"/containers/{container['Id']}", query={"force": "1", "v": "1"})
    for image in wire.get("/images/json", all="1"):
        if image["Id"] not in before:
            wire("DELETE", f"/images/{image['Id']}", query={"force": "1"})
    wire.post("/build/prune", all="1")


def archive(dockerfile: str, **files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in {"Dockerfile": dockerfile, **files}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def post(wire: Wire, body: bytes, **query: str) -> Response:
    return wire(
        "POST",
        "/build",
        body,
        query={"networkmode": "none", **query},
        headers={"Content-Type": "application/x-tar"},
    )


def said(lines: list[dict[str, Any]]) -> str:
    return "".join(line.get("stream", "") for line in lines)


def test_the_answer(forget: str, wire: Wire) -> None:
    response = post(wire, archive(f"FROM {forget}\nRUN echo hello there\nUSER x"), t="made:1")
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    lines = response.json_lines
    [aux] = [line["aux"] for line in lines if "aux" in line]
    assert ID.fullmatch(aux["ID"])
    assert wire.get("/images/made:1/json")["Id"] == aux["ID"]
    text = said(lines)
    short = aux["ID"].removeprefix("sha256:")[:12]
    assert text.startswith("Step 1/3 : FROM ")
    assert "Step 2/3 : RUN echo hello there\n" in text
    assert "hello there\n" in text
    assert text.endswith(f"Successfully built {short}\nSuccessfully tagged made:1\n")
    again = said(post(wire, archive(f"FROM {forget}\nRUN echo hello there\nUSER x")).json_lines)
    assert " ---> Using cache\n" in again
    assert f"Successfully built {short}\n" in again


def test_a_failure_after_the_beginning(forget: str, wire: Wire) -> None:
    response = post(wire, archive(f"FROM {forget}\nRUN echo why; exit 3\n"), t="unmade", forcerm="1")
    assert response.status == 200
    last = response.json_lines[-1]
    message = "The command '/bin/sh -c echo why; exit 3' returned a non-zero code: 3"
    assert last["errorDetail"]["code"] == 3
    assert last["errorDetail"]["message"] == message
    assert last["error"] == message
    assert "why\n" in said(response.json_lines)
    assert not [line for line in response.json_lines if "aux" in line]
    assert wire("GET", "/images/unmade/json").status == 404
    assert wire.get("/containers/json", all="1") == []


@pytest.mark.parametrize(
    ("dockerfile", "status", "message"),
    [
        ("RUNN x", 400, "unknown instruction: RUNN"),
        ("", None, "cannot be empty"),
        ("FROM a b c d", 400, "FROM requires either one or three arguments"),
        ("RUN x", 400, "no build stage in current context"),
    ],
)
def test_mistakes_in_the_dockerfile(
    forget: str, wire: Wire, dockerfile: str, status: int | None, message: str
) -> None:
    response = post(wire, archive(dockerfile))
    assert response.status >= 400
    assert status is None or response.status == status
    assert message in response.message
    assert response.headers["Content-Type"] == "application/json"


def test_a_context_without_a_dockerfile(forget: str, wire: Wire) -> None:
    response = post(wire, archive("FROM x"), dockerfile="other/Dockerfile")
    assert response.status >= 400
    assert "Cannot locate specified Dockerfile: other/Dockerfile" in response.message


@pytest.mark.parametrize("name", ["A:b", "a@b", "a:b:c"])
def test_wrong_names_are_refused(forget: str, wire: Wire, name: str) -> None:
    response = post(wire, archive(f"FROM {forget}"), t=name)
    assert response.status >= 400 or response.json_lines[-1].get("error"), response.body
    assert "invalid reference format" in response.body.decode()


@pytest.mark.parametrize("truth", ["1", "true", "True", "0", "false", ""])
def test_truth_is_read_as_docker_does(forget: str, wire: Wire, truth: str) -> None:
    """`pull=false` must not pull, `nocache=0` must use the cache, and anything else that is not empty is true."""
    body = archive(f"FROM {forget}\nRUN echo cached or not")
    first = post(wire, body)
    assert "Successfully built" in said(first.json_lines)
    again = said(post(wire, body, nocache=truth, q="false", rm="1").json_lines)
    assert ("Using cache" not in again) is (truth.lower() in ("1", "true"))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_contexts(forget: str, wire: Wire, pack: Callable[[bytes], bytes]) -> None:
    response = post(wire, pack(archive(f"FROM {forget}\nCOPY a /b", a="x")), t="packed")
    assert "Successfully tagged packed:latest" in said(response.json_lines)


@pytest.mark.parametrize("body", [b"", b"no archive, and no Dockerfile either", b"\x1f\x8b\x08broken"])
def test_a_body_that_is_no_archive(forget: str, wire: Wire, body: bytes) -> None:
    response = post(wire, body)
    assert response.status >= 400
    assert response.message


def test_names_arguments_and_labels(forget: str, wire: Wire) -> None:
    response = post(
        wire,
        archive(
            f"ARG B={forget}\nFROM $B AS one\nARG X=no\nLABEL x=$X here=file\nFROM one AS two\nRUN exit 1"
        ),
        t="first",
        target="one",
        buildargs=json.dumps({"X": "yes", "NOT_SET": None}),
        labels=json.dumps({"here": "query", "more": ""}),
    )
    assert "Successfully tagged first:latest" in said(response.json_lines), response.body
    assert wire.get("/images/first/json")["Config"]["Labels"] == {"x": "yes", "here": "query", "more": ""}


def test_limits_reach_the_command(forget: str, wire: Wire) -> None:
    response = post(
        wire,
        archive(
            f"FROM {forget}\nRUN ulimit -n; df -k /dev/shm | tail -1; grep my.host /etc/hosts; cat /proc/self/cgroup"
        ),
        ulimits=json.dumps([{"Name": "nofile", "Soft": 77, "Hard": 99}]),
        shmsize=str(3 << 20),
        extrahosts="my.host:10.1.2.3",
        memory=str(64 << 20),
        memswap="-1",
    )
    text = said(response.json_lines)
    assert "Successfully built" in text, response.body
    assert "\n77\n" in text
    assert re.search(r"\b3072\b", text)
    assert re.search(r"10\.1\.2\.3\s+my\.host", text)


def test_quiet(forget: str, wire: Wire) -> None:
    response = post(wire, archive(f"FROM {forget}\nRUN echo talks"), q="1")
    assert ID.fullmatch(said(response.json_lines).strip())


# -- the docker CLI


@pytest.fixture
def docker(docker_cli: Cli, tmp_path: Path) -> Docker:
    def run(dockerfile: str, *flags: str) -> Result:
        (tmp_path / "Dockerfile").write_text(dockerfile)
        return docker_cli("build", "--network", "none", *flags, ".", cwd=str(tmp_path), env=CLASSIC)

    return run


def test_docker_build(forget: str, docker: Docker, wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = docker(
        f"FROM {forget}\nCOPY file /\nRUN cat file; echo done",
        "-t",
        "cli:1",
        "--iidfile",
        str(tmp_path / "id"),
    )
    assert result.code == 0, result.err
    assert "Step 3/3 : RUN cat file; echo done" in result.lines
    assert "xdone" in result.lines
    assert result.lines[-1] == "Successfully tagged cli:1"
    assert (tmp_path / "id").read_text() == wire.get("/images/cli:1/json")["Id"]
    quiet = docker(f"FROM {forget}\nCOPY file /\nRUN cat file; echo done", "-q")
    assert quiet.out == (tmp_path / "id").read_text() + "\n"


def test_docker_build_fails_with_the_commands_code(forget: str, docker: Docker) -> None:
    result = docker(f"FROM {forget}\nRUN echo why >&2; exit 42", "--force-rm")
    assert result.code == 42
    assert "why" in result.out + result.err
    assert "returned a non-zero code: 42" in result.err


# -- docker-py


def test_docker_py(forget: str, dockerpy: DockerClient, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.my").write_text(f"FROM {forget}\nARG A\nCOPY . /all\nRUN echo $A > /a; ls /all\n")
    (tmp_path / "kept").write_text("")
    (tmp_path / "left.out").write_text("")
    (tmp_path / ".dockerignore").write_text("*.out\n")
    image, log = dockerpy.images.build(
        path=str(tmp_path),
        dockerfile="Dockerfile.my",
        tag="py:1",
        buildargs={"A": "b"},
        labels={"l": "m"},
        network_mode="none",
        rm=True,
        pull=False,
        extra_hosts={"h": "10.0.0.1"},
        shmsize=1 << 20,
        container_limits={"memory": 64 << 20},
    )
    assert image.tags == ["py:1"]
    assert image.labels == {"l": "m"}
    text = "".join(line.get("stream", "") for line in log)
    assert "kept" in text
    assert "left.out" not in text
    output = dockerpy.containers.run("py:1", ["cat", "/a"], network_mode="none", remove=True)
    assert output == b"b\n"


def test_docker_py_sees_a_failure(forget: str, dockerpy: DockerClient) -> None:
    dockerfile = io.BytesIO(f"FROM {forget}\nRUN echo why; exit 5\n".encode())
    with pytest.raises(BuildError, match="returned a non-zero code: 5") as caught:
        dockerpy.images.build(fileobj=dockerfile, network_mode="none", rm=True, forcerm=True)
    log = list(caught.value.build_log)  # to its end, or the connection stays open
    assert {"stream": "why\n"} in log


def test_docker_py_sends_an_archive_of_its_own(forget: str, dockerpy: DockerClient) -> None:
    body = io.BytesIO(gzip.compress(archive(f"FROM {forget}\nCOPY a /\n", a="x")))
    image, _ = dockerpy.images.build(fileobj=body, custom_context=True, encoding="gzip", network_mode="none")
    assert ID.fullmatch(image.id)


def test_builds_are_seen_in_disk_usage(forget: str, wire: Wire, engine: Engine) -> None:
    assert "Successfully built" in said(post(wire, archive(f"FROM {forget}\nRUN echo a > /a")).json_lines)
    assert wire.get("/system/df")["BuildCache"] is not None or engine.kind == "dockerd"
