"""The program ``minid`` refuses to start: each reason with its message and its exit status."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minid import dataroot
from minid.exits import ExitStatus, StartupError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

TOP = Path(__file__).parents[2]


def run_minid(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minid.cli", *arguments]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=60, **more)  # type: ignore[call-overload,no-any-return]


def roots(tmp_path: Path) -> list[str]:
    return ["--data-root", str(tmp_path / "data"), "--exec-root", str(tmp_path / "exec")]


def test_version_and_help():
    done = run_minid("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("minid version 0.1.0, build ")
    assert "Exit status:" in run_minid("--help").stdout


def test_validate(tmp_path):
    file = tmp_path / "minid.yaml"
    file.write_text("debug: true\nruntimes: {x: {path: /x}}\n")
    done = run_minid("--validate", "--config-file", str(file))
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("configuration OK\nok    kernel ")
    assert f"minid: warning: {file}:2: runtimes: has no effect" in done.stderr
    file.write_text("debug: true\nstorage-drivr: x\nmtu: big\n")
    done = run_minid("--validate", "--config-file", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"minid: {file}:2: storage-drivr: unknown key (did you mean storage-driver?)\n"
        f'minid: {file}:3: mtu: expected a whole number, got the text "big"\n'
    )


def test_wrong_flags():
    done = run_minid("--bogus")
    assert (done.returncode, done.stderr) == (2, "minid: unknown flag: --bogus\nSee 'minid --help'.\n")
    done = run_minid("-H", "tcp://0.0.0.0:2375")
    assert done.returncode == 1
    assert "whoever reaches this port would be root on this machine" in done.stderr


def test_not_root(tmp_path):
    done = run_minid(*roots(tmp_path), user=4242, group=4242, extra_groups=[])
    assert done.returncode == ExitStatus.NOT_ROOT, done.stderr
    assert "minid has to be started as root" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.fixture
def holder(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """A process that has claimed the data root, the exec root and the pid file, as a daemon does."""
    program = (
        "import sys\nfrom minid.config import load\nfrom minid.startup import claimed\n"
        "with claimed(load(None, {'data-root': sys.argv[1], 'exec-root': sys.argv[2]})):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "data"), str(tmp_path / "exec")],
        cwd=TOP,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_daemon_on_the_same_data_root(tmp_path, holder):
    done = run_minid("--data-root", str(tmp_path / "data"), "--exec-root", str(tmp_path / "second"))
    assert done.returncode == ExitStatus.DATA_ROOT_IN_USE
    assert f"another minid (pid {holder.pid}) uses this data root" in done.stderr


def test_another_daemon_with_the_same_pidfile(tmp_path, holder):
    done = run_minid("--data-root", str(tmp_path / "second"), "--exec-root", str(tmp_path / "exec"))
    assert done.returncode == ExitStatus.PIDFILE_IN_USE
    assert f"the process it names ({holder.pid}) still runs" in done.stderr


def test_another_daemon_answers_at_the_socket(tmp_path):
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        done = run_minid(*roots(tmp_path), "-H", f"unix://{path}")
    assert done.returncode == ExitStatus.SOCKET, done.stderr
    assert f"minid: unix://{path}: another daemon answers there" in done.stderr
    assert path.exists()
    assert not (tmp_path / "exec" / "minid.pid").exists()


def test_a_data_root_of_a_newer_minid_is_left_alone(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    (data / "minid.db").write_bytes(b"of a form that this minid would not even open")
    (data / "version").write_text("minid 7.0.0\ndata-root 1\ncontainers 9\n")
    before = {path: (path.read_bytes(), path.stat()) for path in data.iterdir()}
    directory = data.stat()
    done = run_minid(*roots(tmp_path))
    assert done.returncode == ExitStatus.DATA_ROOT_NEWER == 9
    assert (
        "written by a newer minid (7.0.0): it has containers 9; minid 0.1.0 knows containers 1" in done.stderr
    )
    assert "install minid 7.0.0 or newer again, or use another directory with --data-root" in done.stderr
    assert {path: (path.read_bytes(), path.stat()) for path in data.iterdir()} == before
    assert (data.stat().st_mtime_ns, data.stat().st_mode) == (directory.st_mtime_ns, directory.st_mode)
    assert not (tmp_path / "exec").exists()


def test_nothing_is_handed_over(tmp_path):
    done = run_minid(*roots(tmp_path), "-H", "fd://")
    assert done.returncode == ExitStatus.SOCKET, done.stderr
    assert "no socket was handed over" in done.stderr


def test_stop_and_stale_leftovers(tmp_path):
    """SIGKILL leaves socket and pid file behind; the next start takes their places; SIGTERM removes both."""
    endings = []
    for number in (signal.SIGKILL, signal.SIGTERM):
        with running(tmp_path) as (daemon, _):
            assert (tmp_path / "exec" / "minid.pid").read_text() == f"{daemon.pid}\n"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "exec" / "minid.sock"))
            daemon.send_signal(number)
            daemon.wait(timeout=30)
            endings.append(daemon.returncode)
        left = {path.name for path in (tmp_path / "exec").iterdir()} & {"minid.sock", "minid.pid"}
        assert left == ({"minid.sock", "minid.pid"} if number == signal.SIGKILL else set())
    assert endings == [-signal.SIGKILL, ExitStatus.OK]


@contextmanager
def running(tmp_path: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], str]]]:
    """A daemon that listens, and a function that reads its log up to a line with some text."""
    command = [sys.executable, "-m", "minid.cli", *roots(tmp_path), "--group", "", *more]
    with subprocess.Popen(command, cwd=TOP, stderr=subprocess.PIPE, text=True) as daemon:

        def wait_for(text: str) -> str:
            assert daemon.stderr
            seen = []
            for line in daemon.stderr:
                seen.append(line)
                if text in line:
                    return line
            pytest.fail(f"{text!r} is not in the log: {''.join(seen)}")

        try:
            wait_for("msg=listening")
            yield daemon, wait_for
        finally:
            daemon.terminate()
            daemon.communicate(timeout=30)


def test_reload(tmp_path):
    file = tmp_path / "minid.yaml"
    file.write_text("labels: [a=1]\n")
    with running(tmp_path, "--config-file", str(file)) as (daemon, wait_for):
        file.write_text("labels: [a=2]\nexec-root: /elsewhere\n")
        daemon.send_signal(signal.SIGHUP)
        assert "exec-root: also given as the flag --exec-root" in wait_for("the old one stays in force")
        file.write_text("labels: [a=2]\ndebug: true\nbip: 10.9.8.1/24\n")
        daemon.send_signal(signal.SIGHUP)
        assert "changed=debug,labels" in wait_for("configuration read again")
        assert "options=bip" in wait_for("these options change at the next start")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "exec" / "minid.sock"))
            client.sendall(b"GET /info HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert b'"Labels":["a=2"]' in answer.replace(b" ", b"")


def test_claims_end_with_the_process(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "exec" / "minid.pid").read_text() == f"{holder.pid}\n"
    from minid.config import load
    from minid.startup import claimed

    config = load(None, {"data-root": str(tmp_path / "data"), "exec-root": str(tmp_path / "exec")})
    with claimed(config):
        assert config.pidfile.read_text() == f"{os.getpid()}\n"
    assert not config.pidfile.exists()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o710
    assert (tmp_path / "exec").stat().st_mode & 0o777 == 0o711


# Data roots that cannot serve: each on a real file system, mounted in a namespace of its own.


def test_data_root_is_a_file(tmp_path):
    (tmp_path / "data").touch()
    done = run_minid(*roots(tmp_path))
    assert done.returncode == ExitStatus.DATA_ROOT_UNUSABLE
    assert (
        f"{tmp_path}/data: cannot be the data root: the directory cannot be made: File exists" in done.stderr
    )


@pytest.fixture
def mounted(tmp_path) -> Iterator[object]:
    made: list[Path] = []

    def mount(*options: str) -> Path:
        point = tmp_path / f"mount{len(made)}"
        point.mkdir()
        subprocess.run(["mount", *options, str(point)], check=True)
        made.append(point)
        return point

    yield mount
    for point in reversed(made):
        subprocess.run(["umount", str(point)], check=True)


def complaint(data_root: Path) -> str:
    with pytest.raises(StartupError) as caught:
        dataroot.prepare(data_root)
    assert caught.value.status is ExitStatus.DATA_ROOT_UNUSABLE
    return str(caught.value)


def test_read_only(mounted):
    point = mounted("-t", "tmpfs", "tmpfs")
    (point / "data").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
    assert "cannot be made: Read-only file system" in complaint(point / "new")
    assert "Read-only file system" in complaint(point / "data")


def test_noexec(mounted):
    point = mounted("-t", "tmpfs", "-o", "noexec", "tmpfs")
    assert f"it is on tmpfs at {point}, which is mounted noexec: no container could" in complaint(
        point / "data"
    )
    assert os.listdir(point / "data") == []


def test_without_extended_attributes(mounted):
    """ramfs keeps owners, links and modes, and has no trusted.* attributes."""
    point = mounted("-t", "ramfs", "ramfs")
    assert f"it is on ramfs at {point}, which cannot keep extended attributes" in complaint(point / "data")
    assert os.listdir(point / "data") == []


def test_tmpfs_serves(mounted):
    point = mounted("-t", "tmpfs", "tmpfs")
    dataroot.prepare(point / "data")
    assert os.listdir(point / "data") == []
