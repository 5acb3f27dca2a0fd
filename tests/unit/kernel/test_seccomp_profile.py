"""The default table against the published policy, and what profiles in Docker's format mean."""

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from minid.kernel import capabilities, seccomp
from minid.kernel.seccomp import Machine, rules
from minid.kernel.seccomp_default import PROFILE

X86 = Machine("x86_64", (6, 1))
ALLOW, ENOSYS = 0x7FFF0000, 0x50000 | 38
PUBLISHED = Path(__file__).parents[4] / "shared/specs/seccomp-default.json"


def decided(profile: Any, caps: Any, machine: Machine) -> set[tuple[Any, ...]]:
    return {(rule.name, rule.action, rule.arguments) for rule in rules(profile, caps, machine)}


@pytest.fixture(scope="module")
def published() -> Any:
    if not PUBLISHED.exists():
        pytest.skip(f"the published default profile is not at {PUBLISHED}")
    return json.loads(PUBLISHED.read_text())


@pytest.mark.parametrize("arch", ["x86_64", "aarch64", "armv7l", "i686", "ppc64le", "s390x", "riscv64"])
@pytest.mark.parametrize("kernel", [(4, 4), (6, 1)])
def test_default_decides_as_the_published_one(published: Any, arch: str, kernel: tuple[int, int]) -> None:
    machine = Machine(arch, kernel)
    for caps in [(), capabilities.DEFAULT, capabilities.ALL, *([cap] for cap in capabilities.ALL)]:
        assert decided(PROFILE, caps, machine) == decided(published, caps, machine), caps
    assert seccomp.architectures(PROFILE, machine) == seccomp.architectures(published, machine)
    assert seccomp.default_action(PROFILE) == seccomp.default_action(published)


def test_default_in_short() -> None:
    plain = decided(PROFILE, capabilities.DEFAULT, X86)
    assert ("clone3", ENOSYS, ()) in plain
    assert ("clone", ALLOW, ((0, 7, 0x7E020000, 0),)) in plain
    names = {name for name, *_ in plain}
    assert not names & {"mount", "keyctl", "bpf", "setns", "unshare", "open_by_handle_at", "init_module"}
    admin = decided(PROFILE, ["CAP_SYS_ADMIN"], X86)
    assert {("clone", ALLOW, ()), ("clone3", ALLOW, ()), ("mount", ALLOW, ())} <= admin
    assert not any(action == ENOSYS for _, action, _ in admin)


def profile(**entry: Any) -> dict[str, Any]:
    entry.setdefault("action", "SCMP_ACT_ALLOW")
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [entry]}


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_KILL", "CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_KILL", "CAP_BPF"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF", "CAP_KILL"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, True),
        ({"includes": {"arches": ["arm64", "amd64"]}}, True),
        ({"includes": {"arches": ["x86"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "6.1"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
        ({"includes": {"minKernel": "5.10"}}, True),
        ({"excludes": {"minKernel": "6.1"}}, False),
        ({"includes": None, "excludes": {}}, True),
    ],
)
def test_conditions(condition: dict[str, Any], applies: bool) -> None:
    found = rules(profile(names=["mount"], **condition), ["CAP_KILL", "CAP_CHOWN"], X86)
    assert bool(found) is applies


def test_several_conditions_on_one_argument_are_alternatives() -> None:
    def argument(index: int, value: int) -> dict[str, Any]:
        return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}

    both = rules(profile(name="socket", args=[argument(0, 1), argument(1, 2)]), (), X86)
    assert [rule.arguments for rule in both] == [((0, 4, 1, 0), (1, 4, 2, 0))]
    either = rules(profile(name="socket", args=[argument(0, 1), argument(0, 2)]), (), X86)
    assert [rule.arguments for rule in either] == [((0, 4, 1, 0),), ((0, 4, 2, 0),)]


def test_rule_with_the_default_action_says_nothing() -> None:
    assert rules(profile(names=["mount"], action="SCMP_ACT_ERRNO"), (), X86) == []
    assert len(rules(profile(names=["mount"], action="SCMP_ACT_ERRNO", errnoRet=13), (), X86)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a"], "name": "b"}, "'name' and 'names' were specified"),
        ({"names": ["a"], "action": "SCMP_ACT_NOTIFY"}, "unsupported action 'SCMP_ACT_NOTIFY'"),
        ({"names": ["a"], "action": ""}, "unsupported action ''"),
        ({"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 70000}, "errnoRet 70000"),
        ({"names": ["a"], "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}, "index 6"),
        ({"names": ["a"], "args": [{"index": 0, "value": 0, "op": "EQ"}]}, "operator 'EQ'"),
        ({"names": ["a"], "args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]}, "unsigned 64-bit"),
        ({"names": ["a"], "includes": {"minKernel": "six"}}, "not a kernel version: 'six'"),
    ],
)
def test_unusable_rules(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rules(profile(**change), (), X86)


def test_default_action_is_needed() -> None:
    with pytest.raises(ValueError, match="unsupported action ''"):
        seccomp.default_action({})


def test_architectures() -> None:
    assert seccomp.architectures({}, X86) == ("SCMP_ARCH_X86_64",)
    listed = {"architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]}
    assert seccomp.architectures(listed, X86) == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")
    assert seccomp.architectures(PROFILE, X86) == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
    with pytest.raises(ValueError, match="both 'architectures' and 'archMap'"):
        seccomp.architectures(listed | {"archMap": PROFILE["archMap"]}, X86)


def test_flags() -> None:
    assert seccomp.flags(PROFILE) == 0
    assert seccomp.flags({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}) == 6
    with pytest.raises(ValueError, match="unsupported flag 'X'"):
        seccomp.flags({"flags": ["X"]})


def test_this_machine() -> None:
    machine = Machine.this()
    assert machine.arch == platform.machine()
    assert machine.kernel >= (5, 10)
