"""Jobs that ask git repositories: the program ``git`` with nobody's configuration, no prompts, no hooks.

Over HTTP it runs as nobody; over SSH as root, since the keys are root's. A job has a group of processes of its own, and
ends with all of them when the pipe ``fds[0]`` is closed at the other end: its daemon has given up, or is gone.
"""

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

from minid.build.receive_jobs import receive_job
from minid.images.layers.write import TreeWriter
from minid.kernel import mounts, rootpath, syscall
from minid.kernel.files import remove_tree

NOBODY = 65534
TIMEOUT_S = 900
_PLACE = "/mnt"
_PASSED_ON = ("PATH", "http_proxy", "https_proxy", "no_proxy", "all_proxy")
_OPTIONS = {
    "protocol.allow": "never",
    "protocol.http.allow": "always",
    "protocol.https.allow": "always",
    "protocol.git.allow": "always",
    "protocol.ssh.allow": "always",
    "core.hooksPath": "/dev/null",
    "core.symlinks": "true",
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "credential.helper": "",
    "advice.detachedHead": "false",
    "init.defaultBranch": "main",
    "safe.directory": "*",
    "gc.auto": "0",
    "maintenance.auto": "false",
}


class GitError(ValueError):
    """What git said."""


def resolve_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """The commit that ``ref`` of the repository ``url`` is at now: ``commit``, "" if the server does not say."""
    _end_with(fds[0])
    ref = request["ref"] or "HEAD"
    text = _git(request, "/", "ls-remote", "--", request["url"], ref, f"{ref}^{{}}")
    found = {name: commit for commit, _, name in (line.partition("\t") for line in text.splitlines())}
    for name in (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}", ref):
        if name in found:
            return {"commit": found[name]}
    return {"commit": ""}


def clone_job(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Check the repository ``url`` out at ``ref``, in ``directory`` (which is removed again), and write
    ``subdirectory`` of it as a context into the file ``fds[2]``. ``fds[1]`` is held as long as the job lives.

    ``keep_git_dir`` leaves .git there. Returns what ``receive_job`` does, and ``commit``. Raises GitError.
    """
    _end_with(fds[0])
    directory = request["directory"]
    os.mkdir(directory, 0o700)
    try:
        place = directory
        if not request["is_ssh"]:
            os.chown(directory, NOBODY, NOBODY)
            place = _reachable(directory)
        commit, time_s = _check_out(request, place)
        return _receive(request, directory, time_s, fds[2]) | {"commit": commit}
    finally:
        remove_tree(directory)


def _fetch(request: Mapping[str, Any], directory: str, ref: str) -> str:
    """Fetch ``ref``, and as little else as the server can do; what the commit is called here."""
    for depth in (["--depth=1"], []):  # a server of mere files knows no depth
        try:
            _git(request, directory, "fetch", "-q", *depth, "--no-tags", "origin", ref)
            return "FETCH_HEAD"
        except GitError:
            continue
    _git(
        request, directory, "fetch", "-q", "--tags", "origin"
    )  # a commit that can't be asked for, or a short one
    return ref


def _reachable(directory: str) -> str:
    """A path by which nobody, too, gets to ``directory``, which lies where only root may go; for this job only."""
    syscall.unshare(syscall.CLONE_NEWNS)
    mounts.set_propagation("/", syscall.MS_REC | syscall.MS_PRIVATE)
    syscall.mount(directory, _PLACE, None, syscall.MS_BIND)
    return _PLACE


def _check_out(request: Mapping[str, Any], directory: str) -> tuple[str, int]:
    ref = request["ref"] or "HEAD"
    _git(request, directory, "init", "-q")
    _git(request, directory, "remote", "add", "origin", request["url"])
    wanted = _fetch(request, directory, ref)
    _git(request, directory, "checkout", "-q", "--detach", f"{wanted}^{{commit}}")
    if os.path.exists(os.path.join(directory, ".gitmodules")):
        _git(request, directory, "submodule", "-q", "update", "--init", "--recursive", "--depth=1")
    commit, _, time_s = (
        _git(request, directory, "show", "-s", "--format=%H %ct", "HEAD").strip().partition(" ")
    )
    return commit, int(time_s)


def _receive(request: Mapping[str, Any], directory: str, time_s: int, out: int) -> dict[str, Any]:
    root = rootpath.open_root(directory)
    try:
        found = rootpath.open_in_root(root, request["subdirectory"], os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        raise GitError(f"there is no directory {request['subdirectory']} in the repository") from None
    _tidy(found, time_s, keep_git_dir=request["keep_git_dir"])
    reading, writing = os.pipe2(os.O_CLOEXEC)
    failed: list[BaseException] = []

    def write() -> None:
        try:
            writer = TreeWriter(writing)
            writer.add_contents(found, "")
            writer.close()
        except BaseException as error:
            failed.append(error)
        finally:
            os.close(writing)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        return receive_job({"may_be_empty": True}, [reading, out])
    finally:
        thread.join()
        if failed:
            raise failed[0]


def _tidy(directory: int, time_s: int, *, keep_git_dir: bool) -> None:
    """Give everything the time of the commit, so that the same commit is the same context; take .git away."""
    for _, directories, files, fd in os.fwalk(".", dir_fd=directory):
        if not keep_git_dir and ".git" in directories + files:
            remove_tree(".git", fd)
            directories[:] = [name for name in directories if name != ".git"]
            files = [name for name in files if name != ".git"]
        for name in directories + files:
            os.utime(name, (time_s, time_s), dir_fd=fd, follow_symlinks=False)


def _git(request: Mapping[str, Any], directory: str, *arguments: str) -> str:
    options = [part for key, value in _OPTIONS.items() for part in ("-c", f"{key}={value}")]
    environment = {
        key: value for key, value in os.environ.items() if key.lower() in _PASSED_ON or key == "PATH"
    }
    environment |= {
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": "/dev/null",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_LFS_SKIP_SMUDGE": "1",
    }
    if request.get("agent"):
        environment["SSH_AUTH_SOCK"] = request["agent"]
    who: dict[str, Any] = {} if request["is_ssh"] else {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        done = subprocess.run(
            ["git", *options, *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            umask=0o022,
            timeout=TIMEOUT_S,
            check=False,
            **who,
        )
    except FileNotFoundError:
        raise GitError("the program git is not installed on the daemon's machine") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]} did not end within {TIMEOUT_S} s") from None
    if done.returncode != 0:
        text = done.stderr.decode("utf-8", "replace").strip()[-2000:]
        raise GitError(f"git {arguments[0]}: {text or f'exit status {done.returncode}'}")
    return bytes(done.stdout).decode("utf-8", "surrogateescape")


def _end_with(pipe: int) -> None:
    os.setpgid(0, 0)

    def watch() -> None:
        os.read(pipe, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
