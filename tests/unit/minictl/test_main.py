"""The program as a whole, without a daemon: help, versions, mistakes, and how a missing daemon is told."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from minictl import commands

TOP = Path(__file__).resolve().parents[3]


def minictl(
    *line: str, env: dict[str, str] | None = None, **more: object
) -> "subprocess.CompletedProcess[str]":
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, "-m", "minictl", *line],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(TOP), **(env or {})},
        check=False,
        **more,  # type: ignore[call-overload]
    )
    return done


def test_every_verb_can_be_loaded_and_explains_itself() -> None:
    from minictl import help as help_text

    verbs = dict(commands.VERBS)
    for group, (_, members) in commands.GROUPS.items():
        verbs |= {f"{group} {verb}": place for verb, place in members.items()}
    for name, place in verbs.items():
        command = commands.load(place, name)
        text = help_text.command(command)
        assert f"Usage:  minictl {name} " in text
        assert all(f"--{flag[0]}" in text for flag in command.flags)
        assert max(len(line) for line in text.splitlines()) <= 110
        shorts = [flag[1] for flag in command.flags if flag[1]]
        assert len(shorts) == len(set(shorts)), name
        longs = [flag[0] for flag in command.flags]
        assert len(longs) == len(set(longs)), name
    shown = {name for _, names in commands.SECTIONS for name in names}
    assert shown == set(commands.VERBS)


@pytest.mark.parametrize("line", [[], ["--help"], ["help"], ["-h"]])
def test_overview(line: list[str]) -> None:
    done = minictl(*line)
    assert done.returncode == 0
    assert "Usage:  minictl [OPTIONS] COMMAND" in done.stdout
    assert "run " in done.stdout


def test_version() -> None:
    from minictl import __version__

    assert minictl("--version").stdout == minictl("-v").stdout == f"minictl version {__version__}\n"


@pytest.mark.parametrize(
    ("line", "near"),
    [("stat", "minictl stats"), ("imagse", "minictl images"), ("container rnu", "minictl container run")],
)
def test_an_unknown_command_names_the_nearest(line: str, near: str) -> None:
    done = minictl(*line.split())
    assert done.returncode == 1
    assert f"minictl: unknown command: minictl {line}\n" in done.stderr
    assert near in done.stderr


def test_no_daemon() -> None:
    done = minictl("-H", "unix:///nonexistent/s", "ps")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "Cannot connect to the minid daemon at unix:///nonexistent/s. Is the minid daemon running?"
    )
    assert "systemctl start minid" in done.stderr
    assert minictl("-H", "unix:///nonexistent/s", "run", "x").returncode == 125


def test_a_socket_nobody_listens_on(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
    done = minictl("ps", env={"MINID_HOST": f"unix://{tmp_path}/s"})
    assert "Is the minid daemon running?" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not")
def test_no_permission_names_the_group_and_what_to_do(tmp_path: Path) -> None:
    import grp
    import shutil
    import tempfile

    group = grp.getgrnam("daemon")
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        directory.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(directory / "s"))
            listener.listen()
            os.chown(directory / "s", 0, group.gr_gid)
            (directory / "s").chmod(0o660)
            code = (
                "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
                f"from minictl.main import main; sys.exit(main(['-H', 'unix://{directory}/s', 'ps']))"
            )
            done = subprocess.run(
                [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(TOP)!r}); {code}"],
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
            )
    finally:
        shutil.rmtree(directory)
    if "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("the source tree can't be read by nobody")
    assert done.returncode == 1
    assert done.stderr.startswith("permission denied while trying to connect to the minid daemon at unix://")
    assert "it is for root and the group daemon, and you (nobody) are in neither." in done.stderr
    assert "sudo usermod -aG daemon nobody" in done.stderr


HOT = (
    "re",
    "enum",
    "typing",
    "argparse",
    "json",
    "socket",
    "ssl",
    "selectors",
    "signal",
    "http",
    "collections",
    "functools",
)


@pytest.mark.parametrize("line", ["run --rm x true", "ps", "exec x true", "start x", "rm x", "stop x"])
def test_the_hot_paths_import_nothing_heavy(line: str) -> None:
    """Measured on Python 3.11: each of these costs 1 to 10 ms, and the whole of minictl's own start 3."""
    code = (
        f"import sys; sys.path.append({str(TOP)!r})\n"
        f"from minictl.main import main\n"
        f"main(['-H', 'unix:///nonexistent/s', *{line.split()!r}])\n"
        f"print([name for name in {HOT!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
