"""An engine under test: a real daemon, minid or dockerd, on roots and a socket of its own.

The same conformance tests run on both: dockerd proves that a test is right, minid is what it is for. Which one runs is
chosen by ``pytest --engine`` or ``MINID_TEST_ENGINE``. Readiness is what the daemon itself says through sd_notify(3).
"""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from minid.network import bridge
from minid.network.firewall import Firewall

START_TIMEOUT_S = float(os.environ.get("MINID_TEST_START_S", "60"))  # an emulated machine needs minutes
STOP_TIMEOUT_S = 30
REPOSITORY = Path(__file__).resolve().parent.parent


class EngineFailed(AssertionError):
    """The daemon ended or hung where it should not have; the message has the end of its log."""


class Engine:
    """One daemon. ``start``, ``stop`` and ``kill`` may be repeated; what is under ``root`` survives them."""

    kind = ""

    def __init__(self, root: Path, *, extra: Sequence[str] = ()) -> None:
        self.root = root
        self.data_root = root / "data"
        self.exec_root = root / "exec"
        self.socket = root / "engine.sock"
        self.pidfile = root / "engine.pid"
        self.log = root / "log"
        self.extra = list(extra)
        self.cgroup_parent = root.name  # relative: below the daemon's own cgroup
        self.process: subprocess.Popen[bytes] | None = None
        root.mkdir(parents=True, exist_ok=True)

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self.process is not None, "the engine has not been started"
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def command(self) -> list[str]:
        """The daemon's argv."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def spawn(self, notify: Path | None = None) -> subprocess.Popen[bytes]:
        """Start the daemon's process and do not wait for anything."""
        environment = self.environment()
        environment.pop("NOTIFY_SOCKET", None)
        if notify is not None:
            environment["NOTIFY_SOCKET"] = str(notify)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.root,
            )

    def start(self) -> None:
        """Start the daemon and return when it has said READY=1; ``EngineFailed`` if it ends or stays silent."""
        assert not self.running, "the engine runs already"
        notify_path = self.root / "notify"
        notify_path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.bind(str(notify_path))
            self.process = self.spawn(notify_path)
            pidfd = os.pidfd_open(self.process.pid)
            try:
                self._await_ready(notify, pidfd)
            finally:
                os.close(pidfd)
                notify_path.unlink()

    def _await_ready(self, notify: socket.socket, pidfd: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while (left_s := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([notify, pidfd], [], [], left_s)
            if notify in readable:
                if b"READY=1" in notify.recv(4096).split(b"\n"):
                    return
            elif pidfd in readable:
                assert self.process is not None
                raise EngineFailed(f"{self.kind} ended with {self.process.wait()}:\n{self.log_tail()}")
        self.kill()
        raise EngineFailed(f"{self.kind} was not ready within {START_TIMEOUT_S} s:\n{self.log_tail()}")

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL: the daemon's main process only, as a crash or the OOM killer would."""
        return self._end(signal.SIGKILL)

    def _end(self, with_signal: signal.Signals) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise EngineFailed(
                f"{self.kind} did not end within {STOP_TIMEOUT_S} s of {with_signal.name}:\n{self.log_tail()}"
            ) from None

    def restart(self) -> None:
        self.stop()
        self.start()

    def log_tail(self, size_bytes: int = 6000) -> str:
        return (
            self.log.read_bytes()[-size_bytes:].decode(errors="replace") if self.log.exists() else "(no log)"
        )

    def destroy(self) -> None:
        """Stop the daemon and take away what is under ``root``, mounts that were left behind too (dockerd's netns)."""
        self.stop()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            target = line.split()[1].encode().decode("unicode_escape")
            if target.startswith(f"{self.root}/"):
                subprocess.run(["umount", "-l", target], check=False)
        shutil.rmtree(self.root)


class Minid(Engine):
    """minid from this work tree, run by the interpreter that runs the tests.

    Its containers' cgroup is below its own, as it is by default, with a name that no other daemon has; so are
    its bridge (``mt-…``) and that one's subnet.
    """

    kind = "minid"

    def network_flags(self) -> list[str]:
        """The default bridge, unless the test says something about it."""
        if any(flag.startswith(("--bridge", "--bip", "--config-file")) for flag in self.extra):
            return []
        device = self.root.name[:15]
        number = zlib.crc32(device.encode())
        return ["--bridge", device, "--bip", f"10.{200 + number % 50}.{number // 50 % 256}.1/24"]

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "minid.cli"),
            *("--data-root", str(self.data_root), "--exec-root", str(self.exec_root)),
            *("-H", self.host, "--pidfile", str(self.pidfile)),
            *(() if "--bridge" in self.extra else ("--bridge", "none")),
            *(() if "--cgroup-parent" in self.extra else ("--cgroup-parent", self.cgroup_parent)),
            *self.network_flags(),
            *self.extra,
        ]

    def destroy(self) -> None:
        """A daemon that was killed had no chance to take its default bridge and firewall table away; its
        empty parent cgroup stays in any case, as ``/docker`` does.
        """
        super().destroy()
        device = self.root.name[:15]
        bridge.remove(device)
        firewall = Firewall(f"minid-{device}")
        firewall.remove()
        firewall.close()
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            for hierarchy in (*controllers.removeprefix("name=").split(","), "."):
                with contextlib.suppress(OSError):
                    Path(f"/sys/fs/cgroup/{hierarchy}/{own.strip('/')}/{self.cgroup_parent}").rmdir()


class Dockerd(Engine):
    """Debian's dockerd with live-restore, which is how minid always behaves."""

    kind = "dockerd"

    def command(self) -> list[str]:
        return [
            *("dockerd", "--data-root", str(self.data_root), "--exec-root", str(self.exec_root)),
            *("-H", self.host, "--pidfile", str(self.pidfile), "--bridge", "none", "--iptables=false"),
            *("--ip6tables=false", "--live-restore", *self.extra),
        ]

    def destroy(self) -> None:
        containerd = self.exec_root / "containerd/containerd.pid"
        pid = int(containerd.read_text()) if containerd.exists() else 0
        super().stop()
        if pid:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                pidfd = -1
            if pidfd >= 0:
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                select.select([pidfd], [], [], STOP_TIMEOUT_S)
                os.close(pidfd)
        super().destroy()


ENGINES: dict[str, type[Engine]] = {"minid": Minid, "dockerd": Dockerd}
