# ruff: noqa: E501  (one option a line reads better)
"""Every option of dockerd: its key in ``daemon.json``, its flag, its type, its default, and what minid does with it.

Source: dockerd 20.10 to 29 (``dockerd --help``; docs.docker.com/reference/cli/dockerd). An option with a ``field`` is kept
in that field of ``Config``; the others are known, checked, and without effect, which the daemon says when one is set to
anything but what minid does anyway (``same_as``).
"""

from dataclasses import dataclass
from typing import Any

from minid.config import checks
from minid.config.builder import BUILDER, BuilderGc
from minid.config.image_gc import IMAGE_GC
from minid.config.kinds import (
    ANY_MAP,
    BOOL,
    MAP,
    NETWORK_OPTS,
    POOLS,
    SIZE,
    SWITCHES,
    ULIMITS,
    Choice,
    Kind,
    integer,
    list_of,
    text,
)
from minid.config.registries import REGISTRIES

NO_EFFECT = "has no effect in this version"
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
STORAGE_DRIVERS = ("", "overlay2", "btrfs", "vfs")


@dataclass(frozen=True, slots=True)
class Option:
    """``key`` in the file; ``flag`` without dashes; ``field`` of Config, "" if without effect; ``reload`` by SIGHUP."""

    key: str
    flag: str
    kind: Kind
    help: str
    field: str = ""
    default: Any = None
    short: str = ""
    reload: bool = False
    aliases: tuple[str, ...] = ()
    same_as: tuple[Any, ...] = ()
    why: str = NO_EFFECT


def _set(key: str, kind: Kind, default: Any, help: str, **more: Any) -> Option:
    """An option that has its effect."""
    more.setdefault("flag", key)
    return Option(
        key, more.pop("flag"), kind, help, more.pop("field", key.replace("-", "_")), default, **more
    )


def _known(key: str, kind: Kind, help: str, *same_as: Any, **more: Any) -> Option:
    """An option that is only accepted."""
    more.setdefault("flag", key)
    return Option(key, more.pop("flag"), kind, help, same_as=same_as, **more)


_NOT_YET = "is not acted on in this version"
_OTHER_RUNTIME = "has no effect: minid runs containers itself"

OPTIONS: tuple[Option, ...] = (
    _set("hosts", list_of(checks.host), (), "Socket to listen on: unix://PATH, tcp://ADDRESS[:PORT] or fd:// (repeatable)", flag="host", short="H"),
    _set("group", text(checks.group), "minid", "Group that may use the unix socket", short="G"),
    _set("data-root", text(checks.absolute_path), "/var/lib/minid", "Where images and containers are kept"),
    _set("exec-root", text(checks.absolute_path), "/run/minid", "Where the running state is kept"),
    _set("pidfile", text(checks.absolute_path), "", "File for the daemon's process id (default EXEC-ROOT/minid.pid)", short="p"),
    _set(
        "storage-driver",
        text(Choice(STORAGE_DRIVERS, {"overlay": "overlay2", "overlayfs": "overlay2"})),
        "",
        "overlay2, btrfs or vfs (default: the first that works)",
        short="s",
    ),
    _set("cgroup-parent", text(), "", "Parent cgroup of the containers (default: a child of the daemon's own)"),
    _set("insecure-registries", list_of(checks.insecure_registry), (), "Registry (host[:port] or CIDR) that may be without TLS", flag="insecure-registry", reload=True),
    _set("registry-mirrors", list_of(checks.registry_mirror), (), "Mirror of docker.io to ask first", flag="registry-mirror", reload=True),
    _set("registries", REGISTRIES, {}, "Hosts to ask for each registry", flag="", reload=True),
    _set("image-gc", IMAGE_GC, None, "When images that nobody needs are removed", flag="", reload=True),
    _set("builder", BUILDER, BuilderGc(), "How much the build cache may keep", flag="", reload=True),
    _set("debug", BOOL, False, "Log at level debug", short="D", reload=True),
    _set("log-level", text(Choice(LOG_LEVELS, {"trace": "debug", "panic": "fatal", "": "info"})), "info", "debug, info, warn, error or fatal", short="l", reload=True),
    _set("log-format", text(Choice(("text", "json"), {"": "text"})), "text", "text or json"),
    _set("log-driver", text(Choice(("json-file", "none", "local", "journald", "syslog", "gelf", "fluentd", "awslogs", "splunk", "etwlogs", "gcplogs", "logentries"), {"": "json-file"})), "json-file", "Default driver for containers' output: json-file or none"),
    _set("log-opts", MAP, {}, "Default options of the log driver (key=value)", flag="log-opt"),
    _set("default-ulimits", ULIMITS, {}, "Default limits of containers (name=soft[:hard])", flag="default-ulimit", reload=True),
    _set("default-shm-size", SIZE, 64 << 20, "Default size of /dev/shm", field="default_shm_size_bytes", reload=True),
    _set("default-ipc-mode", text(Choice(("private", "shareable"), {"": "private"})), "private", "private or shareable"),
    _set("default-cgroupns-mode", text(Choice(("private", "host"), {"": "private"})), "private", "private or host"),
    _set("init", BOOL, False, "Run an init in containers that forwards signals and reaps"),
    _set("seccomp-profile", text(checks.seccomp_profile), "builtin", "builtin, unconfined or the path of a profile"),
    _set("no-new-privileges", BOOL, False, "Set no-new-privileges for new containers"),
    _set("max-concurrent-downloads", integer(0), 3, "Layers downloaded at once, for each pull"),
    _set("max-concurrent-uploads", integer(0), 5, "Layers uploaded at once, for each push"),
    _set("max-download-attempts", integer(0), 5, "Attempts for each download", why=_NOT_YET),
    _set("shutdown-timeout", integer(-1), 15, "Seconds to let requests finish when stopping", field="shutdown_timeout_s", why=_NOT_YET),
    _set("labels", list_of(checks.label), (), "key=value labels of the daemon", flag="label", reload=True),
    _set("dns", list_of(checks.ip_address), (), "DNS server for containers"),
    _set("dns-opts", list_of(), (), "DNS option for containers", flag="dns-opt"),
    _set("dns-search", list_of(checks.search_domain), (), "DNS search domain for containers"),
    _set("host-gateway-ips", list_of(checks.ip_address), (), "What host-gateway means in --add-host", flag="host-gateway-ip", aliases=("host-gateway-ip",), why=_NOT_YET),
    _set("http-proxy", text(), "", "Proxy for http:// registries"),
    _set("https-proxy", text(), "", "Proxy for https:// registries"),
    _set("no-proxy", text(), "", "Hosts and addresses to reach without proxy, comma-separated"),
    _set("experimental", BOOL, False, "Say in _ping that experimental features are on", why=_NOT_YET),
    _set("features", SWITCHES, {}, "Switch a feature on or off (name[=true|false])", flag="feature", why=_NOT_YET),
    # TCP.
    _set("tls", BOOL, False, "TLS on TCP sockets; clients need no certificate"),
    _set("tlsverify", BOOL, False, "TLS on TCP sockets; clients need a certificate of --tlscacert"),
    _set("tlscacert", text(checks.tls_file), "", "CA of clients' certificates"),
    _set("tlscert", text(checks.tls_file), "", "The server's certificate"),
    _set("tlskey", text(checks.tls_file), "", "The server's key"),
    _set("tlscrl", text(checks.tls_file), "", "List of revoked certificates of the CA"),
    _set("insecure-tcp-i-know", BOOL, False, "Listen on TCP without knowing who calls: whoever reaches the port is root"),
    # Networks.
    _set("bridge", text(checks.interface), "", "Bridge of the default network, or none", short="b"),
    _set("bip", text(checks.bridge_address), "", "The bridge's IPv4 address with prefix length"),
    _set("bip6", text(checks.bridge_address), "", "The bridge's IPv6 address with prefix length"),
    _set("fixed-cidr", text(checks.network), "", "IPv4 range to take containers' addresses from"),
    _set("fixed-cidr-v6", text(checks.network), "", "IPv6 range to take containers' addresses from"),
    _set("default-gateway", text(checks.ip_address), "", "IPv4 gateway of the default bridge"),
    _set("default-gateway-v6", text(checks.ip_address), "", "IPv6 gateway of the default bridge"),
    _set("default-address-pools", POOLS, (), "Where new networks take their addresses (base=CIDR,size=BITS)", flag="default-address-pool"),
    _set("default-network-opts", NETWORK_OPTS, {}, "Default options of new networks (driver=key=value)", flag="default-network-opt"),
    _set("mtu", integer(0, 65535), 1500, "MTU of the default bridge"),
    _set("ip", text(checks.ip_address), "0.0.0.0", "Host address of published ports"),
    _set("icc", BOOL, True, "Containers of the default bridge may reach each other"),
    _set("ipv6", BOOL, False, "IPv6 on the default bridge"),
    _set("ip-forward", BOOL, True, "Switch IP forwarding on"),
    _set("ip-masq", BOOL, True, "Masquerade the default bridge"),
    _set("published-ports", text(Choice(("", "open", "host-policy"))), "", "Whether published ports obey the host's own input rules: open or host-policy", aliases=("published_ports",)),
    _set("forward-policy", text(Choice(("", "obey", "accept"))), "", "Where another firewall's policy drops forwarded packets: obey, or accept ours", aliases=("forward_policy",)),
    _set("userland-proxy", BOOL, True, "Proxy for published ports on the loopback", why="has no effect: one process serves all ports that the firewall cannot lead"),
    _known("iptables", BOOL, "Add iptables rules", True, why="has no effect: minid uses an nftables table of its own"),
    _known("ip6tables", BOOL, "Add ip6tables rules", True, why="has no effect: minid uses an nftables table of its own"),
    _known("firewall-backend", text(Choice(("", "iptables", "nftables"))), "iptables or nftables", "", "nftables"),
    _known("ip-forward-no-drop", BOOL, "Leave the policy of FORWARD alone", True, False),
    _known("allow-direct-routing", BOOL, "Published ports by the container's address", False),
    _known("bridge-accept-fwmark", text(), "Accept packets with this mark", ""),
    _known("userland-proxy-path", text(), "Path of docker-proxy"),
    _known("network-control-plane-mtu", integer(0), "MTU of the control plane", 1500),
    _known("network-diagnostic-port", integer(0, 65535), "Port of the diagnostic server", 0),
    # What minid does in another way, or does not have.
    _known("live-restore", BOOL, "Keep containers while the daemon is down", True, why="has no effect: minid always leaves containers running when it stops"),
    _known("authorization-plugins", list_of(), "Authorization plugin", (), flag="authorization-plugin"),
    _known("api-cors-header", text(), "CORS headers of the API", ""),
    _known("storage-opts", list_of(), "Option of the storage driver", (), flag="storage-opt"),
    _known("exec-opts", list_of(checks.exec_option), "Option of the runtime", (), ("native.cgroupdriver=cgroupfs",), flag="exec-opt"),
    _known("default-runtime", text(), "Runtime of containers", "runc", "minid", "", why=_OTHER_RUNTIME),
    _known("runtimes", ANY_MAP, "Another OCI runtime (name=path)", {}, flag="add-runtime", why=_OTHER_RUNTIME),
    _known("init-path", text(), "Path of docker-init", why="has no effect: minid has an init of its own"),
    _known("containerd", text(), "Address of containerd", why="has no effect: minid needs no containerd"),
    _known("containerd-namespace", text(), "Namespace in containerd", "moby"),
    _known("containerd-plugins-namespace", text(), "Namespace of plugins in containerd", "plugins.moby", aliases=("containerd-plugin-namespace",)),
    _known("cri-containerd", BOOL, "containerd with CRI", False),
    _known("cpu-rt-period", integer(), "Realtime period of the parent cgroup, microseconds", 0),
    _known("cpu-rt-runtime", integer(), "Realtime budget of the parent cgroup, microseconds", 0),
    _known("selinux-enabled", BOOL, "SELinux labels", False),
    _known("apparmor-profile", text(), "AppArmor profile template"),
    _known("userns-remap", text(), "User namespace for containers", ""),
    _known("rootless", BOOL, "Run without root", False),
    _known("raw-logs", BOOL, "Full timestamps, no colours", True, False),
    _known("metrics-addr", text(), "Address of the metrics", ""),
    _known("cdi-spec-dirs", list_of(), "Directory of CDI specifications", (), flag="cdi-spec-dir"),
    _known("nri-opts", ANY_MAP, "Node resource interface", {}),
    _known("node-generic-resources", list_of(), "Resource to advertise in a swarm", (), flag="node-generic-resource"),
    _known("swarm-default-advertise-addr", text(), "Address to advertise in a swarm", ""),
    _known("oom-score-adjust", integer(-1000, 1000), "OOM score of the daemon", 0, why="has no effect: set OOMScoreAdjust in the unit"),
    _known("allow-nondistributable-artifacts", list_of(), "Push foreign layers", ()),
    _known("deprecated-key-path", text(), "Path of the old trust key", flag=""),
)  # fmt: skip

BY_KEY = {name: option for option in OPTIONS for name in (option.key, *option.aliases)}
BY_FLAG = {option.flag: option for option in OPTIONS if option.flag}
BY_SHORT = {option.short: option for option in OPTIONS if option.short}
# dockerd accepts {"proxies": {"http-proxy": …}}: the one place where the file is nested and the flags are not.
PROXIES = ("http-proxy", "https-proxy", "no-proxy")
