"""Builds and what goes wrong with them: killed daemons, clients that go away, two at once; and what becomes of the image."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli import Cli, Result
from tests.conftest import make_cli
from tests.engine import Engine, Minid
from tests.registry import Registry
from tests.system.conftest import Running
from tests.wire import Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only("they are about what minid keeps and leaves"),
]

CLASSIC = {"DOCKER_BUILDKIT": "0"}


class Builder:
    """A daemon, a context, and the images that were built, which are removed in the end."""

    def __init__(self, running: Running, place: Path) -> None:
        self.running = running
        self.place = place

    def write(self, dockerfile: str, **files: str) -> None:
        self.place.mkdir(exist_ok=True)
        (self.place / "Dockerfile").write_text(dockerfile.replace("BASE", self.running.image))
        for name, text in files.items():
            (self.place / name).write_text(text)

    @property
    def command(self) -> list[str]:
        return ["build", "--network", "none", str(self.place)]

    def __call__(self, *options: str) -> Result:
        return self.running.docker(*self.command, *options, env=CLASSIC)

    def ok(self, *options: str) -> str:
        """The image's id."""
        return self.running.docker.ok(*self.command, "-q", *options, env=CLASSIC)

    def start(self, *options: str) -> "subprocess.Popen[bytes]":
        cli = self.running.docker
        return subprocess.Popen(
            [*cli.argv, *self.command, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **cli.environment, **CLASSIC},
        )

    def remove_images(self) -> None:
        """All but the base image."""
        wire = self.running.wire
        base = wire.get(f"/images/{self.running.image}/json")["Id"]
        for image in wire.get("/images/json"):
            if image["Id"] != base:
                assert wire("DELETE", f"/images/{image['Id']}", query={"force": "1"}).status == 200


@pytest.fixture
def builder(running: Running, tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(running, tmp_path / "context")
    yield builder
    if not running.engine.running:
        running.engine.start()
    builder.remove_images()


def containers_below(engine: Engine) -> list[str]:
    return [path.name for path in (engine.data_root / "containers").iterdir()]


def read_until(process: "subprocess.Popen[bytes]", word: bytes) -> bytes:
    seen = b""
    assert process.stdout is not None
    while word not in seen:
        data = os.read(process.stdout.fileno(), 4096)
        assert data, f"the build has ended: {seen.decode()}"
        seen += data
    return seen


SLOW = "FROM BASE\nRUN echo first > /first\nRUN echo at it; sleep 4733\n"


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_daemon_ends_in_the_middle(builder: Builder, how: str) -> None:
    builder.write(SLOW)
    with builder.start() as process:
        read_until(process, b"at it\n")
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and is_sleep(path)]
        assert pids
        getattr(builder.running.engine, how)()
        process.communicate(timeout=30)
        assert process.returncode != 0
    builder.running.engine.start()
    assert not any(is_sleep(Path(f"/proc/{pid}")) for pid in pids), "what nobody waits for has been ended"
    assert containers_below(builder.running.engine) == []
    assert builder.running.docker.ok("ps", "-aq") == ""
    builder.write("FROM BASE\nRUN echo first > /first\n")
    assert "Using cache" in builder().out, "what was done before is still known"


def is_sleep(process: Path) -> bool:
    try:
        return (process / "cmdline").read_bytes() == b"sleep\x004733\x00"
    except OSError:
        return False


def test_a_client_that_goes_away_ends_the_build_at_once(builder: Builder) -> None:
    builder.write(SLOW)
    process = builder.start()
    with process:
        read_until(process, b"at it\n")
        process.send_signal(signal.SIGINT)
        process.wait(timeout=10)
    deadline = time.monotonic() + 5
    while containers_below(builder.running.engine) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert containers_below(builder.running.engine) == []


def test_a_failure_says_what_failed_and_leaves_nothing(builder: Builder) -> None:
    builder.write("FROM BASE\nRUN echo to out; echo to err >&2; exit 7\nRUN never\n")
    images = builder.running.docker.ok("images", "-aq")
    result = builder("-t", "never")
    assert result.code == 7
    assert "to out" in result.out and "to err" in result.out
    assert "returned a non-zero code: 7" in result.err
    assert builder.running.docker.ok("images", "-aq") == images
    assert containers_below(builder.running.engine) == []


def test_a_step_is_not_seen(builder: Builder) -> None:
    builder.write(SLOW)
    wire = builder.running.wire
    with builder.start() as process:
        read_until(process, b"at it\n")
        assert wire.get("/containers/json", all="1") == []
        assert wire("POST", "/containers/prune").json["ContainersDeleted"] in (None, [])
        process.terminate()


def test_two_at_once_share_what_they_do(builder: Builder) -> None:
    builder.write("FROM BASE\nRUN sleep 1; cat /proc/sys/kernel/random/uuid > /uuid\n")
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(builder.ok())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    layers = {tuple(builder.running.wire.get(f"/images/{each}/json")["RootFS"]["Layers"]) for each in ids}
    assert len(ids) == 3 and len(layers) == 1


def test_stages_go_on_side_by_side(builder: Builder) -> None:
    """Each waits for the other: one after the other they would wait for ever."""
    wait = "i=0; while [ ! -e /c/{other} ]; do i=$((i+1)); [ $i -lt 400 ] || exit 1; sleep 0.05; done"
    mount = "--mount=type=cache,id=meeting,target=/c"
    builder.write(
        f"FROM BASE AS one\nRUN {mount} touch /c/one; {wait.format(other='two')}; touch /1\n"
        f"FROM BASE AS two\nRUN {mount} touch /c/two; {wait.format(other='one')}; touch /2\n"
        "FROM BASE AS unneeded\nRUN false\n"
        "FROM one\nCOPY --from=two /2 /2\n"
    )
    assert builder().code == 0


def test_the_cache_is_by_content(builder: Builder, tmp_path: Path) -> None:
    text = "FROM BASE\nCOPY a /a\nRUN cat /a > /b\nENV X=1\nCOPY b /c\n"
    builder.write(text, a="1", b="2")
    first = builder.ok()
    elsewhere = Builder(builder.running, tmp_path / "elsewhere")
    elsewhere.write(text, a="1", b="2")
    os.utime(elsewhere.place / "a", (1, 1))
    assert elsewhere.ok() == first, "another directory, other times: the same image"
    builder.running.engine.restart()
    assert elsewhere.ok() == first
    elsewhere.write(text, a="1", b="3")
    result = elsewhere()
    assert result.out.count("Using cache") == 2
    elsewhere.write(text, a="0", b="2")
    result = elsewhere()
    assert result.out.count("Using cache") == 0
    (elsewhere.place / "a").write_text("1")
    (elsewhere.place / "a").chmod(0o755)
    assert elsewhere.ok() != first, "a mode is content, too"


def test_the_same_input_gives_the_same_digest_on_two_machines(
    builder: Builder, make_engine: Callable[..., Engine], client_config: Path, registry: Registry
) -> None:
    text = (
        "FROM BASE\nARG SOURCE_DATE_EPOCH\nWORKDIR /app\nCOPY . .\n"
        "RUN mkdir -p x/y; echo a > x/y/f; ln -s f x/y/l; rm f; date > /dev/null; chmod 750 x\n"
    )
    builder.write(text, f="1", g="2")
    epoch = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000")
    first = builder.ok(*epoch)
    again = builder.ok("--no-cache", *epoch)
    assert again == first
    other = make_engine(extra=("--storage-driver", "vfs"))
    other.start()
    wire = Wire(other.socket)
    assert wire("POST", "/images/create", query={"fromImage": builder.running.image}).status == 200
    cli = Cli("docker", ("docker", "-H", other.host), builder.running.docker.environment)
    time.sleep(1.1)  # another second of the clock, which must not matter
    assert cli.ok("build", "-q", "--network", "none", str(builder.place), *epoch, env=CLASSIC) == first
    inspected = wire.get(f"/images/{first}/json")
    assert inspected["Created"] == "2023-11-14T22:13:20Z"


def test_it_is_pushed_and_saved_as_any_other(builder: Builder, registry: Registry, tmp_path: Path) -> None:
    docker = builder.running.docker
    name = f"{registry.address}/built:1"
    builder.write("FROM BASE\nRUN mkdir d; echo hello > d/f; rm /etc/group\nCOPY a /a\nLABEL x=y\n", a="1")
    image_id = builder.ok("-t", name)
    archive = tmp_path / "saved.tar"
    docker.ok("save", "-o", str(archive), name)
    pushed = docker.ok("push", name)
    digest = pushed.rpartition("digest: ")[2].split()[0]
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"],
        capture_output=True,
        check=True,
    )
    manifest = json.loads(raw.stdout)
    assert manifest["config"]["digest"] == image_id
    assert all(layer["mediaType"].endswith("gzip") for layer in manifest["layers"])
    assert "Layer already exists" in docker.ok("push", name)
    layout = tmp_path / "layout"
    subprocess.run(
        ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"oci:{layout}:1"], check=True
    )
    builder.remove_images()
    builder.running.wire("POST", "/build/prune", query={"all": "1"})
    assert f"Digest: {digest}" in docker.ok("pull", name)
    seen = docker.ok(
        "run", "--rm", "--network", "none", name, "sh", "-c", "cat /d/f; ls /etc/group 2>&1 || true"
    )
    assert seen.splitlines() == ["hello", "ls: /etc/group: No such file or directory"]
    docker.ok("rmi", name)
    assert "Loaded image" in docker.ok("load", "-i", str(archive))
    assert docker.ok("image", "inspect", "-f", "{{.Id}}", name) == image_id
    assert docker.ok("run", "--rm", "--network", "none", name, "cat", "/d/f") == "hello"


def test_run_has_the_isolation_of_every_container(builder: Builder) -> None:
    look = (
        "grep -E '^(Cap|Seccomp|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status; "
        "cut -d' ' -f5 /proc/self/mountinfo | sort; ls /dev | sort; ls /proc/self/ns; "
        "cat /proc/sys/kernel/hostname | wc -c; ulimit -a; umask; ls -l /proc/self/fd | grep -c socket; true"
    )
    builder.write(f"FROM BASE\nRUN ({look}) > /seen\n")
    builder.ok("-t", "seen")
    built = builder.running.docker.ok("run", "--rm", "--network", "none", "seen", "cat", "/seen")
    ran = builder.running.docker.ok(
        "run", "--rm", "--network", "none", builder.running.image, "sh", "-c", f"({look}) > /seen; cat /seen"
    )
    assert built.splitlines() == ran.splitlines()


def test_prune_lets_go_of_layers(builder: Builder) -> None:
    engine, wire = builder.running.engine, builder.running.wire
    layers = engine.data_root / "snapshots" / "overlay2" / "layers"
    before = {path.name for path in layers.iterdir()}
    builder.write("FROM BASE\nRUN echo kept > /kept\nRUN head -c 100000 /dev/zero > /zeros\n")
    builder.ok("-t", "kept")
    assert len({path.name for path in layers.iterdir()} - before) == 2
    assert wire("POST", "/build/prune").json == {"CachesDeleted": None, "SpaceReclaimed": 0}
    builder.remove_images()
    assert len({path.name for path in layers.iterdir()} - before) == 2, "the cache keeps them"
    pruned = wire("POST", "/build/prune").json
    assert len(pruned["CachesDeleted"]) == 2 and pruned["SpaceReclaimed"] >= 100000
    assert {path.name for path in layers.iterdir()} == before


def test_no_secret_stays(running: Running, builder: Builder, client_config: Path) -> None:
    """Not in a layer, the history, the cache, the log, the database or the exec root."""
    builder.write(
        "FROM BASE\n"
        "RUN --mount=type=secret,id=token wc -c < /run/secrets/token > /size\n"
        'RUN --mount=type=secret,id=token,env=TOKEN printf %s "$TOKEN" | wc -c > /size2\n'
        "RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent\n"
    )
    secret = "correct-horse-battery-staple"
    (builder.place.parent / "token").write_text(secret)
    assert isinstance(running.engine, Minid)
    cli = make_cli("minictl", running.engine, client_config)
    out = cli.ok(
        "build", "--network", "none", "--secret", f"id=token,src={builder.place.parent / 'token'}",
        "-t", "secretive", str(builder.place),
    )  # fmt: skip
    assert secret not in out
    assert cli.ok("run", "--rm", "--network", "none", "secretive", "cat", "/size", "/size2").split() == [
        "28",
        "28",
    ]
    found = subprocess.run(
        ["grep", "-rlF", secret, str(running.engine.data_root), str(running.engine.exec_root), str(running.engine.root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout == ""
    assert not list((running.engine.exec_root / "build").iterdir())
