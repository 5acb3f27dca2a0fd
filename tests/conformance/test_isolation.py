"""What a container can see and do: namespaces, capabilities, seccomp, masks, devices, file descriptors, cgroup."""

import os
import platform
import re
from pathlib import Path

import pytest

from tests.cli import Cli
from tests.engine import Engine
from tests.wire import Wire

NONE = ("run", "--rm", "--network", "none")
DEFAULT_CAPABILITIES = 0x00000000A80425FB
CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_CHOWN, CAP_SYS_RESOURCE = 1 << 21, 1 << 12, 1 << 0, 1 << 24
CAP_SYS_TIME, CAP_NET_RAW = 1 << 25, 1 << 13

only_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the probes are x86-64 programs")


def status(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def capabilities(cli: Cli, image: str, *options: str) -> dict[str, int]:
    fields = status(cli.ok(*NONE, *options, image, "cat", "/proc/self/status"))
    return {name: int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


def test_default_capabilities(docker_cli: Cli, busybox: str) -> None:
    sets = capabilities(docker_cli, busybox)
    assert sets == {
        "CapInh": 0,
        "CapPrm": DEFAULT_CAPABILITIES,
        "CapEff": DEFAULT_CAPABILITIES,
        "CapBnd": DEFAULT_CAPABILITIES,
        "CapAmb": 0,
    }


def test_capabilities_of_an_ordinary_user(docker_cli: Cli, busybox: str) -> None:
    sets = capabilities(docker_cli, busybox, "-u", "1000")
    assert (sets["CapPrm"], sets["CapEff"], sets["CapInh"], sets["CapAmb"]) == (0, 0, 0, 0)
    assert sets["CapBnd"] == DEFAULT_CAPABILITIES


def test_cap_add_and_drop(cli: Cli, busybox: str) -> None:
    options = ("--cap-add", "NET_ADMIN", "--cap-add", "CAP_SYS_TIME", "--cap-drop", "chown")
    sets = capabilities(cli, busybox, *options)
    expected = (DEFAULT_CAPABILITIES | CAP_NET_ADMIN | CAP_SYS_TIME) & ~CAP_CHOWN
    assert sets["CapEff"] == sets["CapBnd"] == expected
    assert capabilities(cli, busybox, "--cap-drop", "ALL")["CapBnd"] == 0
    only = capabilities(cli, busybox, "--cap-drop", "ALL", "--cap-add", "NET_RAW")
    assert only["CapEff"] == only["CapBnd"] == CAP_NET_RAW


def _own_capabilities() -> int:
    return int(status(Path("/proc/self/status").read_text())["CapEff"], 16)


def test_cap_add_all_without_what_the_machine_lacks(docker_cli: Cli, busybox: str) -> None:
    lacking = () if _own_capabilities() & CAP_SYS_RESOURCE else ("--cap-drop", "SYS_RESOURCE")
    sets = capabilities(docker_cli, busybox, "--cap-add", "ALL", *lacking)
    assert sets["CapEff"] & CAP_SYS_ADMIN
    assert sets["CapEff"] & ~_own_capabilities() == 0


@pytest.mark.minid_only(
    "runc fails where the daemon lacks a capability: unable to apply caps: operation not permitted"
)
def test_privileged(cli: Cli, busybox: str) -> None:
    script = (
        "grep -E 'CapEff|Seccomp:' /proc/self/status; ls /dev; mount -t tmpfs x /tmp && "
        "echo mounted; cat /proc/mounts"
    )
    out = cli.ok(*NONE, "--privileged", busybox, "sh", "-c", script)
    fields = status(out)
    own = _own_capabilities()
    assert int(fields["CapEff"], 16) == own & int(fields["CapEff"], 16)
    assert int(fields["CapEff"], 16) & CAP_SYS_ADMIN
    assert fields["Seccomp"] == "0"
    assert "mounted" in out
    devices = set(out.splitlines())
    assert "kmsg" in devices or not os.path.exists("/dev/kmsg")
    mounts = {line.split()[1]: line.split()[3] for line in out.splitlines() if len(line.split()) == 6}
    assert mounts["/sys"].startswith("rw"), "privileged: /sys can be written"
    assert "/proc/acpi" not in mounts and "/proc/sys" not in mounts, (
        "privileged: nothing is masked or read-only"
    )


def test_namespaces_are_the_containers_own(docker_cli: Cli, wire: Wire, engine: Engine, busybox: str) -> None:
    docker_cli.ok("run", "-d", "--name", "ns", "--network", "none", busybox, "sleep", "60")
    pid = wire.get("/containers/ns/json")["State"]["Pid"]
    for kind in ("pid", "mnt", "net", "uts", "ipc"):
        inside, outside = os.readlink(f"/proc/{pid}/ns/{kind}"), os.readlink(f"/proc/self/ns/{kind}")
        assert inside != outside, f"the container shares the host's {kind} namespace"
    assert os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")


def test_host_namespaces_when_asked_for(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    options = ("--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host")
    docker_cli.ok("run", "-d", "--name", "ns", *options, busybox, "sleep", "60")
    pid = wire.get("/containers/ns/json")["State"]["Pid"]
    for kind in ("pid", "net", "uts", "ipc"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}"), kind
    assert os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    assert docker_cli.ok("exec", "ns", "hostname") == os.uname().nodename


def test_namespaces_of_another_container(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    docker_cli.ok(
        "run", "-d", "--name", "first", "--network", "none", "--ipc", "shareable", busybox, "sleep", "60"
    )
    options = ("--network", "container:first", "--pid", "container:first", "--ipc", "container:first")
    docker_cli.ok("run", "-d", "--name", "second", *options, busybox, "sleep", "61")
    first, second = (wire.get(f"/containers/{name}/json")["State"]["Pid"] for name in ("first", "second"))
    for kind in ("pid", "net", "ipc"):
        assert os.readlink(f"/proc/{first}/ns/{kind}") == os.readlink(f"/proc/{second}/ns/{kind}"), kind
    assert os.readlink(f"/proc/{first}/ns/uts") != os.readlink(f"/proc/{second}/ns/uts")
    assert "sleep 60" in docker_cli.ok("exec", "second", "ps")


def test_container_cannot_join_one_that_does_not_exist(docker_cli: Cli, busybox: str) -> None:
    result = docker_cli("run", "--rm", "--network", "container:nosuch", busybox, "true")
    assert result.code == 125
    assert "No such container: nosuch" in result.err


def test_only_loopback_without_a_network(cli: Cli, busybox: str) -> None:
    out = cli.ok(
        *NONE,
        busybox,
        "sh",
        "-c",
        "ls /sys/class/net; ip -o addr show lo; ping -c1 -W1 127.0.0.1 >/dev/null && echo up",
    )
    names = [line for line in out.splitlines() if re.fullmatch(r"\w+", line) and line != "up"]
    assert "lo" in names and not {name for name in names if name.startswith(("eth", "en"))}
    assert "127.0.0.1/8" in out and out.endswith("up")


def test_first_process_is_pid_1_and_sees_only_its_own(docker_cli: Cli, busybox: str) -> None:
    out = docker_cli.ok(*NONE, busybox, "sh", "-c", "echo $$; ls -d /proc/[0-9]*").split()
    assert out[0] == "1"
    assert len(out) <= 3


def test_no_file_descriptor_leaks_in(docker_cli: Cli, busybox: str) -> None:
    count = "set -- /proc/1/fd/*; echo $#; ls -l /proc/1/fd"
    for options, most in (((), 3), (("-i",), 3), (("--init",), 3)):
        out = docker_cli.ok(*NONE, *options, busybox, "sh", "-c", count)
        fds = re.findall(r" (\d+) -> (.*)", out)
        assert {int(number) for number, _ in fds} <= set(range(most)), out
    docker_cli.ok("run", "-d", "--name", "fds", "--network", "none", busybox, "sleep", "60")
    assert docker_cli.ok("exec", "fds", "ls", "/proc/self/fd").split() == ["0", "1", "2", "3"], (
        "3 is ls's own"
    )


def test_working_directory_and_root_are_inside(docker_cli: Cli, busybox: str) -> None:
    out = docker_cli.ok(*NONE, busybox, "sh", "-c", "readlink /proc/1/cwd; readlink /proc/1/root; ls -a /")
    assert out.splitlines()[:2] == ["/", "/"]
    assert "work" not in out.splitlines()
    assert docker_cli("run", "--rm", "--network", "none", busybox, "cat", "/../../../etc/removed").code == 1


def test_masked_and_read_only_paths(docker_cli: Cli, busybox: str) -> None:
    script = """
for f in /proc/kcore /proc/keys /proc/timer_list; do [ -e $f ] && echo "$f $(head -c 1 $f | wc -c)"; done
for d in /proc/acpi /proc/scsi /sys/firmware; do [ -e $d ] && echo "$d $(ls $d | wc -l)"; done
for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity; do
  [ -e $f ] && (echo x > $f) 2>/dev/null && echo "wrote $f"
done
for d in /sys/fs/cgroup /sys/fs/cgroup/memory; do
  [ -e $d/cgroup.procs ] && mkdir $d/made 2>/dev/null && echo "made a cgroup"
done
touch /sys/made 2>/dev/null && echo "wrote /sys"
:"""
    for line in docker_cli.ok(*NONE, busybox, "sh", "-c", script).splitlines():
        assert line.endswith(" 0"), line


def test_masks_are_dev_null_and_mounts_are_locked_down(docker_cli: Cli, busybox: str) -> None:
    out = docker_cli.ok(*NONE, busybox, "cat", "/proc/self/mountinfo")
    mounts: dict[str, tuple[str, str]] = {}
    for line in out.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        mounts[fields[4]] = (fields[5], right.split()[0])
        assert not re.search(r"shared:", left), f"a shared mount: {line}"
    assert mounts["/proc"][1] == "proc" and {"nosuid", "nodev", "noexec"} <= set(
        mounts["/proc"][0].split(",")
    )
    assert mounts["/sys"][0].startswith("ro")
    assert (
        mounts["/dev"][1] == "tmpfs"
        and mounts["/dev/pts"][1] == "devpts"
        and mounts["/dev/shm"][1] == "tmpfs"
    )
    assert mounts["/dev/mqueue"][1] == "mqueue"
    for path in ("/proc/sys", "/proc/bus", "/proc/irq"):
        assert mounts[path][0].startswith("ro"), path
    for path in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"):
        assert path in mounts, path
    assert "/proc/keys" in mounts and "/sys/firmware" in mounts


def test_devices(docker_cli: Cli, busybox: str) -> None:
    script = (
        "cd /dev; ls; stat -c '%n %a %t:%T' null zero full random urandom tty; "
        "for l in fd std* ptmx; do readlink $l; done"
    )
    out = docker_cli.ok(*NONE, busybox, "sh", "-c", script)
    names = set(out.splitlines())
    assert {
        "full",
        "null",
        "zero",
        "random",
        "urandom",
        "tty",
        "fd",
        "stdin",
        "stdout",
        "stderr",
        "ptmx",
        "pts",
        "shm",
    } <= names
    assert {
        "null 666 1:3",
        "zero 666 1:5",
        "full 666 1:7",
        "random 666 1:8",
        "urandom 666 1:9",
        "tty 666 5:0",
    } <= names
    assert {"/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"} <= names
    assert not names & {"vda", "sda", "mem", "kmsg"}


def test_device_rules(docker_cli: Cli, busybox: str) -> None:
    """mknod is allowed, opening what the rules do not name is not."""
    script = "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem; "
    script += "mknod /tmp/null c 1 3 && echo ok > /tmp/null && echo null works"
    result = docker_cli(*NONE, busybox, "sh", "-c", script)
    assert "Operation not permitted" in result.err
    assert result.out == "null works\n"


def test_device_option(cli: Cli, busybox: str) -> None:
    out = cli.ok(
        *NONE,
        "--device",
        "/dev/zero:/dev/my-zero:r",
        busybox,
        "sh",
        "-c",
        "stat -c '%F %t:%T' /dev/my-zero; head -c 3 /dev/my-zero | wc -c",
    )
    assert out.splitlines() == ["character special file 1:5", "3"]


def test_cgroup_is_below_the_daemons(
    docker_cli: Cli, wire: Wire, engine: Engine, engine_kind: str, busybox: str
) -> None:
    container = docker_cli.ok("run", "-d", "--name", "cg", "--network", "none", busybox, "sleep", "60")
    pid = wire.get("/containers/cg/json")["State"]["Pid"]
    own, seen = cgroups(engine.pid), cgroups(pid)
    limiting = {controller for controller, path in seen.items() if container in path}
    assert limiting >= {"devices", "memory"} or limiting == {""}
    for controller, path in seen.items():
        assert container in path or path == own[controller], f"{controller}: {path}"
        if engine_kind == "minid" and controller in limiting:
            above = own[controller] if controller else own[controller].removesuffix("/daemon")
            assert path.startswith(above.rstrip("/") + "/"), f"{controller}: {path} is not below {above}"


def cgroups(pid: int) -> dict[str, str]:
    """Controller → path; "" for v2. Hierarchies without controllers (hybrid's v2, systemd's own) are left out, and so
    are those that are not mounted.
    """
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return {"": paths[""]}
    return {name: path for name, path in paths.items() if name and Path("/sys/fs/cgroup", name).is_dir()}


def test_cgroup_parent(docker_cli: Cli, wire: Wire, busybox: str) -> None:
    container = docker_cli.ok(
        "run",
        "-d",
        "--name",
        "cg",
        "--network",
        "none",
        "--cgroup-parent",
        "/minid-tests-parent",
        busybox,
        "sleep",
        "60",
    )
    pid = wire.get("/containers/cg/json")["State"]["Pid"]
    paths = [path for path in cgroups(pid).values() if container in path]
    assert paths and all(re.search(f"minid-tests-parent/.*{container}", path) for path in paths)
    docker_cli.ok("rm", "-f", "cg")
    for hierarchy in Path("/sys/fs/cgroup").glob("*/minid-tests-parent"):
        hierarchy.rmdir()
    if Path("/sys/fs/cgroup/minid-tests-parent").exists():
        Path("/sys/fs/cgroup/minid-tests-parent").rmdir()


@only_x86_64
def test_seccomp_default_profile(docker_cli: Cli, busybox: str) -> None:
    script = (
        "for p in keyctl add_key bpf userfaultfd clone3 kexec_load open_by_handle_at keyctl32 getpid getpid32; "
        "do /probe/$p; echo $p $?; done"
    )
    codes = dict(line.split() for line in docker_cli.ok(*NONE, busybox, "sh", "-c", script).splitlines())
    assert codes["getpid"] == "0", "the probes work"
    assert codes["getpid32"] in ("0", "139"), "32-bit calls work, or the kernel has none"
    assert codes["clone3"] == "38", "clone3 must be ENOSYS so that a libc falls back to clone"
    for name in ("keyctl", "add_key", "bpf", "userfaultfd", "kexec_load", "open_by_handle_at"):
        assert codes[name] == "1", f"{name} must be EPERM"
    assert codes["keyctl32"] in ("1", "139"), "keyctl must be refused through the 32-bit entry too"


def test_seccomp_and_privileges(docker_cli: Cli, busybox: str) -> None:
    script = (
        "grep Seccomp: /proc/self/status; unshare -U true && echo userns; unshare -m true && "
        "echo mntns; mount -t tmpfs x /tmp && echo mounted; :"
    )
    result = docker_cli(*NONE, busybox, "sh", "-c", script)
    assert result.out.split() == ["Seccomp:", "2"]
    assert result.err.count("Operation not permitted") + result.err.count("permission denied") == 3
    assert docker_cli.ok(*NONE, "--cap-add", "SYS_ADMIN", busybox, "sh", "-c", script).split()[1:] == [
        "2",
        "userns",
        "mntns",
        "mounted",
    ]
    assert docker_cli.ok(*NONE, "--security-opt", "seccomp=unconfined", busybox, "sh", "-c", script).split()[
        1:
    ] == ["0", "userns"]


def test_seccomp_profile_from_a_file(cli: Cli, busybox: str, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],'
        ' "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    result = cli(
        *NONE,
        "--security-opt",
        f"seccomp={profile}",
        busybox,
        "sh",
        "-c",
        "mkdir /tmp/x; touch /tmp/y && echo touched",
    )
    assert result.out == "touched\n"
    assert "Operation not permitted" in result.err


@only_x86_64
def test_no_new_privileges(cli: Cli, busybox: str) -> None:
    script = "grep NoNewPrivs /proc/self/status; /probe/setuid; echo $?"
    assert cli.ok(*NONE, "-u", "77", busybox, "sh", "-c", script).split() == ["NoNewPrivs:", "0", "0"]
    out = cli.ok(*NONE, "-u", "77", "--security-opt", "no-new-privileges", busybox, "sh", "-c", script)
    assert out.split() == ["NoNewPrivs:", "1", "77"]


def test_signals_umask_session_are_reset(docker_cli: Cli, busybox: str) -> None:
    """Python ignores SIGPIPE and SIGXFSZ; a container must not inherit that, nor the daemon's umask."""
    fields = status(docker_cli.ok(*NONE, busybox, "cat", "/proc/self/status"))
    assert (fields["SigIgn"], fields["SigBlk"], fields["Umask"]) == (
        "0000000000000000",
        "0000000000000000",
        "0022",
    )
    out = docker_cli.ok(*NONE, busybox, "cut", "-d", " ", "-f5,6", "/proc/self/stat")
    assert out == "1 1", "the first process leads its session and process group"


def test_init_reaps_zombies_and_forwards_signals(cli: Cli, busybox: str) -> None:
    cli.ok(
        "run",
        "-d",
        "--name",
        "init",
        "--init",
        "--network",
        "none",
        busybox,
        "sh",
        "-c",
        "(sleep 0.05 &) ; echo ready; exec sleep 60",
    )
    assert (
        cli.ok("exec", "init", "sh", "-c", "head -c 40 /proc/1/cmdline | tr '\\0' ' '").find("sleep 60") != 0
    )
    script = (
        "for i in $(seq 100); do grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null; "
        "pidof sleep | grep -q ' ' || break; usleep 10000; done; "
        "grep -l '^State:.Z' /proc/[0-9]*/status; :"
    )
    assert cli.ok("exec", "init", "sh", "-c", script).split("\n")[-1] == ""
    cli.ok("kill", "-s", "TERM", "init")
    assert cli.ok("wait", "init") == "143"


def test_without_init_pid_1_ignores_what_it_does_not_handle(docker_cli: Cli, busybox: str) -> None:
    docker_cli.ok("run", "-d", "--name", "one", "--network", "none", busybox, "sleep", "60")
    docker_cli.ok("kill", "-s", "TERM", "one")
    assert docker_cli.ok("inspect", "-f", "{{.State.Running}}", "one") == "true"
    docker_cli.ok("kill", "one")
    assert docker_cli.ok("wait", "one") == "137"


def test_hosts_and_resolv_conf(docker_cli: Cli, busybox: str) -> None:
    out = docker_cli.ok(
        *NONE,
        "--add-host",
        "db:10.1.2.3",
        busybox,
        "sh",
        "-c",
        "cat /etc/hosts; echo --; cat /etc/resolv.conf; echo more >> /etc/hosts && echo writable",
    )
    hosts, _, rest = out.partition("--")
    assert re.search(r"^127\.0\.0\.1\s+localhost", hosts, re.M) and re.search(
        r"^::1\s+localhost", hosts, re.M
    )
    assert re.search(r"^10\.1\.2\.3\s+db", hosts, re.M)
    assert "writable" in rest


def test_sysctl_and_oom_score(docker_cli: Cli, busybox: str) -> None:
    out = docker_cli.ok(
        *NONE,
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--oom-score-adj",
        "300",
        busybox,
        "sh",
        "-c",
        "cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj",
    )
    assert out.split() == ["1", "300"]


def test_user_namespace_is_not_made(docker_cli: Cli, busybox: str) -> None:
    assert docker_cli.ok(*NONE, busybox, "cat", "/proc/self/uid_map").split() == ["0", "0", "4294967295"]
