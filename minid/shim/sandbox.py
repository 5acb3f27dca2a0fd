"""Making the sandbox, from inside it: what a container's first process does before it becomes the user's
program.

The order is that of ``runtime-spec runtime.md § Lifecycle``: cgroup, namespaces, root file system, mounts,
devices, masks,
pivot. Everything is taken from the bundle's ``config.json``; ``task.json`` adds what the specification has
no word for. All code
that runs here was imported long before; nothing from the image is run on our behalf.
"""

import errno
import os
import re
import stat
from typing import Any

from minid.kernel import loopback, mounts, namespaces, rootpath, syscall

Spec = dict[str, Any]

DEVICE_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
DEVICE_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
# runtime-spec config-linux.md § Default Devices: the runtime's to supply, whatever the spec lists
DEFAULT_DEVICES = tuple(
    {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor}
    for name, major, minor in (
        ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)
    )
)  # fmt: skip
FOREIGN = re.compile(r"/proc/(\d+)/root(/.*)")
MOVE_FLAGS = syscall.MOVE_MOUNT_F_EMPTY_PATH | syscall.MOVE_MOUNT_T_EMPTY_PATH
NULL_DEVICE = os.makedev(1, 3)


# What nearly every container has, so that it can be made before there is a container: the mounts of the
# runtime spec
# as minid.containers.spec writes them. A prepared mount is used where a spec asks for the very same.
DEV = ("tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k"))
COMMON_MOUNTS = (
    DEV,
    ("devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    ("sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    ("mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
)
COMMON_NAMESPACES = frozenset(("network", "uts", "ipc"))

Prepared = dict[tuple[str, str, tuple[str, ...]], int]


def prepare() -> Prepared:
    """Make the common namespaces and mounts in this process (a shim); its children inherit both.

    Returns the mounts as descriptors that are attached nowhere yet; what this kernel does not have is left
    out.
    """
    syscall.unshare(namespaces.flags(COMMON_NAMESPACES))
    loopback.bring_up()
    prepared: Prepared = {}
    for entry in COMMON_MOUNTS:
        try:
            prepared[entry] = mounts.detached(*entry)
        except OSError:
            continue  # whoever needs it is told why it cannot be
    dev = prepared.get(DEV)
    if dev is not None:
        for directory in ("pts", "mqueue", "shm"):
            os.mkdir(directory, 0o755, dir_fd=dev)
        _make_devices_in(dev)
    return prepared


def join_cgroup(procs_files: list[str]) -> None:
    """Enter the cgroup before any namespace hides it: each file takes "0" for the writer (cgroups(7))."""
    for path in procs_files:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)


def enter_namespaces(spec: Spec, *, prepared: bool) -> None:
    """Join the namespaces given by path, unshare the others; the pid namespace was the shim's business.

    ``prepared``: this process was born in the common ones.
    """
    fresh = []
    for namespace in spec["linux"]["namespaces"]:
        kind, path = namespace["type"], namespace.get("path")
        if kind == "pid":
            continue
        if path:
            namespaces.enter_path(path, kind)
        else:
            fresh.append(kind)
    made = COMMON_NAMESPACES if prepared else frozenset()
    syscall.unshare(namespaces.flags(set(fresh) - made))
    if "network" in fresh and not prepared:
        loopback.bring_up()
    if "uts" in fresh:
        if spec.get("hostname"):
            _set_name(syscall.libc.sethostname, spec["hostname"])
        if spec.get("domainname"):
            _set_name(syscall.libc.setdomainname, spec["domainname"])


def _set_name(function: Any, name: str) -> None:
    data = name.encode()
    if function(data, len(data)) != 0:
        raise syscall.fail(function.__name__, name)


def build(spec: Spec, task: dict[str, Any], bundle: str, prepared: Prepared) -> None:
    """Mount everything and make it the process's root; afterwards ``/`` is the container's."""
    root = os.path.join(bundle, spec["root"]["path"])
    held = _resolve_subpaths(spec["mounts"], task["subpaths"])
    trees = _early_trees(spec["mounts"])
    mounts.set_propagation("/", syscall.MS_SLAVE | syscall.MS_REC)
    _mount_root(task["rootfs"], root)
    root_fd = rootpath.open_root(root)
    for mount in spec["mounts"]:
        ready = prepared.pop((mount["type"], mount.get("source", ""), tuple(mount.get("options", ()))), None)
        if ready is None:
            _mount_one(root_fd, mount, trees.get(mount["destination"]))
        else:
            _attach(root_fd, mount["destination"], ready)
    for fd in held:
        os.close(fd)
    if any(mount["destination"] == "/dev" and mount["type"] != "bind" for mount in spec["mounts"]):
        _make_devices(root_fd, spec["linux"].get("devices", ()))
    os.close(rootpath.ensure_dir(root_fd, spec["process"]["cwd"]))
    _write_sysctls(root_fd, spec["linux"].get("sysctl") or {})
    _pivot(root_fd)
    os.close(root_fd)
    if spec["linux"].get("rootfsPropagation"):
        mounts.set_propagation("/", mounts.PROPAGATION[spec["linux"]["rootfsPropagation"]])
    for path in spec["linux"].get("readonlyPaths") or ():
        _make_path_readonly(path)
    for path in spec["linux"].get("maskedPaths") or ():
        _mask(path)
    for mount in spec["mounts"]:
        # a tmpfs that has to be filled first, /dev above all, was mounted writable
        if mount["type"] == "tmpfs" and "ro" in mount.get("options", ()):
            mounts.remount_bind(mount["destination"], syscall.MS_RDONLY)
    if spec["root"].get("readonly"):
        mounts.remount_bind("/", syscall.MS_RDONLY)


def _mount_root(rootfs: dict[str, Any], target: str) -> None:
    if rootfs["kind"] == "overlay":
        mounts.overlay(rootfs["lower"], rootfs["upper"], rootfs["work"], target)
    else:
        syscall.mount(rootfs["source"], target, None, syscall.MS_BIND | syscall.MS_REC)
    mounts.set_propagation(target, syscall.MS_PRIVATE)


def _attach(root: int, destination: str, mount: int) -> None:
    """Put a mount that is attached nowhere into its place."""
    target = rootpath.ensure_dir(root, destination)
    try:
        syscall.move_mount(mount, "", target, MOVE_FLAGS)
    finally:
        os.close(target)
        os.close(mount)


def _resolve_subpaths(entries: list[dict[str, Any]], subpaths: dict[str, str]) -> list[int]:
    """Parts of volumes, looked up inside these: what runs with a volume may have put links in it.

    ``subpaths``: destination → the end of the source that lies inside the volume. The sources become paths of
    the descriptors that are returned.
    """
    held = []
    for mount in entries:
        subpath = subpaths.get(mount["destination"])
        if subpath:
            volume = rootpath.open_root(mount["source"].removesuffix(subpath))
            held.append(rootpath.open_in_root(volume, subpath))
            os.close(volume)
            mount["source"] = mounts.fd_path(held[-1])
    return held


def _early_trees(entries: list[dict[str, Any]]) -> dict[str, int]:
    """Sources that have to be taken before this namespace lets go of the host's: destination → mount
    descriptor.

    Those that go on sharing mounts with the host, and those that lie in another container
    (``/proc/PID/root/…``).
    """
    trees = {}
    for mount in entries:
        options = mount.get("options", ())
        foreign = FOREIGN.fullmatch(mount.get("source", ""))
        if foreign:
            trees[mount["destination"]] = mounts.clone_from_process(int(foreign[1]), foreign[2])
        elif "shared" in options or "rshared" in options:
            trees[mount["destination"]] = mounts.clone_tree(mount["source"], recursive="rbind" in options)
    return trees


def _mount_one(root: int, mount: dict[str, Any], tree: int | None) -> None:
    """One entry of ``mounts``; the target is resolved inside the root, and mounted on through its descriptor.

    ``tree``: the source as a detached mount, if it was taken early.
    """
    kind, source, destination = mount["type"], mount.get("source", ""), mount["destination"]
    flags, propagation, data = mounts.parse_options(mount.get("options", ()))
    if kind == "cgroup":
        _mount_cgroup(root, destination, flags)
        return
    is_bind = bool(flags & syscall.MS_BIND)
    directory = os.path.isdir(source if tree is None else mounts.fd_path(tree)) if is_bind else True
    target = rootpath.ensure_mountpoint(root, destination, directory=directory)
    try:
        if is_bind:
            bind = flags & (syscall.MS_BIND | syscall.MS_REC)
            if tree is None:
                syscall.mount(source, mounts.fd_path(target), None, bind)
            else:
                syscall.move_mount(tree, "", target, MOVE_FLAGS)
                os.close(tree)
            _finish_bind(root, destination, flags & ~bind, propagation, recursive_ro="rro" in data.split(","))
            return
        if kind == "tmpfs" and "tmpcopyup" in data.split(","):
            data = ",".join(option for option in data.split(",") if option != "tmpcopyup")
        late_readonly = syscall.MS_RDONLY if kind == "tmpfs" else 0
        syscall.mount(source or kind, mounts.fd_path(target), kind, flags & ~late_readonly, data or None)
    finally:
        os.close(target)
    for propagation_flags in propagation:
        mounted = rootpath.open_in_root(root, destination)
        mounts.set_propagation(mounts.fd_path(mounted), propagation_flags)
        os.close(mounted)


def _finish_bind(
    root: int, destination: str, flags: int, propagation: list[int], *, recursive_ro: bool
) -> None:
    """Propagation and flags of a bind that has just been mounted; mount(2) ignores them in the same call."""
    mounted = rootpath.open_in_root(root, destination)
    try:
        path = mounts.fd_path(mounted)
        for propagation_flags in propagation or [syscall.MS_PRIVATE | syscall.MS_REC]:
            mounts.set_propagation(path, propagation_flags)
        if flags & ~syscall.MS_RDONLY:
            mounts.remount_bind(path, flags)
        if flags & syscall.MS_RDONLY or recursive_ro:
            mounts.make_readonly(mounted, recursive=recursive_ro)
    finally:
        os.close(mounted)


def _mount_cgroup(root: int, destination: str, flags: int) -> None:
    """The container's view of its cgroup: cgroup2 where the host has only that, else every v1 controller of
    the host.
    """
    target = rootpath.ensure_dir(root, destination)
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
            entries = [line.split() for line in table]
        hierarchies = [(entry[1], entry[3]) for entry in entries if entry[2] == "cgroup"]
        if not hierarchies:
            syscall.mount("cgroup", mounts.fd_path(target), "cgroup2", flags)
            return
        syscall.mount("tmpfs", mounts.fd_path(target), "tmpfs", flags & ~syscall.MS_RDONLY, "mode=755")
    finally:
        os.close(target)
    for mountpoint, options in hierarchies:
        name = os.path.basename(mountpoint)
        generic = {"rw", "ro", "nosuid", "nodev", "noexec", "relatime"}
        own = [option for option in options.split(",") if option not in generic]
        own = [option for option in own if not option.startswith("release_agent=")]
        place = rootpath.ensure_dir(root, f"{destination}/{name}")
        syscall.mount("cgroup", mounts.fd_path(place), "cgroup", flags, ",".join(own))
        os.close(place)
    if flags & syscall.MS_RDONLY:
        top = rootpath.open_in_root(root, destination)
        mounts.remount_bind(mounts.fd_path(top), flags)
        os.close(top)


def _make_devices(root: int, devices: list[dict[str, Any]]) -> None:
    dev = rootpath.ensure_dir(root, "/dev")
    try:
        _make_devices_in(dev)
    finally:
        os.close(dev)
    for device in devices:
        parent = rootpath.ensure_dir(root, os.path.dirname(device["path"]))
        try:
            _make_device(parent, device)
        finally:
            os.close(parent)


def _make_devices_in(dev: int) -> None:
    """The default devices and links, in the directory that is or will be /dev; what is there stays."""
    for device in DEFAULT_DEVICES:
        _make_device(dev, device)
    for target, link in DEVICE_LINKS:
        try:
            os.symlink(target, link.removeprefix("/dev/"), dir_fd=dev)
        except FileExistsError:
            pass


def _make_device(parent: int, device: dict[str, Any]) -> None:
    name = os.path.basename(device["path"])
    mode = DEVICE_KINDS[device["type"]] | device.get("fileMode", 0o666) & 0o7777
    try:
        os.mknod(name, mode, os.makedev(device.get("major", 0), device.get("minor", 0)), dir_fd=parent)
    except FileExistsError:
        return
    if device.get("uid") or device.get("gid"):
        os.chown(name, device["uid"], device["gid"], dir_fd=parent, follow_symlinks=False)


def add_console(slave_path: str) -> None:
    """Bind the terminal's slave on ``/dev/console`` (after the pivot)."""
    fd = os.open("/dev/console", os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    os.close(fd)
    syscall.mount(slave_path, "/dev/console", None, syscall.MS_BIND)


def _write_sysctls(root: int, sysctls: dict[str, str]) -> None:
    for name, value in sysctls.items():
        path = "/proc/sys/" + name.replace(".", "/")
        try:
            fd = rootpath.open_in_root(root, path, os.O_WRONLY)
        except FileNotFoundError:
            raise OSError(errno.ENOENT, "this kernel has no such sysctl", name) from None
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)


def _pivot(root: int) -> None:
    """pivot_root(2) onto the new root stacked over the old one, which is then let go of (see its § NOTES)."""
    os.fchdir(root)
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    syscall.pivot_root(".", ".")
    os.fchdir(old)
    mounts.set_propagation(".", syscall.MS_SLAVE | syscall.MS_REC)
    syscall.umount(".", syscall.MNT_DETACH)
    os.close(old)
    os.chdir("/")


def _make_path_readonly(path: str) -> None:
    fd = _open_own(path)
    if fd is None:
        return
    try:
        syscall.mount(mounts.fd_path(fd), mounts.fd_path(fd), None, syscall.MS_BIND | syscall.MS_REC)
        mounted = os.open(path, os.O_PATH | os.O_CLOEXEC)
        mounts.remount_bind(mounts.fd_path(mounted), syscall.MS_RDONLY)
        os.close(mounted)
    finally:
        os.close(fd)


def _mask(path: str) -> None:
    """Hide ``path``: a directory below an empty read-only tmpfs, a file below /dev/null, which is checked
    to be that.
    """
    fd = _open_own(path)
    if fd is None:
        return
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            syscall.mount("tmpfs", mounts.fd_path(fd), "tmpfs", syscall.MS_RDONLY, "nr_blocks=1,nr_inodes=1")
            return
        null = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(null)
            if not stat.S_ISCHR(status.st_mode) or status.st_rdev != NULL_DEVICE:
                raise OSError(
                    errno.EINVAL,
                    "/dev/null of the image is not the null device; refusing to mask with it",
                    path,
                )
            syscall.mount(mounts.fd_path(null), mounts.fd_path(fd), None, syscall.MS_BIND)
        finally:
            os.close(null)
    finally:
        os.close(fd)


def _open_own(path: str) -> int | None:
    """A masked or read-only path as a descriptor, never through a symlink that the image put there; None if
    absent.
    """
    try:
        return syscall.openat2(
            syscall.AT_FDCWD, path, os.O_PATH | os.O_NOFOLLOW, resolve=syscall.RESOLVE_NO_SYMLINKS
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(
                errno.ELOOP, "a symbolic link stands where a protected path belongs", path
            ) from None
        raise
