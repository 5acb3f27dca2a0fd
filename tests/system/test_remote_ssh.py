"""ssh://: a real sshd on the loopback, its keys and settings in a scratch directory."""

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import Cli
from tests.engine import REPOSITORY
from tests.remote import free_port
from tests.system.conftest import Running

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        SSHD is None or shutil.which("ssh") is None, reason="needs openssh-server and openssh-client"
    ),
    pytest.mark.minid_only("what minictl does at both ends"),
]


class Far:
    """An sshd whose sessions find ``programs`` in their PATH, and the ssh command that gets in there."""

    def __init__(self, place: Path) -> None:
        assert SSHD
        self.place = place
        self.port = free_port()
        self.programs = place / "bin"
        self.programs.mkdir(parents=True)
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)], check=True
            )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own, for its unprivileged half
        (place / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {place}/user.pub\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n"
            f"SetEnv PATH={self.programs}:/usr/bin:/bin\n"
        )
        with (place / "log").open("w") as log:
            self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(place / "config")], stderr=log)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None, (
                    place / "log"
                ).read_text()
                time.sleep(0.02)
        self.ssh = (
            f"-F none -i {place}/user -o IdentitiesOnly=yes -o UserKnownHostsFile={place}/known "
            "-o StrictHostKeyChecking=accept-new"
        )

    def install(self, name: str, *environment: str) -> None:
        """minictl over there, under ``name``."""
        script = (
            f'exec env PYTHONPATH={REPOSITORY} {shlex.join(environment)} {sys.executable} -m minictl "$@"'
        )
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.programs / name).chmod(0o755)

    @property
    def address(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    far = Far(tmp_path / "sshd")
    yield far
    far.close()


def minictl(far: Far, host: str, tmp_path: Path) -> Cli:
    environment = {
        "PYTHONPATH": str(REPOSITORY), "DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": host,
        "MINICTL_SSH": f"ssh {far.ssh}",
    }  # fmt: skip
    return Cli("minictl", (sys.executable, "-m", "minictl"), environment)


def docker(far: Far, host: str, tmp_path: Path) -> Cli:
    """The docker CLI runs whatever is called ssh in the PATH."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin/ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {far.ssh} "$@"\n')
    (tmp_path / "bin/ssh").chmod(0o755)
    environment = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": host, "DOCKER_CLI_HINTS": "false"}
    return Cli("docker", ("docker",), environment | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})


def story(cli: Cli, image: str) -> None:
    done = cli("run", "--rm", "--network", "none", image, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.code, done.out, done.err) == (3, "out\n", "err\n")
    said = cli.ok(
        "run", "-i", "--rm", "--network", "none", image, "sh", "-c", "cat; echo after", stdin="typed\n"
    )
    assert said == "typed\nafter"
    assert (
        len(cli.ok("run", "--rm", "--network", "none", image, "head", "-c", "5000000", "/dev/zero"))
        == 5_000_000
    )


def test_minictl_through_ssh(running: Running, far: Far, tmp_path: Path) -> None:
    far.install("minictl", f"DOCKER_HOST={running.engine.host}")
    cli = minictl(far, far.address, tmp_path)
    story(cli, running.image)
    cli.ok("run", "-d", "--name", "box", "--network", "none", running.image, "sleep", "60")
    with cli.terminal("exec", "-it", "box", "sh", rows=31, columns=101) as terminal:
        terminal.expect("[#$] ")
        terminal.send("stty size\n")
        terminal.expect("31 101")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5
    cli.ok("rm", "-f", "box")
    # The path of another socket goes with the address.
    far.install("minictl")
    there = minictl(far, f"{far.address}{running.engine.socket}", tmp_path)
    assert there.ok("ps", "-q") == ""


def test_docker_at_either_end(running: Running, far: Far, tmp_path: Path) -> None:
    """minictl is `docker` enough for the docker CLI's `docker system dial-stdio`, and the other way round."""
    far.install("docker", f"DOCKER_HOST={running.engine.host}")
    story(docker(far, far.address, tmp_path), running.image)
    (far.programs / "docker").write_text(
        f'#!/bin/sh\nDOCKER_HOST={running.engine.host} exec {shutil.which("docker")} "$@"\n'
    )
    story(minictl(far, far.address, tmp_path), running.image)


def test_what_is_wrong_is_said(running: Running, far: Far, tmp_path: Path) -> None:
    said = minictl(far, far.address, tmp_path)("ps")
    if not Path("/usr/bin/docker").exists() and not Path("/usr/bin/minictl").exists():
        assert said.code == 1
        assert "neither minictl nor docker in the PATH" in said.err, said.err
    far.install("minictl", "DOCKER_HOST=unix:///nowhere.sock")
    said = minictl(far, far.address, tmp_path)("ps")
    assert said.code == 1
    assert "Cannot connect to the minid daemon at unix:///nowhere.sock" in said.err
    stranger = minictl(far, f"ssh://nobody-here@127.0.0.1:{far.port}", tmp_path)("ps")
    assert "exit status 255" in stranger.err and "Permission denied" in stranger.err, stranger.err
    without = minictl(far, far.address, tmp_path)("ps", env={"MINICTL_SSH": "/no/such/ssh"})
    assert "needs the program /no/such/ssh" in without.err


def test_dial_stdio(running: Running) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minictl", "-H", running.engine.host, "system", "dial-stdio"],
        input=b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        capture_output=True,
        timeout=20,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.stdout.startswith(b"HTTP/1.1 200 OK") and done.stdout.endswith(b"OK"), done
