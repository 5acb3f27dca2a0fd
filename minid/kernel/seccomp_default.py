"""The system calls that a container may use unless told otherwise: Docker's default policy as a table of our
own.

``PROFILE`` has the shape of a Docker seccomp profile (the JSON that ``--security-opt seccomp=FILE`` takes),
so the same compiler (minid.kernel.seccomp) serves both. What is not allowed fails with EPERM. Names that an
architecture does not have are no error there. Sources: seccomp(2), syscalls(2), the policy that users of
Docker expect.
"""

from collections.abc import Mapping
from typing import Any, Final

_FILES: Final = """
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat
    faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown
    fchown32 fchownat fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
    ftruncate64 futimesat getcwd getdents getdents64 inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch ioctl lchown lchown32 link linkat listmount _llseek lseek lstat lstat64 mkdir mkdirat
    mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64
    pwritev pwritev2 read readahead readlink readlinkat readv rename renameat renameat2 rmdir sendfile
    sendfile64 splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range
    syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice
    write writev
"""
_XATTRS: Final = """
    fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
    lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
"""
_ASYNC_IO_AND_POLLING: Final = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit
    _newselect poll ppoll ppoll_time64 pselect6 pselect6_time64 select
"""
_MEMORY: Final = """
    brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall
    mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect
    process_mrelease remap_file_pages
"""
_SOCKETS: Final = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
    recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
"""
_SYSTEM_V_AND_POSIX_IPC: Final = """
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop
    semtimedop_time64 shmat shmctl shmdt shmget
"""
_SIGNALS: Final = """
    kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd
    signalfd4 sigprocmask sigreturn tgkill tkill
"""
_TIME: Final = """
    adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times
"""
_THREADS_AND_SCHEDULING: Final = """
    futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list get_thread_area getcpu
    getpriority gettid ioprio_get ioprio_set rseq sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield set_robust_list set_thread_area set_tid_address setpriority
"""
_PROCESSES: Final = """
    execve execveat exit exit_group fork getpgid getpgrp getpid getppid getrandom getrlimit getrusage getsid
    landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_open prctl prlimit64 riscv_hwprobe
    seccomp setpgid setrlimit setsid sysinfo ugetrlimit uname uretprobe vfork wait4 waitid waitpid
"""
_IDENTITY: Final = """
    capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid
    getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
    setuid setuid32
"""
_ALWAYS: Final = (
    _FILES,
    _XATTRS,
    _ASYNC_IO_AND_POLLING,
    _MEMORY,
    _SOCKETS,
    _SYSTEM_V_AND_POSIX_IPC,
    _SIGNALS,
    _TIME,
    _THREADS_AND_SCHEDULING,
    _PROCESSES,
    _IDENTITY,
)

# What a capability brings along. CAP_SYS_ADMIN also lifts the limits on clone and clone3, below.
_WITH_CAPABILITY: Final = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl
        quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}
_ON_ARCHITECTURE: Final = (
    (("amd64", "x32"), "arch_prctl"),
    (("amd64", "x32", "x86"), "modify_ldt"),
    (("arm", "arm64"), "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"),
    (("ppc64le",), "swapcontext sync_file_range2"),
    (("riscv64",), "riscv_flush_icache"),
    (("s390", "s390x"), "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
)
_SUB_ARCHITECTURES: Final = {
    "X86_64": ("X86", "X32"),
    "AARCH64": ("ARM",),
    "MIPS64": ("MIPS", "MIPS64N32"),
    "MIPS64N32": ("MIPS", "MIPS64"),
    "MIPSEL64": ("MIPSEL", "MIPSEL64N32"),
    "MIPSEL64N32": ("MIPSEL", "MIPSEL64"),
    "S390X": ("S390",),
    "RISCV64": (),
    "LOONGARCH64": (),
}

# personality(2): PER_LINUX, PER_LINUX32, each with UNAME26, and the question "which is it?".
_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# clone(2): every CLONE_NEW* but CLONE_NEWTIME, whose bit clone cannot take.
_CLONE_NAMESPACES: Final = 0x7E020000
_EPERM, _ENOSYS = 1, 38
_AF_VSOCK = 40


def _allow(names: str, **conditions: Any) -> dict[str, Any]:
    return {"names": names.split(), "action": "SCMP_ACT_ALLOW"} | conditions


def _argument(index: int, operator: str, value: int) -> list[dict[str, Any]]:
    return [{"index": index, "op": "SCMP_CMP_" + operator, "value": value, "valueTwo": 0}]


def _profile() -> dict[str, Any]:
    without_admin = {"caps": ["CAP_SYS_ADMIN"]}
    s390 = ["s390", "s390x"]
    rules = [_allow(" ".join(_ALWAYS))]
    # Before Linux 4.8 ptrace could be used to get round seccomp.
    rules.append(_allow("process_vm_readv process_vm_writev ptrace", includes={"minKernel": "4.8"}))
    # Not AF_VSOCK, which has no namespaces: it would reach the hypervisor from every container.
    rules.append(_allow("socket", args=_argument(0, "LT", _AF_VSOCK - 2)))
    rules.append(_allow("socket", args=_argument(0, "EQ", _AF_VSOCK - 1)))
    rules.append(_allow("socket", args=_argument(0, "GT", _AF_VSOCK)))
    rules += [_allow("personality", args=_argument(0, "EQ", value)) for value in _PERSONALITIES]
    rules += [_allow(names, includes={"arches": list(on)}) for on, names in _ON_ARCHITECTURE]
    rules += [_allow(names, includes={"caps": [cap]}) for cap, names in _WITH_CAPABILITY.items()]
    # No new namespaces without CAP_SYS_ADMIN. On s390 the flags are the second argument.
    no_namespaces = _argument(0, "MASKED_EQ", _CLONE_NAMESPACES)
    rules.append(_allow("clone", args=no_namespaces, excludes=without_admin | {"arches": s390}))
    no_namespaces = _argument(1, "MASKED_EQ", _CLONE_NAMESPACES)
    rules.append(_allow("clone", args=no_namespaces, includes={"arches": s390}, excludes=without_admin))
    # clone3's flags are in memory, where a filter cannot look; ENOSYS makes a libc fall back to clone.
    errno = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS, "excludes": without_admin}
    rules.append(errno)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "archMap": [
            {"architecture": "SCMP_ARCH_" + arch, "subArchitectures": ["SCMP_ARCH_" + s for s in subs]}
            for arch, subs in _SUB_ARCHITECTURES.items()
        ],
        "syscalls": rules,
    }


PROFILE: Final[Mapping[str, Any]] = _profile()

# Numbers that libseccomp may be too old to know (2.5.4 ends at 456). Since Linux 5.1 all architectures share
# them.
RECENT: Final[Mapping[str, int]] = {
    "futex_waitv": 449,
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}
RECENT_X86_64: Final[Mapping[str, int]] = {"uretprobe": 335}
