"""From the flags of `run` and `create` to the JSON of POST /containers/create, as the docker CLI 28 writes it."""

from __future__ import annotations

import os

from minictl import create_network, jsontext
from minictl.environment import environment, pairs, read_lines_file
from minictl.errors import invalid_argument, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minictl.flags import Options

_DEVICE_FLAGS = (
    "device", "device-cgroup-rule", "gpus", "blkio-weight-device", "device-read-bps", "device-write-bps",
    "device-read-iops", "device-write-iops",
)  # fmt: skip
_DEVICE_LIMITS = (
    "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps",
)  # fmt: skip


def create_body(
    options: Options, image: str, command: list[str], proxies: dict[str, str] | None = None
) -> dict[str, Any]:
    """The request body. Reads the files that flags name (env, labels, seccomp). Raises UsageError, Failure(125).

    `proxies`: the variables that the user's settings give to every container which doesn't set them itself.
    """
    streams = _streams(options)
    volumes, binds = _volumes(options)
    exposed, bindings = _ports(options)
    labels = pairs(_with_files(options, "label", "label-file"))
    body: dict[str, Any] = {
        "Hostname": options["hostname"],
        "Domainname": options["domainname"],
        "User": options["user"],
        "AttachStdin": "stdin" in streams,
        "AttachStdout": "stdout" in streams,
        "AttachStderr": "stderr" in streams,
        "Tty": options["tty"],
        "OpenStdin": options["interactive"],
        "StdinOnce": options["interactive"] and "stdin" in streams,
        "Env": environment(_with_files(options, "env", "env-file"), proxies) or None,
        "Cmd": command or None,
        "Image": image,
        "Volumes": volumes,
        "WorkingDir": options["workdir"],
        "Entrypoint": [options["entrypoint"]] if options.given("entrypoint") else None,
        "OnBuild": None,
        "Labels": labels,
        "HostConfig": _host_config(options, binds, bindings),
        "NetworkingConfig": {"EndpointsConfig": create_network.endpoints(options)},
    }
    if exposed:
        body["ExposedPorts"] = exposed
    if health := _health(options):
        body["Healthcheck"] = health
    if options["stop-signal"]:
        body["StopSignal"] = options["stop-signal"]
    if options.given("stop-timeout"):
        body["StopTimeout"] = options["stop-timeout"]
    return body


def _host_config(options: Options, binds: list[str], bindings: dict[str, Any]) -> dict[str, Any]:
    swappiness = options["memory-swappiness"]
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise refused(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    for flag, word in (("pid", "PID"), ("uts", "UTS"), ("userns", "USER"), ("cgroupns", "CGROUP")):
        _check_namespace(options, flag, word)
    security, masked, read_only = _security(options["security-opt"])
    networks = create_network.network_names(options)
    config: dict[str, Any] = {
        "Binds": binds or None,
        "ContainerIDFile": options["cidfile"],
        "LogConfig": {"Type": options["log-driver"], "Config": _log_options(options)},
        "NetworkMode": networks[0] if networks else "default",
        "PortBindings": bindings,
        "RestartPolicy": restart_policy(options["restart"]),
        "AutoRemove": options["rm"],
        "VolumeDriver": options["volume-driver"],
        "VolumesFrom": options["volumes-from"] or None,
        "ConsoleSize": [0, 0],
        "CapAdd": _capabilities(options["cap-add"]),
        "CapDrop": _capabilities(options["cap-drop"]),
        "CgroupnsMode": options["cgroupns"],
        "Dns": create_network.dns_servers(options["dns"]),
        "DnsOptions": options["dns-option"],
        "DnsSearch": options["dns-search"],
        "ExtraHosts": create_network.extra_hosts(options["add-host"]),
        "GroupAdd": options["group-add"] or None,
        "IpcMode": options["ipc"],
        "Cgroup": "",
        "Links": create_network.links(options["link"]),
        "OomScoreAdj": options["oom-score-adj"],
        "PidMode": options["pid"],
        "Privileged": options["privileged"],
        "PublishAllPorts": options["publish-all"],
        "ReadonlyRootfs": options["read-only"],
        "SecurityOpt": security,
        "UTSMode": options["uts"],
        "UsernsMode": options["userns"],
        "ShmSize": options["shm-size"],
        "Isolation": options["isolation"],
        "CgroupParent": options["cgroup-parent"],
        "MemorySwappiness": swappiness,
        "OomKillDisable": options["oom-kill-disable"],
        "Ulimits": ulimits(options["ulimit"]),
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "MaskedPaths": masked,
        "ReadonlyPaths": read_only,
        **resources(options),
        **_devices(options),
    }
    if options["health-on-failure"]:
        config["HealthOnFailure"] = options["health-on-failure"]
    if options["annotation"]:
        config["Annotations"] = pairs(options["annotation"])
    if options["tmpfs"]:
        config["Tmpfs"] = {
            path: extra for path, _, extra in (text.partition(":") for text in options["tmpfs"])
        }
    if options["mount"]:
        from minictl import mounts

        config["Mounts"] = [mounts.parse_mount(text) for text in options["mount"]]
    if options["storage-opt"]:
        if not all("=" in text for text in options["storage-opt"]):
            raise refused("invalid storage option")
        config["StorageOpt"] = pairs(options["storage-opt"])
    if options["sysctl"]:
        config["Sysctls"] = _sysctls(options["sysctl"])
    if options["runtime"]:
        config["Runtime"] = options["runtime"]
    if options.given("init"):
        config["Init"] = options["init"]
    return config


def resources(options: Options) -> dict[str, Any]:
    """The limits that `update` can change later too."""
    nano_cpus = 0
    if options["cpus"]:
        from minictl import units

        nano_cpus = units.parse_nano_cpus(options["cpus"])
    return {
        "CpuShares": options["cpu-shares"],
        "Memory": options["memory"],
        "NanoCpus": nano_cpus,
        "BlkioWeight": options["blkio-weight"],
        "CpuPeriod": options["cpu-period"],
        "CpuQuota": options["cpu-quota"],
        "CpuRealtimePeriod": options["cpu-rt-period"],
        "CpuRealtimeRuntime": options["cpu-rt-runtime"],
        "CpusetCpus": options["cpuset-cpus"],
        "CpusetMems": options["cpuset-mems"],
        "MemoryReservation": options["memory-reservation"],
        "MemorySwap": options["memory-swap"],
        "PidsLimit": options["pids-limit"],
    }


def _streams(options: Options) -> list[str]:
    """Which of stdin, stdout and stderr are attached: -a, or else all that make sense (none with -d)."""
    streams = [text.lower() for text in options["attach"]]
    for text in options["attach"]:
        if text.lower() not in ("stdin", "stdout", "stderr"):
            raise invalid_argument("attach", "a", text, "valid streams are STDIN, STDOUT and STDERR")
    if streams or options["detach"]:
        return streams
    return ["stdin", "stdout", "stderr"] if options["interactive"] else ["stdout", "stderr"]


def _with_files(options: Options, name: str, files: str) -> list[str]:
    entries: list[str] = []
    for path in options[files]:
        entries += read_lines_file(path)
    if name == "label":
        for text in options[name]:
            if text.startswith("="):
                raise invalid_argument("label", "l", text, f"invalid label '{text}': empty name")
    return entries + list(options[name])


def _volumes(options: Options) -> tuple[dict[str, Any], list[str]]:
    """`-v`: (anonymous volumes by path, binds and named volumes)."""
    anonymous: dict[str, Any] = {}
    binds = []
    for text in options["volume"]:
        first, colon, rest = text.partition(":")
        if not colon:
            anonymous[text] = {}
            continue
        if not first or "::" in text:
            raise refused(f"invalid spec: {text}: empty section between colons")
        if first == "." or first == ".." or first.startswith(("./", "../")):
            first = os.path.abspath(first)
        binds.append(f"{first}:{rest}")
    return anonymous, binds


def _ports(options: Options) -> tuple[dict[str, Any], dict[str, Any]]:
    if not options["publish"] and not options["expose"]:
        return {}, {}
    from minictl import ports

    return ports.parse_ports(options["publish"], options["expose"])


def _check_namespace(options: Options, flag: str, word: str) -> None:
    mode: str = options[flag]
    allowed = ("", "host", "private") if flag == "cgroupns" else ("", "host")
    if mode in allowed or (flag == "pid" and mode.startswith("container:") and mode != "container:"):
        return
    raise refused(f"--{flag}: invalid {word} mode")


def _capabilities(names: list[str]) -> list[str] | None:
    """Normal form: upper case with CAP_, "ALL" as it is, sorted without doubles, None for none."""
    result = set()
    for name in names:
        upper = name.strip().upper()
        if upper not in ("", "ALL", "RESET") and not upper.startswith("CAP_"):
            upper = "CAP_" + upper
        result.add(upper)
    if "ALL" in result:
        return ["ALL"]
    return sorted(result) or None


def ulimits(texts: list[str]) -> list[dict[str, Any]]:
    """`type=soft[:hard]`, sorted by type; the last of a type counts. Raises UsageError."""
    found = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name:
            raise invalid_argument("ulimit", "", text, f"invalid ulimit argument: {text}")
        numbers = values.split(":")
        if len(numbers) > 2:
            raise invalid_argument(
                "ulimit", "", text, f"too many limit value arguments - {values}, can only have up to two"
            )
        try:
            limits = [int(number) for number in numbers]
        except ValueError:
            bad = next(number for number in numbers if not number.lstrip("-").isdigit())
            raise invalid_argument(
                "ulimit", "", text, f'strconv.ParseInt: parsing "{bad}": invalid syntax'
            ) from None
        soft, hard = limits[0], limits[-1]
        if hard != -1 and (soft > hard or soft == -1):
            raise invalid_argument(
                "ulimit",
                "",
                text,
                f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}",
            )
        found[name] = {"Name": name, "Hard": hard, "Soft": soft}
    return [found[name] for name in sorted(found)]


def _sysctls(texts: list[str]) -> dict[str, str]:
    allowed = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
               "kernel.shmmni", "kernel.shm_rmid_forced")  # fmt: skip
    for text in texts:
        name, equals, _ = text.partition("=")
        if not equals or not (name in allowed or name.startswith(("net.", "fs.mqueue."))):
            raise invalid_argument("sysctl", "", text, f"sysctl '{text}' is not allowed")
    return pairs(texts)


def _log_options(options: Options) -> dict[str, str]:
    if options["log-driver"] == "none" and options["log-opt"]:
        raise refused("invalid logging opts for driver none")
    return pairs(options["log-opt"])


def restart_policy(text: str) -> dict[str, Any]:
    """`no`, `always`, `unless-stopped`, `on-failure[:N]`."""
    name, _, retries = text.partition(":")
    if retries and not retries.isdigit():
        raise refused("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(retries or 0)}


def _security(texts: list[str]) -> tuple[list[str] | None, list[str] | None, list[str] | None]:
    """(SecurityOpt, MaskedPaths, ReadonlyPaths): a seccomp profile is read here and sent as JSON."""
    result = []
    masked: list[str] | None = None
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals and ":" not in text and key != "no-new-privileges":
            raise refused(f'Invalid --security-opt: "{text}"')
        if text == "systempaths=unconfined":
            masked = []
            continue
        if key == "seccomp" and equals and value not in ("unconfined", "builtin"):
            try:
                with open(value, encoding="utf-8") as file:
                    profile = jsontext.loads(file.read())
            except OSError as error:
                reason = f"open {value}: {(error.strerror or str(error)).lower()}"
                raise refused(f"opening seccomp profile ({value}) failed: {reason}") from None
            except ValueError as error:
                raise refused(f"compacting json for seccomp profile ({value}) failed: {error}") from None
            text = f"seccomp={jsontext.dumps(profile)}"
        result.append(text)
    return result if texts else None, masked, masked


def _health(options: Options) -> dict[str, Any] | None:
    fields = (
        ("Interval", "health-interval"),
        ("Timeout", "health-timeout"),
        ("StartPeriod", "health-start-period"),
        ("StartInterval", "health-start-interval"),
        ("Retries", "health-retries"),
    )
    wanted = options["health-cmd"] or any(options[flag] for _, flag in fields)
    if options["no-healthcheck"]:
        if wanted:
            raise refused("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not wanted:
        return None
    health: dict[str, Any] = {}
    if options["health-cmd"]:
        health["Test"] = ["CMD-SHELL", options["health-cmd"]]
    for key, flag in fields:
        if options[flag] < 0:
            raise refused(f"--{flag} cannot be negative")
        if options[flag]:
            health[key] = options[flag]
    return health


def _devices(options: Options) -> dict[str, Any]:
    """What create_devices makes of the flags, without importing it where none is used."""
    if any(options[flag] for flag in _DEVICE_FLAGS):
        from minictl import create_devices

        return create_devices.devices(options)
    result: dict[str, Any] = {"Devices": [], "DeviceCgroupRules": None, "DeviceRequests": None}
    return result | {key: [] for key in _DEVICE_LIMITS}
