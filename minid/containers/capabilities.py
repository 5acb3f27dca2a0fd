"""Which capabilities a container gets: Docker's default set, ``--cap-add``, ``--cap-drop``, ``--privileged``.
Pure.

Source: capabilities(7); Engine API v1.44 ``HostConfig.CapAdd``, ``CapDrop``.
"""

from collections.abc import Collection, Iterable

from minid.containers.model import HostConfig
from minid.errors import InvalidParameter

# In the kernel's order: the position is the capability's number.
_ALL = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
)
ALL: tuple[str, ...] = tuple(f"CAP_{name}" for name in _ALL.split())

_DEFAULT = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE "
    "SYS_CHROOT KILL AUDIT_WRITE"
)
DEFAULT: tuple[str, ...] = tuple(f"CAP_{name}" for name in _DEFAULT.split())


def from_mask(mask: int) -> frozenset[str]:
    """The names in a bit mask such as ``CapBnd`` of proc(5) ``/proc/self/status``."""
    return frozenset(name for number, name in enumerate(ALL) if mask >> number & 1)


def normalize(names: Iterable[str] | None) -> tuple[str, ...]:
    """Sorted ``CAP_…`` names (or ``ALL``) without repeats; case and prefix as the user likes. Raises
    InvalidParameter.
    """
    found = set()
    for name in names or ():
        upper = name.upper()
        full = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
        if full != "ALL" and full not in ALL:
            raise InvalidParameter(f'unknown capability: "{full}"')
        found.add(full)
    return tuple(sorted(found))


def wanted(host_config: HostConfig) -> tuple[str, ...]:
    """What the user asked for, whether this daemon has it or not. Raises InvalidParameter naming the
    field.
    """
    try:
        add = normalize(host_config.cap_add)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid CapAdd: {error}") from None
    try:
        drop = normalize(host_config.cap_drop)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid CapDrop: {error}") from None
    if host_config.privileged:
        return ALL
    if "ALL" in add:
        return tuple(name for name in ALL if name not in drop)
    if "ALL" in drop:
        return add
    kept = tuple(name for name in DEFAULT if name not in drop)
    return kept + tuple(name for name in add if name not in kept)


def resolve(host_config: HostConfig, available: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``(granted, lacking)``: the names that the container gets, and those wanted that the daemon has not."""
    names = wanted(host_config)
    return (
        tuple(name for name in names if name in available),
        tuple(name for name in names if name not in available),
    )
