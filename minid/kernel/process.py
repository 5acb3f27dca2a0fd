"""Processes: what /proc says of them, what one sets for itself before execve, and the names of signals and
limits.

A pid alone names nobody for long: keep it with ``start_ticks``, or hold a pidfd. Import-light: used in forked
processes. Sources: proc(5), prctl(2), signal(7), setrlimit(2), sched(7).
"""

import ctypes
import errno
import functools
import os
import resource
import signal
from ctypes import c_char_p, c_int, c_long, c_ulong, c_void_p

from minid.kernel.syscall import NR, fail, libc

# Made and typed once: what a call makes and throws away touches memory that a forked process shares otherwise.
_prctl = libc["prctl"]
_prctl.restype = c_int
_prctl.argtypes = (c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_prctl_text = libc["prctl"]
_prctl_text.restype = c_int
_prctl_text.argtypes = (c_int, c_char_p)
_keyctl = libc["syscall"]
_keyctl.restype = c_long
_keyctl.argtypes = (c_long, c_long, c_void_p)
_signal = libc["signal"]
_signal.restype = c_void_p
_signal.argtypes = (c_int, c_void_p)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_KEYCTL_JOIN_SESSION_KEYRING = 1


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from field 3 (state) on: field N of proc(5) is ``[N - 3]``. ProcessLookupError if there
    is none.

    The command's name, field 2, may hold spaces and parentheses; the last ``)`` ends it.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(errno.ESRCH, "no such process", str(pid)) from None
    return parse_stat(text)


def parse_stat(text: bytes) -> list[str]:
    """``stat_fields`` of a text."""
    return text[text.rindex(b")") + 2 :].decode("ascii").split()


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since boot (field 22): with the pid it names one process for
    ever.
    """
    return int(stat_fields(pid)[19])


def exists(pid: int, ticks: int) -> bool:
    """Whether that very process is still there and running, which a zombie is not."""
    try:
        fields = stat_fields(pid)
    except ProcessLookupError:
        return False
    return int(fields[19]) == ticks and fields[0] not in ("Z", "X")


def list_threads(pid: int) -> list[int]:
    """The thread ids of a process; ProcessLookupError if there is none."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, "no such process", str(pid)) from None


def list_children(pid: int) -> list[int]:
    """The direct children of all threads of a process (CONFIG_PROC_CHILDREN); a snapshot, and only that."""
    children = []
    for thread in list_threads(pid):
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children += [int(word) for word in file.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return children


def _set(option: int, value: int, what: str) -> None:
    if _prctl(option, value, 0, 0, 0) != 0:
        raise fail(f"prctl({what})")


def set_pdeathsig(number: int) -> None:
    """Get a signal when the *thread* that forked us ends; 0 for none. Lost by a change of uid, so set it
    after one.

    The parent may have ended already: compare os.getppid() afterwards.
    """
    _set(_PR_SET_PDEATHSIG, number, "PR_SET_PDEATHSIG")


def set_subreaper(on: bool = True) -> None:
    """Become the parent of orphans below us, instead of the namespace's init."""
    _set(_PR_SET_CHILD_SUBREAPER, int(on), "PR_SET_CHILD_SUBREAPER")


def set_dumpable(on: bool) -> None:
    """Whether others of our uid may trace us and read our /proc files; execve sets it again."""
    _set(_PR_SET_DUMPABLE, int(on), "PR_SET_DUMPABLE")


def set_no_new_privs() -> None:
    """execve never gives privileges any more, to us and all below; cannot be undone."""
    _set(_PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")


def leave_session_keyring() -> None:
    """A new, empty session keyring in place of the one inherited (keyctl(2)); as it is where there are none."""
    # (fails when built without keyrings, forbidden by a seccomp filter, or over root's quota)
    _keyctl(NR["keyctl"], _KEYCTL_JOIN_SESSION_KEYRING, None)


def set_name(name: str) -> None:
    """The thread's name (/proc/self/comm), cut to 15 bytes."""
    if _prctl_text(_PR_SET_NAME, os.fsencode(name)[:15]) != 0:
        raise fail("prctl(PR_SET_NAME)")


_RESETTABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def set_title(text: str) -> None:
    """What ps(1) shows as this process's command line, in the place of its arguments and no longer than they were.

    proc(5): ``arg_start`` and ``arg_end`` (fields 48 and 49 of /proc/self/stat) bound them in memory.
    """
    start, size = _title_place()
    ctypes.memmove(start, os.fsencode(text)[: size - 1].ljust(size, b"\0"), size)


@functools.cache
def _title_place() -> tuple[int, int]:
    """Address and size of the arguments, which a fork has at the same place."""
    fields = stat_fields(os.getpid())
    return int(fields[45]), int(fields[46]) - int(fields[45])


def reap_children() -> None:
    """Children that end are ours to wait for, although the process that forked us has ignored SIGCHLD.

    signal.signal() would do it too, and make members of enumerations on the way.
    """
    _signal(signal.SIGCHLD, None)


def reset_signals() -> None:
    """Every signal to its default action, none blocked: Python ignores SIGPIPE, and a parent may have done
    more.
    """
    for number in _RESETTABLE:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


# Docker's names (units.Ulimit) and the OCI spec's: "nofile", "RLIMIT_NOFILE".
RLIMITS: dict[str, int] = {
    name[7:].lower(): number for name, number in vars(resource).items() if name.startswith("RLIMIT_")
}
# Not in Python 3.11's resource on every build; the numbers are Linux's, sparc and mips apart.
RLIMITS = {"locks": 10, "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14, "rttime": 15} | RLIMITS
RLIMITS.pop("ofile", None)  # BSD's name for nofile


def rlimit_number(name: str) -> int:
    """``nofile`` or ``RLIMIT_NOFILE`` → its number; ValueError for an unknown one."""
    short = name.lower().removeprefix("rlimit_")
    if short not in RLIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    return RLIMITS[short]


def set_rlimit(name: str, soft: int, hard: int, pid: int = 0) -> None:
    """setrlimit(2) by name, -1 for unlimited. ValueError: unknown name, or soft above hard.

    PermissionError and only that: the hard limit would rise, and CAP_SYS_RESOURCE is missing.
    """
    number = rlimit_number(name)
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"ulimit {name}: soft limit {soft} is above the hard limit {hard}")
    try:
        resource.prlimit(pid, number, (soft, hard))
    except (ValueError, PermissionError) as error:
        # resource turns EPERM of some calls into "not allowed to raise maximum limit".
        if isinstance(error, PermissionError) or "not allowed to raise" in str(error):
            text = f"prlimit: raising the hard limit of {name} to {hard} needs CAP_SYS_RESOURCE"
            raise PermissionError(errno.EPERM, text) from None
        raise


def set_oom_score_adj(value: int, pid: str = "self") -> None:
    """/proc/PID/oom_score_adj, -1000 to 1000. PermissionError: to go below the lowest value ever needs
    CAP_SYS_RESOURCE.
    """
    with open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write(str(value))


_SIGNALS = {name[3:]: int(number) for name, number in signal.Signals.__members__.items()}
_SIGNALS |= {"CLD": int(signal.SIGCHLD), "IOT": int(signal.SIGABRT), "POLL": int(signal.SIGIO), "STKFLT": 16}
_RTMIN, _RTMAX = 34, 64  # as seen through glibc and by Docker; the kernel's own SIGRTMIN is 32


def parse_signal(text: str) -> int:
    """``SIGTERM``, ``term``, ``15``, ``RTMIN+3``, ``SIGRTMAX-1`` → number; ValueError in Docker's words.

    A number is taken as it is, 1 to 64.
    """
    name = text.strip().upper()
    if name.isdecimal() and name.isascii():
        number = int(name) if len(name) < 4 else 0
        if 1 <= number <= _RTMAX:
            return number
        raise ValueError(f"Invalid signal: {text}")
    name = name.removeprefix("SIG")
    if name in _SIGNALS:
        return _SIGNALS[name]
    for prefix, base, sign in (("RTMIN", _RTMIN, 1), ("RTMAX", _RTMAX, -1)):
        if name.startswith(prefix) and name[5:6] == ("+" if sign == 1 else "-") and name[6:].isdecimal():
            number = base + sign * int(name[6:8])
            if _RTMIN <= number <= _RTMAX and len(name) < 9:
                return number
    raise ValueError(f"Invalid signal: {text}")


def signal_name(number: int) -> str:
    """15 → ``SIGTERM``, 37 → ``SIGRTMIN+3``; the number itself if it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - _RTMIN}" if _RTMIN < number < _RTMAX else str(number)
