"""Device nodes: Docker's default ones, those of ``--device``, and all of the host's for ``--privileged``.

``gather`` is the only place of ``minid.containers`` that reads ``/dev``; the rest is data.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from minid.containers.model import Device, HostConfig
from minid.errors import InvalidParameter

RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A node to make in the container; ``type`` "c" or "b", ``mode`` permission bits, ``access`` some of
    "rwm".
    """

    path: str
    type: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


# OCI runtime-spec config-linux.md § Default Devices.
DEFAULT: tuple[DeviceNode, ...] = (
    DeviceNode("/dev/null", "c", 1, 3),
    DeviceNode("/dev/zero", "c", 1, 5),
    DeviceNode("/dev/full", "c", 1, 7),
    DeviceNode("/dev/tty", "c", 5, 0),
    DeviceNode("/dev/random", "c", 1, 8),
    DeviceNode("/dev/urandom", "c", 1, 9),
)

# Made by the container's own pts and console set-up, never copied from the host.
_NOT_COPIED = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"))


def valid_access(access: str) -> bool:
    """Whether ``access`` is made of r, w and m, each at most once."""
    return bool(access) and set(access) <= set("rwm") and len(set(access)) == len(access)


def _node(path: str, inside: str, access: str = "rwm") -> DeviceNode | None:
    found = os.stat(path)
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else ""
    if not kind:
        return None
    major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return DeviceNode(
        inside, kind, major, minor, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, access
    )


def _below(directory: str) -> Iterator[str]:
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.name in _NOT_COPIED or entry.name == "console":
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)
        elif not entry.is_symlink() and not entry.is_file(follow_symlinks=False):
            yield entry.path


def host_nodes(directory: str = "/dev") -> tuple[DeviceNode, ...]:
    """Every device node of the host below ``directory``, by path; one that vanishes meanwhile is left out."""
    nodes = []
    for path in _below(directory):
        try:
            node = _node(path, path)
        except FileNotFoundError:
            continue
        if node is not None:
            nodes.append(node)
    return tuple(nodes)


def custom_nodes(device: Device) -> tuple[DeviceNode, ...]:
    """The node or nodes of one ``--device``; a directory gives every node below it.

    Raises InvalidParameter when there is no device.
    """
    inside = device.path_in_container or device.path_on_host
    access = device.cgroup_permissions or "rwm"
    try:
        if os.path.isdir(device.path_on_host):
            nodes = tuple(
                replace(node, path=inside + node.path[len(device.path_on_host) :], access=access)
                for node in host_nodes(device.path_on_host)
            )
        else:
            node = _node(device.path_on_host, inside, access)
            nodes = () if node is None else (node,)
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO).lower()
        raise InvalidParameter(
            f'error gathering device information while adding custom device "{device.path_on_host}": {reason}'
        ) from None
    if not nodes:
        raise InvalidParameter(
            "error gathering device information while adding custom device "
            f'"{device.path_on_host}": not a device node'
        )
    return nodes


def gather(host_config: HostConfig) -> tuple[DeviceNode, ...]:
    """The nodes that the container gets besides ``DEFAULT``; reads the host's ``/dev``. Raises
    InvalidParameter.
    """
    nodes: dict[str, DeviceNode] = {}
    if host_config.privileged:
        nodes = {node.path: node for node in host_nodes()}
    for device in host_config.devices or ():
        for node in custom_nodes(device):
            nodes[node.path] = node
    return tuple(nodes.values())


def section(nodes: tuple[DeviceNode, ...]) -> list[dict[str, Any]]:
    """``linux.devices`` of the runtime spec."""
    return [
        {
            "path": node.path,
            "type": node.type,
            "major": node.major,
            "minor": node.minor,
            "fileMode": node.mode,
            "uid": node.uid,
            "gid": node.gid,
        }
        for node in nodes
    ]


def _allow(kind: str, major: int, minor: int, access: str = "rwm", allow: bool = True) -> dict[str, Any]:
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


def rules(host_config: HostConfig, nodes: tuple[DeviceNode, ...]) -> list[dict[str, Any]]:
    """``linux.resources.devices``: Docker's default list, the container's nodes, ``--device-cgroup-rule``.

    A missing major or minor means all. What every container may do besides (mknod of anything, its ptys) is
    the runtime's to add: ``RUNTIME_RULES``.
    """
    if host_config.privileged:
        return [{"allow": True, "access": "rwm"}]
    listed: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for major, minor in ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)):
        listed.append(_allow("c", major, minor))
    listed.append(_allow("c", 10, 229, allow=False))
    listed.extend(_allow(node.type, node.major, node.minor, node.access) for node in nodes)
    for rule in host_config.device_cgroup_rules or ():
        listed.append(parse_rule(rule))
    return listed


# What runc adds to every unprivileged container: mknod of any node, the usual nodes, the ptys, /dev/ptmx.
RUNTIME_RULES: tuple[dict[str, Any], ...] = (
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    _allow("c", 1, 3),
    _allow("c", 1, 8),
    _allow("c", 1, 7),
    _allow("c", 5, 0),
    _allow("c", 1, 5),
    _allow("c", 1, 9),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
    _allow("c", 5, 2),
)


def parse_rule(rule: str) -> dict[str, Any]:
    """``c 1:* rwm`` as an entry of ``linux.resources.devices``. Raises InvalidParameter."""
    match = RULE.fullmatch(rule)
    if match is None:
        raise InvalidParameter(f"invalid device cgroup rule format: '{rule}'")
    kind, major, minor, access = match.groups()
    entry: dict[str, Any] = {"allow": True, "type": kind}
    if major != "*":
        entry["major"] = int(major)
    if minor != "*":
        entry["minor"] = int(minor)
    return entry | {"access": access}
