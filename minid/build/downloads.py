"""Files from URLs and git repositories, for ADD and for ``POST /build?remote=``; kept for the next time (``kept``).

A URL is asked again each time, with the ETag (or Last-Modified) that it had; a repository for the commit that its
ref is at now. Only what has changed is transferred again.
"""

import asyncio
import email.utils
import hashlib
import os
import posixpath
import secrets
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from minid import __version__
from minid.build import context as contexts
from minid.build import listing
from minid.build.context import Context, Jobs
from minid.build.copying import Fetched
from minid.build.kept import Kept
from minid.build.remotes import Repository, find_context_repository, find_repository
from minid.errors import Failed, InvalidParameter, MinidError
from minid.images.layers import tar
from minid.images.layers.stream import compression
from minid.images.layers.tar import REGULAR, Entry, TarError
from minid.kernel.files import remove_tree
from minid.shim.client import JobError

_JOBS = "minid.build.git_jobs"
_CONNECT_TIMEOUT_S = 30
_STALL_TIMEOUT_S = 60
_REDIRECTS_MAX = 10
_CHUNK_BYTES = 1 << 18
_FILE = "/Dockerfile"  # what a download is called in its context
MAX_BYTES = 64 << 30
FILE_MODE = 0o600


class Downloads:
    """One a daemon. ``directory`` is where things are kept, ``asides`` where checkouts are made. ``close`` it."""

    def __init__(self, directory: Path, asides: Path, jobs: Jobs) -> None:
        self.kept = Kept(directory)
        self._asides = asides
        self._jobs = jobs
        self._session: aiohttp.ClientSession | None = None
        self._cleaning: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        await asyncio.gather(*self._cleaning, return_exceptions=True)

    # -- ADD

    async def fetch(
        self,
        word: str,
        *,
        checksum: str = "",
        keep_git_dir: bool = False,
        headers: Mapping[str, str] | None = None,
        agent: str = "",
    ) -> Fetched:
        """What the remote source ``word`` of ADD is now; close its context. Raises InvalidParameter, Failed.

        ``checksum``: ``sha256:…`` of a file, the beginning of a commit's id of a repository. ``headers`` go to the
        host in the URL only; ``agent`` is the socket of an SSH agent.
        """
        repository = find_repository(word)
        if repository is not None:
            return Fetched(await self._clone(repository, checksum, keep_git_dir, agent), "/")
        return await self._download(word, checksum, headers or {})

    # -- POST /build?remote=

    async def fetch_context(self, remote: str, *, agent: str = "") -> tuple[Context, bool]:
        """The context at ``remote``, a git repository or URL; true if it is a lone Dockerfile (``Dockerfile``)."""
        repository = find_context_repository(remote)
        if repository is not None:
            return await self._clone(repository, "", False, agent), False
        if not remote.startswith(("http://", "https://")):
            raise InvalidParameter(f"{remote!r} is no context: it must be a URL or a git repository")
        fetched = await self._download(remote, "", {})
        if not await asyncio.to_thread(_is_archive, fetched):
            return fetched.context, True
        with fetched.context as archive:
            node = listing.find(archive.records(), fetched.path)
            assert node is not None
            stream = _pieces(archive.fds[0], node.offset, node.size)
            return await contexts.receive(stream, self._asides, self._jobs), False

    # -- HTTP

    async def _download(self, url: str, checksum: str, headers: Mapping[str, str]) -> Fetched:
        algorithm, _, wanted = checksum.partition(":")
        if checksum and (algorithm != "sha256" or len(wanted) != 64):
            raise InvalidParameter(
                f"--checksum of a file must be sha256: and 64 hex digits, not {checksum!r}"
            )
        address = url.partition("#")[0]
        name = _file_name(address)
        names = ("http", address, *sorted(f"{key}: {value}" for key, value in headers.items()))
        found = self.kept.find(*names)
        if found is not None and checksum and found[1]["digest"] == wanted:
            return Fetched(found[0], _FILE, name)
        context = None if found is None else found[0]
        try:
            about = {} if found is None else found[1]
            newer = await self._get(address, headers, about, wanted, names)
            if newer is not None:
                return Fetched(newer, _FILE, name)
            assert context is not None
            if wanted and about["digest"] != wanted:
                raise _mismatch(address, wanted, about["digest"])
            kept, context = context, None
            return Fetched(kept, _FILE, name)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise Failed(f"ADD failed: failed to GET {address}: {reason}") from error
        finally:
            if context is not None:
                context.close()

    async def _get(
        self,
        url: str,
        headers: Mapping[str, str],
        about: Mapping[str, Any],
        wanted: str,
        names: tuple[str, ...],
    ) -> Context | None:
        """The file at ``url``; None if it is the one that ``about`` tells of."""
        asked = {"User-Agent": f"minid/{__version__}", "Accept-Encoding": "identity", **headers}
        if about.get("etag"):
            asked["If-None-Match"] = about["etag"]
        elif about.get("last_modified"):
            asked["If-Modified-Since"] = about["last_modified"]
        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_STALL_TIMEOUT_S
            )
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False)
        async with self._session.get(url, headers=asked, max_redirects=_REDIRECTS_MAX) as response:
            if response.status == 304 and about:
                return None
            if response.status != 200:
                raise Failed(
                    f"ADD failed: failed to GET {url} with status {response.status} {response.reason}"
                )
            fd, aside = self.kept.new_file()
            try:
                digest, size = await _store(response.content, fd, url)
                if wanted and digest != wanted:
                    raise _mismatch(url, wanted, digest)
                last_modified = response.headers.get("Last-Modified", "")
                context = _context(fd, size, digest, _seconds(last_modified))
                told = {
                    "etag": response.headers.get("ETag", ""),
                    "last_modified": last_modified,
                    "digest": digest,
                    "url": url,
                }
                self.kept.add(aside, context, told, *names)
            except BaseException:
                os.close(fd)
                aside.unlink(missing_ok=True)
                raise
            return context

    # -- git

    async def _clone(self, repository: Repository, checksum: str, keep_git_dir: bool, agent: str) -> Context:
        request: dict[str, Any] = {
            "url": repository.url,
            "ref": repository.ref,
            "subdirectory": repository.directory or ".",
            "keep_git_dir": keep_git_dir,
            "is_ssh": repository.is_ssh,
            "agent": agent,
        }
        commit = repository.ref if repository.is_commit else await self._resolve(request, repository)
        names = ("git", repository.url, commit, repository.directory, str(keep_git_dir))
        found = self.kept.find(*names) if commit else None
        if found is not None:
            context, commit = found[0], found[1]["commit"]
        else:
            context, commit = await self._clone_now(request, repository, keep_git_dir)
        if checksum and not commit.startswith(checksum.lower()):
            context.close()
            raise InvalidParameter(f"expected checksum to match {checksum}, got {commit}")
        return context

    async def _resolve(self, request: Mapping[str, Any], repository: Repository) -> str:
        return str((await self._git("resolve_job", request, repository))["commit"])

    async def _clone_now(
        self, request: Mapping[str, Any], repository: Repository, keep_git_dir: bool
    ) -> tuple[Context, str]:
        fd, aside = self.kept.new_file()
        directory = self._asides / secrets.token_hex(8)
        try:
            result = await self._git("clone_job", {**request, "directory": str(directory)}, repository, fd)
            offset, length = result["listing"]
            context = Context(
                fd, (offset, length), entries=result["entries"], size_bytes=result["size_bytes"]
            )
            commit = result["commit"]
            names = ("git", repository.url, commit, repository.directory, str(keep_git_dir))
            told = {"commit": commit, "url": repository.url}
            self.kept.add(aside, context, told, *names)
        except BaseException:
            os.close(fd)
            aside.unlink(missing_ok=True)
            raise
        return context, commit

    async def _git(
        self, job: str, request: Mapping[str, Any], repository: Repository, *fds: int
    ) -> dict[str, Any]:
        """Run the job. When this is cancelled, it ends with its programs, and its directory is removed."""
        watched, held = os.pipe2(os.O_CLOEXEC)
        ended, alive = os.pipe2(os.O_CLOEXEC)
        try:
            return await self._jobs.call(f"{_JOBS}:{job}", request, [watched, alive, *fds])
        except JobError as error:
            raise _git_error(error, repository) from error
        except BaseException:
            directory = request.get("directory")
            if directory:
                task = asyncio.create_task(_remove_when_ended(os.dup(ended), directory))
                self._cleaning.add(task)
                task.add_done_callback(self._cleaning.discard)
            raise
        finally:
            for fd in (watched, held, ended, alive):
                os.close(fd)


def _git_error(error: JobError, repository: Repository) -> MinidError:
    message = f"failed to fetch {repository.url}: {error}"
    return InvalidParameter(message) if error.kind in ("GitError", "TarError") else Failed(message)


async def _remove_when_ended(ended: int, directory: str) -> None:
    """Once the pipe ``ended`` has no writer any more."""

    def wait_and_remove() -> None:
        try:
            os.read(ended, 1)
        finally:
            os.close(ended)
        remove_tree(directory)

    await asyncio.to_thread(wait_and_remove)


def _file_name(url: str) -> str:
    """The last part of a URL's path, "" if there is none."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    name = posixpath.basename(path)
    return name if name not in ("", ".", "..") and "\0" not in name else ""


def _seconds(last_modified: str) -> int:
    try:
        return max(int(email.utils.parsedate_to_datetime(last_modified).timestamp()), 0)
    except (ValueError, TypeError, OverflowError):
        return 0


def _mismatch(url: str, wanted: str, digest: str) -> InvalidParameter:
    return InvalidParameter(
        f"ADD failed: digest mismatch of {url}: sha256:{digest}, expected sha256:{wanted}"
    )


async def _store(content: aiohttp.StreamReader, fd: int, url: str) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0

    def write(chunk: bytes) -> None:
        digest.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(fd, view) :]

    async for chunk in content.iter_chunked(_CHUNK_BYTES):
        size += len(chunk)
        if size > MAX_BYTES:
            raise InvalidParameter(f"ADD failed: {url} has more than {MAX_BYTES} bytes")
        await asyncio.to_thread(write, chunk)
    return digest.hexdigest(), size


def _context(fd: int, size: int, digest: str, mtime_s: int) -> Context:
    """The contents in ``fd`` as a context with one file, ``_FILE``."""
    entry = Entry(os.fsencode(_FILE), REGULAR)
    entry.mode, entry.size, entry.real_size, entry.mtime_ns = FILE_MODE, size, size, mtime_s * 10**9
    builder = listing.Builder()
    builder.add(entry, 0, digest)
    data = builder.dump()
    os.pwrite(fd, data, size)
    return Context(fd, (size, len(data)), entries=1, size_bytes=size)


def _is_archive(fetched: Fetched) -> bool:
    node = listing.find(fetched.context.records(), fetched.path)
    assert node is not None
    start = os.pread(fetched.context.fds[0], min(node.size, tar.BLOCK), node.offset)
    if compression(start[:6]) != "none":
        return True
    try:
        tar.check_sum(start.ljust(tar.BLOCK, b"\0"))
    except TarError:
        return False
    return any(start)


async def _pieces(fd: int, offset: int, size: int) -> Any:
    while size:
        piece = await asyncio.to_thread(os.pread, fd, min(size, 1 << 20), offset)
        if not piece:
            return
        yield piece
        offset, size = offset + len(piece), size - len(piece)
