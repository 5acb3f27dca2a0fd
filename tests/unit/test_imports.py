"""What import-linter cannot see: which parts of a library, and which calls, stay in which package."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


def imports(package: str) -> Iterator[tuple[str, str]]:
    """Module path and the full name of everything that it imports."""
    for path in sorted((TOP / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield str(path.relative_to(TOP)), alias.name
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    yield str(path.relative_to(TOP)), f"{node.module}.{alias.name}"


def test_only_the_api_serves_http():
    strangers = [
        path
        for path, name in imports("minid")
        if name.startswith(("aiohttp.web", "http.server")) and not path.startswith("minid/api/")
    ]
    assert strangers == []


@pytest.mark.parametrize("library", ["ctypes", "prctl", "pyroute2"])
def test_only_kernel_touches_the_kernel(library):
    strangers = {
        path
        for path, name in imports("minid")
        if name.split(".")[0] == library and not path.startswith("minid/kernel/")
    }
    assert strangers == set()


def test_the_daemon_never_forks():
    """It has threads; Python code must not run between fork and exec there. The forkserver forks."""
    forks = []
    for path in sorted((TOP / "minid").rglob("*.py")):
        text = path.read_text()
        name = str(path.relative_to(TOP))
        if "preexec_fn" in text or (
            "os.fork(" in text and not name.startswith(("minid/shim/", "minid/kernel/"))
        ):
            forks.append(name)
    assert forks == []


def test_minictl_does_not_import_heavy_modules_at_start():
    """Each of these costs more than the whole client: measured 10 ms and up."""
    heavy = {
        "argparse",
        "asyncio",
        "http",
        "urllib",
        "email",
        "ssl",
        "subprocess",
        "logging",
        "typing",
        "dataclasses",
    }
    main = TOP / "minictl" / "main.py"
    top_level = ast.parse(main.read_bytes()).body
    names = {
        alias.name.split(".")[0] for node in top_level if isinstance(node, ast.Import) for alias in node.names
    } | {node.module.split(".")[0] for node in top_level if isinstance(node, ast.ImportFrom) and node.module}
    assert not names & heavy
