"""What is known of a host, before anybody judges it. Pure records; ``minid.doctor.gather`` fills them in."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Storage:
    """``driver``: the one that is, or would be, used ("" for none); ``refused``: why others were not, by driver.

    ``because``: "configured", "in use" (it has layers here already), or "first" (that works).
    """

    driver: str
    because: str
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataRoot:
    """``mount`` is the mount point, ``type`` its file system; ``unfit``: why it cannot serve; ``newer``: the refusal.

    ``inodes`` is 0 on file systems that do not count them.
    """

    path: str
    mount: str
    type: str
    free_bytes: int
    free_inodes: int
    inodes: int
    unfit: str = ""
    nosuid: bool = False
    newer: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """``None`` and "" mean that it could not be found out (``root`` is False), where not said otherwise."""

    root: bool  # whether the one who looked may see everything
    serving: bool  # whether it is the running daemon that looked
    release: str  # uname -r
    missing_calls: frozenset[str]  # system calls that the kernel does not have, or that a filter hides
    namespaces: frozenset[str]  # names in /proc/self/ns
    seccomp: bool
    cgroup_version: int  # 0: nothing is mounted
    controllers: frozenset[str]
    swap_limit: bool
    data_root: DataRoot
    storage: Storage | None
    nftables: str | None  # "" works, else why not
    obstacles: tuple[str, ...]  # firewalls of others that drop what containers send, with what to do
    forward_policy: str  # the option
    ip_forward: bool
    switches_forward: bool  # the option ip-forward
    resolvers: tuple[str, ...]
    resolved_file: bool  # systemd-resolved's list of the real resolvers is there
    dns_option: tuple[str, ...]
    time_s: float
    synchronized: bool | None
    open_files: int  # the hard limit
    inotify_instances: int
    pid_max: int
    capabilities: frozenset[str]
    no_new_privileges: bool
    group: str
    group_exists: bool
