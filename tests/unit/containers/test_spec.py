"""The expectations are distilled from what dockerd 20.10 wrote for the same requests."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.containers import spec
from minid.containers.devices import DeviceNode
from minid.containers.model import (
    BindOptions,
    ContainerConfig,
    Device,
    ExecConfig,
    HostConfig,
    Mount,
    TmpfsOptions,
    Ulimit,
)

from .conftest import HOST, ID, make_container

SCHEMAS = Path(
    os.environ.get("MINID_SPECS", Path(__file__).parents[3].parent / "shared" / "specs")
    / Path("runtime-schemas")
)
ETC = {f"/etc/{name}": f"/c/{name}" for name in ("resolv.conf", "hostname", "hosts")}
DOCKER_CAPABILITIES = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID "
    "SYS_CHROOT"
)


def build(
    config: ContainerConfig | None = None, host_config: HostConfig | None = None, **options: Any
) -> Any:
    options = {"host": HOST, "rootfs_path": "rootfs", "etc_files": ETC, "cgroup_path": f"/{ID}"} | options
    return spec.build(make_container(config, host_config, options["host"]), **options)


def mount_lines(built: Any) -> list[str]:
    return [
        f"{mount['destination']} {mount['type']} {mount['source']} {','.join(mount['options'])}"
        for mount in built["mounts"]
    ]


def capability_names(built: Any) -> str:
    sets = built["process"]["capabilities"]
    assert sets["bounding"] == sets["effective"] == sets["permitted"]
    assert set(sets) == {"bounding", "effective", "permitted"}
    return " ".join(sorted(name.removeprefix("CAP_") for name in sets["bounding"]))


def test_a_plain_container() -> None:
    built = build()
    assert built["process"] == built["process"] | {
        "args": ["sleep", "1"],
        "env": [spec.DEFAULT_PATH, "HOSTNAME=0123456789ab"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "noNewPrivileges": False,
        "oomScoreAdj": 0,
    }
    assert "terminal" not in built["process"]
    assert "rlimits" not in built["process"]
    assert capability_names(built) == DOCKER_CAPABILITIES
    assert built["root"] == {"path": "rootfs", "readonly": False}
    assert built["hostname"] == "0123456789ab"
    assert built["linux"]["cgroupsPath"] == f"/{ID}"
    assert mount_lines(built) == [
        "/proc proc proc nosuid,noexec,nodev",
        "/dev tmpfs tmpfs nosuid,strictatime,mode=755,size=65536k",
        "/dev/pts devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        "/sys sysfs sysfs nosuid,noexec,nodev,ro",
        "/sys/fs/cgroup cgroup cgroup ro,nosuid,noexec,nodev",
        "/dev/mqueue mqueue mqueue nosuid,noexec,nodev",
        "/dev/shm tmpfs shm nosuid,noexec,nodev,mode=1777,size=67108864",
        "/etc/resolv.conf bind /c/resolv.conf rbind,rprivate",
        "/etc/hostname bind /c/hostname rbind,rprivate",
        "/etc/hosts bind /c/hosts rbind,rprivate",
    ]
    assert built["linux"]["namespaces"] == [
        {"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc", "cgroup")
    ]
    assert built["linux"]["sysctl"] == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
    assert built["linux"]["devices"] == []
    listed = built["linux"]["resources"]["devices"]
    assert [(rule["allow"], rule.get("major"), rule.get("minor")) for rule in listed] == [
        (False, None, None),
        (True, 1, 5),
        (True, 1, 3),
        (True, 1, 9),
        (True, 1, 8),
        (True, 5, 0),
        (True, 5, 1),
        (False, 10, 229),
    ]
    assert set(built["linux"]["resources"]) == {"devices"}
    assert "/proc/kcore" in built["linux"]["maskedPaths"]
    assert built["linux"]["readonlyPaths"] == list(spec.READONLY_PATHS)
    assert "seccomp" not in built["linux"]


def test_a_terminal() -> None:
    config = ContainerConfig(
        tty=True, env=("FOO=1", "HOSTNAME=x", "NOEQUALS"), hostname="h", domainname="d.example"
    )
    built = build(config, HostConfig(console_size=(24, 80)))
    assert built["process"]["terminal"] is True
    assert built["process"]["consoleSize"] == {"height": 24, "width": 80}
    assert built["process"]["env"] == [spec.DEFAULT_PATH, "HOSTNAME=x", "TERM=xterm", "FOO=1"]
    assert built["hostname"] == "h"
    assert built["linux"]["sysctl"]["kernel.domainname"] == "d.example"


def test_a_bare_name_takes_a_variable_away() -> None:
    built = build(ContainerConfig(env=("PATH", "A=1", "A=2")))
    assert built["process"]["env"] == ["HOSTNAME=0123456789ab", "A=2"]


def test_privileged() -> None:
    built = build(host_config=HostConfig(privileged=True, cap_drop=("ALL",), readonly_rootfs=True))
    assert "SYS_ADMIN" in capability_names(built)
    assert "maskedPaths" not in built["linux"]
    assert "readonlyPaths" not in built["linux"]
    assert built["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    lines = mount_lines(built)
    assert "/sys sysfs sysfs nosuid,noexec,nodev" in lines
    assert "/sys/fs/cgroup cgroup cgroup nosuid,noexec,nodev" in lines


def test_a_capability_that_the_daemon_lacks_is_left_out() -> None:
    host = HOST.__class__(capabilities=HOST.capabilities - {"CAP_SYS_RESOURCE"})
    built = build(host_config=HostConfig(privileged=True), host=host)
    assert "SYS_RESOURCE" not in capability_names(built)
    assert "SYS_ADMIN" in capability_names(built)


@pytest.mark.parametrize(
    ("add", "drop", "names"),
    [
        (("SYS_PTRACE", "cap_kill"), ("all",), "KILL SYS_PTRACE"),
        (("NET_ADMIN", "CHOWN"), ("chown", "MKNOD"), None),
        (None, ("ALL",), ""),
    ],
)
def test_capabilities(add: tuple[str, ...] | None, drop: tuple[str, ...], names: str | None) -> None:
    built = build(host_config=HostConfig(cap_add=add, cap_drop=drop))
    expected = names if names is not None else DOCKER_CAPABILITIES.replace("MKNOD ", "NET_ADMIN ")
    assert capability_names(built) == expected


def test_every_capability_but_one() -> None:
    built = build(host_config=HostConfig(cap_add=("ALL",), cap_drop=("NET_ADMIN",)))
    assert capability_names(built).split() == sorted(
        name[4:] for name in HOST.capabilities if name != "CAP_NET_ADMIN"
    )


def test_mounts_of_every_kind() -> None:
    config = ContainerConfig(volumes={"/q": {}, "/a/../hv": {}})
    host_config = HostConfig(
        readonly_rootfs=True,
        tmpfs={"/run": "", "/x": "size=1m,exec,mode=700", "/z": "ro,relatime"},
        binds=("/h:/a/b:ro", "vol:/a", "/h:/hv", "vol2:/v2:ro,nocopy"),
        mounts=(
            Mount("tmpfs", target="/tm"),
            Mount(
                "tmpfs",
                target="/tm2",
                read_only=True,
                tmpfs_options=TmpfsOptions(size_bytes=5000, mode=0o1770),
            ),
            Mount("bind", "/h", "/hv3", bind_options=BindOptions(non_recursive=True)),
            Mount("bind", "/h", "/hv4", read_only=True, bind_options=BindOptions(propagation="private")),
            Mount(
                "bind", "/h", "/hv5", read_only=True, bind_options=BindOptions(read_only_non_recursive=True)
            ),
            Mount("volume", target="/anon"),
        ),
    )
    built = build(config, host_config)
    assert mount_lines(built)[7:] == [
        "/a bind /volumes/vol rbind",
        "/anon bind /volumes/anonymous rbind",
        "/hv bind /h rbind,rprivate",
        "/hv3 bind /h bind,rprivate",
        "/hv4 bind /h rbind,rro,private",
        "/hv5 bind /h rbind,ro,rprivate",
        "/q bind /volumes/anonymous rbind",
        "/run tmpfs tmpfs noexec,nosuid,nodev,rprivate",
        "/tm tmpfs tmpfs noexec,nosuid,nodev,rprivate",
        "/tm2 tmpfs tmpfs noexec,nosuid,nodev,rprivate,ro,mode=1770,size=5000",
        "/v2 bind /volumes/vol2 rbind,rro",
        "/x tmpfs tmpfs nosuid,nodev,rprivate,size=1m,exec,mode=700",
        "/z tmpfs tmpfs noexec,nosuid,nodev,rprivate,ro,relatime",
        "/a/b bind /h rbind,rro,rprivate",
        "/etc/resolv.conf bind /c/resolv.conf rbind,ro,rprivate",
        "/etc/hostname bind /c/hostname rbind,ro,rprivate",
        "/etc/hosts bind /c/hosts rbind,ro,rprivate",
    ]
    assert built["root"]["readonly"] is True


def test_own_mounts_replace_the_default_ones() -> None:
    built = build(
        host_config=HostConfig(binds=("/h:/dev", "/e:/etc/hosts:ro", "/h:/sys/fs/cgroup", "/b:/0/1", "/t:/0"))
    )
    assert [mount["destination"] for mount in built["mounts"]] == [
        "/proc",
        "/sys",
        "/0",
        "/dev",
        "/0/1",
        "/etc/hosts",
        "/sys/fs/cgroup",
        "/etc/resolv.conf",
        "/etc/hostname",
    ]


def test_namespaces_of_the_host() -> None:
    config = HostConfig(
        ipc_mode="host", pid_mode="host", uts_mode="host", cgroupns_mode="host", network_mode="host"
    )
    built = build(host_config=config)
    assert built["linux"]["namespaces"] == [{"type": "mount"}]
    assert built["linux"]["sysctl"] == {}
    assert "hostname" not in built
    assert mount_lines(built)[-1] == "/dev/shm bind /dev/shm rbind,rprivate"
    assert built["process"]["env"][1] == "HOSTNAME=machine"


def test_namespaces_of_another_container() -> None:
    config = HostConfig(network_mode="container:x", ipc_mode="container:x", pid_mode="container:x")
    join = {"network": "/proc/7/ns/net", "ipc": "/proc/7/ns/ipc", "pid": "/proc/7/ns/pid"}
    built = build(host_config=config, join=join, shm_source="/proc/7/root/dev/shm")
    assert built["linux"]["namespaces"] == [
        {"type": "mount"},
        {"type": "network", "path": "/proc/7/ns/net"},
        {"type": "uts"},
        {"type": "pid", "path": "/proc/7/ns/pid"},
        {"type": "ipc", "path": "/proc/7/ns/ipc"},
        {"type": "cgroup"},
    ]
    assert built["linux"]["sysctl"] == {}
    assert [line for line in mount_lines(built) if line.startswith("/dev/shm")] == [
        "/dev/shm bind /proc/7/root/dev/shm rbind,rprivate"
    ]


def test_no_shared_memory() -> None:
    built = build(host_config=HostConfig(ipc_mode="none"))
    assert not [mount for mount in built["mounts"] if mount["destination"] == "/dev/shm"]


def test_unconfined_system_paths() -> None:
    built = build(host_config=HostConfig(masked_paths=(), readonly_paths=("/proc/fs",)))
    assert "maskedPaths" not in built["linux"]
    assert built["linux"]["readonlyPaths"] == ["/proc/fs"]


def test_limits() -> None:
    host_config = HostConfig(
        memory=64 << 20,
        nano_cpus=1_500_000_000,
        cpuset_cpus="0-1",
        pids_limit=100,
        cpu_shares=512,
        oom_score_adj=100,
        ulimits=(Ulimit("nofile", 10, 20), Ulimit("core", -1, -1)),
        sysctls={"net.core.somaxconn": "10"},
        security_opt=("no-new-privileges",),
    )
    built = build(host_config=host_config)
    resources = built["linux"]["resources"]
    assert resources["memory"] == {"limit": 67108864, "swap": 134217728}
    assert resources["cpu"] == {"shares": 512, "quota": 150000, "period": 100000, "cpus": "0-1"}
    assert resources["pids"] == {"limit": 100}
    assert built["process"]["rlimits"] == [
        {"type": "RLIMIT_CORE", "hard": 2**64 - 1, "soft": 2**64 - 1},
        {"type": "RLIMIT_NOFILE", "hard": 20, "soft": 10},
    ]
    assert built["process"]["oomScoreAdj"] == 100
    assert built["process"]["noNewPrivileges"] is True
    assert built["linux"]["sysctl"]["net.core.somaxconn"] == "10"


def test_devices() -> None:
    host_config = HostConfig(
        devices=(Device("/dev/fuse", "/dev/fu", "r"),),
        device_cgroup_rules=("c 1:3 mr", "b *:* rwm", "c 7:* w"),
    )
    built = build(host_config=host_config, nodes=(DeviceNode("/dev/fu", "c", 10, 229, 0o600, access="r"),))
    assert built["linux"]["devices"] == [
        {"path": "/dev/fu", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 0, "gid": 0}
    ]
    assert built["linux"]["resources"]["devices"][8:] == [
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "mr"},
        {"allow": True, "type": "b", "access": "rwm"},
        {"allow": True, "type": "c", "major": 7, "access": "w"},
    ]


def test_shared_propagation_reaches_the_rootfs() -> None:
    assert (
        build(host_config=HostConfig(binds=("/h:/a:rshared", "/h:/b:slave")))["linux"]["rootfsPropagation"]
        == "shared"
    )
    assert build(host_config=HostConfig(binds=("/h:/b:slave",)))["linux"]["rootfsPropagation"] == "rslave"
    assert "rootfsPropagation" not in build(host_config=HostConfig(binds=("/h:/b",)))["linux"]


def test_init_user_and_groups() -> None:
    config = ContainerConfig(user="bob:staff", working_dir="/w/../x/")
    built = build(config, HostConfig(init=True, group_add=("video", "77")))
    assert built["process"]["user"] == {"uid": 0, "gid": 0, "username": "bob:staff"}
    assert built["process"]["cwd"] == "/x"
    assert built["annotations"] == {spec.GROUPS_ANNOTATION: "video,77", spec.INIT_ANNOTATION: "true"}
    with_program = build(config, HostConfig(init=True), init_path="/usr/bin/tini")
    assert with_program["process"]["args"] == ["/sbin/docker-init", "--", "sleep", "1"]
    assert mount_lines(with_program)[-1] == "/sbin/docker-init bind /usr/bin/tini bind,ro"


def test_an_exec_has_the_containers_surroundings() -> None:
    container = make_container(
        ContainerConfig(user="bob", env=("A=1",), working_dir="/w"),
        HostConfig(ulimits=(Ulimit("core", 0, 0),)),
    )
    process = spec.exec_process(container, ExecConfig(cmd=("id",), env=("A=2", "B=3"), tty=True), host=HOST)
    assert process["args"] == ["id"]
    assert process["user"]["username"] == "bob"
    assert process["cwd"] == "/w"
    assert process["env"] == [spec.DEFAULT_PATH, "HOSTNAME=0123456789ab", "TERM=xterm", "A=2", "B=3"]
    assert process["rlimits"] == [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}]
    privileged = spec.exec_process(container, ExecConfig(cmd=("id",), privileged=True, user="0"), host=HOST)
    assert len(privileged["capabilities"]["bounding"]) == len(HOST.capabilities)
    assert privileged["user"]["username"] == "0"


@pytest.fixture(scope="module")
def schema() -> Any:
    if not SCHEMAS.is_dir():
        pytest.skip(f"the OCI runtime schemas are not at {SCHEMAS} (set MINID_SPECS)")
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    draft4 = pytest.importorskip("referencing.jsonschema").DRAFT4
    registry: Any = referencing.Registry()
    for path in SCHEMAS.glob("*.json"):
        registry = registry.with_resource(path.name, draft4.create_resource(json.loads(path.read_text())))
    document = json.loads((SCHEMAS / "config-schema.json").read_text())
    return jsonschema.Draft4Validator(document, registry=registry)


@given(
    config=st.builds(
        ContainerConfig,
        tty=st.booleans(),
        user=st.sampled_from(["", "1000", "bob:staff"]),
        env=st.lists(st.from_regex(r"[A-Z]{1,3}(=.{0,5})?", fullmatch=True), max_size=3).map(tuple),
        working_dir=st.sampled_from(["", "/w"]),
        cmd=st.just(("true",)),
        volumes=st.sampled_from([{}, {"/v": {}}]),
    ),
    host_config=st.builds(
        HostConfig,
        privileged=st.booleans(),
        readonly_rootfs=st.booleans(),
        init=st.sampled_from([None, True, False]),
        binds=st.sampled_from([None, ("/h:/a:ro",), ("name:/b:nocopy", "/h:/dev")]),
        tmpfs=st.sampled_from([{}, {"/t": "size=1m,exec"}]),
        cap_add=st.sampled_from([None, ("ALL",), ("NET_ADMIN",)]),
        cap_drop=st.sampled_from([None, ("ALL",), ("CHOWN",)]),
        network_mode=st.sampled_from(["none", "host", "container:x"]),
        ipc_mode=st.sampled_from(["", "host", "none", "shareable"]),
        pid_mode=st.sampled_from(["", "host"]),
        uts_mode=st.sampled_from(["", "host"]),
        cgroupns_mode=st.sampled_from(["", "host", "private"]),
        memory=st.sampled_from([0, 6 << 20, 1 << 40]),
        memory_swap=st.sampled_from([0, -1, 1 << 41]),
        nano_cpus=st.integers(0, 2_000_000_000),
        pids_limit=st.sampled_from([None, -1, 0, 5]),
        ulimits=st.sampled_from([None, (Ulimit("nofile", 1, 2),), (Ulimit("core", -1, -1),)]),
        oom_score_adj=st.integers(-1000, 1000),
        group_add=st.sampled_from([None, ("video",)]),
    ),
)
def test_every_spec_is_valid(schema: Any, config: ContainerConfig, host_config: HostConfig) -> None:
    nodes = (DeviceNode("/dev/x", "b", 7, 0),)
    built = build(config, host_config, nodes=nodes, join={"pid": "/proc/1/ns/pid"})
    schema.validate(json.loads(json.dumps(built)))
