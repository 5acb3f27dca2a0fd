"""``-v``, ``--mount``, ``--tmpfs``, ``--volumes-from`` and an image's VOLUMEs as one list of planned mounts.
Pure.

Nothing is looked up or created here: a ``PlannedMount`` says what has to be ensured before the container
starts. Source: Engine API v1.44 ``HostConfig.Binds``, ``Mount``; moby's error texts.
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from minid.containers.model import BindOptions, ContainerConfig, HostConfig, Mount, MountPoint, TmpfsOptions
from minid.errors import InvalidParameter

PROPAGATION = frozenset(("private", "rprivate", "slave", "rslave", "shared", "rshared"))
ACCESS = frozenset(("ro", "rw"))
LABEL = frozenset(("z", "Z"))
CONSISTENCY = frozenset(("consistent", "cached", "delegated", "default"))
TMPFS_FLAGS = {
    "exec": "exec",
    "noexec": "exec",
    "suid": "suid",
    "nosuid": "suid",
    "dev": "dev",
    "nodev": "dev",
    "ro": "rw",
    "rw": "rw",
    "sync": "sync",
    "async": "sync",
    "dirsync": "dirsync",
    "remount": "remount",
    "mand": "mand",
    "nomand": "mand",
    "atime": "atime",
    "noatime": "atime",
    "diratime": "diratime",
    "nodiratime": "diratime",
    "relatime": "relatime",
    "norelatime": "relatime",
    "strictatime": "strictatime",
    "nostrictatime": "strictatime",
    "bind": "bind",
    "rbind": "bind",
    **dict.fromkeys((*PROPAGATION, "unbindable", "runbindable"), "propagation"),
}
TMPFS_VALUES = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"))


@dataclass(frozen=True, slots=True)
class PlannedMount:
    """One mount to be. ``point.source`` of a volume is "" until the volume service has said where it is.

    ``origin``: bind (``-v``), mount (``--mount``), volumes-from, image. A bind with ``create_source`` gets
    its missing source as an empty directory; without it a missing source is an error. A volume without
    ``point.name`` is a new anonymous one. ``copy_up``: an empty new volume is filled from the image's
    directory. ``subpath``: the part of the volume that is mounted.
    """

    point: MountPoint
    origin: str
    create_source: bool = False
    copy_up: bool = False
    subpath: str = ""
    driver_options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def clean(path: str) -> str:
    """``path`` without ``.``, ``..``, repeated and trailing slashes (and with one leading slash, never
    two).
    """
    normal = posixpath.normpath(path)
    return "/" + normal.lstrip("/") if normal.startswith("/") else normal


def plan(
    config: ContainerConfig,
    host_config: HostConfig,
    volumes_from: Sequence[tuple[Sequence[MountPoint], str]] = (),
) -> tuple[PlannedMount, ...]:
    """Every mount but ``--tmpfs``, in order of precedence, one per destination.

    ``config`` is merged (its ``volumes`` hold the image's). ``volumes_from``: for each entry of
    ``HostConfig.VolumesFrom`` the other container's mounts and the mode ("" keeps theirs); see
    ``parse_volumes_from``. Raises InvalidParameter with Docker's texts.
    """
    planned: dict[str, PlannedMount] = {}
    for points, mode in volumes_from:
        for point in points:
            rw = point.rw and is_read_write(mode)
            planned[clean(point.destination)] = PlannedMount(replace(point, rw=rw), "volumes-from")
    tmpfs = {clean(target) for target in host_config.tmpfs}
    asked: set[str] = set()
    given = [parse_bind(text, host_config.volume_driver) for text in host_config.binds or ()]
    given += [from_mount(mount, host_config.volume_driver) for mount in host_config.mounts or ()]
    for mount in given:
        destination = mount.point.destination
        if destination in asked or destination in tmpfs:
            raise InvalidParameter(f"Duplicate mount point: {destination}")
        asked.add(destination)
        planned[destination] = mount
    for target in config.volumes:
        destination = clean(target)
        if destination not in planned and destination not in tmpfs:
            check_target(destination)
            driver = host_config.volume_driver or "local"
            point = MountPoint("volume", "", destination, driver=driver)
            planned[destination] = PlannedMount(point, "image", copy_up=True)
    return tuple(planned.values())


def check_target(target: str) -> None:
    """Refuse a destination that is ``/`` or relative, or that can't be a path."""
    if "\0" in target:
        raise InvalidParameter(f"invalid mount path: {target!r} holds a null byte")
    if not target.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{target}' mount path must be absolute")
    if clean(target) == "/":
        raise InvalidParameter("invalid specification: destination can't be '/'")


def parse_mode(mode: str) -> dict[str, str]:
    """``ro,z,rslave,nocopy`` as {"access", "label", "propagation", "copy", "consistency"}. Raises
    InvalidParameter.
    """
    found: dict[str, str] = {}
    for option in mode.split(",") if mode else ():
        for kind, options in (
            ("access", ACCESS),
            ("label", LABEL),
            ("propagation", PROPAGATION),
            ("copy", frozenset(("nocopy",))),
            ("consistency", CONSISTENCY),
        ):
            if option in options and kind not in found:
                found[kind] = option
                break
        else:
            raise InvalidParameter(f"invalid mode: {mode}")
    return found


def is_read_write(mode: str) -> bool:
    """Whether a mode string leaves the mount writable."""
    return "ro" not in mode.split(",")


def parse_bind(text: str, volume_driver: str = "") -> PlannedMount:
    """One ``-v`` of the API: ``source:destination[:mode]`` or ``destination``. Raises InvalidParameter."""
    parts = text.split(":")
    if not parts[0] or len(parts) > 3:
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    if len(parts) == 2 and _is_mode(parts[1]):
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    mode = parts[2] if len(parts) == 3 else ""
    options = parse_mode(mode)
    kind = "bind" if source.startswith("/") else "volume"
    try:
        if not target:
            raise InvalidParameter("field Target must not be empty")
        check_target(target)
        if kind == "volume" and "propagation" in options:
            raise InvalidParameter("field BindOptions must not be specified")
        if kind == "bind" and "copy" in options:
            raise InvalidParameter("field VolumeOptions must not be specified")
        if not source and options.get("access") == "ro":
            raise InvalidParameter("must not set ReadOnly mode when using anonymous volumes")
    except InvalidParameter as error:
        raise InvalidParameter(
            f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": {error}"
        ) from None
    rw = options.get("access") != "ro"
    if kind == "bind":
        propagation = options.get("propagation", "rprivate")
        point = MountPoint("bind", clean(source), clean(target), mode=mode, rw=rw, propagation=propagation)
        return PlannedMount(point, "bind", create_source=True)
    point = MountPoint(
        "volume", "", clean(target), source, driver=volume_driver or "local", mode=mode or "z", rw=rw
    )
    return PlannedMount(point, "bind", copy_up="copy" not in options)


def _is_mode(text: str) -> bool:
    try:
        parse_mode(text)
    except InvalidParameter:
        return False
    return bool(text)


def from_mount(mount: Mount, volume_driver: str = "") -> PlannedMount:
    """One ``--mount``. Raises InvalidParameter; whether a bind's source exists is the caller's to check."""
    check_mount(mount)
    target, rw = clean(mount.target), not mount.read_only
    if mount.type == "bind":
        options = mount.bind_options or BindOptions()
        point = MountPoint(
            "bind", clean(mount.source), target, rw=rw, propagation=options.propagation or "rprivate"
        )
        return PlannedMount(point, "mount", create_source=options.create_mountpoint)
    if mount.type == "tmpfs":
        return PlannedMount(MountPoint("tmpfs", "", target, rw=rw), "mount")
    volume = mount.volume_options
    driver = volume.driver_config if volume else None
    point = MountPoint(
        "volume",
        "",
        target,
        mount.source,
        driver=(driver.name if driver else "") or volume_driver or "local",
        mode="z",
        rw=rw,
    )
    return PlannedMount(
        point,
        "mount",
        copy_up=not (volume and volume.no_copy),
        subpath=volume.subpath if volume else "",
        driver_options=driver.options if driver else {},
        labels=volume.labels if volume else {},
    )


def check_mount(mount: Mount) -> None:
    """Refuse a ``--mount`` that can't be, as moby's ``invalid mount config for type "…": …``."""

    def wrong(reason: str) -> InvalidParameter:
        return InvalidParameter(f'invalid mount config for type "{mount.type}": {reason}')

    if not mount.target:
        raise wrong("field Target must not be empty")
    try:
        check_target(mount.target)
        if mount.type == "bind" and mount.source and not mount.source.startswith("/"):
            raise InvalidParameter(f"invalid mount path: '{mount.source}' mount path must be absolute")
        if mount.type == "tmpfs":
            tmpfs_options(mount)
    except InvalidParameter as error:
        raise wrong(str(error)) from None
    others = {
        "bind": (("VolumeOptions", mount.volume_options), ("TmpfsOptions", mount.tmpfs_options)),
        "volume": (("BindOptions", mount.bind_options), ("TmpfsOptions", mount.tmpfs_options)),
        "tmpfs": (("BindOptions", mount.bind_options), ("VolumeOptions", mount.volume_options)),
    }
    if mount.type not in others:
        raise wrong("mount type unknown")
    for name, value in others[mount.type]:
        if value is not None:
            raise wrong(f"field {name} must not be specified")
    if mount.type == "bind":
        if not mount.source:
            raise wrong("field Source must not be empty")
        options = mount.bind_options or BindOptions()
        if options.propagation and options.propagation not in PROPAGATION:
            raise wrong(f"invalid propagation mode: {options.propagation}")
        if options.read_only_non_recursive and options.read_only_force_recursive:
            raise wrong("only one of ReadOnlyNonRecursive and ReadOnlyForceRecursive may be given")
        if options.read_only_force_recursive and not mount.read_only:
            raise wrong("ReadOnlyForceRecursive needs a read-only mount")
    if mount.type == "volume":
        if not mount.source and mount.read_only:
            raise wrong("must not set ReadOnly mode when using anonymous volumes")
        subpath = mount.volume_options.subpath if mount.volume_options else ""
        if subpath and (subpath.startswith("/") or ".." in subpath.split("/")):
            raise wrong("volume subpath must be a relative path within the volume")
    if mount.type == "tmpfs" and mount.source:
        raise wrong("field Source must not be specified")


def missing_source(source: str) -> InvalidParameter:
    """The error for a ``--mount type=bind`` whose source is not there."""
    return InvalidParameter(
        f'invalid mount config for type "bind": bind source path does not exist: {source}'
    )


def parse_volumes_from(text: str) -> tuple[str, str]:
    """``container[:mode]`` of ``--volumes-from``. Raises InvalidParameter."""
    container, _, mode = text.partition(":")
    if not container:
        raise InvalidParameter(f"invalid volumes-from specification: '{text}'")
    if set(parse_mode(mode)) & {"propagation", "copy"}:
        raise InvalidParameter(f"invalid mode: {mode}")
    return container, mode


def tmpfs_options(mount: Mount) -> list[str]:
    """The mount options of a ``--mount type=tmpfs``: ``ro``, ``mode=``, ``size=``."""
    options = ["ro"] if mount.read_only else []
    wanted = mount.tmpfs_options or TmpfsOptions()
    if not 0 <= wanted.mode <= 0o7777:
        raise InvalidParameter(f"invalid tmpfs mode: {wanted.mode:o}")
    if wanted.size_bytes < 0:
        raise InvalidParameter(f"invalid tmpfs size: {wanted.size_bytes}")
    if wanted.mode:
        options.append(f"mode={wanted.mode:o}")
    if wanted.size_bytes:
        options.append(f"size={wanted.size_bytes}")
    return options


def merge_tmpfs_options(options: Iterable[str]) -> list[str]:
    """``options`` with the last of each contradicting pair or repeated value. Raises InvalidParameter for
    unknown ones.
    """
    merged: list[str] = []
    seen: set[str] = set()
    for option in reversed(list(options)):
        name, separator, value = option.partition("=")
        if option in TMPFS_FLAGS:
            key = TMPFS_FLAGS[option]
        elif separator and name in TMPFS_VALUES and value:
            key = name
        else:
            raise InvalidParameter(f'Invalid tmpfs option "{option}"')
        if key not in seen:
            seen.add(key)
            merged.append(option)
    return merged[::-1]
