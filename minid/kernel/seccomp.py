"""Docker's seccomp profiles compiled to BPF, in the daemon; minid.kernel.seccomp_filter puts the result into
force.

Needs libseccomp.so.2 (Debian: libseccomp2). Where a container's init loads the filter depends on the
privileges that it has left:

- With CAP_SYS_ADMIN still effective: before capabilities.set_process. ``no_new_privs`` stays off, so setuid
  programs work in the container as they do with Docker. From then on only what the profile allows can be
  called: the default one allows what is left to do, and a custom profile must (runc demands the same).
- With ``no_new_privs`` asked for (``--security-opt no-new-privileges``): as the last step before execve, when
  capabilities are down already; CAP_SYS_ADMIN is not needed then.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from minid.kernel.seccomp_default import PROFILE, RECENT, RECENT_X86_64

FLAG_TSYNC, FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_WAIT_KILLABLE_RECV = 1, 2, 4, 32
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FLAG_WAIT_KILLABLE_RECV,
}

# seccomp.h of libseccomp; the values are also the kernel's SECCOMP_RET_*.
_ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x30000,
    "SCMP_ACT_ERRNO": 0x50000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_LENIENT = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_EPERM, _ENOSYS = 1, 38
_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
# uname -m: the name in "includes"/"excludes" (Go's), and libseccomp's.
_MACHINES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i686": ("x86", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "loongarch64": ("loongarch64", "SCMP_ARCH_LOONGARCH64"),
}
_AUDIT_ARCH_X86_64 = 0xC000003E
_X32 = "SCMP_ARCH_X32"
_X32_BIT = 0x40000000


@dataclass(frozen=True, slots=True)
class Rule:
    """One system call's rule after the conditions on machine, kernel and capabilities have been decided."""

    name: str
    action: int
    arguments: tuple[tuple[int, int, int, int], ...]  # (index, operator, value, value two), all must hold


@dataclass(frozen=True, slots=True)
class Machine:
    """What conditions in a profile may ask for."""

    arch: str  # as uname -m
    kernel: tuple[int, int]

    @staticmethod
    def this() -> "Machine":
        return Machine(platform.machine(), _kernel_version(os.uname().release))


def _kernel_version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    digits = ""
    for character in rest:
        if not character.isdigit():
            break
        digits += character
    if not major.isdigit() or not digits:
        raise ValueError(f"seccomp profile: not a kernel version: {text!r}")
    return int(major), int(digits)


def _action(name: str, errno: int | None) -> int:
    if name not in _ACTIONS:
        raise ValueError(f"seccomp profile: unsupported action {name!r}")
    if name not in _WITH_ERRNO:
        return _ACTIONS[name]
    number = _EPERM if errno is None else errno
    if not 0 <= number <= 0xFFFF:
        raise ValueError(f"seccomp profile: errnoRet {number} is not within 0 to 65535")
    return _ACTIONS[name] | number


def default_action(profile: Mapping[str, Any]) -> int:
    """The SECCOMP_RET_* of a call that no rule mentions; ValueError if missing or unsupported."""
    return _action(profile.get("defaultAction", ""), profile.get("defaultErrnoRet"))


def flags(profile: Mapping[str, Any]) -> int:
    """The flags that the profile asks ``seccomp_filter.load`` to use; ValueError for an unknown one."""
    bits = 0
    for name in profile.get("flags") or ():
        if name not in _FLAGS:
            raise ValueError(f"seccomp profile: unsupported flag {name!r}")
        bits |= _FLAGS[name]
    return bits


def architectures(profile: Mapping[str, Any], machine: Machine) -> tuple[str, ...]:
    """libseccomp's names of the ABIs that the filter serves, the machine's own first; others are killed."""
    native = _MACHINES[machine.arch][1]
    listed: Collection[str] = profile.get("architectures") or ()
    maps: Collection[Mapping[str, Any]] = profile.get("archMap") or ()
    if listed and maps:
        raise ValueError(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    for entry in maps:
        if entry["architecture"] == native:
            return (native, *(entry.get("subArchitectures") or ()))
    return (native, *(arch for arch in listed if arch != native))


def _applies(rule: Mapping[str, Any], caps: Collection[str], machine: Machine) -> bool:
    arch = _MACHINES[machine.arch][0]
    includes = rule.get("includes") or {}
    excludes = rule.get("excludes") or {}
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if arch in (excludes.get("arches") or ()):
        return False
    if not all(cap in caps for cap in includes.get("caps") or ()):
        return False
    if any(cap in caps for cap in excludes.get("caps") or ()):
        return False
    if includes.get("minKernel") and machine.kernel < _kernel_version(includes["minKernel"]):
        return False
    return not (excludes.get("minKernel") and machine.kernel >= _kernel_version(excludes["minKernel"]))


def _names(rule: Mapping[str, Any]) -> tuple[str, ...]:
    if rule.get("name") and rule.get("names"):
        raise ValueError(
            "'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'"
        )
    return (rule["name"],) if rule.get("name") else tuple(rule.get("names") or ())


def _conditions(arguments: Collection[Mapping[str, Any]]) -> Iterator[tuple[tuple[int, int, int, int], ...]]:
    """Conditions on different arguments must all hold; of several on one argument, any (as in runc)."""
    compiled = []
    for argument in arguments:
        if argument["op"] not in _OPERATORS:
            raise ValueError(f"seccomp profile: unsupported operator {argument['op']!r}")
        if not 0 <= argument["index"] <= 5:
            raise ValueError(f"seccomp profile: argument index {argument['index']} is not within 0 to 5")
        operator, value, two = _OPERATORS[argument["op"]], argument["value"], argument.get("valueTwo", 0)
        if not all(isinstance(number, int) and 0 <= number < 1 << 64 for number in (value, two)):
            raise ValueError("seccomp profile: an argument's value is not an unsigned 64-bit number")
        compiled.append((argument["index"], operator, value, two))
    if len({index for index, *_ in compiled}) == len(compiled):
        yield tuple(compiled)
    else:
        yield from ((condition,) for condition in compiled)


def rules(profile: Mapping[str, Any], caps: Collection[str], machine: Machine) -> list[Rule]:
    """The rules of ``profile`` for a container with ``caps`` in its bounding set on ``machine``; pure.

    ValueError, in Docker's words where Docker has some, for a profile that cannot be used.
    """
    default = default_action(profile)
    result = []
    for entry in profile.get("syscalls") or ():
        names, action = _names(entry), _action(entry.get("action", ""), entry.get("errnoRet"))
        conditions = list(_conditions(entry.get("args") or ()))
        if action == default or not _applies(entry, caps, machine):
            continue
        result += [Rule(name, action, each) for name in names for each in conditions]
    return result


class _ArgCmp(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


@lru_cache(maxsize=1)
def _libseccomp() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise OSError(
            2, f"seccomp needs libseccomp.so.2, install libseccomp2 ({error})", "libseccomp.so.2"
        ) from error
    u32, pointer = ctypes.c_uint32, ctypes.c_void_p
    for name, result, arguments in (
        ("seccomp_init", pointer, (u32,)),
        ("seccomp_release", None, (pointer,)),
        ("seccomp_arch_add", ctypes.c_int, (pointer, u32)),
        ("seccomp_arch_resolve_name", u32, (ctypes.c_char_p,)),
        ("seccomp_attr_set", ctypes.c_int, (pointer, ctypes.c_int, u32)),
        ("seccomp_syscall_resolve_name", ctypes.c_int, (ctypes.c_char_p,)),
        ("seccomp_syscall_resolve_name_arch", ctypes.c_int, (u32, ctypes.c_char_p)),
        ("seccomp_rule_add_array", ctypes.c_int, (pointer, u32, ctypes.c_int, ctypes.c_uint, pointer)),
        ("seccomp_export_bpf", ctypes.c_int, (pointer, ctypes.c_int)),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


_ATTR_CTL_OPTIMIZE, _BINARY_TREE = 8, 2
_UNKNOWN = -1  # __NR_SCMP_ERROR; below it are pseudo numbers of calls that the machine's own ABI lacks


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"libseccomp, {what}: {os.strerror(-result)}")


def compile(profile: Mapping[str, Any], caps: Collection[str]) -> bytes:
    """A profile in Docker's JSON format as a BPF program: an array of struct sock_filter.

    ``caps`` is the container's bounding set, which decides the conditional rules. As with runc, calls that
    this libseccomp does not know are left out, and calls with a higher number than any that the profile
    names fail with ENOSYS instead of the default errno, so that programs fall back as on an older kernel.
    The most recent calls (seccomp_default.RECENT) work even where libseccomp is too old for them.
    ValueError: the profile is wrong. OSError: libseccomp is missing or refuses.
    """
    machine = Machine.this()
    if machine.arch not in _MACHINES:
        raise ValueError(f"seccomp is not supported on {machine.arch}")
    lib = _libseccomp()
    wanted = rules(profile, caps, machine)
    tokens = []
    for name in architectures(profile, machine):
        short = name.removeprefix("SCMP_ARCH_").lower()
        token = lib.seccomp_arch_resolve_name(short.encode())
        if token == 0:
            raise ValueError(f"seccomp profile: unknown architecture {name!r}")
        tokens.append((name, token))
    context = lib.seccomp_init(default_action(profile))
    if not context:
        raise OSError(22, "libseccomp refuses the default action of the seccomp profile")
    try:
        lib.seccomp_attr_set(context, _ATTR_CTL_OPTIMIZE, _BINARY_TREE)
        for name, token in tokens[1:]:
            _check(lib.seccomp_arch_add(context, token), f"architecture {name}")
        for rule in wanted:
            number = lib.seccomp_syscall_resolve_name(rule.name.encode())
            if number == _UNKNOWN:
                continue
            conditions = (_ArgCmp * len(rule.arguments))(*(_ArgCmp(*each) for each in rule.arguments))
            added = lib.seccomp_rule_add_array(context, rule.action, number, len(rule.arguments), conditions)
            _check(added, f"rule for {rule.name}")
        memory = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            _check(lib.seccomp_export_bpf(context, memory), "export")
            program = os.pread(memory, os.fstat(memory).st_size, 0)
        finally:
            os.close(memory)
    finally:
        lib.seccomp_release(context)
    if profile.get("defaultAction") in _LENIENT or default_action(profile) & 0xFFFF == _ENOSYS:
        return program
    return _recent_calls(profile, wanted, tokens) + program


def _recent_calls(profile: Mapping[str, Any], wanted: list[Rule], tokens: list[tuple[str, int]]) -> bytes:
    """What goes before libseccomp's program: calls it does not know, and ENOSYS above the highest."""
    lib = _libseccomp()
    named = {name for entry in profile.get("syscalls") or () for name in _names(entry)}
    by_token: dict[int, list[tuple[int, int, int, int]]] = {}
    load_arch, load_number = (0x20, 0, 0, 4), (0x20, 0, 0, 0)
    for arch, token in tokens:
        if arch == _X32:
            continue
        recent = {**RECENT, **(RECENT_X86_64 if token == _AUDIT_ARCH_X86_64 else {})}
        highest = 0
        for name in named:
            number = lib.seccomp_syscall_resolve_name_arch(token, name.encode())
            highest = max(highest, recent.get(name, 0) if number < 0 else number)
        section = [load_number]
        if token == _AUDIT_ARCH_X86_64:
            section.append((0x35, 0, 1, _X32_BIT))  # an x32 call: libseccomp's program knows what to do
            section.append((0x05, 0, 0, 0xFFFFFFFF))
        for rule in wanted:
            unknown = lib.seccomp_syscall_resolve_name_arch(token, rule.name.encode()) == _UNKNOWN
            if unknown and rule.name in recent and not rule.arguments:
                section += [(0x15, 0, 1, recent[rule.name]), (0x06, 0, 0, rule.action)]
        section += [(0x25, 0, 1, highest), (0x06, 0, 0, _ACTIONS["SCMP_ACT_ERRNO"] | _ENOSYS)]
        section.append((0x05, 0, 0, 0xFFFFFFFF))
        by_token[token] = section
    program = [load_arch]
    for token, section in by_token.items():
        program += [(0x15, 1, 0, token), (0x05, 0, 0, len(section)), *section]
    # 0xFFFFFFFF stands for "on to libseccomp's program", which starts where this one ends.
    length = len(program)
    resolved = [
        (code, jt, jf, length - position - 1 if code == 0x05 and k == 0xFFFFFFFF else k)
        for position, (code, jt, jf, k) in enumerate(program)
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in resolved)


@lru_cache(maxsize=32)
def compile_default(caps: frozenset[str]) -> bytes:
    """``compile`` of Docker's default profile, remembered by capabilities."""
    return compile(PROFILE, caps)
