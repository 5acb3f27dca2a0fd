"""Which mount a path is on, and whether it can hold a data root."""

import os
from pathlib import Path

import pytest

from minid.dataroot import find_unfitness, mount_point_of

MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /var rw,relatime - btrfs /dev/vdb rw
24 23 0:22 / /var/lib/with\\040space rw - nfs4 server:/export rw
25 22 0:23 / /mnt rw - ext4 /dev/vdc rw
26 25 0:24 / /mnt rw - tmpfs tmpfs rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "point", "type"),
    [
        ("/home/x", "/", "ext4"),
        ("/var/lib/minid", "/var", "btrfs"),
        ("/variable", "/", "ext4"),
        ("/var/lib/with space/minid", "/var/lib/with space", "nfs4"),
        ("/mnt/minid", "/mnt", "tmpfs"),
        ("/", "/", "ext4"),
    ],
)
def test_mount_point(path, point, type):
    mount = mount_point_of(Path(path), MOUNTINFO)
    assert (mount.path, mount.type) == (point, type)


def test_the_real_thing():
    assert mount_point_of(Path("/proc/self"), Path("/proc/self/mountinfo").read_text()).type == "proc"


@pytest.mark.parametrize("type", ["nfs", "nfs4", "cifs", "9p", "vfat"])
def test_file_systems_that_cannot_serve(type):
    assert find_unfitness(type, 0)


@pytest.mark.parametrize("type", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs"])
def test_file_systems_that_may_serve(type):
    assert find_unfitness(type, os.ST_NOSUID) is None
    assert find_unfitness(type, os.ST_RDONLY) == "which is mounted read-only"
    assert "noexec" in (find_unfitness(type, os.ST_NOEXEC) or "")
