from typing import Any

import pytest

from minid.containers import validate
from minid.containers.model import (
    ContainerConfig,
    Device,
    Healthcheck,
    HostConfig,
    LogConfig,
    PortBinding,
    RestartPolicy,
)
from minid.errors import InvalidParameter

from .conftest import HOST

H = HostConfig
C = ContainerConfig


@pytest.mark.parametrize(
    ("config", "host_config", "message"),
    [
        (C(env=("=x",)), H(), "invalid environment variable: =x"),
        (C(env=("",)), H(), "invalid environment variable: "),
        (
            C(working_dir="rel"),
            H(),
            "the working directory 'rel' is invalid, it needs to be an absolute path",
        ),
        (C(stop_signal="FOO"), H(), "Invalid signal: FOO"),
        (C(hostname="a b"), H(), "invalid hostname format: a b"),
        (C(hostname="a\nb"), H(), "invalid hostname format: a\nb"),
        (C(hostname="x" * 65), H(), "invalid hostname format: " + "x" * 65),
        (C(cmd=("a\0b",)), H(), "Cmd holds a null byte"),
        (C(healthcheck=Healthcheck(interval=1)), H(), "Interval in Healthcheck cannot be less than 1ms"),
        (C(healthcheck=Healthcheck(retries=-1)), H(), "Retries in Healthcheck cannot be negative"),
        (C(), H(cap_add=("FOO",)), 'invalid CapAdd: unknown capability: "CAP_FOO"'),
        (C(), H(cap_drop=("foo",)), 'invalid CapDrop: unknown capability: "CAP_FOO"'),
        (C(), H(security_opt=("foo",)), 'invalid --security-opt 1: "foo"'),
        (C(), H(security_opt=("foo=1",)), 'invalid --security-opt 2: "foo=1"'),
        (C(), H(security_opt=("no-new-privileges=x",)), 'invalid --security-opt 2: "no-new-privileges=x"'),
        (C(), H(tmpfs={"x": ""}), "invalid mount path: 'x' mount path must be absolute"),
        (C(), H(tmpfs={"/": ""}), "invalid specification: destination can't be '/'"),
        (C(), H(tmpfs={"/x": "foo"}), 'Invalid tmpfs option "foo"'),
        (C(), H(oom_score_adj=1001), "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        (C(), H(shm_size=-1), "SHM size can not be less than 0"),
        (C(), H(ipc_mode="foo"), "invalid IPC mode: foo"),
        (C(), H(pid_mode="container:"), "invalid PID mode: container:"),
        (C(), H(uts_mode="foo"), "invalid UTS mode: foo"),
        (C(), H(cgroupns_mode="foo"), "invalid cgroup namespace mode: foo"),
        (
            C(),
            H(network_mode="container:"),
            "Invalid network mode: invalid container format container:<name|id>",
        ),
        (
            C(),
            H(auto_remove=True, restart_policy=RestartPolicy("always")),
            "can't create 'AutoRemove' container with restart policy",
        ),
        (
            C(),
            H(restart_policy=RestartPolicy("foo")),
            "invalid restart policy: unknown policy 'foo'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        (
            C(),
            H(restart_policy=RestartPolicy("always", 2)),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            C(),
            H(restart_policy=RestartPolicy("on-failure", -2)),
            "invalid restart policy: maximum retry count cannot be negative",
        ),
        (C(), H(extra_hosts=("foo",)), 'bad format for add-host: "foo"'),
        (C(), H(extra_hosts=("foo:bar",)), 'invalid IP address in add-host: "bar"'),
        (C(), H(extra_hosts=("a\nb:1.2.3.4",)), 'bad format for add-host: "a\nb:1.2.3.4"'),
        (C(), H(log_config=LogConfig("foo")), 'error looking up logging plugin foo: plugin "foo" not found'),
        (
            C(),
            H(log_config=LogConfig("json-file", {"foo": "1"})),
            "unknown log opt 'foo' for json-file log driver",
        ),
        (C(hostname="x"), H(uts_mode="host"), "conflicting options: hostname and the UTS mode"),
        (
            C(hostname="x"),
            H(network_mode="container:x"),
            "conflicting options: hostname and the network mode",
        ),
        (
            C(),
            H(network_mode="container:x", dns=("1.1.1.1",)),
            "conflicting options: dns and the network mode",
        ),
        (
            C(),
            H(network_mode="container:x", publish_all_ports=True),
            "conflicting options: port publishing and the container type network mode",
        ),
        (C(), H(port_bindings={"80/tcp": (PortBinding("", "foo"),)}), 'invalid port specification: "foo"'),
        (
            C(),
            H(port_bindings={"80/tcp": (PortBinding("", "99999"),)}),
            'invalid port specification: "99999"',
        ),
        (C(), H(port_bindings={"80/foo": None}), "invalid proto: foo"),
        (
            C(),
            H(sysctls={"kernel.panic": "1"}),
            'sysctl "kernel.panic" is not in a separate kernel namespace',
        ),
        (
            C(),
            H(sysctls={"net.core.somaxconn": "1"}, network_mode="host"),
            'sysctl "net.core.somaxconn" is not allowed in the host network namespace',
        ),
        (
            C(),
            H(sysctls={"kernel.shmmax": "1"}, ipc_mode="host"),
            'sysctl "kernel.shmmax" is not allowed in the host IPC namespace',
        ),
        (C(), H(devices=(Device("/dev/null", "/dev/x", "x"),)), "invalid device mode: x"),
        (C(), H(device_cgroup_rules=("foo",)), "invalid device cgroup rule format: 'foo'"),
        (C(), H(runtime="kata"), "unknown or invalid runtime name: kata"),
        (
            C(),
            H(storage_opt={"size": "1g"}),
            "--storage-opt is not supported: this version of minid has no disk quotas",
        ),
        (C(), H(dns=("foo",)), "foo is not an ip address"),
        (C(), H(dns_search=("a b",)), "invalid DnsSearch: 'a b' holds white space"),
    ],
)
def test_refused(config: ContainerConfig, host_config: HostConfig, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        validate.validate(config, host_config, HOST)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("config", "host_config"),
    [
        (C(), H()),
        (C(hostname="with_underscore.and-dots"), H(network_mode="host")),
        (C(stop_signal="RTMIN+3"), H()),
        (C(stop_signal="9"), H(restart_policy=RestartPolicy("on-failure", 3))),
        (C(), H(extra_hosts=("a:::1", "b=1.2.3.4", "c:host-gateway", "d:[::1]"))),
        (C(), H(sysctls={"net/ipv4/ip_forward": "1", "fs.mqueue.msg_max": "5", "kernel.sem": "1 2 3 4"})),
        (C(exposed_ports={"80/tcp": {}, "8000-8010/udp": {}}), H(network_mode="container:x")),
        (C(), H(port_bindings={"80/tcp": (PortBinding("::1", "80-90"), PortBinding("", ""))})),
        (C(), H(log_config=LogConfig("json-file", {"max-size": "10m", "max-file": "3"}))),
        (C(), H(log_config=LogConfig("none", {"x": "y"}))),
        (
            C(),
            H(security_opt=("seccomp=unconfined", "label:disable", "apparmor=x", "no-new-privileges:true")),
        ),
        (C(), H(auto_remove=True, restart_policy=RestartPolicy("no"))),
    ],
)
def test_accepted(config: ContainerConfig, host_config: HostConfig) -> None:
    assert validate.validate(config, host_config, HOST) == []


def test_exposed_ports_of_the_request_conflict() -> None:
    config, host_config = C(exposed_ports={"80/tcp": {}}), H(network_mode="container:x")
    with pytest.raises(InvalidParameter, match="port exposing and the container type network mode"):
        validate.validate(config, host_config, HOST, merged=False)


def test_lacking_capabilities_are_told() -> None:
    host: Any = HOST.__class__(capabilities=HOST.capabilities - {"CAP_SYS_RESOURCE", "CAP_SYS_BOOT"})
    assert validate.validate(C(), H(), host) == []
    (warning,) = validate.validate(C(), H(privileged=True), host)
    assert "CAP_SYS_BOOT, CAP_SYS_RESOURCE" in warning


def test_no_forwarding_is_told_where_it_matters() -> None:
    host = HOST.__class__(capabilities=HOST.capabilities, ipv4_forwarding=False)
    assert len(validate.validate(C(), H(), host)) == 1
    assert validate.validate(C(), H(network_mode="none"), host) == []


@pytest.mark.parametrize(
    ("text", "ports", "protocol"),
    [
        ("80", range(80, 81), "tcp"),
        ("53/UDP", range(53, 54), "udp"),
        ("8000-8010/tcp", range(8000, 8011), "tcp"),
    ],
)
def test_ports(text: str, ports: range, protocol: str) -> None:
    assert validate.parse_port(text) == (ports, protocol)


@pytest.mark.parametrize("text", ["", "x", "80-70", "65536", "80/", "80/icmp", "-1", "1-2-3", "\uff18\uff10"])
def test_broken_ports(text: str) -> None:
    with pytest.raises(InvalidParameter):
        validate.parse_port(text)
