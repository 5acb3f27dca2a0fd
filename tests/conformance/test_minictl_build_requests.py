"""minictl build asks for what `DOCKER_BUILDKIT=0 docker build` asks for, and sends the same context, entry by entry."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import tarfile
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_minictl_requests import DOCKER, TOP, Handler, Recorder, words

Sent = tuple[str, dict[str, list[str]], str, Any]


class BuildHandler(Handler):
    """Reads the whole body, then refuses: what was asked for, the content's type, and the entries of the tar."""

    def answer_build(self) -> None:
        body = b"".join(self.chunks())
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        kind = self.headers.get("Content-Type") or ""
        assert self.headers.get("X-Registry-Config")
        self.server.requests.append((url.path, query, kind, entries(body)))  # type: ignore[arg-type]
        text = b'{"message":"only noted"}'
        self.send_response(500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def chunks(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def do_POST(self) -> None:  # type: ignore[override]
        if urllib.parse.urlsplit(self.path).path.endswith("/build"):
            self.answer_build()
        else:
            self.answer()


class BuildRecorder(Recorder):
    def __init__(self, path: str) -> None:
        self.requests = []
        socketserver.UnixStreamServer.__init__(self, path, BuildHandler)


def entries(body: bytes) -> Any:
    """Name → all that a tar says of an entry; the text itself when it is no tar. Random names are given one name."""
    if not body:
        return None
    found: dict[str, Any] = {}
    # Where docker adds a Dockerfile it leaves out the archive's end: that is the error that may come.
    with contextlib.suppress(tarfile.ReadError), tarfile.open(fileobj=io.BytesIO(body)) as archive:
        for member in archive:
            content = member.isreg() and archive.extractfile(member)
            data = content.read() if content else b""
            made_up = member.name.startswith(".dockerfile.") or b"\n.dockerfile." in data
            found[unrandom(member.name)] = (
                member.type,
                member.mode,
                member.uid,
                member.gid,
                None if made_up or (member.name == "Dockerfile" and len(body) <= 4096) else member.mtime,
                member.linkname,
                (member.devmajor, member.devminor),
                member.pax_headers.get("SCHILY.xattr.security.capability"),
                unrandom(data.decode("latin-1")),
            )
    return found or hashlib.sha256(body).hexdigest()


def unrandom(text: str) -> str:
    return re.sub(r"\.dockerfile\.[0-9a-f]{20}", ".dockerfile.RANDOM", text)


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuildRecorder]:
    if shutil.which(DOCKER) is None:
        pytest.skip(f"the docker CLI ({DOCKER}) is not installed")
    version = subprocess.run([DOCKER, "--version"], capture_output=True, text=True, check=True).stdout
    if "version 28." not in version:
        pytest.skip(f"compares with the docker CLI 28, here is {version.strip()}")
    path = str(tmp_path_factory.mktemp("recorder") / "s")
    with BuildRecorder(path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A context with one of everything beside other things that -f and PATH may name."""
    top = tmp_path_factory.mktemp("place")
    context = top / "context"
    (context / "sub" / "deep").mkdir(parents=True)
    (context / ".git").mkdir()
    (context / ".git" / "HEAD").write_text("x")
    (context / "Dockerfile").write_text("FROM busybox\n")
    (context / "Other").write_text("FROM other\n")
    (context / ".dockerignore").write_text(
        "# no\n.git\n*.md\n!README.md\nDockerfile\n.dockerignore\nsub/deep/*.o\n/away/\n"
    )
    (context / "README.md").write_text("read me")
    (context / "x.md").write_text("not me")
    (context / "a").write_text("hi\n")
    (context / "b").hardlink_to(context / "a")
    (context / "link").symlink_to("a")
    (context / "dangling").symlink_to("nowhere/" + "x" * 150)
    os.mkfifo(context / "fifo")
    (context / "sub" / "tool").write_text("tool")
    (context / "sub" / "tool").chmod(0o4755)
    (context / "sub" / "deep" / "x.o").write_text("")
    (context / "sub" / "deep" / ("n" * 150)).write_text("long")
    (context / "sub" / "é\udcff").write_text("name")
    (context / "away").mkdir()
    (context / "away" / "x").write_text("x")
    os.utime(context / "a", ns=(0, 978310923_600_000_000))
    os.utime(context / "sub", (0, 1))
    if os.geteuid() == 0:
        os.chown(context / "sub", 5, 5)
        os.setxattr(
            context / "sub" / "tool", "security.capability", bytes.fromhex("0100000200200000" + "00" * 12)
        )
        os.mknod(context / "null", 0o600 | 0o020000, os.makedev(1, 3))
    (top / "Outside").write_text("FROM outside\n")
    (top / "bare").mkdir()
    (top / "bare" / "dockerfile").write_text("FROM bare\n")
    with tarfile.open(top / "context.tar.gz", "w:gz") as archive:
        archive.add(context / "Dockerfile", "Dockerfile")
    with tarfile.open(top / "context.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(context / "a", "a")
    return top


def sent(
    recorder: BuildRecorder, argv: list[str], line: list[str], place: Path, stdin: Path | None = None
) -> tuple[list[Sent], int, str]:
    recorder.requests.clear()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "INHERITED": "from here",
        "PYTHONPATH": str(TOP),
        "DOCKER_CLI_HINTS": "false",
        "DOCKER_BUILDKIT": "0",
    }
    with (stdin or Path(os.devnull)).open("rb") as source:
        done = subprocess.run(
            [*argv, "-H", f"unix://{recorder.server_address}", "build", *line],
            stdin=source,
            capture_output=True,
            text=True,
            env=environment,
            cwd=place,
            timeout=30,
            check=False,
        )
    error = [text for text in done.stderr.replace("minictl", "docker").splitlines() if is_error(text)]
    requests = [clean(request) for request in recorder.requests]
    return requests, done.returncode, "\n".join(error)


def is_error(line: str) -> bool:
    """Not docker's deprecation of its builder, not minictl's progress."""
    noise = (
        "DEPRECATED",
        "BuildKit",
        "environment-variable",
        "buildx",
        "docs.docker.com",
        "time=",
        "#1 ",
        "Sending ",
    )
    return bool(line.strip()) and not any(word in line for word in noise)


def clean(request: Any) -> Sent:
    path, query, kind, body = request
    query = {name: [unrandom(value) for value in values] for name, values in query.items()}
    query.pop("progress", None)  # minictl's extension
    return path, query, kind, body


def both(
    recorder: BuildRecorder, line: str, place: Path, stdin: Path | None = None
) -> tuple[tuple[list[Sent], int, str], tuple[list[Sent], int, str]]:
    wanted = sent(recorder, [DOCKER], words(line), place, stdin)
    return sent(recorder, [sys.executable, "-m", "minictl"], words(line), place, stdin), wanted


FLAGS = [
    "",
    "-t a:b -t c",
    "-t localhost:5000/x/y:z",
    "--build-arg X=1 --build-arg INHERITED --build-arg NOT_SET --build-arg EMPTY= --build-arg 'H=<&>'",
    "--label a=b --label c --label d=e=f",
    "--cache-from a,b --cache-from c",
    "--no-cache --pull --force-rm --rm=false",
    "--rm=true --no-cache=false",
    "--network host",
    "--network default",
    "-m 5m --memory-swap -1",
    "-m 0 --memory-swap 1g",
    "-c 4 --cpu-period 3 --cpu-quota 2 --cpuset-cpus 0-1 --cpuset-mems 0",
    "--add-host a:1.2.3.4 --add-host b=::1",
    "--shm-size 5m",
    "--ulimit nofile=1:2 --ulimit core=0",
    "--security-opt seccomp=unconfined --security-opt a=b,c=d",
    "--cgroup-parent cg --isolation default",
    "--isolation hyperv",
    "--platform linux/amd64",
    "--target tt -q",
    "-f context/Other",
    "-f context/sub/tool",
    "-f Outside",
    "--compress",
]


@pytest.mark.parametrize("flags", FLAGS)
def test_the_same_is_asked_for_and_sent(recorder: BuildRecorder, place: Path, flags: str) -> None:
    got, wanted = both(recorder, f"{flags} context", place)
    assert len(wanted[0]) == 1, f"docker sent nothing: {wanted}"
    assert got == wanted


@pytest.mark.parametrize("line", ["bare", "bare/.", "-f bare/dockerfile bare"])
def test_other_directories(recorder: BuildRecorder, place: Path, line: str) -> None:
    got, wanted = both(recorder, line, place)
    assert len(wanted[0]) == 1
    assert got == wanted


STDIN = [
    ("-f - context", "Outside"),
    ("-f - bare", "Outside"),
    ("-", "Outside"),
    ("-", "context.tar"),
    ("-f a -", "context.tar"),
    ("-", "context.tar.gz"),
    ("-t x -", "context.tar.gz"),
]


@pytest.mark.parametrize(("line", "name"), STDIN)
def test_stdin(recorder: BuildRecorder, place: Path, line: str, name: str) -> None:
    got, wanted = both(recorder, line, place, place / name)
    assert len(wanted[0]) == 1
    assert got == wanted


def test_a_dockerfile_on_stdin_and_another_by_flag(recorder: BuildRecorder, place: Path) -> None:
    got, wanted = both(recorder, "-f bar -", place, place / "Outside")
    assert wanted[0] == []
    assert got == wanted


WRONG = [
    "-t A:b context",
    "-t a@b context",
    "-t '' context",
    "--ulimit x context",
    "--label =x context",
    "--build-arg =x context",
    "--add-host x context",
    "--memory x context",
    "--foo context",
    "context more",
    "",
    "nope",
    "-f nope context",
    "context/a",
    "-f - -",
]


@pytest.mark.parametrize("line", WRONG)
def test_wrong_command_lines_are_refused_in_the_same_words(
    recorder: BuildRecorder, place: Path, line: str
) -> None:
    got, wanted = both(recorder, line, place)
    assert wanted[0] == []
    assert got == wanted


@pytest.mark.parametrize(
    "line",
    ["builder prune -f", "builder prune -a -f --filter until=1h --filter type=x --keep-storage 5g"],
)
def test_prune_asks_for_the_same(recorder: BuildRecorder, place: Path, line: str) -> None:
    asked = []
    for argv in ([DOCKER], [sys.executable, "-m", "minictl"]):
        recorder.requests.clear()
        environment = {**os.environ, "HOME": str(place), "PYTHONPATH": str(TOP)}
        subprocess.run(
            [*argv, "-H", f"unix://{recorder.server_address}", *words(line)],
            capture_output=True,
            env=environment,
            timeout=30,
            check=False,
        )
        asked.append(list(recorder.requests))
    assert len(asked[0]) == 1
    assert asked[1] == asked[0]


def test_what_only_minictl_asks_for(recorder: BuildRecorder, place: Path) -> None:
    flags = "--no-cache-filter a,b --allow security.insecure --cache-to type=inline --cache-from type=registry,ref=x/y"
    environment_argument = {"BUILDKIT_INLINE_CACHE": "1"}
    requests, _, _ = sent(recorder, [sys.executable, "-m", "minictl"], [*words(flags), "bare"], place)
    [(_, query, _, _)] = requests
    assert json.loads(query["buildargs"][0]) == environment_argument
    assert query["nocachefilter"] == ["a,b"]
    assert query["allow"] == ["security.insecure"]
    assert json.loads(query["cachefrom"][0]) == ["x/y"]


def test_a_remote_context_is_the_daemons(recorder: BuildRecorder, place: Path) -> None:
    requests, _, _ = sent(
        recorder, [sys.executable, "-m", "minictl"], ["-f", "x/D", "https://example.invalid/a.git#b:c"], place
    )
    [(_, query, _, body)] = requests
    assert (query["remote"], query["dockerfile"], body) == (
        ["https://example.invalid/a.git#b:c"],
        ["x/D"],
        None,
    )
