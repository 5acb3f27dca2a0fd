"""The configuration file: what is read, and how each mistake is told."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from minid.config import Config, ConfigError, Pool, Ulimit, load, reload
from minid.config.options import BY_KEY, NO_EFFECT, OPTIONS
from minid.config.tcp import settle_hosts


def write(directory: Path, text: str | bytes) -> Path:
    path = directory / "minid.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems(path: Path, **given: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path, given)
    return tuple(line.replace(str(path), "FILE") for line in caught.value.problems)


def test_defaults_without_a_file():
    config = load(None)
    assert config.hosts == ("unix:///run/minid/minid.sock",)
    assert config.pidfile == Path("/run/minid/minid.pid")
    assert config.data_root == Path("/var/lib/minid")
    assert config.group == "minid"
    assert config.warnings == ()


def test_model_and_option_table_have_the_same_defaults():
    config = Config()
    loaded = load(None)
    for field in fields(Config):
        assert getattr(loaded, field.name) == getattr(config, field.name), field.name
    named = {option.field for option in OPTIONS if option.field}
    assert named == {field.name for field in fields(Config)} - {"warnings", "source"}


def test_socket_and_pidfile_follow_the_exec_root(tmp_path):
    config = load(write(tmp_path, "exec-root: /run/second/\ndata-root: /srv/second"))
    assert config.hosts == ("unix:///run/second/minid.sock",)
    assert config.pidfile == Path("/run/second/minid.pid")
    assert config.data_root == Path("/srv/second")


def test_yaml(tmp_path):
    config = load(
        write(
            tmp_path,
            """
# two registries
insecure-registries: [registry.local:5000, 10.0.0.0/8]
registry-mirrors:
  - https://mirror.example
labels: ["rack=7"]
log-opts:
  max-size: 5m
default-ulimits: {nofile: {Soft: 1024, Hard: 4096}}
default-shm-size: 1.5g
debug: yes
shutdown-timeout: -1
""",
        )
    )
    assert config.insecure_registries == ("registry.local:5000", "10.0.0.0/8")
    assert config.registry_mirrors == ("https://mirror.example/",)
    assert config.log_opts == {"max-size": "5m"}
    assert config.default_ulimits == {"nofile": Ulimit("nofile", 1024, 4096)}
    assert config.default_shm_size_bytes == 3 << 29
    assert config.debug and config.effective_log_level == "debug"
    assert config.shutdown_timeout_s == -1


# The "full example" of dockerd's documentation, reduced to what Linux accepts, by key and type.
DAEMON_JSON = {
    "allow-direct-routing": False,
    "authorization-plugins": [],
    "bip": "",
    "bridge": "",
    "builder": {"gc": {"enabled": True, "defaultKeepStorage": "10GB", "policy": [{"keepStorage": "1G"}]}},
    "cgroup-parent": "",
    "containerd": "/run/containerd/containerd.sock",
    "containerd-namespace": "docker",
    "containerd-plugin-namespace": "docker-plugins",
    "data-root": "",
    "debug": True,
    "default-address-pools": [{"base": "172.30.0.0/16", "size": 24}],
    "default-cgroupns-mode": "private",
    "default-gateway": "",
    "default-gateway-v6": "",
    "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1450"}},
    "default-runtime": "runc",
    "default-shm-size": "64M",
    "default-ulimits": {"nofile": {"Hard": 64000, "Name": "nofile", "Soft": 64000}},
    "dns": [],
    "dns-opts": [],
    "dns-search": [],
    "exec-opts": ["native.cgroupdriver=systemd"],
    "exec-root": "",
    "experimental": False,
    "features": {"cdi": True},
    "firewall-backend": "",
    "fixed-cidr": "",
    "fixed-cidr-v6": "",
    "group": "",
    "host-gateway-ip": "",
    "hosts": [],
    "proxies": {"http-proxy": "http://proxy:80", "https-proxy": "", "no-proxy": "localhost"},
    "icc": False,
    "init": False,
    "init-path": "/usr/libexec/docker-init",
    "insecure-registries": [],
    "ip": "0.0.0.0",
    "ip-forward": False,
    "ip-masq": False,
    "iptables": False,
    "ip6tables": False,
    "ipv6": False,
    "labels": [],
    "live-restore": True,
    "log-driver": "json-file",
    "log-format": "text",
    "log-level": "",
    "log-opts": {"cache-disabled": "false", "max-file": "5", "max-size": "20m"},
    "max-concurrent-downloads": 3,
    "max-concurrent-uploads": 5,
    "max-download-attempts": 5,
    "mtu": 0,
    "no-new-privileges": False,
    "node-generic-resources": ["NVIDIA-GPU=UUID1"],
    "pidfile": "",
    "raw-logs": False,
    "registry-mirrors": [],
    "runtimes": {"custom": {"path": "/usr/local/bin/my-runc", "runtimeArgs": ["--debug"]}},
    "seccomp-profile": "",
    "selinux-enabled": False,
    "shutdown-timeout": 15,
    "storage-driver": "",
    "storage-opts": [],
    "swarm-default-advertise-addr": "",
    "tls": True,
    "tlscacert": "",
    "tlscert": "",
    "tlskey": "",
    "tlsverify": True,
    "userland-proxy": False,
    "userland-proxy-path": "/usr/libexec/docker-proxy",
    "userns-remap": "",
}


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_a_daemon_json_is_valid_as_it_stands(tmp_path, indent):
    config = load(write(tmp_path, json.dumps(DAEMON_JSON, indent=indent)))
    assert config.debug
    assert config.data_root == Path("/var/lib/minid")
    assert config.http_proxy == "http://proxy:80"
    assert config.no_proxy == "localhost"
    assert config.default_address_pools == (Pool("172.30.0.0/16", 24),)
    assert config.default_network_opts == {"bridge": {"com.docker.network.driver.mtu": "1450"}}
    assert config.log_opts["max-file"] == "5"
    warned = {warning.split(": ")[1] for warning in config.warnings}
    assert {"runtimes", "exec-opts", "iptables"} <= warned
    assert not {"live-restore", "default-runtime", "ip", "icc", "experimental", "selinux-enabled"} & warned


def test_byte_order_marks_and_escapes_of_json(tmp_path):
    text = r'{"labels": ["a=\/\ud83d\ude00"]}'
    for raw in (text.encode("utf-8-sig"), text.encode("utf-16"), b"\xfe\xff" + text.encode("utf-16-be")):
        assert load(write(tmp_path, raw)).labels == ("a=/\U0001f600",)


@pytest.mark.parametrize("empty", ["", "\n", "# nothing yet\n", "{}", "null", "debug:\n"])
def test_an_empty_file_is_the_defaults(tmp_path, empty):
    assert load(write(tmp_path, empty)).debug is False


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("debug: true\n\nstorage-drivr: vfs\n", "FILE:3: storage-drivr: unknown key (did you mean storage-driver?)"),
        ("insecure-registry: [a]", "FILE:1: insecure-registry: unknown key (did you mean insecure-registries?)"),
        ("data_root: /x", "FILE:1: data_root: unknown key (did you mean data-root?)"),
        ("zzz: 1", "FILE:1: zzz: unknown key"),
        ('{\n  "debug": "yes"\n}', 'FILE:2: debug: expected true or false, got the text "yes"'),
        ("mtu: big", 'FILE:1: mtu: expected a whole number, got the text "big"'),
        ("mtu: true", "FILE:1: mtu: expected a whole number, got true"),
        ("mtu: 70000", "FILE:1: mtu: 70000 is too big: the most is 65535"),
        ("group: 5", 'FILE:1: group: expected text, got the number 5: write it in quotes, "5"'),
        ("group: [a]", "FILE:1: group: expected text, got a list"),
        ("hosts: unix:///x", 'FILE:1: hosts: expected a list, got the text "unix:///x"'),
        ("log-opts: 5", "FILE:1: log-opts: expected a mapping, got the number 5"),
        (
            "log-opts:\n  max-size: 10m\n  max-file: 3",
            'FILE:3: log-opts: expected text, got the number 3: write it in quotes, "3"',
        ),
        ("labels:\n- a=b\n- broken", "FILE:3: labels: expected key=value, got 'broken'"),
        ("dns: [1.1.1.256]", "FILE:1: dns: '1.1.1.256' is not an IP address"),
        ("bip: 172.17.0.0/16", "FILE:1: bip: '172.17.0.0/16' is the network, not an address in it: write 172.17.0.1/16"),
        ("storage-driver: aufs", "FILE:1: storage-driver: expected one of overlay2, btrfs, vfs; got 'aufs'"),
        ("default-shm-size: 5 parsecs", "FILE:1: default-shm-size: expected a size such as 64m or 1g, got '5 parsecs'"),
        (
            "default-ulimits:\n  nofile:\n    Soft: 9\n    Hard: 4",
            "FILE:2: default-ulimits: nofile: the soft limit 9 is above the hard limit 4",
        ),
        ("insecure-registries: [http://a]", "FILE:1: insecure-registries: 'http://a': write host[:port] without http://"),
        ("features: {cdi: 1}", "FILE:1: features: expected true or false, got the number 1"),
        ("proxies: {ftp-proxy: x}", "FILE:1: proxies.ftp-proxy: unknown key (known are http-proxy, https-proxy, no-proxy)"),
        ("data-root: here", "FILE:1: data-root: 'here' must be an absolute path"),
        ("- a\n- b", "FILE:1: expected keys and values, got a list"),
        ("hosts: [tcp://0.0.0.0:2375]", "tcp://0.0.0.0:2375: whoever reaches this port would be root on this machine"),
        ("hosts: [tcp://0.0.0.0]\ntls: true", "tcp://0.0.0.0:2376: whoever reaches this port would be root"),
        ("hosts: ['tcp://x:1']", "FILE:1: hosts: tcp://x:1: 'x' is not an address of this machine"),
        ("debug: {", "FILE:1: not valid YAML: "),
        ('debug: "\n\nx: 1', "not valid YAML: "),
        ("a: \x01", "FILE:1: not valid YAML: a character that is not allowed (0x01)"),
        ("? [a, b]\n: c", "FILE:1: a key must be text"),
        ("debug: !!python/object:os.system x", "is not understood here"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_key_and_line(tmp_path, text, told):
    [line] = problems(write(tmp_path, text))
    assert told in line


def test_not_utf8_is_told(tmp_path):
    assert problems(write(tmp_path, b"group: a\nlabels: \xff")) == (
        "FILE:2: not UTF-8 text: invalid start byte",
    )


def test_all_mistakes_are_told_at_once(tmp_path):
    assert len(problems(write(tmp_path, "debug: 5\nnope: 1\nmtu: x\n"))) == 3


def test_flag_and_file_do_not_mix(tmp_path):
    path = write(tmp_path, "debug: true\nlabels: [a=b]\n")
    told = problems(path, labels=("c=d",), group="staff")
    assert told == ("FILE:2: labels: also given as the flag --label: take one of the two away",)


def test_a_file_that_was_asked_for_must_exist(tmp_path):
    assert problems(tmp_path / "minid.yaml") == ("FILE: no such file",)


def test_contradicting_labels(tmp_path):
    assert problems(write(tmp_path, "labels: [a=1, a=2]")) == ("labels: a has two values, '1' and '2'",)


def test_a_key_given_twice_takes_the_last_and_says_so(tmp_path):
    config = load(write(tmp_path, '{"group": "a",\n "group": "b"}'))
    assert config.group == "b"
    assert "given twice, the value on line 1 is not used" in config.warnings[0]


def test_log_drivers_that_are_not_here_fall_back_to_json_file(tmp_path):
    config = load(write(tmp_path, "log-driver: journald\nlog-opts: {tag: x, journald-thing: y}"))
    assert config.log_driver == "json-file"
    assert config.log_opts == {"tag": "x"}
    assert "journald" in config.warnings[0]


def test_same_root_twice_is_refused(tmp_path):
    assert "choose two" in problems(write(tmp_path, "data-root: /a\nexec-root: /a"))[0]


def test_reload_takes_only_what_may_change(tmp_path):
    path = write(tmp_path, "group: a\nlabels: [x=1]\n")
    old = load(path, {"debug": True})
    write(tmp_path, "group: b\nlabels: [x=2]\ninsecure-registries: [r:5000]\n")
    new, applied, ignored = reload(old)
    assert applied == ("insecure-registries", "labels")
    assert ignored == ("group",)
    assert (new.group, new.labels, new.insecure_registries, new.debug) == ("a", ("x=2",), ("r:5000",), True)


def test_reload_of_a_broken_file_changes_nothing(tmp_path):
    path = write(tmp_path, "group: a\n")
    old = load(path)
    write(tmp_path, "group: [\n")
    with pytest.raises(ConfigError):
        reload(old)


def test_keys_and_aliases_are_unique():
    names = [name for option in OPTIONS for name in (option.key, *option.aliases)]
    assert len(names) == len(set(names)) == len(BY_KEY)


def test_an_option_without_effect_says_so():
    """Each field of Config is read somewhere outside of this package, or setting it is warned about."""
    package = Path(__file__).parents[2] / "minid"
    text = "\n".join(
        path.read_text() for path in package.rglob("*.py") if "config" not in path.relative_to(package).parts
    )
    for option in OPTIONS:
        if option.field and option.why == NO_EFFECT:
            name = "effective_log_level" if option.field == "log_level" else option.field
            assert f"onfig.{name}" in text, f"{option.key} is not used: give it a `why`"


@pytest.mark.parametrize(
    ("hosts", "flags", "settled"),
    [
        (["tcp://"], {}, ["tcp://127.0.0.1:2375"]),
        (["tcp://:99"], {}, ["tcp://127.0.0.1:99"]),
        (["tcp://"], {"tls": True}, ["tcp://127.0.0.1:2376"]),
        (["tcp://[::1]"], {}, ["tcp://[::1]:2375"]),
        (["tcp://0.0.0.0", "tcp://0.0.0.0:2376"], {"tls": True, "verified": True}, ["tcp://0.0.0.0:2376"]),
        (["unix:///x", "tcp://10.0.0.1:5"], {"insecure": True}, ["unix:///x", "tcp://10.0.0.1:5"]),
    ],
)
def test_tcp_addresses(hosts, flags, settled):
    assert settle_hosts(hosts, **{"tls": False, "verified": False, "insecure": False, **flags}) == (
        tuple(settled),
        [],
    )


@pytest.mark.parametrize("host", ["tcp://0.0.0.0:2376", "tcp://[::]:2376", "tcp://10.1.2.3:2376"])
def test_nobody_is_root_by_knowing_the_port(host):
    """Without certificates of clients only the loopback may be listened on."""
    for tls in (False, True):
        _, problems = settle_hosts([host], tls=tls, verified=False, insecure=False)
        assert len(problems) == 1 and "--tlsverify" in problems[0]
        assert settle_hosts([host], tls=tls, verified=False, insecure=True)[1] == []
