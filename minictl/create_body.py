"""From the flags of `run` and `create` to the JSON of POST /containers/create, as the docker CLI 28 writes
it.
"""

from __future__ import annotations

import os

from minictl import jsontext
from minictl.errors import Failure, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minictl.flags import Options

_NO_ENDPOINT = {
    "IPAMConfig": None,
    "Links": None,
    "Aliases": None,
    "MacAddress": "",
    "DriverOpts": None,
    "GwPriority": 0,
    "NetworkID": "",
    "EndpointID": "",
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "DNSNames": None,
}
_BUILT_IN_NETWORKS = ("default", "bridge", "host", "none", "nat")


def create_body(options: Options, image: str, command: list[str]) -> dict[str, Any]:
    """The request body. Reads the files that flags name (env, labels, seccomp). Raises UsageError,
    Failure(125).
    """
    streams = _streams(options)
    volumes, binds = _volumes(options)
    exposed, bindings = _ports(options)
    labels = _pairs(_with_files(options, "label", "label-file"))
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
        "Env": environment(_with_files(options, "env", "env-file")) or None,
        "Cmd": command or None,
        "Image": image,
        "Volumes": volumes,
        "WorkingDir": options["workdir"],
        "Entrypoint": [options["entrypoint"]] if options.given("entrypoint") else None,
        "OnBuild": None,
        "Labels": labels,
        "HostConfig": _host_config(options, binds, bindings),
        "NetworkingConfig": {"EndpointsConfig": _endpoints(options)},
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


def invalid(name: str, short: str, value: str, reason: str) -> UsageError:
    """pflag's words for a value that a flag can't take."""
    shown = f"-{short}, --{name}" if short else f"--{name}"
    return UsageError(f'invalid argument "{value}" for "{shown}" flag: {reason}')


def _host_config(options: Options, binds: list[str], bindings: dict[str, Any]) -> dict[str, Any]:
    swappiness = options["memory-swappiness"]
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise refused(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    for flag, word in (("pid", "PID"), ("uts", "UTS"), ("userns", "USER"), ("cgroupns", "CGROUP")):
        _check_namespace(options, flag, word)
    security, masked, read_only = _security(options["security-opt"])
    networks = _network_names(options)
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
        "Dns": _addresses(options["dns"]),
        "DnsOptions": options["dns-option"],
        "DnsSearch": options["dns-search"],
        "ExtraHosts": _extra_hosts(options["add-host"]),
        "GroupAdd": options["group-add"] or None,
        "IpcMode": options["ipc"],
        "Cgroup": "",
        "Links": _links(options["link"]),
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
        "Devices": [_device(text) for text in options["device"]],
        "DeviceCgroupRules": _device_rules(options["device-cgroup-rule"]),
        "DeviceRequests": _gpus(options["gpus"]),
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
        **_device_limits(options),
    }
    if options["annotation"]:
        config["Annotations"] = _pairs(options["annotation"])
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
        config["StorageOpt"] = _pairs(options["storage-opt"])
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


def refused(reason: str) -> Failure:
    """A container that can't be asked for: `run` and `create` show the reason with their own name (status
    125).
    """
    return Failure(reason, 125)


def _streams(options: Options) -> list[str]:
    """Which of stdin, stdout and stderr are attached: -a, or else all that make sense (none with -d)."""
    streams = [text.lower() for text in options["attach"]]
    for text in options["attach"]:
        if text.lower() not in ("stdin", "stdout", "stderr"):
            raise invalid("attach", "a", text, "valid streams are STDIN, STDOUT and STDERR")
    if streams or options["detach"]:
        return streams
    return ["stdin", "stdout", "stderr"] if options["interactive"] else ["stdout", "stderr"]


def environment(entries: list[str]) -> list[str]:
    """NAME=value as it is, NAME with the caller's own value if there is one."""
    result = []
    for entry in entries:
        name, equals, _ = entry.partition("=")
        if not name:
            raise invalid("env", "e", entry, f"invalid environment variable: {entry}")
        value = None if equals else os.environ.get(name)
        result.append(entry if value is None else f"{entry}={value}")
    return result


def _with_files(options: Options, name: str, files: str) -> list[str]:
    entries: list[str] = []
    for path in options[files]:
        entries += read_lines_file(path)
    if name == "label":
        for text in options[name]:
            if text.startswith("="):
                raise invalid("label", "l", text, f"invalid label '{text}': empty name")
    return entries + list(options[name])


def read_lines_file(path: str, status: int = 125) -> list[str]:
    """Entries of an env or label file: one a line, `#` comments, NAME alone takes the caller's value if set."""
    entries = []
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in file:
                text = line.rstrip("\r\n").lstrip()
                if not text or text.startswith("#"):
                    continue
                name, equals, value = text.partition("=")
                if any(letter in name for letter in " \t"):
                    raise Failure(
                        f"invalid env file ({path}): variable '{name}' contains whitespaces", status
                    )
                if not name:
                    raise Failure(f"invalid env file ({path}): no variable name on line '{text}'", status)
                if equals:
                    entries.append(f"{name}={value}")
                elif name in os.environ:
                    entries.append(f"{name}={os.environ[name]}")
    except OSError as error:
        raise Failure(f"open {path}: {(error.strerror or str(error)).lower()}", status) from None
    except UnicodeDecodeError:
        raise Failure(f"invalid env file ({path}): it contains bytes that are not UTF-8", status) from None
    return entries


def _pairs(entries: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in entries)}


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


def _addresses(texts: list[str]) -> list[str]:
    import _socket

    for text in texts:
        family = _socket.AF_INET6 if ":" in text else _socket.AF_INET
        try:
            _socket.inet_pton(family, text.partition("%")[0])
        except OSError:
            raise invalid("dns", "", text, f"IP address is not correctly formatted: {text}") from None
    return texts


def _extra_hosts(texts: list[str]) -> list[str] | None:
    result = []
    for text in texts:
        separator = "=" if "=" in text else ":"
        name, found, address = text.partition(separator)
        if not found or not name or not address:
            raise invalid("add-host", "", text, f'bad format for add-host: "{text}"')
        if address.startswith("[") and address.endswith("]"):
            address = address[1:-1]
        result.append(f"{name}:{address}")
    return result or None


def _links(texts: list[str]) -> list[str] | None:
    for text in texts:
        if text.count(":") > 1 or not text:
            raise invalid("link", "", text, f"bad format for links: {text}")
    return texts or None


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if not parts[0].startswith("/"):
        raise refused(f"{text} is not an absolute path")
    inside, permissions = parts[0], "rwm"
    if len(parts) > 3:
        raise refused(f"invalid device specification: {text}")
    if len(parts) == 3:
        inside, permissions = parts[1] or inside, parts[2]
    elif len(parts) == 2:
        if parts[1] and set(parts[1]) <= set("rwm"):
            permissions = parts[1]
        else:
            inside = parts[1]
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": permissions}


def _device_rules(texts: list[str]) -> list[str] | None:
    for text in texts:
        words = text.split(" ")
        numbers = words[1].split(":") if len(words) == 3 else []
        if (
            len(numbers) != 2
            or words[0] not in ("a", "b", "c")
            or not all(number == "*" or number.isdigit() for number in numbers)
            or not words[2]
            or not set(words[2]) <= set("rwm")
        ):
            raise invalid("device-cgroup-rule", "", text, f"invalid device cgroup format '{text}'")
    return texts or None


def _gpus(text: str) -> list[dict[str, Any]] | None:
    if not text:
        return None
    request: dict[str, Any] = {
        "Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {},
    }  # fmt: skip
    for index, field in enumerate(text.split(",")):
        key, equals, value = field.partition("=")
        if not equals and index == 0:
            key, value = "count", key
        if key == "count":
            if value != "all" and not value.isdigit():
                raise invalid(
                    "gpus", "", text, f'invalid count ({value}): value must be either "all" or an integer'
                )
            request["Count"] = -1 if value == "all" else int(value)
        elif key == "device":
            request["DeviceIDs"] = [*(request["DeviceIDs"] or []), value]
        elif key == "driver":
            request["Driver"] = value
        elif key == "capabilities":
            request["Capabilities"] = [["gpu", *[word for word in value.split(",") if word != "gpu"]]]
        elif key == "options":
            request["Options"] = _pairs([value])
        else:
            raise invalid("gpus", "", text, f"unexpected key '{key}' in '{field}'")
    if request["Count"] == 0 and request["DeviceIDs"] is None:
        request["Count"] = 1
    return [request]


def ulimits(texts: list[str]) -> list[dict[str, Any]]:
    """`type=soft[:hard]`, sorted by type; the last of a type counts. Raises UsageError."""
    found = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name:
            raise invalid("ulimit", "", text, f"invalid ulimit argument: {text}")
        numbers = values.split(":")
        if len(numbers) > 2:
            raise invalid(
                "ulimit", "", text, f"too many limit value arguments - {values}, can only have up to two"
            )
        try:
            limits = [int(number) for number in numbers]
        except ValueError:
            bad = next(number for number in numbers if not number.lstrip("-").isdigit())
            raise invalid("ulimit", "", text, f'strconv.ParseInt: parsing "{bad}": invalid syntax') from None
        soft, hard = limits[0], limits[-1]
        if hard != -1 and (soft > hard or soft == -1):
            raise invalid(
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
            raise invalid("sysctl", "", text, f"sysctl '{text}' is not allowed")
    return _pairs(texts)


def _log_options(options: Options) -> dict[str, str]:
    if options["log-driver"] == "none" and options["log-opt"]:
        raise refused("invalid logging opts for driver none")
    return _pairs(options["log-opt"])


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


def _device_limits(options: Options) -> dict[str, Any]:
    from minictl import units

    result: dict[str, Any] = {}
    for key, flag, value_name in (
        ("BlkioWeightDevice", "blkio-weight-device", "Weight"),
        ("BlkioDeviceReadBps", "device-read-bps", "Rate"),
        ("BlkioDeviceWriteBps", "device-write-bps", "Rate"),
        ("BlkioDeviceReadIOps", "device-read-iops", "Rate"),
        ("BlkioDeviceWriteIOps", "device-write-iops", "Rate"),
    ):
        entries = result[key] = []
        for text in options[flag]:
            path, _, value = text.rpartition(":")
            try:
                number = units.parse_bytes(value) if flag.endswith("bps") else int(value)
            except ValueError:
                number = -1
            if not path.startswith("/dev/") or number < 0:
                raise invalid(
                    flag, "", text, f"invalid value for device: {text}: the form is /dev/PATH:NUMBER"
                )
            entries.append({"Path": path, value_name: number})
    return result


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


def _network_names(options: Options) -> list[str]:
    return [_network(text)["name"] for text in options["network"]]


def _network(text: str) -> dict[str, Any]:
    """`NAME` or `name=…,alias=…,ip=…,ip6=…,mac-address=…,link-local-ip=…,driver-opt=k=v,gw-priority=N`."""
    wanted: dict[str, Any] = {"name": text, "alias": [], "driver-opt": [], "link-local-ip": []}
    if "=" not in text.partition(",")[0]:
        return wanted
    wanted["name"] = ""
    for field in text.split(","):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            raise invalid("network", "", text, f"invalid key/value pair format in driver options: {field}")
        if key in ("alias", "driver-opt", "link-local-ip"):
            wanted[key].append(value)
        elif key in ("name", "ip", "ip6", "mac-address", "gw-priority"):
            wanted[key] = value
        else:
            raise invalid("network", "", text, f"invalid field key {key}")
    if not wanted["name"]:
        raise invalid("network", "", text, "network name/id is not specified")
    return wanted


def _endpoints(options: Options) -> dict[str, Any]:
    """EndpointsConfig: an entry for each network that is the user's own, or that is given settings."""
    networks = [_network(text) for text in options["network"]] or [_network("default")]
    if len(networks) > 1 and any(_built_in(network["name"]) for network in networks):
        raise refused(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    first = networks[0]
    first["alias"] += options["network-alias"]
    first["link-local-ip"] += options["link-local-ip"]
    for flag in ("ip", "ip6", "mac-address"):
        if options[flag]:
            first[flag] = options[flag]
    result: dict[str, Any] = {}
    for index, network in enumerate(networks):
        endpoint: dict[str, Any] = dict(_NO_ENDPOINT)
        addresses: dict[str, Any] = {}
        if network.get("ip"):
            addresses["IPv4Address"] = network["ip"]
        if network.get("ip6"):
            addresses["IPv6Address"] = network["ip6"]
        if network["link-local-ip"]:
            addresses["LinkLocalIPs"] = network["link-local-ip"]
        links = options["link"] if index == 0 and not _built_in(network["name"]) else None
        endpoint["IPAMConfig"] = addresses or None
        endpoint["Links"] = links or None
        endpoint["Aliases"] = network["alias"] or None
        endpoint["MacAddress"] = _mac_address(network.get("mac-address", ""))
        endpoint["DriverOpts"] = _pairs(network["driver-opt"]) or None
        endpoint["GwPriority"] = int(network.get("gw-priority", 0))
        if endpoint != _NO_ENDPOINT or not options["network"] or len(networks) > 1:
            result[network["name"]] = endpoint
    return result


def _built_in(name: str) -> bool:
    return name in _BUILT_IN_NETWORKS or name.startswith("container:")


def _mac_address(text: str) -> str:
    if not text:
        return ""
    parts = text.replace("-", ":").split(":")
    if len(parts) not in (6, 8) or not all(len(part) == 2 and _is_hex(part) for part in parts):
        raise refused(f"{text} is not a valid mac address")
    return text


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdefABCDEF" for letter in text)
