"""Man pages, the commented configuration and the completion say what the tables say, and their readers take them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from minictl import commands, completion
from minictl import manual as client_manual
from minid.config import load
from minid.config.manual import PAGES, example
from minid.config.options import NO_EFFECT, OPTIONS
from minid.exits import ExitStatus

KEY = re.compile(r"^#([a-z][a-z0-9-]*: .*)$")


def rendered(text: str, tmp_path: Path) -> str:
    """As man shows it, without bold and line breaks; complaints of groff fail."""
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    file = tmp_path / "page"
    file.write_text(text)
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-P-c", "-P-b", "-P-u", str(file)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    plain = re.sub(r"\x1b\[\d*m", "", done.stdout)
    plain = re.sub(r"[\u2010-\u2013\u2212]\n *", "-", plain)  # words that groff has broken
    return re.sub(r"\s+", " ", re.sub(r"[\u2010\u2011\u2212]", "-", plain))


def test_every_option_is_in_the_man_pages(tmp_path):
    page = rendered(PAGES["minid.8"](), tmp_path)
    for option in OPTIONS:
        assert not option.flag or f"--{option.flag}" in page, option.flag
    for status in ExitStatus:
        assert f" {status.value} {status.meaning}" in page
    page = rendered(PAGES["minid.yaml.5"](), tmp_path)
    for option in OPTIONS:
        assert option.key in page
    reloading = page.partition(" RELOADING ")[2].partition("The others wait")[0]
    assert set(re.findall(r"[a-z][a-z0-9-]+(?=[,.] )", reloading)) >= {
        one.key for one in OPTIONS if one.reload
    }


def test_every_command_and_flag_is_in_the_clients_man_page(tmp_path):
    page = rendered(client_manual.page(), tmp_path)
    for names, command in client_manual.all_commands():
        for name in names:
            assert f"minictl {name}" in page
        for flag in command.flags:
            assert f"--{flag[0]}" in page


def test_the_example_is_the_default_configuration(tmp_path):
    file = tmp_path / "minid.yaml"
    file.write_text(example())
    config = load(file)
    assert config.warnings == ()
    assert config.hosts == load(tmp_path / "minid.yaml").hosts == ("unix:///run/minid/minid.sock",)
    keys = [match[1].partition(":")[0] for line in example().splitlines() if (match := KEY.match(line))]
    assert keys == [option.key for option in OPTIONS if option.field and option.why == NO_EFFECT]


@pytest.mark.parametrize("line", [line for line in example().splitlines() if KEY.match(line)])
def test_every_line_of_the_example_can_be_used(tmp_path, line):
    file = tmp_path / "minid.yaml"
    file.write_text(example().replace(f"\n{line}\n", f"\n{line[1:]}\n"))
    assert load(file).warnings == ()


# -- completion, by the bash that it is for


def complete(tmp_path: Path, *words: str) -> list[str]:
    """What bash offers for the last of `words`; a minictl that answers with names is in the PATH."""
    (tmp_path / "completion").write_text(completion.script())
    client = tmp_path / "minictl"
    client.write_text('#!/bin/sh\necho "name-of-$1"\n')
    client.chmod(0o755)
    program = 'source ./completion || exit 9\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _minictl\nprintf \'%s\\n\' "${COMPREPLY[@]}"\n'
    done = subprocess.run(
        ["bash", "-euc", program, "bash", *words],
        cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("minictl", "pu"), ["pull", "push"]),
        (("minictl", "system", "do"), ["doctor"]),
        (("minictl", "-H", "unix:///x", "netw"), ["network"]),
        (("minictl", "run", "--memory-s"), ["--memory-swap", "--memory-swappiness"]),
        (("minictl", "container", "run", "--memory-swapp"), ["--memory-swappiness"]),
        (("minictl", "--log"), ["--log-level"]),
        (("minictl", "stop", "na"), ["name-of-ps"]),
        (("minictl", "stop", "--timeout", "na"), ["name-of-ps"]),
        (("minictl", "rmi", "na"), ["name-of-images"]),
        (("minictl", "network", "rm", "na"), ["name-of-network"]),
        (("minictl", "load", "-i", "compl"), ["completion"]),
    ],
)
def test_completion(tmp_path, words, offered):
    assert complete(tmp_path, *words) == offered


def test_completion_knows_all_commands(tmp_path):
    assert set(complete(tmp_path, "minictl", "")) == {*commands.VERBS, *commands.GROUPS, "help"}
    for group, (_, verbs) in commands.GROUPS.items():
        assert set(complete(tmp_path, "minictl", group, "")) == set(verbs)
