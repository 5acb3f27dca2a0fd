"""What minictl alone promises at a terminal: it is left as it was found, and the user always gets out."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import Cli
from tests.conftest import make_cli
from tests.engine import Engine
from tests.terminal import Terminal
from tests.wire import Wire

DETACH = "\x10\x11"


@pytest.fixture
def minictl(engine: Engine, client_config: Path) -> Cli:
    return make_cli("minictl", engine, client_config)


def in_shell(minictl: Cli, *line: str) -> Terminal:
    """A shell script that shows the terminal's settings before and after the command, and its exit status."""
    command = shlex.join([*minictl.argv, *line])
    script = f"echo before=$(stty -g); {command}; echo status=$?; echo after=$(stty -g)"
    return Terminal(
        ["sh", "-c", script], {**os.environ, **minictl.environment, "TERM": "xterm"}, rows=24, columns=150
    )


def ended(terminal: Terminal, before: str) -> int:
    """The exit status, once the terminal's settings have been found as they were."""
    status = int(terminal.expect(r"status=(\d+)")[1])
    assert terminal.expect(r"after=(\S+)\s")[1] == before
    terminal.wait()
    return status


RUN = ("run", "-it", "--rm", "--name", "tty", "--network", "none")


def test_after_the_end_of_the_container(minictl: Cli, wire: Wire, busybox: str) -> None:
    with in_shell(minictl, *RUN, busybox, "sh") as terminal:
        before = terminal.expect(r"before=(\S+)\s")[1]
        terminal.expect("/ # ")
        terminal.send("exit 4\n")
        assert ended(terminal, before) == 4


def test_after_detaching(minictl: Cli, wire: Wire, busybox: str) -> None:
    with in_shell(minictl, *RUN, busybox, "sh") as terminal:
        before = terminal.expect(r"before=(\S+)\s")[1]
        terminal.expect("/ # ")
        terminal.send(DETACH)
        assert ended(terminal, before) == 0


def test_after_a_command_that_does_not_exist(minictl: Cli, wire: Wire, busybox: str) -> None:
    with in_shell(minictl, *RUN, busybox, "nosuch") as terminal:
        before = terminal.expect(r"before=(\S+)\s")[1]
        assert ended(terminal, before) == 127


def client_of(terminal: Terminal) -> int:
    """The pid of what the shell script runs."""
    children = Path(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children").read_text().split()
    return int(children[-1])


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("run", "SIGHUP"),
        *((line, name) for line in ("exec", "attach", "start") for name in ("SIGTERM", "SIGHUP", "SIGINT")),
    ],
)
def test_after_a_signal(minictl: Cli, wire: Wire, busybox: str, line: str, name: str) -> None:
    """They end the client, but for those that run passes on to the container."""
    words = (*RUN, busybox, "sh")
    if line != "run":
        verb = "create" if line == "start" else "run"
        more = () if line == "start" else ("-d",)
        minictl.ok(verb, *more, "-it", "--name", "box", "--network", "none", busybox, "sh")
        words = {
            "exec": ("exec", "-it", "box", "sh"),
            "attach": ("attach", "box"),
            "start": ("start", "-ai", "box"),
        }[line]
    with in_shell(minictl, *words) as terminal:
        before = terminal.expect(r"before=(\S+)\s")[1]
        if line == "attach":
            terminal.send("\n")
        terminal.expect("/ # ")
        os.kill(client_of(terminal), signal.Signals[name])
        assert ended(terminal, before) == 128 + signal.Signals[name]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_run_passes_signals_on_from_a_terminal_too(minictl: Cli, wire: Wire, busybox: str, name: str) -> None:
    script = "trap 'exit 9' TERM INT; echo ready; while :; do sleep 0.05; done"
    with in_shell(minictl, *RUN, busybox, "sh", "-c", script) as terminal:
        before = terminal.expect(r"before=(\S+)\s")[1]
        terminal.expect("ready")
        os.kill(client_of(terminal), signal.Signals[name])
        assert ended(terminal, before) == 9


def test_after_the_container_was_killed(minictl: Cli, wire: Wire, busybox: str) -> None:
    with in_shell(minictl, *RUN, busybox, "sh") as terminal:
        before = terminal.expect(r"before=(\S+)\s")[1]
        terminal.expect("/ # ")
        wire.post("/containers/tty/kill")
        assert ended(terminal, before) == 137


def test_the_third_interrupt_gets_out(minictl: Cli, wire: Wire, busybox: str) -> None:
    """The container may ignore them: the first two are passed on to no effect."""
    script = "trap 'echo noted' INT; echo ready; while :; do sleep 0.05; done"
    with minictl.popen("run", "--name", "deaf", "--network", "none", busybox, "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == b"noted\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 1
        assert b"got 3 SIGTERM/SIGINTs" in process.stderr.read()
    assert wire.get("/containers/deaf/json")["State"]["Running"] is True


def test_pull_shows_a_line_a_layer(minictl: Cli, wire: Wire, busybox: str) -> None:
    minictl("rmi", "-f", busybox)
    with minictl.terminal("pull", busybox, rows=24, columns=150) as terminal:
        terminal.expect(r"\x1b\[\dA\x1b\[2K\r[0-9a-f]{12}: (Pull complete|Already exists)\x1b\[\dB\r")
        terminal.expect("Digest: sha256:")
        terminal.expect("Status: ")
        assert terminal.wait() == 0


def test_stdout_that_nobody_reads_ends_it_as_a_pipe_does(minictl: Cli, wire: Wire, busybox: str) -> None:
    minictl.ok("run", "--name", "much", "--network", "none", busybox, "sh", "-c", "yes | head -c 1000000")
    command = shlex.join([*minictl.argv, "logs", "much"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env={**os.environ, **minictl.environment},
        check=True,
    )
    assert done.stdout == f"y\n{128 + signal.SIGPIPE}\n"
    assert done.stderr == ""


def test_a_full_disk_is_told(minictl: Cli, wire: Wire, busybox: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*minictl.argv, "run", "--rm", "--network", "none", busybox, "echo", "hi"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, **minictl.environment},
            check=False,
        )
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr


def test_python_isolated_and_without_site(engine: Engine, wire: Wire, busybox: str) -> None:
    """As the installed launcher starts it."""
    top = Path(__file__).resolve().parents[2]
    code = f"import sys; sys.path.append({str(top)!r}); from minictl.main import entry; entry()"
    line = ["-H", engine.host, "run", "--rm", "--network", "none", busybox, "sh", "-c", "echo hi; exit 6"]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, *line], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (6, b"hi\n")
