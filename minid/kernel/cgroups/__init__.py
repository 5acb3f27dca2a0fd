"""Control groups, v1 and v2 behind one interface: ``Tree.open`` finds the place, ``tree.create`` makes a
Cgroup.
"""

from minid.kernel.cgroups.cgroup import Cgroup, oom_kills_in
from minid.kernel.cgroups.tree import Tree, reopen

__all__ = ["Cgroup", "Tree", "oom_kills_in", "reopen"]
