"""/proc/self/mountinfo and /proc/self/cgroup of real machines: hybrid, v1 with shared mounts, v2, inside
containers.
"""

from minid.kernel.cgroups.hierarchy import Mount, parse_mounts, parse_own
from minid.kernel.cgroups.tree import open_in

UBUNTU_V1 = """\
24 18 0:21 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
25 24 0:22 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
26 24 0:23 / /sys/fs/cgroup/systemd rw,nosuid shared:10 - cgroup cgroup rw,xattr,name=systemd
30 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
31 24 0:28 / /sys/fs/cgroup/memory rw,nosuid shared:16 - cgroup cgroup rw,memory
32 24 0:29 / /sys/fs/cgroup/net_cls,net_prio rw shared:17 - cgroup cgroup rw,net_cls,net_prio
33 24 0:30 / /sys/fs/cgroup/pids rw shared:17 - cgroup cgroup rw,pids
"""
OWN_V1 = """\
9:name=systemd:/system.slice/minid.service
4:memory:/system.slice/minid.service
3:cpu,cpuacct:/system.slice/minid.service
2:pids:/system.slice/minid.service
0::/system.slice/minid.service
"""
DEBIAN_V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_version() -> None:
    assert parse_mounts(UBUNTU_V1).version == 1
    assert parse_mounts(DEBIAN_V2).version == 2
    assert parse_mounts("24 18 0:21 / /sys rw - sysfs sysfs rw\n").version == 0


def test_only_a_named_hierarchy_beside_v2_counts_as_v2() -> None:
    systemd = "26 24 0:23 / /sys/fs/cgroup/systemd rw shared:10 - cgroup cgroup rw,xattr,name=systemd\n"
    assert parse_mounts(systemd + DEBIAN_V2).version == 2


def test_controllers_that_are_mounted_together() -> None:
    mounts = parse_mounts(UBUNTU_V1)
    assert mounts.v1["cpu"] == mounts.v1["cpuacct"] == Mount("/sys/fs/cgroup/cpu,cpuacct", "/")
    assert "net_cls" not in mounts.v1


def test_own() -> None:
    own = parse_own(OWN_V1)
    assert own["cpuacct"] == own["cpu"] == own[""] == "/system.slice/minid.service"
    assert parse_own("0::/init.scope (deleted)\n") == {"": "/init.scope"}


def test_a_path_may_have_colons_and_spaces() -> None:
    assert parse_own("4:memory:/a:b/c d\n") == {"memory": "/a:b/c d"}
    line = "30 23 0:26 / /mnt/a\\040b rw - cgroup2 none rw\n"
    mount = parse_mounts(line).v2
    assert mount is not None
    assert mount.directory == "/mnt/a b"


def test_path_in_a_mount_that_shows_a_part() -> None:
    mount = Mount("/sys/fs/cgroup/memory", "/docker/abc")
    assert mount.path("/docker/abc") == "/sys/fs/cgroup/memory"
    assert mount.path("/docker/abc/x") == "/sys/fs/cgroup/memory/x"
    assert mount.path("/docker/abcdef") == "/sys/fs/cgroup/memory"
    assert mount.path("/elsewhere") == "/sys/fs/cgroup/memory"


def test_a_cgroup_outside_of_our_cgroup_namespace() -> None:
    assert Mount("/sys/fs/cgroup", "/").path("/../../x") == "/sys/fs/cgroup"


def test_parents_on_v1() -> None:
    mounts, own = parse_mounts(UBUNTU_V1), parse_own(OWN_V1)
    default = open_in(mounts, own, None)
    assert default.version == 1
    assert default.parents["memory"] == "/sys/fs/cgroup/memory/system.slice/minid.service/containers"
    assert default.parents["cpu"] == default.parents["cpuacct"]
    assert set(default.parents) == {"memory", "cpu", "cpuacct", "pids"}
    assert open_in(mounts, own, "/docker").parents["pids"] == "/sys/fs/cgroup/pids/docker"
    relative = open_in(mounts, own, "a/../../../b").parents["pids"]
    assert relative == "/sys/fs/cgroup/pids/system.slice/minid.service/b"
