"""Debian's ufw and firewalld, running in a network namespace: the programs themselves, on a root file system of
their own, so that nothing on this machine is touched and nothing has to be installed on it.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests import images
from tests.netns import Namespace

PACKAGES = ("ufw", "firewalld", "iptables", "nftables", "dbus", "dbus-daemon", "procps", "iproute2")
_STAND = """
set -e
mount -t tmpfs -o size=100m tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
mount -t sysfs sysfs "$1/root/sys"
mount --bind /dev "$1/root/dev"
echo ready
exec sleep infinity
"""


def root() -> Path:
    """The root file system; made once (half a minute, from Debian's packages), else skips."""
    place = images.cache() / "firewalls-v1"
    if not place.exists():
        if not images.have_mmdebstrap():
            pytest.skip("no mmdebstrap: ufw and firewalld cannot be had without installing them")
        made = tempfile.mkdtemp(dir=images.cache(), prefix="making-")
        include = f"--include={','.join(PACKAGES)}"
        done = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", include, "bookworm", f"{made}/root"],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode != 0:
            shutil.rmtree(made)
            pytest.skip(f"ufw and firewalld cannot be had: {done.stderr[-300:]}")
        os.rename(f"{made}/root", place)
        os.rmdir(made)
    return place


class OtherFirewalls:
    """Call it with a command of theirs. ``close`` ends all their processes; what they changed in the namespace
    stays.
    """

    def __init__(self, space: Namespace) -> None:
        lower = root()
        self._space = space
        self._place = tempfile.mkdtemp(prefix="mt-firewalls-", dir="/var/tmp")
        stand = ["unshare", "-m", "-p", "-f", "--kill-child", "--propagation", "private", "sh", "-c", _STAND]
        self._keeper = space.inside(
            lambda: subprocess.Popen([*stand, "sh", self._place, str(lower)], stdout=subprocess.PIPE)
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"ready\n"
        pid = self._keeper.pid
        self._inside = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def __call__(self, *command: str) -> str:
        """What it printed. AssertionError if it fails."""
        enter = ["nsenter", "-t", str(self._inside), "-m", "-p", "chroot", f"{self._place}/root"]
        done = self._space.inside(
            lambda: subprocess.run(
                [*enter, *command], capture_output=True, text=True, timeout=60, check=False
            )
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def start_ufw(self) -> None:
        """As ``ufw enable`` leaves it: incoming and routed packets are dropped, all others pass."""
        self("ufw", "--force", "enable")

    def start_firewalld(self) -> None:
        self("mkdir", "-p", "/run/dbus")
        self("sh", "-c", "dbus-daemon --system --fork && firewalld --nopid >/dev/null 2>&1")
        waiting = "for i in $(seq 200); do firewall-cmd -q --state && exit; sleep 0.1; done; exit 1"
        self("sh", "-c", waiting)

    def close(self) -> None:
        self._keeper.kill()
        self._keeper.wait()
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()
        os.rmdir(self._place)
