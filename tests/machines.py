"""Machines of network namespaces with a daemon on them: what it does to rules, sysctls and ports stays there.

``Machine`` is a host with one neighbour, ``outside``; ``Inhabited`` has a daemon on it, an image and a client.
"""

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests import archives, images
from tests.cli import Cli
from tests.engine import Dockerd, Engine, Minid
from tests.netns import Namespace
from tests.wire import Wire

IMAGE = "machine/busybox:1"
HOST4, HOST6 = "10.9.0.1", "fd09::1"
OUTSIDE4, OUTSIDE6 = "10.9.0.2", "fd09::2"
SLEEP = ("sleep", "1000")


class Machine:
    """``host`` has the interface ``out0`` to ``outside``, which has no route to anything else."""

    def __init__(self) -> None:
        self.host, self.outside = Namespace(), Namespace()
        for family in ("iptables", "ip6tables"):  # as on a machine without br_netfilter
            with contextlib.suppress(FileNotFoundError):
                self.host.write(f"/proc/sys/net/bridge/bridge-nf-call-{family}", "0")
        self.outside.join(self.host, "", "out0", f"{OUTSIDE4}/24", f"{OUTSIDE6}/64")
        self.host.sh(
            f"ip addr add {HOST4}/24 dev out0",
            f"ip addr add {HOST6}/64 dev out0 nodad",
        )

    def close(self) -> None:
        self.outside.close()
        self.host.close()


class MinidOfItsOwn(Minid):
    """With the default bridge's own name."""

    def network_flags(self) -> list[str]:
        return [] if "--bridge" in self.extra else ["--bridge", "minid0"]


class DockerdOfItsOwn(Dockerd):
    """With its bridge, its rules and its userland proxy."""

    def command(self) -> list[str]:
        return [
            *("dockerd", "--data-root", str(self.data_root), "--exec-root", str(self.exec_root)),
            *("-H", self.host, "--pidfile", str(self.pidfile), "--live-restore", *self.extra),
        ]


def busybox_archive(directory: Path) -> Path:
    """The busybox image as a file that ``docker load`` takes, named ``IMAGE``."""
    path = directory / "busybox.tar"
    path.write_bytes(archives.tar(archives.legacy_members(images.busybox(), IMAGE)))
    return path


class Inhabited:
    """A daemon on a machine, not started. ``close`` stops it and takes everything away but the machine."""

    def __init__(
        self, machine: Machine, kind: type[Engine] = MinidOfItsOwn, *, extra: Sequence[str] = ()
    ) -> None:
        self.machine = machine
        self.engine = kind(Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp")), extra=extra)
        config = self.engine.root / "client"
        config.mkdir()
        environment = {"DOCKER_CONFIG": str(config), "DOCKER_CLI_HINTS": "false", "DOCKER_HOST": ""}
        self.docker = Cli("docker", ("docker", "-H", self.engine.host), environment)

    def start(self) -> None:
        self.machine.host.inside(self.engine.start)
        if IMAGE not in self.docker.ok("images", "--format", "{{.Repository}}:{{.Tag}}"):
            self.docker.ok("load", "-i", str(busybox_archive(self.engine.root)))

    @property
    def wire(self) -> Wire:
        return Wire(self.engine.socket)

    def restart(self) -> None:
        self.engine.stop()
        self.machine.host.inside(self.engine.start)

    def run(self, name: str, *options: str, command: Sequence[str] = SLEEP) -> None:
        self.docker.ok("run", "-d", "--name", name, *options, IMAGE, *command)

    def serve(self, name: str, *options: str, text: str = "hello") -> None:
        """A web server on port 80 that says ``text``."""
        script = f"mkdir -p /w && echo {text} >/w/index.html && exec httpd -f -p 80 -h /w"
        self.run(name, *options, command=("sh", "-c", script))
        self.docker.ok("exec", name, "sh", "-c", "until netstat -lnt | grep -q ':80 '; do sleep 0.05; done")

    def address(self, name: str, network: str = "bridge") -> str:
        found = self.wire.get(f"/containers/{name}/json")["NetworkSettings"]["Networks"][network]
        return str(found["IPAddress"])

    def reads(self, name: str, address: str, port: int = 80) -> bool:
        """Whether a program in the container gets something from there."""
        script = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} {port}"
        return "hello" in self.docker("exec", name, "sh", "-c", script).out

    def close(self) -> None:
        if self.engine.running:
            everything = self.docker.ok("ps", "-aq").split()
            if everything:
                self.docker.ok("rm", "-f", *everything)
            self.docker("network", "prune", "-f")
        self.machine.host.inside(self.engine.destroy)


def get(space: Namespace, address: str, port: int, timeout_s: float = 2.0) -> str:
    """What a web server answers to a client in ``space``; "" if it cannot be reached."""

    def ask() -> str:
        try:
            with socket.create_connection((address, port), timeout=timeout_s) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return connection.makefile("rb").read().decode()
        except OSError:
            return ""

    return space.inside(ask)


class Greeter:
    """A web server in a namespace: says hello to every connection; knows where the last one came from."""

    def __init__(self, space: Namespace, address: str = "::", port: int = 80) -> None:
        self._listener = space.listen(address, port)
        self._listener.settimeout(None)
        self.sources: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError:
                return
            self.sources.append(str(address[0]))
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello\n")
                connection.recv(1000)  # else what it has sent would be answered by a reset


def eventually(true: Callable[[], bool], timeout_s: float = 8.0) -> bool:
    """Until it holds; False if that takes too long."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
