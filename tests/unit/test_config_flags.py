"""The command line, read as dockerd reads it."""

import re
import shutil
import subprocess

import pytest

from minid.config import ConfigError, Ulimit
from minid.config.flags import UsageError, parse, usage
from minid.config.options import BY_FLAG, BY_SHORT
from minid.exits import ExitStatus


def test_every_way_to_write_a_flag():
    line = parse(
        [
            "-H",
            "unix:///a.sock",
            "--host=unix:///b.sock",
            "-Hfd://",
            "-l=warn",
            "-p/run/x.pid",
            "--data-root",
            "/d",
        ]
    )
    assert line.given == {
        "hosts": ("unix:///a.sock", "unix:///b.sock", "fd://"),
        "log-level": "warn",
        "pidfile": "/run/x.pid",
        "data-root": "/d",
    }


@pytest.mark.parametrize(
    ("arguments", "debug"),
    [
        (["-D"], True),
        (["--debug"], True),
        (["--debug=false"], False),
        (["-D=false"], False),
        (["--debug", "--"], True),
    ],
)
def test_switches(arguments, debug):
    assert parse(arguments).given == {"debug": debug}


def test_joined_short_switches():
    line = parse(["-Dv"])
    assert line.version and line.given == {"debug": True}
    assert parse(["-Dlwarn"]).given == {"debug": True, "log-level": "warn"}


def test_the_last_value_of_a_single_flag_counts():
    assert parse(["--mtu", "1400", "--mtu", "0x500"]).given == {"mtu": 1280}


def test_maps_and_limits():
    line = parse(
        [
            "--log-opt",
            "max-size=1m",
            "--log-opt",
            "max-file=2",
            "--default-ulimit",
            "nofile=1:2",
            "--default-ulimit=core=-1",
            "--feature",
            "cdi",
            "--default-network-opt",
            "bridge=mtu=9",
        ]
    )
    assert line.given == {
        "log-opts": {"max-size": "1m", "max-file": "2"},
        "default-ulimits": {"nofile": Ulimit("nofile", 1, 2), "core": Ulimit("core", -1, -1)},
        "features": {"cdi": True},
        "default-network-opts": {"bridge": {"mtu": "9"}},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bogus"], "unknown flag: --bogus"),
        (["-Z"], "unknown flag: -Z"),
        (["--group"], "flag needs a value: --group"),
        (["run"], "minid takes no arguments, only flags: 'run'"),
        (["--", "x"], "minid takes no arguments, only flags: 'x'"),
        (["--debug", "true"], "minid takes no arguments, only flags: 'true'"),
    ],
)
def test_wrong_usage(arguments, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        parse(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mtu", "x"], "--mtu: expected a whole number, got 'x'"),
        (["--debug=maybe"], "--debug: expected true or false, got 'maybe'"),
        (["-H", "tcp://0.0.0.0:99999"], "-H: tcp://0.0.0.0:99999: '99999' is no port"),
        (["-H", "npipe://x"], "-H: npipe://x: npipe:// is not understood: use unix://, tcp:// or fd://"),
        (["-H", "/run/x.sock"], "is not an address to listen on"),
        (["-H", "unix://x.sock"], "the path of a unix socket must be absolute"),
        (["-H", "unix:///" + "x" * 120], "longer than a unix socket's path may be"),
        (["--default-ulimit", "fish=1"], "there is no limit called 'fish'"),
        (["--default-ulimit", "nofile"], "expected key=value, got 'nofile'"),
        (["--default-shm-size", "-1"], "expected a size such as 64m or 1g, got '-1'"),
        (["--label", "x"], "--label: expected key=value, got 'x'"),
        (["--registry-mirror", "mirror"], "is not a URL with http:// or https://"),
        (["--insecure-registry", "h:99999"], "there is no port 99999"),
        (["--default-address-pool", "base=10.0.0.0/8"], "expected base=CIDR,size=BITS"),
    ],
)
def test_wrong_values(arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(arguments)


def test_all_wrong_values_are_told():
    with pytest.raises(ConfigError) as caught:
        parse(["--mtu", "x", "--label", "y"])
    assert len(caught.value.problems) == 2


def test_help_lists_every_flag_and_every_exit_status():
    text = usage()
    for flag in BY_FLAG:
        assert f"--{flag}" in text, flag
    for status in ExitStatus:
        assert f" {status.value}  {status.meaning}" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.skipif(
    not shutil.which("dockerd"), reason="dockerd is not installed: nothing to compare the flags with"
)
def test_every_flag_of_the_dockerd_installed_here_is_known():
    text = subprocess.run(["dockerd", "--help"], capture_output=True, text=True, check=True).stdout
    for short, flag in re.findall(r"^ +(?:-(\w), |    )--([\w-]+)", text, re.MULTILINE):
        if flag not in ("help", "version", "config-file", "validate"):
            assert flag in BY_FLAG, flag
            assert not short or BY_SHORT[short].flag == flag
