"""Downloads for builds: a real HTTP server, real git repositories over the git protocol and (dumb) HTTP."""

import asyncio
import functools
import hashlib
import http.server
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from minid.build import listing
from minid.build.copying import Fetched
from minid.build.downloads import Downloads
from minid.build.kept import Kept
from minid.errors import Failed, InvalidParameter
from minid.shim.client import Jobs
from tests.copy_rules import tar_of
from tests.http_files import MTIME, Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def root(privileged: None) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    yield root
    shutil.rmtree(root)


@pytest.fixture
async def downloads(root: Path) -> AsyncIterator[Downloads]:
    jobs = Jobs(("minid.build.receive_jobs", "minid.build.git_jobs"))
    asides = root / "asides"
    asides.mkdir(mode=0o700)
    downloads = Downloads(root / "kept", asides, jobs)
    yield downloads
    await downloads.close()
    jobs.close()
    assert not list(asides.iterdir())
    assert not list((root / "kept").glob("*.aside"))


def described(fetched: Fetched) -> dict[str, str]:
    """Path → ``kind mode mtime digest-or-target``; closes the context."""
    found = {}

    def walk(node: listing.Node, path: str) -> None:
        for name, child in listing.children(node):
            more = child.target or child.digest[:8]
            found[path + name] = f"{child.kind} {child.mode:o} {child.mtime_s} {more}".rstrip()
            walk(child, f"{path}{name}/")

    with fetched.context as context:
        root = listing.find(context.records(), "/")
        assert root is not None
        walk(root, "/")
    return found


def short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


async def test_file(downloads: Downloads, server: Server) -> None:
    server.files["/a/file.txt"] = b"hello"
    fetched = await downloads.fetch(f"{server.url}/a/file.txt?x=1#y")
    assert fetched.name == "file.txt"
    assert described(fetched) == {fetched.path: f"f 600 {MTIME} {short(b'hello')}"}


async def test_an_unchanged_file_is_not_transferred_again(downloads: Downloads, server: Server) -> None:
    server.files["/file"] = b"one"
    for expected, status in ((b"one", 200), (b"one", 304), (b"two", 200), (b"two", 304)):
        server.files["/file"] = expected
        assert list(described(await downloads.fetch(f"{server.url}/file")).values()) == [
            f"f 600 {MTIME} {short(expected)}"
        ]
        assert server.requests[-1][2] == status


async def test_checksum(downloads: Downloads, server: Server) -> None:
    server.files["/file"] = b"one"
    right = "sha256:" + hashlib.sha256(b"one").hexdigest()
    (await downloads.fetch(f"{server.url}/file", checksum=right)).context.close()
    (await downloads.fetch(f"{server.url}/file", checksum=right)).context.close()
    assert len(server.requests) == 1, "what is known to be right is not asked for"
    with pytest.raises(InvalidParameter, match="digest mismatch"):
        await downloads.fetch(f"{server.url}/file", checksum="sha256:" + 64 * "0")
    with pytest.raises(InvalidParameter, match="must be sha256"):
        await downloads.fetch(f"{server.url}/file", checksum="md5:1234")
    server.files["/other"] = b"other"
    with pytest.raises(InvalidParameter, match="digest mismatch"):
        await downloads.fetch(f"{server.url}/other", checksum=right)


async def test_redirect_keeps_the_name(downloads: Downloads, server: Server) -> None:
    server.files["/file"] = b"one"
    fetched = await downloads.fetch(f"{server.url}/moved")
    assert fetched.name == "moved"
    fetched.context.close()


async def test_failures(downloads: Downloads, server: Server) -> None:
    with pytest.raises(Failed, match="404"):
        await downloads.fetch(f"{server.url}/nothing")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Failed, match="failed to GET"):
            await downloads.fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/x")


async def test_cancelled_download_leaves_nothing(downloads: Downloads, server: Server, root: Path) -> None:
    task = asyncio.create_task(downloads.fetch(f"{server.url}/slow"))
    await asyncio.to_thread(server.stalled.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list((root / "kept").iterdir())


async def test_no_name(downloads: Downloads, server: Server) -> None:
    server.files["/"] = b"index"
    fetched = await downloads.fetch(f"{server.url}/")
    assert fetched.name == ""
    fetched.context.close()


async def test_context_by_url(downloads: Downloads, server: Server) -> None:
    server.files["/c"] = tar_of({"Dockerfile": "f 644 0:0 FROM scratch", "a": "f 600 0:0 a"}, compress="gz")
    server.files["/d"] = b"FROM scratch\n"
    context, lone = await downloads.fetch_context(f"{server.url}/c")
    with context:
        assert not lone
        assert await context.find("Dockerfile") == b"FROM scratch"
    context, lone = await downloads.fetch_context(f"{server.url}/d")
    with context:
        assert lone
        assert await context.find("Dockerfile") == b"FROM scratch\n"
    with pytest.raises(InvalidParameter):
        await downloads.fetch_context("/etc")


# -- git


def git(directory: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "GIT_AUTHOR_DATE": f"{MTIME} +0000",
        "GIT_COMMITTER_DATE": f"{MTIME} +0000",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    options = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main")
    return subprocess.run(
        ["git", *options, "-C", str(directory), *arguments],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def repository(root: Path) -> Path:
    work = root / "served/repo.git"
    work.mkdir(parents=True)
    git(work, "init", "-q")
    (work / "file").write_text("one\n")
    (work / "run").write_text("#!/bin/sh\n")
    (work / "run").chmod(0o755)
    (work / "docs").mkdir()
    (work / "docs/page").write_text("page\n")
    (work / "docs/up").symlink_to("../file")
    git(work, "add", ".")
    git(work, "commit", "-qm", "one")
    git(work, "tag", "-a", "v1", "-m", "v1")
    git(work, "branch", "old")
    (work / "file").write_text("two\n")
    git(work, "commit", "-qam", "two")
    git(work, "update-server-info")
    return work


@pytest.fixture
def daemon(root: Path, repository: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = shutil.which("git-daemon", path="/usr/lib/git-core")
    if program is None:
        pytest.skip("git daemon is not installed")
    process = subprocess.Popen(
        [
            program,
            "--export-all",
            "--listen=127.0.0.1",
            f"--port={port}",
            f"--base-path={root / 'served'}",
            "--reuseaddr",
        ],
        env={
            **os.environ,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while not answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"git://127.0.0.1:{port}/repo.git"
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


TREE = {
    "/docs": f"d 755 {MTIME}",
    "/docs/page": f"f 644 {MTIME} {short(b'page' + chr(10).encode())}",
    "/docs/up": f"l 777 {MTIME} ../file",
    "/run": f"f 755 {MTIME} {short(b'#!/bin/sh' + chr(10).encode())}",
}
ONE = {**TREE, "/file": f"f 644 {MTIME} {short(b'one' + chr(10).encode())}"}
TWO = {**TREE, "/file": f"f 644 {MTIME} {short(b'two' + chr(10).encode())}"}


async def test_git(downloads: Downloads, daemon: str, repository: Path) -> None:
    first = git(repository, "rev-parse", "v1^{commit}")
    assert described(await downloads.fetch(daemon)) == TWO
    assert described(await downloads.fetch(f"{daemon}#main")) == TWO
    for ref in ("v1", "old", first):
        assert described(await downloads.fetch(f"{daemon}#{ref}")) == ONE, ref
    docs = {path.removeprefix("/docs"): line for path, line in TREE.items() if path.startswith("/docs/")}
    assert described(await downloads.fetch(f"{daemon}#v1:docs")) == docs
    assert described(await downloads.fetch(f"{daemon}#:docs")) == docs
    assert described(await downloads.fetch(f"{daemon}#:../../..")) == TWO, "nothing is above the repository"


async def test_git_is_asked_again(downloads: Downloads, daemon: str, repository: Path) -> None:
    assert described(await downloads.fetch(f"{daemon}#main")) == TWO
    (repository / "file").write_text("one\n")
    git(repository, "commit", "-qam", "three")
    assert described(await downloads.fetch(f"{daemon}#main")) == ONE


async def test_git_directory(downloads: Downloads, daemon: str) -> None:
    found = described(await downloads.fetch(daemon, keep_git_dir=True))
    assert "/.git/HEAD" in found
    assert {path: line for path, line in found.items() if not path.startswith("/.git")} == TWO


async def test_git_checksum(downloads: Downloads, daemon: str, repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    for checksum in (commit, commit[:7]):
        (await downloads.fetch(daemon, checksum=checksum)).context.close()
    with pytest.raises(InvalidParameter, match="expected checksum"):
        await downloads.fetch(daemon, checksum="0" * 40)


async def test_git_refuses(downloads: Downloads, daemon: str, server: Server) -> None:
    for address in (
        f"{daemon}#nosuch",
        f"{daemon}#main:nosuch",
        f"{server.url}/none.git",
    ):
        with pytest.raises(InvalidParameter, match="failed to fetch"):
            (await downloads.fetch(address)).context.close()
    with pytest.raises(InvalidParameter):
        await downloads.fetch(f"{daemon}#--upload-pack=touch /tmp/x")


async def test_git_over_dumb_http(downloads: Downloads, repository: Path, root: Path) -> None:
    """No shallow clones there: everything is fetched."""
    handler = functools.partial(Quiet, directory=str(root / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shutil.copytree(repository / ".git", root / "served/bare.git")
        url = f"http://127.0.0.1:{server.server_address[1]}/bare.git"
        assert described(await downloads.fetch(f"{url}#v1")) == ONE
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


async def test_hooks_and_configuration_of_a_repository_do_nothing(
    downloads: Downloads, daemon: str, repository: Path, root: Path
) -> None:
    """A repository that names a filter and a submodule with a local path."""
    (repository / ".gitattributes").write_text("* filter=evil\n")
    (repository / ".gitmodules").write_text(f'[submodule "s"]\n path = s\n url = {root}/served/repo.git\n')
    git(
        repository, "update-index", "--add", "--cacheinfo", f"160000,{git(repository, 'rev-parse', 'HEAD')},s"
    )
    git(repository, "add", ".gitattributes", ".gitmodules")
    git(repository, "commit", "-qm", "evil")
    with pytest.raises(InvalidParameter, match=r"transport 'file' not allowed|failed to fetch"):
        (await downloads.fetch(daemon)).context.close()


async def test_cancelled_clone_leaves_nothing(downloads: Downloads, server: Server, root: Path) -> None:
    """A server that accepts and says nothing; the fixture looks whether anything is left."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.setblocking(False)
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/x.git#" + 40 * "1"
        task = asyncio.create_task(downloads.fetch(url))
        connection, _ = await asyncio.get_running_loop().sock_accept(silent)
        with connection:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while await asyncio.get_running_loop().sock_recv(connection, 4096):
                pass  # until git is gone


def test_kept_is_bounded(root: Path) -> None:
    kept = Kept(root / "kept", max_bytes=100_000)
    for number in range(5):
        fd, aside = kept.new_file()
        data = listing.Builder().dump()
        os.write(fd, bytes(40_000) + data)
        from minid.build.context import Context

        context = Context(fd, (40_000, len(data)), entries=0, size_bytes=0)
        kept.add(aside, context, {}, str(number))
        context.close()
        found = kept.find("0")  # used all the time, so it stays
        assert found is not None
        found[0].close()
    assert kept.find("1") is None
    assert kept.find("2") is None
    assert sum(path.stat().st_size for path in (root / "kept").iterdir()) < 110_000
