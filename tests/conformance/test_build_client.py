"""`minictl build` from the command line to the image, and what people see on the way."""

import base64
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Cli, Result
from tests.conftest import make_cli
from tests.engine import Engine
from tests.registry import Registry
from tests.wire import Wire

SLEEP_S = 100_000 + os.getpid()  # nobody else's
MANIFESTS = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
MINID = "docker's daemon does not know minictl's extension of the protocol"


@pytest.fixture(scope="module")
def minictl(engine: Engine, client_config: Path) -> Cli:
    return make_cli("minictl", engine, client_config)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    (path / "file").write_text("content\n")
    return path


Build = Callable[..., Result]


@pytest.fixture
def build(minictl: Cli, busybox: str, context: Path, wire: Wire) -> Iterator[Build]:
    """Builds `dockerfile` (with BASE in place of an image that is there) in `context`; the images go after the test."""
    before = {image["Id"] for image in wire.get("/images/json", all="1")}

    def run(dockerfile: str, *flags: str, place: str = ".", stdin: Any = None, env: Any = None) -> Result:
        if dockerfile:
            (context / "Dockerfile").write_text(dockerfile.replace("BASE", busybox))
        return minictl("build", *flags, place, stdin=stdin, env=env, cwd=str(context))

    yield run
    for image in wire.get("/images/json", all="1"):
        if image["Id"] not in before:
            wire("DELETE", f"/images/{image['Id']}", query={"force": "1"})
    wire.post("/build/prune", all="1")


def image(wire: Wire, name: str) -> Any:
    return wire.get(f"/images/{name}/json")


def images(wire: Wire) -> set[str]:
    return {image["Id"] for image in wire.get("/images/json", all="1")}


def read(minictl: Cli, name: str, path: str) -> str:
    return minictl.ok("run", "--rm", "--network", "none", name, "cat", path)


def test_a_build(build: Build, minictl: Cli, wire: Wire, context: Path) -> None:
    result = build(
        "FROM BASE\nARG WHO=nobody\nRUN echo hello $WHO > /greeting\nCOPY file /copied\nLABEL a=b",
        *("-t", "built:1", "-t", "built:2", "--build-arg", "WHO=you", "--label", "c=d"),
        *("--iidfile", str(context / "id"), "--metadata-file", str(context / "meta")),
    )
    assert result.code == 0, result.err
    found = image(wire, "built:1")
    assert found["Id"] == (context / "id").read_text()
    assert set(found["RepoTags"]) == {"built:1", "built:2"}
    assert found["Config"]["Labels"] == {"a": "b", "c": "d"}
    assert read(minictl, "built:1", "/greeting") == "hello you"
    assert read(minictl, "built:2", "/copied") == "content"
    meta = json.loads((context / "meta").read_text())
    assert meta["containerimage.config.digest"] == found["Id"]
    assert meta["image.name"] == "docker.io/library/built:1,docker.io/library/built:2"


@pytest.mark.minid_only(MINID)
def test_steps_are_shown_line_by_line(build: Build) -> None:
    dockerfile = "FROM BASE AS one\nRUN echo out; echo err >&2\nFROM BASE\nCOPY --from=one /etc/passwd /x\n"
    result = build(dockerfile, "-t", "shown")
    assert result.code == 0
    assert result.out == ""
    text = re.sub(r"\d+\.\d+", "N", result.err)
    assert "#1 [internal] load build context\n#1 sending Nk" in text
    number, *_ = re.findall(r"#(\d+) \[one 2/2\] RUN echo out; echo err >&2\n", text)
    assert f"#{number} N out\n" in text
    assert f"#{number} N err\n" in text
    assert f"#{number} DONE Ns\n" in text
    assert re.search(r"built sha256:[0-9a-f]{64}\nnamed shown\n$", result.err)
    again = build(dockerfile)
    assert f"#{number} CACHED\n" in again.err
    assert "out" not in again.err.replace("echo out", "")


@pytest.mark.minid_only(MINID)
def test_waiting_for_a_stage_is_not_the_steps_time(build: Build) -> None:
    result = build("FROM BASE AS slow\nRUN sleep 1.5\nFROM BASE\nCOPY --from=slow /etc/passwd /x\n")
    assert result.code == 0, result.err
    took = {
        name: float(seconds) for name, seconds in re.findall(r"\] (\w+) .*\n#\d+ DONE (\S+)s", result.err)
    }
    assert took["RUN"] >= 1.5
    assert took["COPY"] < 1.4


def test_only_the_id(build: Build, wire: Wire) -> None:
    result = build("FROM BASE\nRUN echo talks", "-q")
    assert result.code == 0
    assert result.err == ""
    assert image(wire, result.out.strip())["Id"] == result.out.strip()


def test_a_failing_command(build: Build, wire: Wire, context: Path) -> None:
    before = images(wire)
    (context / "id").write_text("old")
    result = build(
        "FROM BASE\n\nRUN echo why; \\\n    exit 7\n", "-t", "failed", "--iidfile", str(context / "id")
    )
    assert result.code == 7
    assert "why" in result.err + result.out
    assert "returned a non-zero code: 7" in result.err.splitlines()[-1]
    assert wire("GET", "/images/failed/json").status == 404
    assert not (context / "id").exists()
    assert images(wire) == before


@pytest.mark.minid_only(MINID)
def test_a_failure_shows_the_line(build: Build) -> None:
    result = build("FROM BASE\n\nRUN echo why; exit 7\nUSER x", "-q")
    assert result.out == ""
    assert result.err.splitlines() == [
        "------",
        " > [stage-0 2/3] RUN echo why; exit 7:",
        "why",
        "------",
        "Dockerfile:3",
        "--------------------",
        f"   1 |     {(result.err.split('   1 |     ')[1]).splitlines()[0]}",
        "   2 |",
        "   3 | >>> RUN echo why; exit 7",
        "   4 |     USER x",
        "--------------------",
        "ERROR: The command '/bin/sh -c echo why; exit 7' returned a non-zero code: 7",
    ]


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [("RUNN x", "unknown instruction: RUNN"), ("FROM BASE\nCOPY nothing /", "nothing"), ("", "")],
)
def test_mistakes_are_told(build: Build, context: Path, dockerfile: str, words: str) -> None:
    result = build(dockerfile)
    assert result.code == 1
    assert words in result.err


def test_a_dockerfile_on_stdin(build: Build, minictl: Cli, busybox: str, context: Path) -> None:
    assert build("", "-t", "stdin1", place="-", stdin=f"FROM {busybox}\nRUN echo a > /x").code == 0
    assert read(minictl, "stdin1", "/x") == "a"
    assert build("", "-t", "stdin2", "-f", "-", stdin=f"FROM {busybox}\nCOPY . /all").code == 0
    listed = minictl.ok("run", "--rm", "--network", "none", "stdin2", "ls", "-A", "/all")
    assert listed.split() == ["file"]
    wrong = build("", "-f", "-", stdin=f"FROM {busybox}\nRUNN x")
    assert "RUNN" in wrong.err
    assert ".dockerfile." not in wrong.err.replace("RUNN", "") or "sending" not in wrong.err


def test_an_archive_on_stdin(build: Build, minictl: Cli, busybox: str, context: Path, tmp_path: Path) -> None:
    (context / "Other").write_text(f"FROM {busybox}\nCOPY file /x")
    for mode in ("w", "w:gz", "w:xz"):
        with tarfile.open(tmp_path / "t", mode) as archive:  # type: ignore[call-overload]
            archive.add(context, ".")
        result = build("", "-q", "-f", "Other", place="-", stdin=(tmp_path / "t").read_bytes())
        assert result.code == 0, (mode, result.err)
        assert read(minictl, result.out.strip(), "/x") == "content"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server with the files in ``tmp_path / "web"``; its address."""
    (tmp_path / "web").mkdir()

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path / "web"))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_contexts_from_the_web(
    build: Build, minictl: Cli, busybox: str, tmp_path: Path, context: Path, web: str
) -> None:
    (context / "Other").write_text(f"FROM {busybox}\nCOPY file /x")
    with tarfile.open(tmp_path / "web" / "context.tar.gz", "w:gz") as archive:
        archive.add(context, ".")
    (tmp_path / "web" / "plain").write_text(f"FROM {busybox}\nRUN echo alone > /x")
    assert build("", "-t", "web1", "-f", "Other", place=f"{web}/context.tar.gz").code == 0
    assert read(minictl, "web1", "/x") == "content"
    assert build("", "-t", "web2", place=f"{web}/plain").code == 0
    assert read(minictl, "web2", "/x") == "alone"
    missing = build("", place=f"{web}/nowhere")
    assert missing.code == 1
    assert "404" in missing.err


def test_ignored_files_are_not_in_the_image(build: Build, minictl: Cli, context: Path) -> None:
    for name in ("a.md", "b.md", "sub/c.md", "sub/d"):
        (context / name).parent.mkdir(exist_ok=True)
        (context / name).write_text(name)
    (context / ".dockerignore").write_text("**/*.md\n!b.md\nDockerfile\n.dockerignore\n")
    assert build("FROM BASE\nCOPY . /all", "-t", "ignored").code == 0
    listed = minictl.ok("run", "--rm", "--network", "none", "ignored", "find", "/all", "-type", "f")
    assert sorted(listed.split()) == ["/all/b.md", "/all/file", "/all/sub/d"]


@pytest.mark.minid_only("docker's classic builder does not know Dockerfile.dockerignore")
def test_a_dockerfiles_own_ignore_file(build: Build, minictl: Cli, context: Path, busybox: str) -> None:
    (context / ".dockerignore").write_text("file\n")
    (context / "My").write_text(f"FROM {busybox}\nCOPY . /all")
    (context / "My.dockerignore").write_text("My*\nother\n")
    (context / "other").write_text("")
    assert build("", "-t", "own", "-f", "My").code == 0
    listed = minictl.ok("run", "--rm", "--network", "none", "own", "ls", "-A", "/all")
    assert listed.split() == [".dockerignore", "file"]


def test_a_dockerfile_elsewhere(build: Build, minictl: Cli, context: Path, busybox: str) -> None:
    (context.parent / "Elsewhere").write_text(f"FROM {busybox}\nCOPY . /all")
    assert build("", "-t", "elsewhere", "-f", "../Elsewhere").code == 0
    listed = minictl.ok("run", "--rm", "--network", "none", "elsewhere", "ls", "-A", "/all")
    assert listed.split() == ["file"]


@pytest.mark.minid_only(MINID)
def test_secrets(build: Build, minictl: Cli, wire: Wire, context: Path, engine: Engine) -> None:
    (context.parent / "token").write_text("s3cret-of-a-file")
    result = build(
        "FROM BASE\n"
        "RUN --mount=type=secret,id=token wc -c < /run/secrets/token > /size\n"
        "RUN --mount=type=secret,id=other,target=/o,required cat /o | tr a-z A-Z > /seen\n"
        "RUN ! test -e /run/secrets/token && ! test -s /o",
        *("-t", "hush", "--secret", "id=token,src=../token", "--secret", "id=other,env=MY_SECRET"),
        env={"MY_SECRET": "s3cret-of-env"},
    )
    assert result.code == 0, result.err
    assert read(minictl, "hush", "/size").strip() == "16"
    assert read(minictl, "hush", "/seen") == "S3CRET-OF-ENV"
    saved = wire("GET", "/images/hush/get").body
    history = json.dumps(wire.get("/images/hush/history"))
    for text in (
        saved,
        history.encode(),
        json.dumps(image(wire, "hush")).encode(),
        engine.log.read_bytes(),
    ):
        assert b"s3cret-of" not in text
        assert base64.b64encode(b"s3cret-of-a-file") not in text
    missing = build("FROM BASE\nRUN --mount=type=secret,id=nope,required true")
    assert missing.code != 0
    assert "nope" in missing.err


@pytest.mark.dockerd_only("minid has sessions")
def test_secrets_need_minid(build: Build) -> None:
    result = build("FROM BASE", "--secret", "id=x,env=HOME")
    assert result.code == 1
    assert "need minid" in result.err


@pytest.mark.minid_only(MINID)
def test_further_contexts(
    build: Build, minictl: Cli, context: Path, busybox: str, variant: Callable[[str], str]
) -> None:
    more = context.parent / "more"
    (more / "deep").mkdir(parents=True)
    (more / "deep" / "x").write_text("from more")
    (more / "ignored").write_text("")
    (more / ".dockerignore").write_text("ignored")
    result = build(
        "FROM base\nCOPY --from=More / /more\nCOPY --from=img /etc/passwd /passwd",
        *("-t", "contexts", "--build-context", "more=../more"),
        *(
            "--build-context",
            f"base=docker-image://{busybox}",
            "--build-context",
            f"img=docker-image://{variant('user')}",
        ),
    )
    assert result.code == 0, result.err
    assert read(minictl, "contexts", "/more/deep/x") == "from more"
    assert minictl("run", "--rm", "--network", "none", "contexts", "test", "-e", "/more/ignored").code == 1


@pytest.fixture
def ssh_add(context: Path) -> None:
    """ssh-add with its libraries in ``context/ssh``: a real client of an agent in any image."""
    program = shutil.which("ssh-add")
    if program is None or shutil.which("ssh-agent") is None:
        pytest.skip("needs ssh-add and ssh-agent (openssh-client)")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in [program, *re.findall(r"(/\S+) \(0x", listed)]:
        target = context / "ssh" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(path), target)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "my-key", "-f", path], check=True)
    return path


SSH = "FROM BASE\nCOPY ssh /\nRUN --mount=type=ssh{} ssh-add -l > /keys && ssh-add -L >> /keys\n"


@pytest.mark.minid_only(MINID)
def test_an_agent_with_a_key(build: Build, minictl: Cli, ssh_add: None, key: Path) -> None:
    result = build(SSH.format(""), "-t", "agent", "--ssh", f"default={key}")
    assert result.code == 0, result.err
    keys = read(minictl, "agent", "/keys")
    assert keys.count("my-key") == 2
    assert key.with_suffix(".pub").read_text().split()[1] in keys


@pytest.mark.minid_only(MINID)
def test_the_callers_agent(build: Build, minictl: Cli, ssh_add: None, key: Path, tmp_path: Path) -> None:
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert agent.stdout
        agent.stdout.readline()
        environment = {"SSH_AUTH_SOCK": str(tmp_path / "agent")}
        subprocess.run(["ssh-add", "-q", key], env={**os.environ, **environment}, check=True)
        dockerfile = SSH.format(",id=mine") + SSH.format("").splitlines()[-1] + "\n"
        result = build(dockerfile, "-t", "agent", "--ssh", "mine", "--ssh", "default", env=environment)
        assert result.code == 0, result.err
        assert read(minictl, "agent", "/keys").count("my-key") == 2
    finally:
        agent.terminate()
        agent.communicate()
    without = build(SSH.format(",required"), "--no-cache")
    assert without.code != 0


def outputs(build: Build, *flags: str) -> Result:
    return build(
        "FROM BASE AS files\nFROM scratch\nCOPY --from=files /etc/passwd /sub/passwd\nCOPY file /", *flags
    )


def test_files_in_a_directory(build: Build, wire: Wire, context: Path) -> None:
    before = images(wire)
    (context / "out").mkdir()
    (context / "out" / "mine").write_text("stays")
    result = outputs(build, "-o", "out", "-t", "not-kept")
    assert result.code == 0, result.err
    assert (context / "out" / "file").read_text() == "content\n"
    assert (context / "out" / "mine").read_text() == "stays"
    assert "root:x:0:0" in (context / "out" / "sub" / "passwd").read_text()
    assert wire("GET", "/images/not-kept/json").status == 404
    assert {one for one in images(wire) - before if image(wire, one)["RepoTags"]} == set()


@pytest.mark.minid_only("docker's export has the mountpoints of a container in it")
def test_only_the_images_files(build: Build, context: Path) -> None:
    assert outputs(build, "-o", "out").code == 0
    assert sorted(str(path.relative_to(context / "out")) for path in (context / "out").rglob("*")) == [
        "file", "sub", "sub/passwd",
    ]  # fmt: skip


def test_what_is_copied_to_where_containers_have_mounts(build: Build, minictl: Cli, context: Path) -> None:
    """A root file system has /proc, /sys and an empty /etc/hosts, and keeps them."""
    for name in ("proc", "sys", "dev/shm", "dev/pts"):
        (context / "root" / name).mkdir(parents=True)
    for name in ("etc/hosts", "etc/resolv.conf", "dev/console", ".dockerenv"):
        (context / "root" / name).parent.mkdir(exist_ok=True)
        (context / "root" / name).touch()
    with tarfile.open(context / "root.tar", "w") as archive:
        archive.add(context / "root", ".")
    for line in ("COPY root/ /", "ADD root.tar /"):
        result = build(f"FROM scratch\n{line}\n", "-t", "mountpoints")
        assert result.code == 0, result.err
        saved = subprocess.run(
            [*minictl.argv, "save", "mountpoints"],
            env={**os.environ, **minictl.environment},
            capture_output=True,
            check=True,
        )
        with tarfile.open(fileobj=io.BytesIO(saved.stdout)) as whole:
            manifest = whole.extractfile("manifest.json")
            assert manifest is not None
            [path] = json.loads(manifest.read())[0]["Layers"]
            with tarfile.open(fileobj=whole.extractfile(path)) as layer:
                names = {name.removeprefix("./").rstrip("/") for name in layer.getnames()}
        assert {
            "proc",
            "sys",
            "dev/shm",
            "dev/pts",
            "etc/hosts",
            "etc/resolv.conf",
            "dev/console",
            ".dockerenv",
        } <= names


def test_a_tar_of_files(build: Build, minictl: Cli, context: Path) -> None:
    assert outputs(build, "-o", "type=tar,dest=out.tar").code == 0
    with tarfile.open(context / "out.tar") as archive:
        assert {"file", "sub/passwd"} <= {name.removeprefix("./") for name in archive.getnames()}
    done = subprocess.run(
        [*minictl.argv, "build", "-o", "-", "."],
        env={**os.environ, **minictl.environment},
        cwd=context,
        capture_output=True,
        check=True,
    )
    (context / "stdout.tar").write_bytes(done.stdout)
    with tarfile.open(context / "stdout.tar") as archive:
        assert "file" in {name.removeprefix("./") for name in archive.getnames()}


def test_archives_of_images(build: Build, minictl: Cli, wire: Wire, context: Path, busybox: str) -> None:
    minictl.ok("tag", busybox, "taken:1")
    old = image(wire, "taken:1")["Id"]
    result = outputs(build, "-o", "type=docker,dest=image.tar", "-t", "taken:1", "-t", "new:1")
    assert result.code == 0, result.err
    with tarfile.open(context / "image.tar") as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        [manifest] = json.loads(member.read())
    assert sorted(manifest["RepoTags"]) == ["new:1", "taken:1"]
    assert image(wire, "taken:1")["Id"] == old
    assert wire("GET", "/images/new:1/json").status == 404
    minictl.ok("rmi", "taken:1")


@pytest.mark.minid_only("Debian's dockerd does not save OCI layouts")
def test_an_oci_layout(build: Build, context: Path) -> None:
    assert outputs(build, "-o", "type=oci,dest=oci.tar").code == 0
    with tarfile.open(context / "oci.tar") as archive:
        assert {"oci-layout", "index.json"} <= set(archive.getnames())


def test_pushing_what_was_built(build: Build, wire: Wire, registry: Registry) -> None:
    name = f"{registry.address}/pushed/by-build:1"
    result = outputs(build, "--push", "-t", name)
    assert result.code == 0, result.err
    assert registry.request("GET", "/v2/pushed/by-build/manifests/1", Accept=MANIFESTS)[0] == 200
    assert image(wire, name)
    second = outputs(build, "-o", f"type=registry,name={registry.address}/pushed/again:2")
    assert second.code == 0, second.err
    assert registry.request("GET", "/v2/pushed/again/manifests/2", Accept=MANIFESTS)[0] == 200


@pytest.mark.minid_only(MINID)
def test_a_check(build: Build, wire: Wire) -> None:
    before = images(wire)
    good = build("FROM BASE\nRUN exit 1", "--check")
    assert (good.code, good.out) == (0, "Check complete, no warnings found.\n")
    bad = build("from BASE as one\nRUN exit 1\nMAINTAINER me", "--check")
    assert bad.code == 1
    assert re.search(r"^WARNING: MaintainerDeprecated\n.+\nDockerfile:3\n", bad.out, re.MULTILINE)
    assert "   3 | >>> MAINTAINER me\n" in bad.out
    assert bad.out.endswith(" have been found!\n")
    broken = build("FROM BASE\nRUNN x", "--call", "check")
    assert broken.code == 1
    assert "RUNN" in broken.err
    assert images(wire) == before


@pytest.mark.dockerd_only("minid checks")
def test_a_check_needs_minid(build: Build) -> None:
    assert "--check needs minid" in build("FROM BASE", "--check").err


@pytest.mark.minid_only(MINID)
def test_warnings_at_the_end_of_a_build(build: Build) -> None:
    result = build("FROM BASE\nMAINTAINER me")
    assert result.code == 0
    assert "1 warning:\n - MaintainerDeprecated: " in result.err


def test_a_refusal_while_a_large_context_is_on_its_way(build: Build, context: Path) -> None:
    with (context / "big").open("wb") as file:
        file.truncate(200_000_000)
    began_s = time.monotonic()
    result = build("FROM BASE\n", "--platform", "nonsense/of/many/parts/x")
    assert result.code == 1
    assert "Error response from daemon" in result.err
    assert "broken" not in result.err.lower()
    assert time.monotonic() - began_s < 20


def test_interrupting_stops_the_build(
    build: Build, minictl: Cli, context: Path, busybox: str, wire: Wire
) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox}\nRUN echo begun; sleep {SLEEP_S}\n")
    before = images(wire)
    with minictl.terminal("build", "-t", "interrupted", str(context)) as terminal:
        terminal.expect("begun")
        wait_for(lambda: sleeping(wire) == 1)
        terminal.send("\x03")
        assert terminal.wait() in (-2, 130)
    wait_for(lambda: sleeping(wire) == 0)
    assert images(wire) == before
    assert wire("GET", "/images/interrupted/json").status == 404


def sleeping(wire: Wire) -> int:
    """Processes on this machine that a RUN of the test above started."""
    found = 0
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += place.read_bytes() == f"sleep\0{SLEEP_S}\0".encode()
        except OSError:
            continue
    return found


def wait_for(true: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@pytest.mark.minid_only(MINID)
def test_on_a_terminal(build: Build, minictl: Cli, context: Path, busybox: str) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox}\nRUN echo one; sleep 0.3; echo two\n")
    with minictl.terminal("build", "-t", "drawn", str(context), rows=20, columns=70) as terminal:
        terminal.expect(r"\[\+\] Building")
        terminal.expect(r" => => # one")
        assert terminal.wait() == 0
        assert re.search(r" => \[stage-0 2/2\] RUN echo one; .* 0\.\ds\x1b", terminal.transcript)
        assert "named drawn" in terminal.transcript


@pytest.mark.minid_only(MINID)
def test_raw_messages(build: Build) -> None:
    result = build("FROM BASE\nRUN echo hi", "--progress", "rawjson")
    assert result.code == 0
    messages = [json.loads(line) for line in result.err.splitlines()]
    assert {"log": {"step": 2, "fd": 1, "data": "hi\n"}} in messages
    assert any("ID" in message.get("aux", {}) for message in messages)


def test_pruning_the_cache(build: Build, minictl: Cli) -> None:
    assert build("FROM BASE\nRUN dd if=/dev/zero of=/big bs=1M count=3", "-q").code == 0
    text = minictl.ok("system", "df")
    assert re.search(r"^Build Cache +\d+ ", text, re.MULTILINE)
    pruned = minictl("builder", "prune", "-a", "-f")
    assert pruned.code == 0
    assert pruned.lines[-1].startswith("Total reclaimed space: ")
    refused = minictl("builder", "prune", stdin="n\n")
    assert refused.code == 1
    assert "builder prune has been cancelled" in refused.err


@pytest.mark.minid_only(MINID)
def test_pruned_cache_is_built_anew(build: Build, minictl: Cli) -> None:
    dockerfile = "FROM BASE\nRUN echo once\n"
    build(dockerfile)
    assert "CACHED" in build(dockerfile).err
    minictl.ok("image", "prune", "-f")
    assert "Deleted build cache objects:" in minictl.ok("builder", "prune", "-a", "-f")
    assert "CACHED" not in build(dockerfile).err


@pytest.mark.parametrize("name", ["build", "image build", "builder build"])
def test_it_is_called_by_three_names(minictl: Cli, name: str) -> None:
    assert "minictl builder build" in minictl.ok(*name.split(), "--help")
