"""The daemon's configuration, once read and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minid.config.builder import BuilderGc
from minid.config.image_gc import ImageGc
from minid.config.kinds import Pool, Ulimit
from minid.config.registries import RegistryRule
from minid.errors import MinidError

DEFAULT_FILE = Path("/etc/minid/minid.yaml")


class ConfigError(MinidError):
    """The configuration is wrong; ``problems`` has one line for each thing to mend, ``str`` has them all."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Source:
    """Where a configuration came from, for SIGHUP to read again. ``given``: flags' values by option key."""

    path: Path = DEFAULT_FILE
    required: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """Every option that has, or will have, an effect, named as dockerd's keys are.

    ``hosts`` and ``pidfile`` are never empty: their defaults lie in ``exec_root``. ``warnings`` name
    the options that are set and have no effect.
    """

    hosts: tuple[str, ...] = ("unix:///run/minid/minid.sock",)
    group: str = "minid"
    data_root: Path = Path("/var/lib/minid")
    exec_root: Path = Path("/run/minid")
    pidfile: Path = Path("/run/minid/minid.pid")
    storage_driver: str = ""  # "" chooses by probing
    cgroup_parent: str = ""  # "" is a child of the daemon's own cgroup
    insecure_registries: tuple[str, ...] = ()  # host[:port] or CIDR
    registry_mirrors: tuple[str, ...] = ()  # URLs with a trailing slash
    registries: Mapping[str, RegistryRule] = field(default_factory=dict)
    image_gc: ImageGc | None = None
    builder: BuilderGc = field(default_factory=BuilderGc)
    debug: bool = False
    log_level: str = "info"
    log_format: str = "text"
    log_driver: str = "json-file"
    log_opts: Mapping[str, str] = field(default_factory=dict)
    default_ulimits: Mapping[str, Ulimit] = field(default_factory=dict)
    default_shm_size_bytes: int = 64 << 20
    default_ipc_mode: str = "private"
    default_cgroupns_mode: str = "private"
    init: bool = False
    seccomp_profile: str = "builtin"  # or unconfined, or a path
    no_new_privileges: bool = False
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    shutdown_timeout_s: int = 15
    labels: tuple[str, ...] = ()  # key=value
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    host_gateway_ips: tuple[str, ...] = ()
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    experimental: bool = False
    features: Mapping[str, bool] = field(default_factory=dict)
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = ""  # below /etc/minid/tls
    tlscert: str = ""  # below /etc/minid/tls
    tlskey: str = ""  # below /etc/minid/tls
    tlscrl: str = ""
    insecure_tcp_i_know: bool = False
    bridge: str = ""
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    default_gateway: str = ""
    default_gateway_v6: str = ""
    default_address_pools: tuple[Pool, ...] = ()
    default_network_opts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    mtu: int = 1500
    ip: str = "0.0.0.0"
    icc: bool = True
    ipv6: bool = False
    ip_forward: bool = True
    ip_masq: bool = True
    published_ports: str = ""  # "" and open: reachable from everywhere; host-policy: the host's rules decide
    forward_policy: str = ""  # of other firewalls: "" and obey: as they say; accept: our packets pass
    userland_proxy: bool = True
    warnings: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)

    @property
    def effective_log_level(self) -> str:
        """``debug`` if -D was given, else ``log_level``."""
        return "debug" if self.debug else self.log_level
