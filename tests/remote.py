"""A daemon that listens on TCP with TLS, the certificates of a small team, and clients that come from elsewhere."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.cli import Cli
from tests.engine import REPOSITORY, Engine
from tests.netns import Namespace

T = TypeVar("T")
PROGRAMS = {"docker": ("docker",), "minictl": (sys.executable, "-m", "minictl")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Team:
    """What `minictl certs` makes: a CA, clients' certificates in ``clients/NAME``, a daemon's in ``server/``."""

    def __init__(self, place: Path) -> None:
        self.place = place / "ca"
        self.server = place / "server"
        self.certs("init")

    def certs(self, *line: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "minicerts", "--dir", str(self.place), *line],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self, name: str, *line: str) -> Path:
        self.certs("client", name, *line)
        return self.place / "clients" / name

    def serve(self, *names: str) -> tuple[str, ...]:
        """A certificate for a daemon at ``names``, and the options that it needs."""
        self.certs("server", *names, "--out", str(self.server))
        files = {"tlscacert": "ca", "tlscert": "server-cert", "tlskey": "server-key", "tlscrl": "crl"}
        options = (f"--{option}={self.server}/{name}.pem" for option, name in files.items())
        return ("--tlsverify", *options)


def without_certificate(place: Path, ca: Path) -> Path:
    """A DOCKER_CERT_PATH with the CA only."""
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(ca, place / "ca.pem")
    return place


def client(name: str, host: str, config: Path, certificates: Path | None) -> Cli:
    """docker or minictl, by environment variables alone."""
    environment = {
        "DOCKER_CONFIG": str(config),
        "DOCKER_CLI_HINTS": "false",
        "PYTHONPATH": str(REPOSITORY),
        "DOCKER_HOST": host,
        "DOCKER_BUILDKIT": "0",
        **dict.fromkeys(
            ("MINID_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"), ""
        ),
    }
    if certificates is not None:
        environment |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}
    return Cli(name, PROGRAMS[name], environment)


class SecondHost:
    """A network namespace with a cable to this machine, which is at ``here``; ``close`` pulls it."""

    def __init__(self, number: int) -> None:
        self.here, self.there = f"10.213.{number}.1", f"10.213.{number}.2"
        self.device = f"rmt{number}"
        self.namespace = Namespace()
        for command in (
            f"ip link add {self.device} type veth peer name eth0 netns {self.namespace.path}",
            f"ip addr add {self.here}/24 dev {self.device}",
            f"ip link set {self.device} up",
        ):
            subprocess.run(command.split(), check=True)
        self.namespace.sh(f"ip addr add {self.there}/24 dev eth0", "ip link set eth0 up")

    def inside(self, function: Callable[[], T]) -> T:
        """Whatever ``function`` starts runs on the second host."""
        return self.namespace.inside(function)

    def close(self) -> None:
        subprocess.run(["ip", "link", "del", self.device], check=False, capture_output=True)
        self.namespace.close()


def open_files(engine: Engine) -> int:
    return len(os.listdir(f"/proc/{engine.pid}/fd"))
