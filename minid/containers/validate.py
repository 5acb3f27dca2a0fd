"""What dockerd refuses before it makes a container, in its words, and what it warns of. Pure.

Fields that dockerd lets through and the kernel or a file format would choke on (line breaks in a
hostname, unknown ulimits, sysctls of the host) are refused here too, so that ``create`` fails instead of
``start``.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from minid.containers import capabilities, devices, health, merge, mounts, resources, security
from minid.containers.host import Host
from minid.containers.model import ContainerConfig, Healthcheck, HostConfig, PortBinding, RestartPolicy
from minid.errors import InvalidParameter
from minid.kernel import process
from minid.shim import logfile

HOSTNAME = re.compile(r"[^\s/\x00-\x20\x7f:]{1,64}")
DOMAINNAME = re.compile(r"[^\s/\x00-\x20\x7f:]{1,64}")
HOST = re.compile(r"[^\s:/\x00-\x20\x7f]+")
MILLISECOND_NS = 1_000_000
# The names under which clients that configure a runtime know the default one.
RUNTIMES = ("", "minid", "runc", "io.containerd.runc.v2")
LOG_DRIVERS = ("json-file", "none")

SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def validate(
    config: ContainerConfig, host_config: HostConfig, host: Host, *, merged: bool = True
) -> list[str]:
    """Refuse a request that can't be; returns warnings for the client, in Docker's words where Docker has
    them.

    ``merged``: ``config`` holds the image's presets already, so that a port it exposes is no conflict.
    What needs a look at something else (other containers, volumes, the sources of binds, device nodes) is
    checked by whoever looks. Raises InvalidParameter.
    """
    _check_config(config)
    _check_modes(config, host_config, merged)
    if host_config.auto_remove and host_config.restart_policy.name not in ("", "no"):
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    mounts.plan(config, host_config)
    for entry in host_config.volumes_from or ():
        mounts.parse_volumes_from(entry)
    for target, options in host_config.tmpfs.items():
        mounts.check_target(target)
        mounts.merge_tmpfs_options(option for option in options.split(",") if option)
    for entry in host_config.extra_hosts or ():
        check_extra_host(entry)
    check_ports(host_config.port_bindings)
    check_restart_policy(host_config.restart_policy)
    _, lacking = capabilities.resolve(host_config, host.capabilities)
    if host_config.isolation not in ("", "default"):
        raise InvalidParameter(
            f"invalid isolation '{host_config.isolation}' on linux: linux only supports 'default'"
        )
    if "" in host_config.annotations:
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    if host_config.runtime not in RUNTIMES:
        raise InvalidParameter(f"unknown or invalid runtime name: {host_config.runtime}")
    if host_config.storage_opt:
        raise InvalidParameter("--storage-opt is not supported: this version of minid has no disk quotas")
    warnings = resources.validate(host_config, host)
    if not -1000 <= host_config.oom_score_adj <= 1000:
        raise InvalidParameter(
            f"Invalid value {host_config.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if host_config.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    check_sysctls(host_config)
    profile = security.parse(host_config).seccomp
    if profile not in ("", "unconfined"):
        merge.seccomp_profile(profile)
    for device in host_config.devices or ():
        if not devices.valid_access(device.cgroup_permissions or "rwm"):
            raise InvalidParameter(f"invalid device mode: {device.cgroup_permissions}")
    for rule in host_config.device_cgroup_rules or ():
        devices.parse_rule(rule)
    check_health_action(config, host_config)
    check_log(host_config)
    _check_dns(host_config)
    if lacking:
        names = ", ".join(lacking)
        warnings.append(f"This daemon does not have {names} itself: the container runs without.")
    if not host.ipv4_forwarding and host_config.network_mode not in ("host", "none"):
        warnings.append("IPv4 forwarding is disabled. Networking will not work.")
    return warnings


def _check_config(config: ContainerConfig) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    if config.stop_signal:
        parse_signal(config.stop_signal)
    for variable in config.env:
        if not variable.partition("=")[0]:
            raise InvalidParameter(f"invalid environment variable: {variable}")
    for field, values in (
        ("Env", config.env),
        ("Cmd", config.cmd or ()),
        ("Entrypoint", config.entrypoint or ()),
        ("WorkingDir", (config.working_dir,)),
        ("User", (config.user,)),
    ):
        if any("\0" in value for value in values):
            raise InvalidParameter(f"{field} holds a null byte")
    if config.healthcheck is not None:
        check_healthcheck(config.healthcheck)
    if config.hostname and not HOSTNAME.fullmatch(config.hostname):
        raise InvalidParameter(f"invalid hostname format: {config.hostname}")
    if config.domainname and not DOMAINNAME.fullmatch(config.domainname):
        raise InvalidParameter(f"invalid domainname format: {config.domainname}")
    for port in config.exposed_ports:
        parse_port(port)


def parse_signal(text: str) -> int:
    """``SIGTERM``, ``term``, ``15``, ``RTMIN+3`` as its number. Raises InvalidParameter with Docker's text."""
    try:
        return process.parse_signal(text)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None


def check_healthcheck(check: Healthcheck) -> None:
    """Durations are nothing (0) or at least a millisecond."""
    for name, value in (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ):
        if value != 0 and value < MILLISECOND_NS:
            raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")
    if check.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")
    if check.test and check.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidParameter(f"unknown type in Healthcheck: {check.test[0]} (use NONE, CMD or CMD-SHELL)")


def check_health_action(config: ContainerConfig, host_config: HostConfig) -> None:
    """``HealthOnFailure`` needs a health check, and "restart" a container that stays."""
    action = host_config.health_on_failure
    if action not in health.ACTIONS:
        raise InvalidParameter(
            f"invalid HealthOnFailure: {action}: use one of {', '.join(filter(None, health.ACTIONS))}"
        )
    if action not in ("", "none") and not health.command(config):
        raise InvalidParameter(f"conflicting options: HealthOnFailure {action} without a health check")
    if action == "restart" and host_config.auto_remove:
        raise InvalidParameter("conflicting options: HealthOnFailure restart and AutoRemove")


def _check_modes(config: ContainerConfig, host_config: HostConfig, merged: bool) -> None:
    network = host_config.network_mode
    shares = network.startswith("container:")
    if shares and network == "container:":
        raise InvalidParameter("Invalid network mode: invalid container format container:<name|id>")
    if host_config.uts_mode == "host" and config.hostname:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    conflicts = (
        (shares and config.hostname, "hostname and the network mode"),
        (
            network == "host" and host_config.links,
            "host type networking can't be used with links. This would result in undefined behavior",
        ),
        (
            shares and host_config.links,
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (shares and host_config.dns, "dns and the network mode"),
        (shares and host_config.extra_hosts, "custom host-to-IP mapping and the network mode"),
        ((shares or network == "host") and config.mac_address, "mac-address and the network mode"),
        (
            shares and (host_config.port_bindings or host_config.publish_all_ports),
            "port publishing and the container type network mode",
        ),
        (shares and config.exposed_ports and not merged, "port exposing and the container type network mode"),
    )
    for found, text in conflicts:
        if found:
            raise InvalidParameter(f"conflicting options: {text}")
    if not _valid(host_config.ipc_mode, ("", "none", "private", "shareable", "host")):
        raise InvalidParameter(f"invalid IPC mode: {host_config.ipc_mode}")
    if not _valid(host_config.pid_mode, ("", "host")):
        raise InvalidParameter(f"invalid PID mode: {host_config.pid_mode}")
    for mode, valid, name in (
        (host_config.uts_mode, ("", "host"), "UTS"),
        (host_config.cgroupns_mode, ("", "private", "host"), "cgroup namespace"),
        (host_config.userns_mode, ("", "host"), "user namespace"),
    ):
        if mode not in valid:
            raise InvalidParameter(f"invalid {name} mode: {mode}")


def _valid(mode: str, words: tuple[str, ...]) -> bool:
    return mode in words or (mode.startswith("container:") and len(mode) > len("container:"))


def check_restart_policy(policy: RestartPolicy) -> None:
    """A known policy, with a count only where it means something."""
    count = policy.maximum_retry_count
    if policy.name not in ("", "no", "always", "unless-stopped", "on-failure"):
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if policy.name == "on-failure":
        if count < 0:
            raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    elif count != 0:
        text = "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        raise InvalidParameter(text + (" and cannot be negative" if count < 0 else ""))


def check_sysctls(host_config: HostConfig) -> None:
    """Only sysctls that a namespace of the container's own holds."""
    for name in host_config.sysctls:
        # net/ipv4/x and net.ipv4.x are the same file.
        dotted = name.replace("/", ".")
        own_ipc = host_config.ipc_mode in ("", "private", "shareable", "none")
        own_network = host_config.network_mode != "host"
        own_uts = host_config.uts_mode != "host"
        rules: tuple[tuple[Callable[[str], bool], bool, str], ...] = (
            (lambda key: key in SYSCTLS or key.startswith("fs.mqueue."), own_ipc, "IPC"),
            (lambda key: key.startswith("net."), own_network, "network"),
            (lambda key: key in ("kernel.domainname", "kernel.hostname"), own_uts, "UTS"),
        )
        for matches, own, namespace in rules:
            if matches(dotted):
                if not own or (namespace == "UTS" and dotted == "kernel.hostname"):
                    raise InvalidParameter(
                        f'sysctl "{name}" is not allowed in the host {namespace} namespace'
                    )
                break
        else:
            raise InvalidParameter(f'sysctl "{name}" is not in a separate kernel namespace')
        if ".." in dotted or "\n" in host_config.sysctls[name]:
            raise InvalidParameter(f'sysctl "{name}" is not valid')


def check_extra_host(entry: str) -> None:
    """``name:address`` or ``name=address``; the address may be ``host-gateway``."""
    separator = "=" if "=" in entry else ":"
    name, found, address = entry.partition(separator)
    if not found or not HOST.fullmatch(name):
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    if address != "host-gateway" and not _is_address(address.removeprefix("[").removesuffix("]")):
        raise InvalidParameter(f'invalid IP address in add-host: "{address}"')


def _is_address(text: str) -> bool:
    if not text.isprintable() or " " in text:
        return False  # ipaddress takes anything behind the "%" of a scope
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_port(text: str) -> tuple[range, str]:
    """``80/tcp``, ``53/udp``, ``8000-8010`` as (ports, protocol). Raises InvalidParameter."""
    numbers, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    first, dash, last = numbers.partition("-")
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidParameter(f"invalid proto: {protocol}")
    if not _is_port(first) or (dash and not _is_port(last)) or (dash and int(last) < int(first)):
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return range(int(first), int(last if dash else first) + 1), protocol


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 <= int(text) <= 65535


def check_ports(bindings: Mapping[str, tuple[PortBinding, ...] | None]) -> None:
    """Port bindings: the container's port, the host's (or a range, or nothing), the host's address."""
    for port, targets in bindings.items():
        parse_port(port)
        for target in targets or ():
            if target.host_port:
                first, dash, last = target.host_port.partition("-")
                if not _is_port(first) or (dash and not (_is_port(last) and int(last) >= int(first))):
                    raise InvalidParameter(f'invalid port specification: "{target.host_port}"')
            if target.host_ip and not _is_address(target.host_ip):
                raise InvalidParameter(f"invalid IP address: {target.host_ip}")


def check_log(host_config: HostConfig) -> None:
    """The log driver exists and its options mean something."""
    log = host_config.log_config
    driver = log.type or "json-file"
    if driver not in LOG_DRIVERS:
        raise InvalidParameter(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    if driver == "json-file":
        try:
            logfile.parse_options(log.config)
        except ValueError as error:
            raise InvalidParameter(str(error)) from None


def _check_dns(host_config: HostConfig) -> None:
    for address in host_config.dns or ():
        if not _is_address(address):
            raise InvalidParameter(f"{address} is not an ip address")
    fields: tuple[tuple[str, Any], ...] = (
        ("DnsSearch", host_config.dns_search),
        ("DnsOptions", host_config.dns_options),
    )
    for name, values in fields:
        for value in values or ():
            if any(character.isspace() or ord(character) < 32 for character in value):
                raise InvalidParameter(f"invalid {name}: {value!r} holds white space")
