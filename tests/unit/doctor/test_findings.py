"""The judgement of a host: each lack has its finding, its weight and something to do; a good host has none."""

import dataclasses
import re

import pytest

from minid.doctor.facts import DataRoot, Facts, Storage
from minid.doctor.findings import FAIL, NEEDED, OK, USUAL, WARN, Finding, findings, shown

ROOT = DataRoot("/var/lib/minid", "/", "ext4", free_bytes=50 << 30, free_inodes=10**7, inodes=2 * 10**7)
GOOD = Facts(
    root=True,
    serving=True,
    release="6.1.0-18-amd64",
    missing_calls=frozenset(),
    namespaces=frozenset(("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")),
    seccomp=True,
    cgroup_version=2,
    controllers=frozenset(("cpu", "cpuset", "io", "memory", "pids")),
    swap_limit=True,
    data_root=ROOT,
    storage=Storage("overlay2", "first"),
    nftables="",
    obstacles=(),
    forward_policy="",
    ip_forward=True,
    switches_forward=True,
    resolvers=("192.0.2.1",),
    resolved_file=False,
    dns_option=(),
    time_s=1_800_000_000.0,
    synchronized=True,
    open_files=1 << 20,
    inotify_instances=1024,
    pid_max=1 << 22,
    capabilities=frozenset((*NEEDED, *USUAL)),
    no_new_privileges=False,
    group="minid",
    group_exists=True,
)
UFW = "the firewall chain `ip filter FORWARD` drops what containers and other machines send each other; let it: ufw route allow in on minid0"


def test_a_good_host_is_all_right():
    table = findings(GOOD)
    assert {one.state for one in table} == {OK}
    assert not any(one.advice for one in table)
    assert len({one.name for one in table}) == len(table)


def root(**changes: object) -> dict[str, object]:
    return {"data_root": dataclasses.replace(ROOT, **changes)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "name", "state", "what", "advice"),
    [
        ({"release": "5.4.0-1"}, "kernel", FAIL, "5.10 or newer", "upgrade"),
        ({"missing_calls": {"openat2"}}, "openat2", FAIL, "resolved safely", "seccomp filter around"),
        ({"missing_calls": {"mount_setattr"}, "release": "5.10.0"}, "mount_setattr", WARN, ":ro", "Linux 5.12"),
        ({"namespaces": {"mnt", "pid"}}, "namespaces", FAIL, "cgroup, ipc, net, uts", "CONFIG_CGROUPS CONFIG_IPC_NS"),
        ({"seccomp": False}, "seccomp", FAIL, "no seccomp filters", "CONFIG_SECCOMP_FILTER"),
        ({"cgroup_version": 0}, "cgroups", FAIL, "no hierarchy", "mount -t cgroup2"),
        ({"controllers": {"cpu", "cpuset", "io", "pids"}}, "cgroups", WARN, "--memory", "cgroup_enable=memory"),
        ({"swap_limit": False}, "swap limit", WARN, "--memory-swap", "swapaccount=1"),
        (root(newer="written by a newer minid"), "data root", FAIL, "newer minid", "see there"),
        (root(type="nfs4", unfit="a network file system"), "data root", FAIL, "nfs4 at /, a network", "--data-root"),
        (root(nosuid=True), "data root", WARN, "nosuid", "remount,suid /"),
        (root(free_bytes=100 << 20), "disk space", FAIL, "0.1 GiB", "system prune"),
        (root(free_bytes=1 << 30), "disk space", WARN, "1.0 GiB", "system prune"),
        (root(free_inodes=100), "inodes", FAIL, "100 of", "prune"),
        ({"storage": None}, "storage driver", WARN, "not tried", "root"),
        ({"storage": Storage("", "first", {"overlay2": "No such device", "vfs": "bad"})}, "storage driver", FAIL,
         "overlay2: No such device; vfs: bad", "--data-root"),
        ({"storage": Storage("vfs", "first", {"overlay2": "No such device"})}, "storage driver", WARN,
         "first that works; overlay2: No such device", "modprobe overlay"),
        ({"nftables": "Operation not supported"}, "firewall", FAIL, "not supported", "modprobe nf_tables"),
        ({"nftables": None}, "firewall", WARN, "only root", "root"),
        ({"obstacles": (UFW,)}, "forward policy", WARN, "`ip filter FORWARD` drops", "ufw route allow in on minid0"),
        ({"ip_forward": False}, "IP forwarding", WARN, "off", "net.ipv4.ip_forward=1"),
        ({"resolvers": ()}, "DNS", WARN, "no resolver", "nameserver ADDRESS"),
        ({"resolvers": ("127.0.0.1",)}, "DNS", WARN, "127.0.0.1 cannot be reached", "option dns"),
        ({"time_s": 0.0}, "clock", FAIL, "cannot be", "set-time"),
        ({"synchronized": False}, "clock", WARN, "by nobody", "set-ntp"),
        ({"open_files": 1024}, "open files", WARN, "1024", "LimitNOFILE"),
        ({"inotify_instances": 16}, "inotify instances", WARN, "16", "max_user_instances"),
        ({"pid_max": 4096}, "pid_max", WARN, "4096", "kernel.pid_max"),
        ({"capabilities": set(USUAL) | set(NEEDED) - {"CAP_NET_ADMIN"}}, "capabilities", FAIL, "CAP_NET_ADMIN", "give them"),
        ({"capabilities": set(NEEDED)}, "capabilities", WARN, "CAP_NET_RAW", "give them"),
        ({"root": False}, "capabilities", WARN, "not looked at", "root"),
        ({"no_new_privileges": True}, "no_new_privs", WARN, "sudo", "NoNewPrivileges"),
        ({"group_exists": False}, "group", WARN, "no group minid", "groupadd --system minid"),
    ],
)  # fmt: skip
def test_each_lack_is_found_and_nothing_else(changes, name, state, what, advice):
    table = findings(dataclasses.replace(GOOD, **changes))
    found = [one for one in table if one.state != OK]
    assert [(one.name, one.state) for one in found] == [(name, state)]
    assert what in found[0].what
    assert advice in found[0].advice


@pytest.mark.parametrize(
    ("changes", "name", "what"),
    [
        ({"ip_forward": False, "serving": False}, "IP forwarding", "off; the daemon switches it on"),
        ({"resolvers": ("127.0.0.53",), "resolved_file": True}, "DNS", "those behind 127.0.0.53"),
        ({"resolvers": (), "dns_option": ("192.0.2.7",)}, "DNS", "192.0.2.7 (option dns)"),
        ({"obstacles": (UFW,), "forward_policy": "accept"}, "forward policy", "forward-policy accepts ours"),
        (
            {"cgroup_version": 1, "controllers": {"cpu", "cpuset", "blkio", "memory", "pids"}},
            "cgroups",
            "version 1",
        ),
        (root(type="btrfs", inodes=0, free_inodes=0), "data root", "btrfs"),
        ({"storage": Storage("overlay2", "in use", {})}, "storage driver", "overlay2, it has the layers"),
        ({"synchronized": None}, "clock", "not known"),
    ],
)
def test_what_is_all_right_in_another_way(changes, name, what):
    table = findings(dataclasses.replace(GOOD, **changes))
    assert [one for one in table if one.state != OK] == []
    assert what in next(one.what for one in table if one.name == name)


def test_the_text_has_a_line_a_finding_and_what_to_do_below_it():
    text = shown(
        (Finding("a", OK, "fine"), Finding("long name", FAIL, "broken", "mend it"), Finding("b", WARN, "hm"))
    )
    assert text == (
        "ok    a          fine\n"
        "fail  long name  broken\n"
        "                 what to do: mend it\n"
        "warn  b          hm\n"
        "3 checks: 1 failed, 1 to look at"
    )
    assert all(
        re.match(r"(ok|warn|fail) ", line) or "checks" in line or "what to do" in line
        for line in text.splitlines()
    )
