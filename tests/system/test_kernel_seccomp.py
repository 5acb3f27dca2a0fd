"""Seccomp filters in real processes: each test forks, loads a filter and makes system calls."""

import ctypes
import errno
import mmap
import os
import platform
import signal
import socket
import struct
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest

from minid.kernel import capabilities, process, seccomp, seccomp_filter
from minid.kernel.seccomp_default import PROFILE
from tests.forked import Ended, forked

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the system call numbers here are x86-64's"),
    pytest.mark.skipif(os.geteuid() != 0, reason="loading a filter without no_new_privs needs root"),
]
KEYCTL, MOUNT, CLONE, CLONE3, BPF, PERSONALITY, GETPPID = 250, 165, 56, 435, 321, 135, 110
X32 = 0x40000000
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def attempt(number: int, *arguments: int) -> str:
    """The errno's name, or "" for success."""
    ctypes.set_errno(0)
    result = _syscall(ctypes.c_long(number), *(ctypes.c_long(each) for each in arguments))
    return errno.errorcode[ctypes.get_errno()] if result == -1 else ""


def attempt_i386(number: int) -> str:
    """A call of the 32-bit ABI: int 0x80 works from a 64-bit process too."""
    code = b"\x53\xb8" + struct.pack("<I", number)  # push rbx; mov eax, number
    code += (
        b"\x31\xdb\x31\xc9\x31\xd2\x31\xf6\xcd\x80\x5b\xc3"  # xor ebx, ecx, edx, esi; int 0x80; pop rbx; ret
    )
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as memory:
        memory.write(code)
        view = ctypes.c_char.from_buffer(memory)
        result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(view))()
        del view
    return errno.errorcode[-result] if result < 0 else ""


def filtered(
    attempts: Callable[[], Any],
    *,
    caps: Collection[str] = capabilities.DEFAULT,
    profile: Mapping[str, Any] = PROFILE,
) -> Any:
    """What ``attempts`` returns in a process with the filter that a container with ``caps`` would have."""
    program = seccomp.compile(profile, caps)

    def run() -> Any:
        seccomp_filter.load(program, seccomp.flags(profile))
        return attempts()

    return forked(run)


def test_forbidden_calls() -> None:
    def attempts() -> dict[str, str]:
        return {
            "keyctl": attempt(KEYCTL, 0, 0),
            "mount": attempt(MOUNT, 0, 0, 0, 0, 0),
            "bpf": attempt(BPF, 0),
            "clone3": attempt(CLONE3, 0, 0),
            "clone with a user namespace": attempt(CLONE, CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0),
            "clone with a network namespace": attempt(CLONE, CLONE_NEWNET | signal.SIGCHLD, 0, 0, 0, 0),
            "getppid": attempt(GETPPID),
        }

    seen = filtered(attempts)
    assert seen.pop("clone3") == "ENOSYS"
    assert seen.pop("getppid") == ""
    assert set(seen.values()) == {"EPERM"}


def test_programs_still_run() -> None:
    def attempts() -> int:
        return os.waitstatus_to_exitcode(os.system("exec /bin/sh -c 'echo | cat >/dev/null; exit 7'"))

    assert filtered(attempts) == 7


def test_threads_still_start() -> None:
    def attempts() -> list[int]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(abs, (-1, -2)))

    assert filtered(attempts) == [1, 2]


def test_capabilities_open_what_they_are_for() -> None:
    def attempts() -> dict[str, str]:
        return {
            "mount": attempt(MOUNT, 0, 0, 0, 0, 0),
            "clone3": attempt(CLONE3, 0, 0),
            "bpf": attempt(BPF, 999, 0, 0),
        }

    admin = filtered(attempts, caps=[*capabilities.DEFAULT, "CAP_SYS_ADMIN"])
    assert admin == {"mount": "EFAULT", "clone3": "EINVAL", "bpf": "EINVAL"}
    bpf = filtered(attempts, caps=[*capabilities.DEFAULT, "CAP_BPF"])
    assert bpf == {"mount": "EPERM", "clone3": "ENOSYS", "bpf": "EINVAL"}


def test_sockets_but_not_to_the_hypervisor() -> None:
    def attempts() -> dict[int, bool]:
        return {family: attempt(41, family, socket.SOCK_STREAM, 0) == "EPERM" for family in range(38, 42)}

    assert filtered(attempts) == {38: True, 39: False, 40: True, 41: False}
    assert filtered(lambda: attempt(41, socket.AF_INET, socket.SOCK_STREAM, 0)) == ""


def test_personalities() -> None:
    def attempts() -> list[str]:
        return [attempt(PERSONALITY, value) for value in (0xFFFFFFFF, 0x20008, 0x8, 0, 0x40000, 0x20001)]

    assert filtered(attempts) == ["", "", "", "", "EPERM", "EPERM"]


def test_calls_newer_than_libseccomp() -> None:
    def attempts() -> dict[str, str]:
        return {
            "mseal": attempt(462, 0, 0, 0),
            "getxattrat": attempt(464, -100, 0, 0, 0, 0, 0),
            "lsm_list_modules": attempt(461, 0, 0, 0),
            "a call of the future": attempt(700),
        }

    native = forked(attempts)
    seen = filtered(attempts)
    assert seen.pop("a call of the future") == "ENOSYS"
    assert seen.pop("lsm_list_modules") == "EPERM"
    assert seen == {name: native[name] for name in seen}


def test_i386_calls_are_filtered_too() -> None:
    try:
        assert forked(lambda: attempt_i386(64)) == ""  # getppid
    except Ended:
        pytest.skip("this kernel has no IA32 emulation")

    def attempts() -> dict[str, str]:
        return {
            "getppid": attempt_i386(64),
            "keyctl": attempt_i386(288),
            "mount": attempt_i386(21),
            "clone3": attempt_i386(435),
            "a call of the future": attempt_i386(700),
        }

    assert filtered(attempts) == {
        "getppid": "",
        "keyctl": "EPERM",
        "mount": "EPERM",
        "clone3": "ENOSYS",
        "a call of the future": "ENOSYS",
    }


def test_x32_calls_are_no_way_round() -> None:
    assert filtered(lambda: attempt(X32 | MOUNT, 0, 0, 0, 0, 0)) == "EPERM"
    assert filtered(lambda: attempt(X32 | KEYCTL, 0, 0)) == "EPERM"


def test_an_abi_that_the_profile_does_not_list_kills() -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}
    with pytest.raises(Ended) as caught:
        filtered(lambda: attempt_i386(64), profile=profile)
    assert caught.value.status in (-signal.SIGSYS, -signal.SIGSEGV)


def test_custom_profile() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"name": "getppid", "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOTTY},
            {"names": ["keyctl", "no_such_call"], "action": "SCMP_ACT_ERRNO"},
            {
                "names": ["personality"],
                "action": "SCMP_ACT_KILL_PROCESS",
                "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}],
            },
        ],
    }

    def attempts() -> list[str]:
        return [attempt(GETPPID), attempt(KEYCTL, 0, 0), attempt(700), attempt(PERSONALITY, 0)]

    assert filtered(attempts, profile=profile) == ["ENOTTY", "EPERM", "ENOSYS", ""]
    with pytest.raises(Ended) as caught:
        filtered(lambda: attempt(PERSONALITY, 8), profile=profile)
    assert caught.value.status == -signal.SIGSYS


def test_default_enosys_profile() -> None:
    names = [
        "read",
        "write",
        "close",
        "exit_group",
        "munmap",
        "mmap",
        "brk",
        "futex",
        "fstat",
        "lseek",
        "ioctl",
    ]
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.ENOSYS,
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    }
    assert filtered(lambda: attempt(GETPPID), profile=profile) == "ENOSYS"


def test_unknown_architecture() -> None:
    with pytest.raises(ValueError, match="unknown architecture 'SCMP_ARCH_VAX'"):
        seccomp.compile(
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}, capabilities.DEFAULT
        )


PROGRAM = b"\x06\x00\x00\x00\x00\x00\xff\x7f"  # return SECCOMP_RET_ALLOW


def test_load_needs_admin_or_no_new_privs() -> None:
    def without_either() -> None:
        capabilities.set_process((), ())
        seccomp_filter.load(PROGRAM)

    with pytest.raises(PermissionError) as caught:
        forked(without_either)
    assert caught.value.errno == errno.EACCES

    def with_no_new_privs() -> None:
        capabilities.set_process((), ())
        process.set_no_new_privs()
        seccomp_filter.load(PROGRAM)

    forked(with_no_new_privs)


def test_dropping_privileges_under_the_default_filter() -> None:
    """The order of the module's docstring: filter first, then user and capabilities, then execve."""
    program = seccomp.compile_default(frozenset(capabilities.DEFAULT))

    def run() -> dict[str, str]:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(write, 1)
            capabilities.clear_ambient()
            capabilities.limit_bounding(capabilities.DEFAULT)
            seccomp_filter.load(program)
            capabilities.set_keep_caps(True)
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            capabilities.set_process(capabilities.DEFAULT, capabilities.DEFAULT)
            os.execv("/bin/cat", ["cat", "/proc/self/status"])
        os.close(write)
        with os.fdopen(read) as file:
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        os.waitpid(child, 0)
        return lines

    status = forked(run)
    assert status["Uid"].split() == ["65534"] * 4
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "0"
    assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == int(status["CapAmb"], 16) == 0
    assert int(status["CapBnd"], 16) == capabilities.mask(capabilities.DEFAULT)
