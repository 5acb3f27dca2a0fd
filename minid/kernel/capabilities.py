"""Capabilities: their names, and giving a process exactly the chosen ones.

The life of a container's process around ``setresuid`` (capabilities(7), "Effect of user ID changes")::

    clear_ambient()
    limit_bounding(bounding)          # needs CAP_SETPCAP, so it comes before the set is reduced
    set_keep_caps(True)               # else leaving uid 0 empties the permitted set
    setgroups, setresgid, setresuid
    set_process(permitted, effective, inheritable)
    raise_ambient(ambient)            # needs each one permitted and inheritable
    execve                            # clears "keep capabilities" by itself

A seccomp filter that is loaded without ``no_new_privs`` needs CAP_SYS_ADMIN to be effective, so it goes in
before ``set_process`` (see minid.kernel.seccomp). Import-light: used in forked processes.
"""

import ctypes
from collections.abc import Collection, Iterable

from minid.kernel.syscall import fail, libc

# linux/capability.h, in number order.
ALL: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
NUMBER: dict[str, int] = {name: number for number, name in enumerate(ALL)}

# What Docker gives to a container that asked for nothing.
DEFAULT: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
)


def _read_last() -> int:
    try:
        with open("/proc/sys/kernel/cap_last_cap") as file:
            return int(file.read())
    except (OSError, ValueError):
        return len(ALL) - 1


LAST: int = _read_last()  # the kernel's highest number: may be above or below the names we know

# prctl(2) and linux/capability.h
_PR_SET_KEEPCAPS, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT = 8, 23, 24, 47
_AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 2, 4
_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


_prctl = libc.prctl
_prctl.restype = ctypes.c_int
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_capset = libc.capset
_capset.restype = ctypes.c_int


def mask(names: Iterable[str]) -> int:
    """The 64-bit set of ``names``; KeyError for a name that is not in ALL."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBER[name]
    return bits


def names(bits: int) -> tuple[str, ...]:
    """The known names in a 64-bit set, in number order."""
    return tuple(name for number, name in enumerate(ALL) if bits >> number & 1)


def available() -> frozenset[str]:
    """What this process may give to a child: its permitted set within its bounding set (proc(5), status)."""
    permitted = bounding = 0
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("CapPrm:"):
                permitted = int(line[7:], 16)
            elif line.startswith("CapBnd:"):
                bounding = int(line[7:], 16)
    return frozenset(names(permitted & bounding))


def limit_bounding(keep: Collection[str]) -> None:
    """Drop all but ``keep`` from the bounding set (PR_CAPBSET_DROP), numbers without a name here included.

    Needs CAP_SETPCAP unless nothing is left to drop. What is in ``keep`` and already gone stays gone.
    """
    bits = mask(keep)
    for number in range(LAST + 1):
        if bits >> number & 1 or _prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 0:
            continue
        if _prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            raise fail("prctl(PR_CAPBSET_DROP)", ALL[number] if number < len(ALL) else number)


def set_keep_caps(on: bool) -> None:
    """Keep the permitted set when the process leaves uid 0 (PR_SET_KEEPCAPS); execve(2) resets it."""
    if _prctl(_PR_SET_KEEPCAPS, int(on), 0, 0, 0) != 0:
        raise fail("prctl(PR_SET_KEEPCAPS)")


def set_process(
    permitted: Collection[str], effective: Collection[str], inheritable: Collection[str] = ()
) -> None:
    """capset(2) on the calling thread. EPERM if something would be added that is not permitted now."""
    header = _Header(_VERSION_3, 0)
    data = (_Data * 2)()
    e, p, i = mask(effective), mask(permitted), mask(inheritable)
    for word in (0, 1):
        shift = 32 * word
        data[word] = _Data(e >> shift & 0xFFFFFFFF, p >> shift & 0xFFFFFFFF, i >> shift & 0xFFFFFFFF)
    if _capset(ctypes.byref(header), data) != 0:
        raise fail("capset")


def clear_ambient() -> None:
    """Empty the ambient set (PR_CAP_AMBIENT_CLEAR_ALL)."""
    if _prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0) != 0:
        raise fail("prctl(PR_CAP_AMBIENT_CLEAR_ALL)")


def raise_ambient(caps: Collection[str]) -> None:
    """Add to the ambient set; each must be permitted and inheritable (else EPERM)."""
    for name in caps:
        if _prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, NUMBER[name], 0, 0) != 0:
            raise fail("prctl(PR_CAP_AMBIENT_RAISE)", name)


def apply(
    bounding: Collection[str],
    permitted: Collection[str],
    effective: Collection[str],
    inheritable: Collection[str],
    ambient: Collection[str],
) -> None:
    """All five sets of the calling thread, if no change of uid comes in between (else see the module)."""
    clear_ambient()
    limit_bounding(bounding)
    set_process(permitted, effective, inheritable)
    raise_ambient(ambient)
