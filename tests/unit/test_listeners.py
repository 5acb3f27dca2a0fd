"""Listening sockets: owner and mode from the first moment, stale against live, handed over by systemd."""

import grp
import logging
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from minid.api.listeners import open_listeners
from minid.api.peer import Peer, find_peer
from minid.exits import ExitStatus, StartupError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a socket to a group")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "minid.sock"


def listen(path: Path, group: str = ""):
    [listener] = open_listeners([f"unix://{path}"], group, {})
    return listener


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return client


def refused(hosts: list[str], environment: dict[str, str] | None = None) -> str:
    with pytest.raises(StartupError) as caught:
        open_listeners(hosts, "", environment if environment is not None else {})
    assert caught.value.status is ExitStatus.SOCKET
    return str(caught.value)


def test_socket_has_its_mode_and_directory(path):
    listener = listen(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711
    assert os.listdir(path.parent) == ["minid.sock"]
    assert not listener.sock.getblocking()
    assert not listener.sock.get_inheritable()
    listener.close()
    assert not path.exists()
    listener.close()


def test_mode_does_not_depend_on_the_umask(path):
    old = os.umask(0o077)
    try:
        listener = listen(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711
    listener.close()


@needs_root
def test_socket_belongs_to_the_group(path):
    group = grp.getgrgid(1)
    listener = listen(path, group.gr_name)
    assert (path.stat().st_uid, path.stat().st_gid) == (0, 1)
    listener.close()
    listener = listen(path, "12345")
    assert path.stat().st_gid == 12345
    listener.close()


@needs_root
def test_someone_outside_the_group_is_refused(path):
    listener = listen(path, "12345")
    for directory in path.parents[:4]:
        directory.chmod(0o711)
    program = (
        "import os, socket; os.setgroups([]); os.setgid(%d); os.setuid(4242); "
        f"socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    )
    outside = subprocess.run(
        [sys.executable, "-c", program % 4242], capture_output=True, text=True, check=False
    )
    assert "PermissionError: [Errno 13]" in outside.stderr
    subprocess.run([sys.executable, "-c", program % 12345], check=True)
    listener.close()


def test_a_missing_group_is_a_warning(path, caplog):
    with caplog.at_level(logging.WARNING):
        listener = listen(path, "no-such-group")
    assert path.stat().st_gid == os.getegid()
    assert "no-such-group" in caplog.text
    listener.close()


def test_a_stale_socket_is_replaced(path):
    first = listen(path)
    first.sock.close()  # as after SIGKILL: the file stays
    second = listen(path)
    with connect(path):
        pass
    first.close()  # must not take the second one's file
    assert path.exists()
    second.close()


def test_a_live_daemon_is_left_alone(path):
    first = listen(path)
    assert "another daemon answers there" in refused([f"unix://{path}"])
    with connect(path):
        pass
    first.close()


def test_a_live_daemon_with_a_full_backlog_is_left_alone(path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = []
        for _ in range(2):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            client.connect_ex(str(path))
        assert "another daemon answers there" in refused([f"unix://{path}"])
        for client in waiting:
            client.close()


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
def test_anything_else_at_the_path_is_left_alone(path, kind):
    path.parent.mkdir()
    {"file": path.touch, "directory": path.mkdir, "symlink": lambda: path.symlink_to("/dev/null")}[kind]()
    assert "something else than a socket" in refused([f"unix://{path}"])
    assert path.is_symlink() or path.exists()


def test_only_one_of_many_that_start_at_once_listens(path):
    path.parent.mkdir()
    barrier = threading.Barrier(8)
    won: list[object] = []
    lost: list[str] = []

    def start() -> None:
        barrier.wait()
        try:
            won.append(listen(path))
        except StartupError as error:
            lost.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert os.listdir(path.parent) == ["minid.sock"]
    won[0].close()  # type: ignore[attr-defined]


def test_a_failure_closes_what_was_open(path, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be listened on: File exists" in refused(
        [f"unix://{path}", f"unix://{tmp_path}/file/x.sock"]
    )
    assert not path.exists()


def test_a_deep_directory_is_no_problem(tmp_path):
    deep = tmp_path / ("d" * 60)
    long = deep / ("s" * (107 - len(str(deep)) - 1)) if len(str(deep)) < 100 else deep / "s"
    listener = listen(long)
    listener.close()


def test_the_same_address_twice_is_one_socket(path):
    listeners = open_listeners([f"unix://{path}", f"unix://{path}"], "", {})
    assert len(listeners) == 1
    listeners[0].close()


# fd://: the sockets start at descriptor 3, so each case runs in a process of its own.

CHILD = """
import os, sys
from minid.api.listeners import open_listeners
from minid.exits import StartupError
os.environ["LISTEN_PID"] = str(os.getpid() + int(os.environ.pop("OFF")))
try:
    for listener in open_listeners(sys.argv[1:], ""):
        print(listener.address, listener.path, listener.sock.get_inheritable(), listener.sock.getblocking())
except StartupError as error:
    print(error)
print(sorted(key for key in os.environ if key.startswith("LISTEN")))
"""


def hand_over(sockets: list[socket.socket], hosts: list[str], names: str = "", off: int = 0) -> list[str]:
    descriptors = [sock.fileno() for sock in sockets]
    # Move them to 3, 4, … in the child by a shell, which is what systemd does before it executes the service.
    moves = " ".join(f"{3 + i}<&{fd}" for i, fd in enumerate(descriptors))
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "LISTEN_FDS": str(len(sockets)),
        "LISTEN_FDNAMES": names,
        "OFF": str(off),
    }
    command = ["bash", "-c", f'exec "$@" {moves}', "bash", sys.executable, "-c", CHILD, *hosts]
    done = subprocess.run(
        command, pass_fds=descriptors, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def handed(tmp_path):
    sockets = []
    for number in range(2):
        sock = socket.socket(socket.AF_UNIX)
        # High numbers, so that the shell's redirections do not overwrite one that is still to be moved.
        descriptor = os.dup2(sock.fileno(), 40 + number)
        sock.close()
        sock = socket.socket(fileno=descriptor)
        sock.bind(str(tmp_path / f"{number}.sock"))
        sock.listen()
        sockets.append(sock)
    yield sockets
    for sock in sockets:
        sock.close()


def test_systemd_hands_all_sockets_over(handed):
    assert hand_over(handed, ["fd://"]) == ["fd://3 None False False", "fd://4 None False False", "[]"]


def test_systemd_sockets_by_number_and_by_name(handed):
    assert hand_over(handed, ["fd://4"])[0].startswith("fd://4 ")
    assert hand_over(handed, ["fd://api"], names="minid.socket:api.socket")[0].startswith("fd://4 ")
    assert hand_over(handed, ["fd://3", "fd://3"]) == ["fd://3 None False False", "[]"]
    assert (
        "not among the sockets handed over: fd://3 (a), fd://4 (b)"
        in hand_over(handed, ["fd://c"], names="a:b")[0]
    )


def test_sockets_meant_for_another_process_are_not_ours(handed):
    assert "no socket was handed over" in hand_over(handed, ["fd://"], off=1)[0]


def test_a_tcp_socket_from_systemd_is_refused(handed):
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        assert "let minid listen on TCP itself" in hand_over([tcp], ["fd://"])[0]


def test_fd_without_systemd_is_refused():
    assert "no socket was handed over" in refused(["fd://"])


# Peers


def test_peer_is_who_connected(path):
    listener = listen(path)
    with connect(path):
        listener.sock.setblocking(True)
        accepted, _ = listener.sock.accept()
        with accepted:
            peer = find_peer(accepted)
    assert peer == Peer(uid=os.geteuid(), gid=os.getegid(), pid=os.getpid())
    assert peer.user == ("root" if os.geteuid() == 0 else peer.user)
    assert Peer(uid=4242424, gid=0, pid=1).user == "4242424"
    listener.close()


def test_there_is_no_peer_on_tcp_or_nothing():
    with socket.socket() as tcp:
        assert find_peer(tcp) is None
    assert find_peer(None) is None
