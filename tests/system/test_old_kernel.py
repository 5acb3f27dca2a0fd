"""The ways round system calls that Linux 5.10 does not have: the same containers, files and builds without them."""

import errno
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli import Cli
from tests.conftest import _root, make_cli, pull
from tests.engine import Minid
from tests.registry import Registry
from tests.wire import Wire

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "aarch64", "riscv64"), reason="other call numbers"
    ),
    pytest.mark.minid_only("it is about minid's own fallbacks"),
]


class OldMinid(Minid):
    """minid on a kernel without what came after 5.10."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.old_kernel", *super().command()]


@pytest.fixture
def docker(privileged: None, registry: Registry, client_config: Path) -> Iterator[Cli]:
    engine = OldMinid(_root())
    try:
        engine.start()
        image = f"{registry.address}/busybox:latest"
        wire = Wire(engine.socket)
        pull(wire, image)
        assert wire("POST", f"/images/{image}/tag", query={"repo": "busybox", "tag": "1"}).status == 201
        yield make_cli("docker", engine, client_config)
    finally:
        engine.destroy()


def test_the_filter_hides_what_is_new() -> None:
    script = (
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True); "
        "print(libc.syscall(442, -1, 0, 0, 0, 0), ctypes.get_errno())"
    )
    out = subprocess.run(
        [sys.executable, "-m", "tests.old_kernel", sys.executable, "-c", script],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert out.split() == ["-1", str(errno.ENOSYS)]


def test_containers(docker: Cli, tmp_path: Path, make_engine: Callable[..., object]) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "file").write_text("mine")
    run = ("run", "--rm", "--network", "none")
    assert (
        docker.ok(*run, "busybox:1", "sh", "-c", "echo hi > /x; cat /x; grep -c overlay /proc/mounts")
        == "hi\n1"
    )
    bind = f"{tmp_path}:/mnt:ro"
    seen = docker(*run, "-v", bind, "busybox:1", "sh", "-c", "cat /mnt/file; touch /mnt/new /mnt/inner/new")
    assert seen.out == "mine" and seen.err.count("Read-only file system") == 2 and seen.code != 0
    assert docker(*run, "--read-only", "busybox:1", "touch", "/x").code != 0
    assert (
        docker.ok(
            *run, "--init", "--tmpfs", "/t", "--shm-size", "1m", "busybox:1", "df", "-k", "/dev/shm"
        ).split()[-5]
        == "1024"
    )
    docker.ok("run", "-d", "--name", "old", "--network", "none", "busybox:1", "sleep", "1000")
    assert docker.ok("exec", "old", "sh", "-c", "echo in > /y; cat /y") == "in"
    docker.ok("cp", str(tmp_path / "file"), "old:/copied")
    assert docker.ok("exec", "old", "cat", "/copied") == "mine"
    assert sorted(docker.ok("diff", "old").split("\n")) == ["A /copied", "A /y"]
    docker.ok("rm", "-f", "old")


def test_builds(docker: Cli, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "Dockerfile").write_text("FROM busybox:1\nCOPY a /a\nRUN cat /a > /b; rm /a\nWORKDIR /w\n")
    classic = {"DOCKER_BUILDKIT": "0"}
    docker.ok("build", "-q", "--network", "none", "-t", "built", str(tmp_path), env=classic)
    assert docker.ok(
        "run", "--rm", "--network", "none", "built", "sh", "-c", "pwd; cat /b; ls /a 2>&1 || true"
    ).split("\n") == [
        "/w",
        "1ls: /a: No such file or directory",
    ]
