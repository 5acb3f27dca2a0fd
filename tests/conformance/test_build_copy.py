"""COPY, ADD and WORKDIR in whole builds with the docker CLI: the rules of ``tests.copy_rules`` on dockerd and on minid."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import zstandard

from tests import copy_rules
from tests.cli import Cli
from tests.copy_rules import BASE, BASE_MTIME, CONTEXT, NEWER, RULES, Rule, tar_of, tree_of
from tests.http_files import Server

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


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.files["/a/archive.tar"] = tar_of(copy_rules.TAR)
    server.files["/"] = b"index"
    yield server
    server.close()


ARCHIVE = f"f 600 0:0 {tar_of(copy_rules.TAR).decode('latin-1')}"
SHA256 = hashlib.sha256(tar_of(copy_rules.TAR)).hexdigest()
DOWNLOADS = [
    Rule("a name", "ADD {url}/a/archive.tar /new", {"new": ARCHIVE}),
    Rule("a directory", "ADD {url}/a/archive.tar /new/", {"new": copy_rules.NEW, "new/archive.tar": ARCHIVE}),
    Rule(
        "beside files",
        "ADD a {url}/a/archive.tar /there/",
        {"there/a": copy_rules.FILE_A, "there/archive.tar": ARCHIVE},
    ),
    Rule(
        "owned", "ADD --chown=app {url}/a/archive.tar /new", {"new": ARCHIVE.replace("0:0", "1000:1001", 1)}
    ),
    Rule("no name", "ADD {url}/ /new/", error="cannot determine"),
    Rule("not there", "ADD {url}/nothing /new", error="404"),
    Rule("COPY has none", "COPY {url}/a/archive.tar /new", error=""),
]
NEWER_DOWNLOADS = [
    Rule("checked", f"ADD --checksum=sha256:{SHA256} {{url}}/a/archive.tar /new", {"new": ARCHIVE}),
    Rule("wrong", f"ADD --checksum=sha256:{64 * '0'} {{url}}/a/archive.tar /new", error="digest mismatch"),
    Rule(
        "unpacked",
        "ADD --unpack=true {url}/a/archive.tar /new",
        {"new": copy_rules.NEW, **copy_rules.below("new", copy_rules.UNPACKED)},
    ),
    Rule(
        "with a mode", "ADD --chmod=755 {url}/a/archive.tar /new", {"new": ARCHIVE.replace("600", "755", 1)}
    ),
]


def check_download(cli: Cli, server: Server, rule: Rule, base: str) -> None:
    """The time is the server's."""
    result = build(cli, replace(rule, instruction=rule.instruction.replace("{url}", server.url)), base)
    if not rule.expected:
        assert isinstance(result, str)
        assert rule.error in result
        return
    assert result == rule.expected


@pytest.mark.parametrize("rule", DOWNLOADS, ids=lambda rule: rule.name)
def test_download(docker_cli: Cli, import_base: Callable[[Tree], str], server: Server, rule: Rule) -> None:
    check_download(docker_cli, server, rule, import_base({}))


@pytest.mark.minid_only("the classic builder does not know it")
@pytest.mark.parametrize("rule", NEWER_DOWNLOADS, ids=lambda rule: rule.name)
def test_newer_download(
    docker_cli: Cli, import_base: Callable[[Tree], str], server: Server, rule: Rule
) -> None:
    check_download(docker_cli, server, rule, import_base({}))


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
