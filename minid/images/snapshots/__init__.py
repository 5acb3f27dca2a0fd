"""Snapshots: unpacked layers, and the root file systems made of them, by the storage driver that works here.

driver     what a driver is, and the files on disk
overlay    overlay2, the kernel stacks the layers       repairs  its extra layer
btrfs      snapshots of subvolumes                      vfs      copies
service    the way in
"""

from minid.images.snapshots.service import DRIVERS, Snapshots, Unpacked

__all__ = ["DRIVERS", "Snapshots", "Unpacked"]
