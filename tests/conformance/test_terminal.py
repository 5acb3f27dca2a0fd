"""``run -it`` and friends on a real terminal: echo, size, Ctrl-C, detach keys, exit codes."""

import re

import pytest

from tests.cli import Cli
from tests.terminal import Terminal
from tests.wire import Wire

DETACH = "\x10\x11"  # ctrl-p ctrl-q


def test_interactive_shell(cli: Cli, busybox: str) -> None:
    with cli.terminal(
        "run", "-it", "--rm", "--network", "none", busybox, "sh", rows=31, columns=97
    ) as terminal:
        terminal.expect(r"/ # ")
        terminal.send("tty; echo $((6 * 7))\n")
        terminal.expect(r"/dev/pts/0\s+42\s")
        terminal.expect(r"/ # ")
        terminal.send("stty size\n")
        terminal.expect(r"\s31 97\s")
        terminal.expect(r"/ # ")
        terminal.send("exit 9\n")
        assert terminal.wait() == 9


def resize_until_seen(terminal: Terminal, rows: int, columns: int) -> None:
    """The docker CLI sends the size it starts with before it listens for changes: one in between is lost to it."""
    for attempt in range(20):
        terminal.resize(rows, columns - attempt % 2)
        terminal.resize(rows, columns)
        try:
            terminal.expect(f"{rows} {columns}", timeout_s=1.0)
        except AssertionError:
            continue
        return
    raise AssertionError(f"{rows} {columns} never came: {terminal.transcript!r}")


def test_resize(cli: Cli, busybox: str) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    with cli.terminal("run", "-it", "--rm", "--network", "none", busybox, "sh", "-c", script) as terminal:
        terminal.expect("ready")
        resize_until_seen(terminal, 50, 132)
        terminal.resize(20, 40)
        terminal.expect(r"20 40")
        terminal.send("\x03")
        assert terminal.wait() == 130


def test_ctrl_c_goes_to_the_foreground_of_the_container(cli: Cli, busybox: str) -> None:
    with cli.terminal("run", "-it", "--rm", "--network", "none", busybox, "sh") as terminal:
        terminal.expect("/ # ")
        terminal.send("sh -c 'echo started; exec sleep 60'\n")
        terminal.expect(r"started\r\n")
        terminal.send("\x03")
        terminal.expect("/ # ")
        terminal.send("echo alive $?\n")
        terminal.expect("alive 130")
        terminal.expect("/ # ")
        terminal.send("\x04")
        assert terminal.wait() == 0


def test_detach_keys_and_attach_again(cli: Cli, wire: Wire, busybox: str) -> None:
    with cli.terminal("run", "-it", "--name", "kept", "--network", "none", busybox, "sh") as terminal:
        terminal.expect("/ # ")
        terminal.send("X=remembered\n")
        terminal.expect("/ # ")
        terminal.send(DETACH)
        assert terminal.wait() == 0
    assert wire.get("/containers/kept/json")["State"]["Running"] is True
    with cli.terminal("attach", "kept") as terminal:
        terminal.send("echo $X\n")
        terminal.expect(r"\bremembered\s")
        terminal.send("exit 4\n")
        assert terminal.wait() == 4


def test_detach_keys_of_ones_own(cli: Cli, wire: Wire, busybox: str) -> None:
    with cli.terminal(
        "run", "-it", "--name", "kept", "--detach-keys", "ctrl-a,x", "--network", "none", busybox, "sh"
    ) as terminal:
        terminal.expect("/ # ")
        terminal.send("echo a\x10\x11b | od -An -c\n")
        terminal.expect("/ # ")
        terminal.send("\x01x")
        assert terminal.wait() == 0
    assert wire.get("/containers/kept/json")["State"]["Running"] is True


def test_half_a_detach_sequence_is_input(docker_cli: Cli, busybox: str) -> None:
    with docker_cli.terminal(
        "run",
        "-it",
        "--rm",
        "--network",
        "none",
        busybox,
        "sh",
        "-c",
        "stty raw -echo; echo go; head -c 3 | od -An -tx1",
    ) as terminal:
        terminal.expect("go")
        terminal.send("\x10ab")
        terminal.expect("10 61 62")
        assert terminal.wait() == 0


def test_exec_with_a_terminal(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "box", "--network", "none", busybox, "sleep", "60")
    with cli.terminal("exec", "-it", "-e", "PS1=inner> ", "box", "sh", rows=33, columns=99) as terminal:
        terminal.expect("inner> ")
        terminal.send("stty size; tty\n")
        terminal.expect(r"33 99\s+/dev/pts/\d")
        terminal.resize(44, 88)
        terminal.send("sleep 0.3; stty size\n")
        terminal.expect("44 88")
        terminal.send("exit 6\n")
        assert terminal.wait() == 6
    with cli.terminal("exec", "-it", "box", "sh") as terminal:
        terminal.expect("/ # ")
        terminal.send(DETACH)
        terminal.wait()
    assert cli.ok("inspect", "-f", "{{.State.Running}}", "box") == "true"


def test_start_attached_interactively(docker_cli: Cli, busybox: str) -> None:
    docker_cli.ok("create", "-it", "--name", "later", "--network", "none", busybox, "sh")
    with docker_cli.terminal("start", "-ai", "later") as terminal:
        terminal.send("echo typed-$((1+1))\n")
        terminal.expect("typed-2")
        terminal.send("exit 3\n")
        assert terminal.wait() == 3


def test_ctrl_c_without_a_terminal_inside_is_sent_as_a_signal(cli: Cli, busybox: str) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    with cli.terminal("run", "--rm", "--network", "none", busybox, "sh", "-c", script) as terminal:
        terminal.expect("ready")
        terminal.send("\x03")
        terminal.expect("caught")
        assert terminal.wait() == 5


def test_no_sig_proxy_leaves_the_container_alone(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    script = "trap 'echo caught' INT; trap 'echo bye; exit' USR1; echo ready; while :; do sleep 0.05; done"
    with docker_cli.terminal(
        "run", "--name", "calm", "--sig-proxy=false", "--network", "none", busybox, "sh", "-c", script
    ) as terminal:
        terminal.expect("ready")
        terminal.send("\x03")
        docker_cli.ok("kill", "-s", "USR1", "calm")
        assert docker_cli.ok("wait", "calm") == "0"
    assert docker_cli.ok("logs", "calm").split() == ["ready", "bye"]


def test_terminal_wants_one(cli: Cli, busybox: str) -> None:
    result = cli("run", "-it", "--rm", "--network", "none", busybox, "true", stdin="")
    assert result.code == 1
    assert re.search("not a TTY|not a terminal", result.err, re.I)


def test_tty_output_has_carriage_returns_and_one_stream(docker_cli: Cli, busybox: str) -> None:
    result = docker_cli(
        "run", "-t", "--rm", "--network", "none", busybox, "sh", "-c", "echo out; echo err >&2"
    )
    assert (result.raw_out, result.err) == (b"out\r\nerr\r\n", "")


@pytest.mark.parametrize("size_bytes", [1_000_000])
def test_much_output_on_a_terminal(cli: Cli, busybox: str, size_bytes: int) -> None:
    with cli.terminal(
        "run",
        "-it",
        "--rm",
        "--network",
        "none",
        busybox,
        "sh",
        "-c",
        f"head -c {size_bytes} /dev/zero | tr '\\0' x; echo; echo done-$?",
    ) as terminal:
        terminal.expect(r"done-0", timeout_s=40)
        assert terminal.transcript.count("x") == size_bytes
        assert terminal.wait() == 0


def test_console_size_and_resize(wire: Wire, busybox: str) -> None:
    command = [
        "sh",
        "-c",
        "trap 'stty size' WINCH; echo size $(stty size 2>&1); while :; do sleep 0.05; done",
    ]
    host = {"NetworkMode": "none", "ConsoleSize": [12, 34]}
    body = {"Image": busybox, "Cmd": command, "Tty": True, "OpenStdin": True, "HostConfig": host}
    container = wire.post("/containers/create", body).json["Id"]
    with wire.stream(
        "POST", f"/containers/{container}/attach", query={"stream": "1", "stdout": "1"}
    ) as stream:
        assert wire.post(f"/containers/{container}/start").status == 204
        first = stream.read_until(b"\n")
        assert wire.version == "1.41" or b"size 12 34" in first, "ConsoleSize counts from API 1.42 on"
        assert wire.post(f"/containers/{container}/resize", h="55", w="66").status == 200
        assert b"55 66" in stream.read_until(b"66")
