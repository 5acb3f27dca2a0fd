"""Dockerfiles as people write them: what is in them, what the checks say, and that nothing is lost when written again."""

from pathlib import Path

import pytest

from minid.build.dockerfile import check, parse, resolve
from minid.build.dockerfile.model import Copy, ExecForm, Heredoc, Run, ShellForm

from .dockerfile_text import render

FILES = Path(__file__).parent / "dockerfiles"

# Stages ("" without a name), number of instructions, and the rules that are broken.
EXPECTED: dict[str, tuple[list[str], int, list[str]]] = {
    "apt-cache": ([""], 2, []),
    "c-scratch": (["build", ""], 6, []),
    "copy-options": ([""], 6, []),
    "cross-compile": (["xx", "base-amd64", "base-arm64", "base", "binaries"], 6, []),
    "go-multi-stage": (["build", "final"], 9, []),
    "heredocs": ([""], 7, []),
    "java-maven": (["build", ""], 11, []),
    "jupyter": ([""], 7, []),
    "lower-case": (["base", ""], 5, []),
    "node-npm": (["deps", "build", ""], 13, ["LegacyKeyValueFormat", "JSONArgsRecommended"]),
    "old-style": (
        [""],
        9,
        [
            "MaintainerDeprecated",
            "LegacyKeyValueFormat",
            "LegacyKeyValueFormat",
            "NoEmptyContinuation",
            "JSONArgsRecommended",
        ],
    ),
    "onbuild": ([""], 7, []),
    "php-extensions": ([""], 6, []),
    "python-pip-cache": (["base"], 10, []),
    "ruby-rails": (["base", "build", ""], 14, []),
    "rust-chef": (["chef", "planner", "builder", "runtime"], 10, ["WorkdirRelativePath"]),
    "secrets-and-ssh": ([""], 5, []),
    "static-site": ([""], 6, []),
    "test-target": (["src", "test", "lint", ""], 7, []),
    "windows": ([""], 6, []),
}


def load(name: str) -> bytes:
    return (FILES / f"{name}.Dockerfile").read_bytes()


def test_all_files_are_here() -> None:
    assert sorted(EXPECTED) == sorted(path.name.removesuffix(".Dockerfile") for path in FILES.iterdir())


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_in_it(name: str) -> None:
    dockerfile = parse(load(name), name=name)
    stages, instructions, rules = EXPECTED[name]
    assert [stage.name for stage in dockerfile.stages] == stages
    assert sum(len(stage.instructions) for stage in dockerfile.stages) == instructions
    assert [warning.rule for warning in check(dockerfile)] == rules


@pytest.mark.parametrize("name", EXPECTED)
def test_written_again_it_says_the_same(name: str) -> None:
    dockerfile = parse(load(name))
    assert parse(render(dockerfile).encode()) == dockerfile


# The bodies of here-documents keep their carriage returns.
@pytest.mark.parametrize("name", sorted(set(EXPECTED) - {"heredocs", "onbuild"}))
def test_with_windows_line_ends_it_says_the_same(name: str) -> None:
    assert parse(load(name).replace(b"\n", b"\r\n")) == parse(load(name))


@pytest.mark.parametrize("name", EXPECTED)
def test_locations_cover_the_file(name: str) -> None:
    """Every line is a comment, blank, or of exactly one instruction; lines of instructions are in order."""
    dockerfile = parse(load(name))
    instructions = [*dockerfile.args]
    everything = [
        *instructions,
        *(each for stage in dockerfile.stages for each in (stage.base, *stage.instructions)),
    ]
    last = 0
    for instruction in everything:
        between = dockerfile.lines[last : instruction.location.first - 1]
        assert all(not line.strip() or line.lstrip().startswith("#") for line in between)
        assert instruction.location.first > last
        assert dockerfile.lines[instruction.location.first - 1].lstrip().startswith(instruction.keyword)
        last = instruction.location.last
    assert all(not line.strip() or line.lstrip().startswith("#") for line in dockerfile.lines[last:])


@pytest.mark.parametrize("name", EXPECTED)
def test_every_instruction_resolves(name: str) -> None:
    dockerfile = parse(load(name))
    for stage in dockerfile.stages:
        for instruction in (stage.base, *stage.instructions):
            resolve(instruction, lambda variable: f"value-of-{variable}", dockerfile.directives.escape)


def test_commands_are_left_to_the_shell() -> None:
    (stage,) = parse(load("php-extensions")).stages
    (run,) = (each for each in stage.instructions if isinstance(each, Run))
    assert isinstance(run.command, ShellForm)
    assert "'ldd \"$1\" 2>/dev/null' _ '{}' \\; | awk '/=>/ { print $(NF-1) }'" in run.command.text
    assert "reset apt-mark" not in run.command.text
    assert not run.heredocs


def test_heredocs_of_the_file() -> None:
    (stage,) = parse(load("heredocs")).stages
    runs = [each.script for each in stage.instructions if isinstance(each, Run)]
    assert [script and script.own_interpreter for script in runs] == [False, True, False]
    copies = [resolve(each, {"NAME": "you"}.get) for each in stage.instructions if isinstance(each, Copy)]
    bodies = [each.content for copy in copies for each in copy.sources if isinstance(each, Heredoc)]
    assert bodies == ["Hello you,\n  it costs $5.\n", '#!/bin/sh\nexec "$@"\n', "name=you\n"]


def test_the_windows_file() -> None:
    dockerfile = parse(load("windows"))
    (stage,) = dockerfile.stages
    *_, env, entrypoint = (resolve(each, {}.get, dockerfile.directives.escape) for each in stage.instructions)  # type: ignore[arg-type]
    assert [(pair.key, pair.value) for pair in getattr(env, "pairs")] == [  # noqa: B009
        ("TOOLS", "C:\\tools\\"),
        ("GREETING", "hello world"),
    ]
    assert getattr(entrypoint, "command") == ExecForm(("C:\\app\\server.exe",))  # noqa: B009
