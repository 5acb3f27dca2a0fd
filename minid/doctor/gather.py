"""Looks at the host: the one place of the doctor that touches the kernel. Changes nothing but for ``probe_storage``."""

import errno
import grp
import os
import resource
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from minid import dataroot
from minid.config import Config
from minid.doctor.facts import DataRoot, Facts, Storage
from minid.doctor.findings import CALLS
from minid.exits import StartupError
from minid.images.snapshots.service import DRIVERS, used_before
from minid.kernel import capabilities, clock, syscall
from minid.kernel.cgroups.hierarchy import parse_mounts
from minid.kernel.nftables import objects
from minid.kernel.nftables.transaction import Connection
from minid.network import neighbours
from minid.network.resolvers import nameservers
from minid.rootversion import Versions, check
from minid.shim.client import Jobs

RESOLVED = Path("/run/systemd/resolve/resolv.conf")


def gather(
    config: Config,
    *,
    known: Versions | None = None,
    storage: Storage | None = None,
    bridges: Sequence[str] = (),
    serving: bool = False,
) -> Facts:
    """What this process sees. Some milliseconds; blocks.

    ``known``: to tell a data root of a newer version; ``storage``: found out by the caller, who may fork;
    ``bridges``: the daemon's, which others' firewalls should let pass.
    """
    root = os.geteuid() == 0
    hierarchies = parse_mounts(_text("/proc/self/mountinfo"))
    if hierarchies.version == 2 and hierarchies.v2:
        controllers = frozenset(_text(f"{hierarchies.v2.directory}/cgroup.controllers").split())
        swap_limit = True
    else:
        controllers = frozenset(hierarchies.v1)
        memory = hierarchies.v1.get("memory")
        swap_limit = memory is not None and Path(memory.directory, "memory.memsw.limit_in_bytes").exists()
    nftables, obstacles = _firewall(bridges) if root else (None, ())
    return Facts(
        root=root,
        serving=serving,
        release=os.uname().release,
        missing_calls=_missing_calls(CALLS),
        namespaces=frozenset(os.listdir("/proc/self/ns")),
        seccomp=Path("/proc/sys/kernel/seccomp/actions_avail").exists(),
        cgroup_version=hierarchies.version,
        controllers=controllers,
        swap_limit=swap_limit,
        data_root=_data_root(config.data_root, known if root else None),
        storage=storage,
        nftables=nftables,
        obstacles=obstacles,
        forward_policy=config.forward_policy,
        ip_forward=_text("/proc/sys/net/ipv4/ip_forward").strip() == "1",
        switches_forward=config.ip_forward,
        resolvers=tuple(server.address for server in nameservers(_text("/etc/resolv.conf"))),
        resolved_file=RESOLVED.exists(),
        dns_option=config.dns,
        time_s=time.time(),
        synchronized=clock.find_synchronized(),
        open_files=_open_files(),
        inotify_instances=_number("/proc/sys/fs/inotify/max_user_instances"),
        pid_max=_number("/proc/sys/kernel/pid_max"),
        capabilities=capabilities.available(),
        no_new_privileges="\nNoNewPrivs:\t1" in _text("/proc/self/status"),
        group=config.group,
        group_exists=_group_exists(config.group),
    )


async def probe_storage(config: Config) -> Storage:
    """Which driver a daemon would take, by trying them in a directory of its own on the data root's file system.

    Needs root. What it makes is removed again.
    """
    before = used_before(config.data_root / "snapshots")
    name = config.storage_driver or before
    because = "configured" if config.storage_driver else "in use" if before else "first"
    refused: dict[str, str] = {}
    jobs = Jobs(("minid.images.layers",))
    try:
        for candidate in [name] if name else DRIVERS:
            beside = _nearest(config.data_root)
            try:
                with tempfile.TemporaryDirectory(prefix=".minid-probe-", dir=beside) as directory:
                    request = {"driver": candidate, "directory": directory}
                    reason = (await jobs.call("minid.images.layers:probe_job", request))["reason"]
            except OSError as error:
                reason = error.strerror or str(error)
            if not reason:
                return Storage(candidate, because, refused)
            refused[candidate] = str(reason)
    finally:
        jobs.close()
    return Storage("", because, refused)


def _data_root(path: Path, known: Versions | None) -> DataRoot:
    near = _nearest(path)
    mount = dataroot.mount_point_of(near, _text("/proc/self/mountinfo"))
    room = os.statvfs(near)
    newer = ""
    if known is not None:
        try:
            check(path, known)
        except StartupError as error:
            newer = str(error)
    return DataRoot(
        path=str(path),
        mount=mount.path,
        type=mount.type,
        free_bytes=room.f_bavail * room.f_frsize,
        free_inodes=room.f_favail,
        inodes=room.f_files,
        unfit=dataroot.find_unfitness(mount.type, room.f_flag) or "",
        nosuid=bool(room.f_flag & os.ST_NOSUID),
        newer=newer,
    )


def _nearest(path: Path) -> Path:
    """The directory, or the one in which it would be made."""
    while not os.path.isdir(path):  # False also for what may not be looked at
        path = path.parent
    return path.resolve()


def _missing_calls(names: Collection[str]) -> frozenset[str]:
    """Those of which the kernel says ENOSYS: asked with arguments that no kernel accepts."""
    missing = set()
    for name in names:
        try:
            syscall.call(name, -1, 0, -1, 0, 0)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                missing.add(name)
    return frozenset(missing)


def _firewall(bridges: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Why nftables does not work ("" if it does), and who drops what is forwarded to and from ``bridges``."""
    try:
        connection = Connection()
    except OSError as error:
        return error.strerror or str(error), ()
    try:
        chains = [
            objects.listed_chain(one.family, one.fields) for one in connection.ask(objects.list_chains())
        ]
        told = []
        for chain in chains:
            if not neighbours.drops_forwarded(chain) or chain.table.startswith("minid"):
                continue
            rules = connection.ask(objects.list_rules(chain.table, chain.family))
            said = b"".join(rule.fields.get(4, b"") for rule in rules)
            if not bridges or not all(bridge.encode() in said for bridge in bridges):
                names = {one.name for one in chains if (one.family, one.table) == (chain.family, chain.table)}
                told.append(neighbours.advice(chain, names, bridges or ("minid0",)))
        return "", tuple(told)
    except OSError as error:
        return error.strerror or str(error), ()
    finally:
        connection.close()


def _open_files() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if hard >= 0 else 1 << 30


def _group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return name.isdecimal()
    return True


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="surrogateescape")
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else 0
