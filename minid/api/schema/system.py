"""The engine about itself in Docker's JSON (``Engine API v1.44 § SystemInfo, SystemVersion``)."""

from collections.abc import Iterable
from typing import Any

from minid import API_VERSION, MIN_API_VERSION
from minid.api.schema.naming import timestamp
from minid.containers.model import Container
from minid.doctor import Finding
from minid.hostinfo import HostInfo


def version(host: HostInfo) -> dict[str, Any]:
    details = {
        "ApiVersion": API_VERSION,
        "Arch": host.go_architecture,
        "BuildTime": host.build_time,
        "Experimental": "false",
        "GitCommit": host.git_commit,
        "GoVersion": host.language_version,
        "KernelVersion": host.kernel_version,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": host.os_type,
    }
    return {
        "Platform": {"Name": "minid"},
        "Components": [{"Name": "Engine", "Version": host.server_version, "Details": details}],
        "Version": host.server_version,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": host.git_commit,
        "GoVersion": host.language_version,
        "Os": host.os_type,
        "Arch": host.go_architecture,
        "KernelVersion": host.kernel_version,
        "BuildTime": host.build_time,
    }


def info(
    host: HostInfo, *, containers: Iterable[Container], images: int, listeners: int, now_ns: int
) -> dict[str, Any]:
    """``containers``: all of them; ``listeners``: how many clients follow ``/events``."""
    statuses = [container.state.status for container in containers]
    running = sum(status in ("running", "restarting") for status in statuses)
    paused = statuses.count("paused")
    runtime = {"path": "minid"}
    return {
        "ID": host.id,
        "Containers": len(statuses),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(statuses) - running - paused,
        "Images": images,
        "Driver": host.driver_name,
        "DriverStatus": [list(pair) for pair in host.driver_status],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["host", "null"],
            "Authorization": None,
            "Log": ["json-file", "none"],
        },
        "MemoryLimit": host.memory_limit,
        "SwapLimit": host.swap_limit,
        "CpuCfsPeriod": host.cpu_cfs,
        "CpuCfsQuota": host.cpu_cfs,
        "CPUShares": host.cpu_shares,
        "CPUSet": host.cpuset,
        "PidsLimit": host.pids_limit,
        "IPv4Forwarding": host.ipv4_forwarding,
        "BridgeNfIptables": host.bridge_nf_iptables,
        "BridgeNfIp6tables": host.bridge_nf_ip6tables,
        "Debug": host.debug,
        "NFd": host.open_files,
        "OomKillDisable": host.oom_kill_disable,
        "NGoroutines": host.threads,
        "SystemTime": timestamp(now_ns),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": str(host.cgroup_version),
        "NEventsListener": listeners,
        "KernelVersion": host.kernel_version,
        "OperatingSystem": host.operating_system,
        "OSVersion": host.os_version,
        "OSType": host.os_type,
        "Architecture": host.architecture,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": registry_config(host.insecure_registries, host.registry_mirrors),
        "NCPU": host.cpus,
        "MemTotal": host.memory_bytes,
        "GenericResources": None,
        "DockerRootDir": host.data_root,
        "HttpProxy": host.http_proxy,
        "HttpsProxy": host.https_proxy,
        "NoProxy": host.no_proxy,
        "Name": host.name,
        "Labels": list(host.labels),
        "ExperimentalBuild": False,
        "ServerVersion": host.server_version,
        "Runtimes": {"minid": runtime},
        "DefaultRuntime": "minid",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "minid",
        "ContainerdCommit": {"ID": "", "Expected": ""},
        "RuncCommit": {"ID": "", "Expected": ""},
        "InitCommit": {"ID": "", "Expected": ""},
        "SecurityOptions": list(host.security_options),
        "CDISpecDirs": [],
        "Warnings": list(host.warnings) or None,
    }


def registry_config(insecure: tuple[str, ...], mirrors: tuple[str, ...]) -> dict[str, Any]:
    """``IndexConfigs`` has every host that has rules of its own; CIDR ranges stand apart."""
    ranges = sorted({"127.0.0.0/8", "::1/128", *(entry for entry in insecure if "/" in entry)})
    indexes: dict[str, Any] = {
        entry: {"Name": entry, "Mirrors": [], "Secure": False, "Official": False}
        for entry in insecure
        if "/" not in entry
    }
    indexes["docker.io"] = {"Name": "docker.io", "Mirrors": list(mirrors), "Secure": True, "Official": True}
    return {
        "AllowNondistributableArtifactsCIDRs": [],
        "AllowNondistributableArtifactsHostnames": [],
        "InsecureRegistryCIDRs": ranges,
        "IndexConfigs": indexes,
        "Mirrors": list(mirrors),
    }


def doctor(findings: Iterable[Finding]) -> dict[str, Any]:
    """``GET /minid/doctor``: an extension, not part of Docker's API."""
    return {
        "Findings": [
            {"Name": one.name, "State": one.state, "What": one.what, "Advice": one.advice} for one in findings
        ]
    }
