"""``run``: which command, as whom, where, with what environment, and how it ended."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import Cli

NONE = ("run", "--rm", "--network", "none")


def test_command_environment_directory_and_user(cli: Cli, busybox: str, tmp_path: Path) -> None:
    envfile = tmp_path / "env"
    envfile.write_text("# a comment\nFILE=from file\nEMPTY=\nPASSED\n")
    script = "id -u; id -g; pwd; hostname; echo $FOO,$FILE,${EMPTY-unset},$PASSED,$HOME; cat /etc/hostname; echo $0 $1"
    result = cli(
        *NONE,
        *(
            "-e",
            "FOO=bar=baz",
            "--env-file",
            str(envfile),
            "-w",
            "/made/by/run",
            "--hostname",
            "a-name",
            "-u",
            "app",
        ),
        *(busybox, "sh", "-c", script, "zero", "one two"),
        env={"PASSED": "on"},
    )
    assert result.lines == [
        "1000",
        "1000",
        "/made/by/run",
        "a-name",
        "bar=baz,from file,,on,/home/app",
        "a-name",
        "zero one two",
    ]
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("app", "uid=1000(app) gid=1000(app) groups=33(www),1000(app),2000(extra)"),
        ("app:www", "uid=1000(app) gid=33(www) groups=33(www)"),
        ("app:2000", "uid=1000(app) gid=2000(extra) groups=2000(extra)"),
        ("1001", "uid=1001(other) gid=1002 groups=1002,2000(extra)"),
        ("5555", "uid=5555 gid=0(root) groups=0(root)"),
        ("5555:6666", "uid=5555 gid=6666 groups=6666"),
    ],
)
def test_user(docker_cli: Cli, busybox: str, user: str, identity: str) -> None:
    assert _sorted_groups(docker_cli.ok(*NONE, "-u", user, busybox, "id")) == identity


def _sorted_groups(line: str) -> str:
    head, _, groups = line.partition(" groups=")
    ordered = sorted(groups.split(","), key=lambda group: int(re.match(r"\d+", group)[0]))  # type: ignore[index]
    return f"{head} groups={','.join(ordered)}"


def test_group_add_takes_names_and_numbers(cli: Cli, busybox: str) -> None:
    out = cli.ok(*NONE, "-u", "5555:6666", "--group-add", "www", "--group-add", "7777", busybox, "id")
    assert _sorted_groups(out) == "uid=5555 gid=6666 groups=33(www),6666,7777"


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
        ("0:nosuch", "unable to find group nosuch: no matching entries in group file"),
    ],
)
def test_unknown_user_is_an_error(docker_cli: Cli, busybox: str, user: str, message: str) -> None:
    result = docker_cli("run", "--rm", "--network", "none", "-u", user, busybox, "true")
    assert result.code == 125 or result.code == 126
    assert message in result.err


def test_image_user_directory_and_environment(cli: Cli, variant: Callable[[str], str]) -> None:
    out = cli.ok(
        *NONE, "-e", "BOTH=run", variant("user"), "sh", "-c", "whoami; pwd; echo $FROM_IMAGE $BOTH $HOME"
    )
    assert out.splitlines() == ["app", "/home/app", "yes run /home/app"]
    assert cli.ok(
        *NONE, "-u", "root", "-w", "/", variant("user"), "sh", "-c", "whoami; pwd; echo $HOME"
    ).splitlines() == [
        "root",
        "/",
        "/root",
    ]
    assert docker_id(cli.ok(*NONE, variant("numeric-user"), "id")) == "uid=4242 gid=4343"
    assert cli.ok(*NONE, variant("workdir"), "pwd") == "/made/by/engine"


def docker_id(line: str) -> str:
    return line.partition(" groups=")[0]


def test_entrypoint_and_command(cli: Cli, busybox: str, variant: Callable[[str], str]) -> None:
    image = variant("entrypoint")
    assert cli.ok(*NONE, image) == "entry default args"
    assert cli.ok(*NONE, image, "mine") == "entry mine"
    assert cli.ok(*NONE, "--entrypoint", "echo", image, "only this") == "only this"
    assert cli.ok(*NONE, "--entrypoint", "pwd", image) == "/", (
        "an entrypoint of the user's drops the image's command"
    )
    assert cli.ok(*NONE, "--entrypoint", "", image, "echo", "no entrypoint") == "no entrypoint"
    result = cli(*NONE, variant("empty"))
    assert result.code == 125
    assert "no command specified" in result.err.lower()


def test_minimal_environment(docker_cli: Cli, busybox: str) -> None:
    """PATH, HOSTNAME and HOME, and nothing of the daemon's own."""
    out = docker_cli.ok(*NONE, "--hostname", "h", busybox, "env")
    names = {line.partition("=")[0] for line in out.splitlines()}
    assert names - {"PWD", "SHLVL"} == {"PATH", "HOSTNAME", "HOME"}
    assert "HOSTNAME=h" in out.splitlines() and "HOME=/root" in out.splitlines()
    assert "TERM=xterm" in docker_cli.ok(
        *NONE, "-t", busybox, "env"
    ).splitlines() or "TERM=xterm\r" in docker_cli.ok(*NONE, "-t", busybox, "env").split("\n")


@pytest.mark.parametrize("code", [0, 1, 7, 125, 255])
def test_exit_code_is_the_containers(cli: Cli, busybox: str, code: int) -> None:
    assert cli(*NONE, busybox, "sh", "-c", f"exit {code}").code == code


def test_killed_by_signal_is_128_plus(cli: Cli, busybox: str) -> None:
    assert cli(*NONE, "--init", busybox, "sh", "-c", "kill -9 $$").code == 137
    assert cli(*NONE, "--init", busybox, "sh", "-c", "kill -15 $$").code == 143


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["no-such-command"], 127, r'exec: "no-such-command": executable file not found in \$PATH'),
        (["/no/such/file", "x"], 127, r'"/no/such/file".*no such file or directory'),
        (["/etc"], 126, r'"/etc".*(permission denied|is a directory)'),
        (["/etc/not-executable"], 126, r'"/etc/not-executable".*permission denied'),
    ],
)
def test_command_that_cannot_run(cli: Cli, busybox: str, command: list[str], code: int, message: str) -> None:
    result = cli(*NONE, busybox, *command)
    assert result.code == code, result.err
    assert re.search(message, result.err), result.err
    assert result.out == ""


def test_bad_interpreter(docker_cli: Cli, busybox: str) -> None:
    """runc 1.1 ends with 1, runc 1.2 with 255; an engine that sees execve fail says 127. All say why."""
    result = docker_cli(*NONE, busybox, "/etc/bad-interpreter")
    assert result.code in (1, 127, 255)
    assert "no such file or directory" in result.err


def test_bad_format_is_an_exec_format_error(docker_cli: Cli, busybox: str) -> None:
    result = docker_cli(*NONE, busybox, "/etc/bad-format")
    assert result.code in (1, 126, 255), result.err
    assert "exec format error" in result.err.lower()


def test_command_not_found_leaves_a_created_container_with_its_code(docker_cli: Cli, busybox: str) -> None:
    result = docker_cli("run", "--name", "broken", "--network", "none", busybox, "no-such-command")
    assert result.code == 127
    state = docker_cli.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}", "broken")
    assert state == "created 127 0"
    assert "executable file not found" in docker_cli.ok("inspect", "-f", "{{.State.Error}}", "broken")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-such-flag"], "unknown flag: --no-such-flag"),
        (["-w", "relative"], "needs to be an absolute path"),
        (["-v", "relative/path:/x"], "includes invalid characters"),
        (["--memory", "1k"], "[Mm]inimum memory limit"),
        (["--cap-add", "NO_SUCH"], "[Ii]nvalid (CapAdd|capability)|unknown capability"),
        (["--security-opt", "nonsense=1"], "[Ii]nvalid --security-opt"),
        (["--name", "in/valid"], "Invalid container name"),
        (["--stop-signal", "SIGNOSUCH"], "Invalid signal: SIGNOSUCH|invalid signal"),
        (
            ["--device", "/dev/no-such-device"],
            "no such file or directory|not a device node|error gathering device information",
        ),
    ],
)
def test_engine_refuses(docker_cli: Cli, busybox: str, arguments: list[str], message: str) -> None:
    result = docker_cli(*NONE, *arguments, busybox, "true")
    assert result.code == 125 or "no such file" in result.err  # by that text the docker CLI makes it 127
    assert re.search(message, result.err), result.err


def test_stdin_reaches_the_process_and_its_end_too(cli: Cli, busybox: str) -> None:
    assert cli(*NONE, "-i", busybox, "wc", "-c", stdin="x" * 300_000).out.strip() == "300000"
    assert cli(*NONE, busybox, "cat", stdin="not sent without -i").out == ""


def test_stdout_and_stderr_stay_apart(cli: Cli, busybox: str) -> None:
    result = cli(*NONE, busybox, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (result.code, result.out, result.err) == (3, "out\n", "err\n")


def test_output_is_complete_however_fast_the_end(cli: Cli, busybox: str) -> None:
    script = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end >&2"
    for _ in range(3):
        result = cli(*NONE, busybox, "sh", "-c", script)
        assert (len(result.out), result.err) == (3000001, "end\n")
    assert cli(*NONE, busybox, "echo", "-n", "no newline").out == "no newline"


def test_binary_output_is_untouched(docker_cli: Cli, busybox: str) -> None:
    data = bytes(range(256)) * 300
    assert docker_cli(*NONE, "-i", busybox, "cat", stdin=data).raw_out == data


def test_attach_only_what_was_asked_for(docker_cli: Cli, busybox: str) -> None:
    result = docker_cli(*NONE, "-a", "stderr", busybox, "sh", "-c", "echo out; echo err >&2")
    assert (result.out, result.err) == ("", "err\n")


def test_cidfile(cli: Cli, busybox: str, tmp_path: Path) -> None:
    path = tmp_path / "cid"
    cli.ok(*NONE, "--cidfile", str(path), busybox, "true")
    assert re.fullmatch(r"[0-9a-f]{64}", path.read_text())
    result = cli(*NONE, "--cidfile", str(path), busybox, "true")
    assert result.code in (1, 125)
    assert "container ID file found" in result.err


def test_detached_prints_the_id(cli: Cli, busybox: str) -> None:
    container = cli.ok("run", "-d", "--network", "none", "--name", "background", busybox, "sleep", "60")
    assert re.fullmatch(r"[0-9a-f]{64}", container)
    assert (
        cli.ok("inspect", "-f", "{{.Id}} {{.Name}} {{.State.Running}}", "background")
        == f"{container} /background true"
    )


def test_rm_removes_the_container_whatever_its_end(cli: Cli, busybox: str) -> None:
    assert cli("run", "--rm", "--name", "gone", "--network", "none", busybox, "false").code == 1
    assert cli("inspect", "gone").code == 1
    assert cli("run", "--rm", "--name", "gone", "--network", "none", busybox, "no-such-command").code == 127
    assert cli("inspect", "gone").code == 1


def test_missing_image_pull_never(cli: Cli, registry: object) -> None:
    result = cli(*NONE, "--pull", "never", "nosuch-image:x", "true")
    assert result.code == 125
    assert re.search("No such image: nosuch-image:x", result.err)
