"""One container's cgroup, whatever the version: join, limit, look at, freeze, kill, remove.

``Cgroup`` is what callers see; cgroups.v1 and cgroups.v2 implement it. Import-light and synchronous: a shim
uses it as it is, the daemon calls what can block (freeze, kill, remove) in a thread.
"""

import contextlib
import errno
import os
import select
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from minid.kernel.cgroups.settings import Setting


class Cgroup(ABC):
    """A container's cgroup in each hierarchy in which it has one.

    ``paths``: controller → directory (v2: only ``""``); with them ``cgroups.reopen`` finds the same cgroup
    again after a restart, even if the daemon's own cgroup is another one by then. ``warnings``: the limits
    that this machine cannot set, in Docker's words, from ``create``.
    """

    version: int

    def __init__(self, paths: Mapping[str, str], warnings: Iterable[str] = ()) -> None:
        self.paths = dict(paths)
        self.warnings = tuple(warnings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directories[0]!r})"

    @property
    def directories(self) -> tuple[str, ...]:
        """The cgroup's directories, each once (controllers may be mounted together)."""
        return tuple(dict.fromkeys(self.paths.values()))

    @property
    def joined(self) -> tuple[str, ...]:
        """Those of ``directories`` that every process of the container is in."""
        return self.directories

    @property
    @abstractmethod
    def procs_files(self) -> tuple[str, ...]:
        """Files into which a single-threaded process writes ``0`` to join."""

    @property
    def fork_directory(self) -> str | None:
        """For ``clone.fork(cgroup=…)``: what a child can be born into, much faster than it can join; None on
        v1.
        """
        return None

    @property
    @abstractmethod
    def oom_file(self) -> str | None:
        """The file of which ``oom_kills_in`` understands the text; None if there is no memory controller."""

    @abstractmethod
    def inner(self, name: str) -> "Cgroup":
        """A cgroup inside this one, made if it is not there: for some of its processes that are to be found (and
        killed) by themselves. Limits, devices and numbers are this one's; it goes when this one is removed.
        """

    @abstractmethod
    def update(self, resources: Mapping[str, Any]) -> list[str]:
        """Apply OCI ``linux.resources``, the whole of them, to the running container; returns warnings.

        ValueError: values that contradict each other. OSError: the kernel refuses one (it names file and
        value).
        """

    @abstractmethod
    def freeze(self, timeout_s: float = 10.0) -> None:
        """Stop every process; returns when all of them stand still. TimeoutError (thawed again) if one does
        not.
        """

    @abstractmethod
    def thaw(self) -> None:
        """Let them run again; nothing happens if they do."""

    @abstractmethod
    def frozen(self) -> bool:
        """Whether ``freeze`` is in force."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL to every process, those that are being forked included; does not wait for their end. A
        cgroup that is gone has none.
        """

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """Raw numbers: ``cpu``, ``memory``, ``pids``, ``blkio``; see the implementations. Missing is left
        out.
        """

    def join(self, pid: int = 0) -> None:
        """Move this single-threaded process (or, slower, another one) into the cgroup."""
        for path in self.procs_files if pid == 0 else [each + "/cgroup.procs" for each in self.joined]:
            write(path, str(pid))

    def procs_files_with(self, inner: "Cgroup") -> tuple[str, ...]:
        """``procs_files`` for a process that is to be in ``inner``, which is inside this one."""
        instead = {os.path.dirname(os.path.dirname(path)): path for path in inner.procs_files}
        return tuple(instead.get(os.path.dirname(path), path) for path in self.procs_files)

    def lift(self) -> None:
        """Let its processes go to the cgroup around it, as far as that takes them."""
        for directory in self.directories:
            tried: set[int] = set()
            while more := set(processes(directory)) - tried:
                for pid in more:
                    with contextlib.suppress(OSError):
                        write(os.path.dirname(directory) + "/cgroup.procs", str(pid))
                tried |= more

    def exists(self) -> bool:
        """Whether any of it is still there."""
        return any(os.path.isdir(each) for each in self.directories)

    def pids(self) -> list[int]:
        """The processes in it and in cgroups below, as this process's pid namespace numbers them."""
        return list(dict.fromkeys(processes(self.joined[0])))

    def oom_kills(self) -> int:
        """How many processes the kernel has killed in it for want of memory; 0 if that cannot be known."""
        path = self.oom_file
        if path is None:
            return 0
        try:
            return oom_kills_in(read(path))
        except FileNotFoundError:
            return 0

    def try_remove(self) -> bool:
        """Remove what is empty now; False if processes are left. Nothing there counts as removed."""
        done = True
        for directory in self.directories:
            for each in reversed(list(walk(directory))):
                try:
                    os.rmdir(each)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    done = False
        return done

    def remove(self, timeout_s: float = 10.0) -> None:
        """Remove the cgroup when its last process has gone, waiting for that by pidfd; nothing there is no
        error.

        It kills nothing. TimeoutError names what is still running.
        """
        deadline = time.monotonic() + timeout_s
        while not self.try_remove():
            left_s = deadline - time.monotonic()
            pids = sorted({pid for directory in self.directories for pid in processes(directory)})
            if left_s <= 0:
                raise TimeoutError(
                    errno.EBUSY, f"cgroup still has processes {pids} after {timeout_s} s", self.directories[0]
                )
            # With no process to be seen, the last one is within its exit: that needs no more than a moment.
            _await_exit(pids, min(left_s, 1.0 if pids else 0.002))


def processes(directory: str) -> Iterator[int]:
    """The processes in a cgroup and in those below it, without those that our pid namespace does not show."""
    for each in walk(directory):
        try:
            text = read(each + "/cgroup.procs")
        except OSError as error:
            # Gone meanwhile; or a threaded v2 cgroup, whose processes its domain's root lists.
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                continue
            raise
        yield from (int(word) for word in text.split() if word != "0")


def _await_exit(pids: Iterable[int], timeout_s: float) -> None:
    """Wait until one of the processes has ended (or, without any, for the timeout)."""
    poll = select.poll()
    fds = []
    try:
        for pid in pids:
            try:
                fds.append(os.pidfd_open(pid))
            except ProcessLookupError:
                return
            except OSError:
                break
            poll.register(fds[-1], select.POLLIN)
        poll.poll(timeout_s * 1000)
    finally:
        for fd in fds:
            os.close(fd)


def walk(directory: str) -> Iterator[str]:
    """The directory and all below it, parents first. A cgroup without children has a link count of 2."""
    try:
        if os.stat(directory).st_nlink > 2:
            with os.scandir(directory) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        else:
            below = []
    except FileNotFoundError:
        return
    yield directory
    for each in below:
        yield from walk(each)


def signal_all(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def read(path: str) -> str:
    """The whole text of a cgroup file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode()


def find_text(path: str) -> str | None:
    """``read``, or None for a file that is not there or not supported."""
    try:
        return read(path)
    except OSError:
        return None


def find_number(path: str) -> int | None:
    """A file's one number; None if it is not there, or says ``max``."""
    text = (find_text(path) or "").strip()
    return int(text) if text.lstrip("-").isdigit() else None


def flat_keyed(text: str) -> dict[str, int]:
    """``key value`` lines (cgroup-v2.rst, "flat keyed")."""
    numbers = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            numbers[key] = int(value)
    return numbers


def oom_kills_in(text: str) -> int:
    """The count in the text of v1's memory.oom_control (Linux 4.13) or v2's memory.events."""
    return flat_keyed(text).get("oom_kill", 0)


def write(path: str, value: str) -> None:
    """One write to a cgroup file; an OSError names the file and what should have been written."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or errno.EIO
        raise OSError(number, f"write {value!r} to cgroup file: {os.strerror(number)}", path) from None


def write_settings(paths: Mapping[str, str], settings: Iterable[Setting]) -> list[str]:
    """Do the writes in order; returns a warning for each whose controller or file is not there."""
    warnings = []
    for setting in settings:
        directory = paths.get(setting.controller, paths.get(""))
        for file, value in setting.choices if directory is not None else ():
            try:
                write(f"{directory}/{file}", value)
            except FileNotFoundError:
                continue
            break
        else:
            warnings.append(setting.lacking)
    return list(dict.fromkeys(warnings))
