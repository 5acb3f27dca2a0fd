"""The engines that are compared, each with a store of its own and the same images from the same registry."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path

from tests.bench import memory
from tests.engine import REPOSITORY, Dockerd, Engine, Minid


class Contender(ABC):
    """A client program with the options that lead to its engine."""

    name = ""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {**os.environ, "DOCKER_CONFIG": str(root), "DOCKER_CLI_HINTS": "false"}

    @property
    @abstractmethod
    def argv(self) -> list[str]:
        """The client with its global options."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...

    def daemon_pids(self) -> set[int]:
        """All processes of the idle engine."""
        return set()

    run_options: tuple[str, ...] = ("--network", "none")
    pull_options: tuple[str, ...] = ("-q",)

    def command(self, *arguments: str) -> list[str]:
        verb, *rest = arguments
        registry = self.pull_options
        more = {"run": self.run_options, "create": self.run_options, "pull": registry, "push": registry}.get(
            verb, ()
        )
        return [*self.argv, verb, *more, *rest]

    def __call__(self, *arguments: str) -> str:
        """Run it; what it printed. ``RuntimeError`` unless it ended with 0."""
        done = subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self.name} {' '.join(arguments)}: exit {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def timed(self, *arguments: str) -> float:
        """Run it as a shell would (fork, exec, wait; output thrown away); seconds."""
        command = self.command(*arguments)
        program = shutil.which(command[0]) or command[0]
        null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
        started = time.perf_counter()
        pid = os.posix_spawn(program, command, self.environment, file_actions=null)
        _, status = os.waitpid(pid, 0)
        elapsed_s = time.perf_counter() - started
        if status != 0:
            self(*arguments)  # fails again, and says why
            raise RuntimeError(f"{self.name} {' '.join(arguments)}: wait status {status}")
        return elapsed_s


class _WithDaemon(Contender):
    engine: Engine

    def start(self) -> None:
        self.engine.start()

    def stop(self) -> None:
        self.engine.destroy()

    def daemon_pids(self) -> set[int]:
        return memory.family(self.engine.pid)


class MinidContender(_WithDaemon):
    name = "minid"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.engine = Minid(root)
        self.environment["PYTHONPATH"] = str(REPOSITORY)

    @property
    def argv(self) -> list[str]:
        """minictl as scripts/quickstart installs it: the venv's base interpreter, without ``site`` (-IS)."""
        script = (
            f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from minictl.main import entry; entry()"
        )
        return [os.path.realpath(sys.executable), "-IS", "-c", script, "-H", self.engine.host]


class DockerContender(_WithDaemon):
    name = "docker"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.engine = Dockerd(root)

    @property
    def argv(self) -> list[str]:
        return ["docker", "-H", self.engine.host]


class PodmanContender(Contender):
    """Podman has no daemon; limits are given because its defaults need CAP_SYS_RESOURCE, which not every root has."""

    name = "podman"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        del self.environment["DOCKER_CONFIG"]  # it would want a config.json there
        processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1], 4096)
        self.run_options = (
            "--network",
            "none",
            "--ulimit",
            f"nofile={files}:{files}",
            "--ulimit",
            f"nproc={processes}:{processes}",
        )
        self.pull_options = ("-q", "--tls-verify=false")

    @property
    def argv(self) -> list[str]:
        place = [
            f"--{option}={self.root / name}"
            for option, name in (("root", "root"), ("runroot", "run"), ("tmpdir", "tmp"))
        ]
        return [
            "podman",
            *place,
            "--cgroup-manager=cgroupfs",
            "--storage-driver=overlay",
            "--log-level=error",
        ]

    def start(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)

    def stop(self) -> None:
        self("rm", "-a", "-f", "-t", "0")
        subprocess.run(["umount", "-l", str(self.root / "root/overlay")], capture_output=True, check=False)
        shutil.rmtree(self.root, ignore_errors=True)


def present() -> list[type[Contender]]:
    """minid, and of the others those that are installed."""
    found: list[type[Contender]] = [MinidContender]
    if shutil.which("dockerd") and shutil.which("docker"):
        found.append(DockerContender)
    if shutil.which("podman"):
        found.append(PodmanContender)
    return found


def end(pid: int) -> None:
    """SIGKILL, if it is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
