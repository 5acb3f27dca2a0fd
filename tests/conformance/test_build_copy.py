"""COPY, ADD and WORKDIR in whole builds with the docker CLI: the rules of ``tests.copy_rules`` on dockerd and on minid."""

from collections.abc import Callable, Iterator

import pytest
import zstandard

from tests import copy_rules
from tests.cli import Cli
from tests.copy_rules import BASE, BASE_MTIME, CONTEXT, NEWER, RULES, Rule, tar_of, tree_of

Tree = dict[str, str]


@pytest.fixture
def import_base(docker_cli: Cli) -> Iterator[Callable[[Tree], str]]:
    """An image with the tree, and with the one of every rule."""

    def make(more: Tree) -> str:
        docker_cli.ok("import", "-", "copy-base:1", stdin=tar_of({**BASE, **more}, BASE_MTIME))
        return "copy-base:1"

    yield make
    docker_cli("rmi", "-f", "copy-base:1")
    docker_cli.ok("builder", "prune", "-af")


def files(cli: Cli, image: str) -> Tree:
    container = cli.ok("create", image, "x")
    try:
        exported = cli("export", container)
        assert exported.code == 0, exported.err
        return tree_of(exported.raw_out)
    finally:
        cli.ok("rm", container)


def build(cli: Cli, rule: Rule, base: str) -> Tree | str:
    """What the build changes, or its error."""
    dockerfile = rule.dockerfile.replace("{base}", base).replace("{instruction}", rule.instruction)
    context = {**CONTEXT, **rule.context, "Dockerfile": f"f 644 0:0 {dockerfile}"}
    if context.get("t") == "zstd":
        context["t"] = "f 644 0:0 " + zstandard.compress(tar_of(copy_rules.TAR)).decode("latin-1")
    built = cli("build", "--no-cache", "-q", "-", stdin=tar_of(context), env={"DOCKER_BUILDKIT": "0"})
    if built.code != 0:
        return built.err
    image = built.out.strip()
    try:
        before, after = files(cli, base), files(cli, image)
    finally:
        cli("rmi", "-f", image)
    changed = {path: line for path, line in after.items() if before.get(path) != line}
    return changed | dict.fromkeys(before.keys() - after.keys(), "")


def check(cli: Cli, rule: Rule, base: str) -> None:
    result = build(cli, rule, base)
    if rule.error:
        assert isinstance(result, str)
        assert rule.error in result
    else:
        assert result == rule.expected


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule(docker_cli: Cli, import_base: Callable[[Tree], str], rule: Rule) -> None:
    check(docker_cli, rule, import_base(rule.base))


@pytest.mark.minid_only("the classic builder does not know it, or does it otherwise than today's reference")
@pytest.mark.parametrize("rule", NEWER, ids=lambda rule: rule.name)
def test_newer_rule(docker_cli: Cli, import_base: Callable[[Tree], str], rule: Rule) -> None:
    check(docker_cli, rule, import_base(rule.base))
