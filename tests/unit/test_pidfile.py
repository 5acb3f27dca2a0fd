"""The pid file and the data root's lock: a live owner is respected, a dead one never in the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minid.exits import ExitStatus, StartupError
from minid.pidfile import Pidfile, find_start_time
from minid.rootlock import RootLock

HOLDER = """
import sys
from pathlib import Path
from minid.pidfile import Pidfile
from minid.rootlock import RootLock
keep = (Pidfile(Path(sys.argv[2])) if sys.argv[1] == "pidfile" else RootLock(Path(sys.argv[2])))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Start a process that holds a pid file or a lock until it is killed."""
    started = []

    def start(kind: str, path: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, kind, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        started.append(process)
        assert process.stdout and process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def refusal(path: Path) -> str:
    with pytest.raises(StartupError) as caught:
        Pidfile(path)
    assert caught.value.status is ExitStatus.PIDFILE_IN_USE
    return str(caught.value)


def test_write_and_remove(tmp_path):
    path = tmp_path / "run" / "minid.pid"
    pidfile = Pidfile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.remove()
    assert not path.exists()
    pidfile.remove()


def test_a_live_owner_is_respected(tmp_path, hold):
    path = tmp_path / "minid.pid"
    owner = hold("pidfile", path)
    assert f"the process it names ({owner.pid}) still runs" in refusal(path)


def test_a_killed_owner_is_not_in_the_way(tmp_path, hold):
    path = tmp_path / "minid.pid"
    owner = hold("pidfile", path)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert path.exists()
    pidfile = Pidfile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.remove()


def test_a_reused_pid_is_not_in_the_way(tmp_path):
    """The file is older than the process that has its number now."""
    path = tmp_path / "minid.pid"
    path.write_text(f"{os.getppid()}\n")
    started = find_start_time(os.getppid())
    assert started is not None
    os.utime(path, (started - 60, started - 60))
    Pidfile(path).remove()


def test_another_programs_pidfile_is_respected(tmp_path):
    """dockerd's, say: it takes no lock, but the process is older than the file."""
    path = tmp_path / "other.pid"
    path.write_text(f"{os.getppid()}\n")
    assert f"({os.getppid()}) still runs" in refusal(path)
    assert path.read_text() == f"{os.getppid()}\n"


@pytest.mark.parametrize("content", ["", "garbage", "99999999\n", "-5"])
def test_what_names_no_process_is_not_in_the_way(tmp_path, content):
    path = tmp_path / "minid.pid"
    path.write_text(content)
    Pidfile(path).remove()


def test_somebody_elses_file_is_not_removed(tmp_path):
    path = tmp_path / "minid.pid"
    first = Pidfile(path)
    path.unlink()
    second = Pidfile(path)
    first.remove()
    assert path.exists()
    second.remove()


def test_start_time():
    with subprocess.Popen(["sleep", "60"]) as process:
        started = find_start_time(process.pid)
        assert started is not None and abs(time.time() - started) < 2
        process.kill()
    assert find_start_time(process.pid) is None


def test_one_daemon_for_a_data_root(tmp_path, hold):
    owner = hold("lock", tmp_path)
    with pytest.raises(StartupError) as caught:
        RootLock(tmp_path)
    assert caught.value.status is ExitStatus.DATA_ROOT_IN_USE
    assert f"another minid (pid {owner.pid}) uses this data root" in str(caught.value)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    lock = RootLock(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()
    lock.release()


def test_the_lock_is_not_inherited(tmp_path):
    """A shim outlives the daemon; it must not keep the data root locked."""
    lock = RootLock(tmp_path)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        lock.release()
        RootLock(tmp_path).release()
        child.kill()
