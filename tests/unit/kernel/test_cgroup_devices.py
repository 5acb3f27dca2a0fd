"""Device rules: normal form, v1's lines, and the v2 program run by a small BPF interpreter."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.kernel.cgroups.devices import DeviceRule, allows_everything, lines_v1, parse
from minid.kernel.devices_bpf import assemble

DENY_ALL = {"allow": False, "access": "rwm"}
NULL = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}


def test_type_a_is_both_kinds() -> None:
    assert parse([DENY_ALL]) == (
        DeviceRule(False, "b", None, None, "rwm"),
        DeviceRule(False, "c", None, None, "rwm"),
    )


def test_wildcards_and_order_of_access() -> None:
    rule = {"allow": True, "type": "c", "major": 10, "minor": -1, "access": "mr"}
    assert parse([rule]) == (DeviceRule(True, "c", 10, None, "rm"),)


@pytest.mark.parametrize(
    "rule",
    [{"allow": True, "type": "x"}, {"allow": True, "access": "rx"}, {"allow": True, "major": -2}],
)
def test_malformed(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="invalid device cgroup rule"):
        parse([rule])


def test_lines_v1() -> None:
    mknod = {"allow": True, "type": "b", "access": "m"}
    assert lines_v1(parse([DENY_ALL, mknod, NULL])) == [
        ("devices.deny", "a"),
        ("devices.allow", "b *:* m"),
        ("devices.allow", "c 1:3 rwm"),
    ]


@pytest.mark.parametrize(
    ("rules", "everything"),
    [
        ([], True),
        ([{"allow": True, "access": "rwm"}], True),
        ([DENY_ALL, {"allow": True, "access": "rwm"}], True),
        (
            [DENY_ALL, NULL, {"allow": True, "type": "a", "major": -1, "minor": -1, "access": "rwm"}, NULL],
            True,
        ),
        ([{"allow": True, "access": "rw"}], False),
        ([{"allow": True, "type": "c", "access": "rwm"}], False),
        ([{"allow": True, "access": "rwm"}, {**NULL, "allow": False}], False),
        ([DENY_ALL], False),
    ],
)
def test_allows_everything(rules: list[dict[str, Any]], everything: bool) -> None:
    assert allows_everything(parse(rules)) is everything


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Interpret the instructions that ``assemble`` uses, as Documentation/bpf/standardization has them."""
    bits = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    context = struct.pack("<III", bits << 16 | {"b": 1, "c": 2}[kind], major, minor)
    registers = [0] * 11
    position = 0
    while True:
        code, pair, offset, immediate = struct.unpack_from("<BBhi", program, 8 * position)
        dst, src = pair & 15, pair >> 4
        position += 1
        match code:
            case 0x61:
                registers[dst] = struct.unpack_from("<I", context, offset)[0]
            case 0xB7:
                registers[dst] = immediate
            case 0xBF:
                registers[dst] = registers[src]
            case 0x57:
                registers[dst] &= immediate
            case 0x77:
                registers[dst] >>= immediate
            case 0x56:
                position += offset if registers[dst] & 0xFFFFFFFF != immediate & 0xFFFFFFFF else 0
            case 0x16:
                position += offset if registers[dst] & 0xFFFFFFFF == immediate & 0xFFFFFFFF else 0
            case 0x95:
                return bool(registers[0])
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


def decide(rules: tuple[DeviceRule, ...], kind: str, major: int, minor: int, access: str) -> bool:
    """The specification: for each letter the last matching rule decides, none means no."""

    def letter_allowed(letter: str) -> bool:
        for rule in reversed(rules):
            device = rule.type == kind and rule.major in (None, major) and rule.minor in (None, minor)
            if device and letter in rule.access:
                return rule.allow
        return False

    return all(letter_allowed(letter) for letter in access)


ACCESS = st.sets(st.sampled_from("rwm"), min_size=1).map("".join)
NUMBER = st.sampled_from([None, -1, 0, 1, 3, 255, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
RULE = st.fixed_dictionaries(
    {
        "allow": st.booleans(),
        "type": st.sampled_from(["a", "b", "c"]),
        "major": NUMBER,
        "minor": NUMBER,
        "access": ACCESS,
    }
)


@given(
    st.lists(RULE, max_size=8),
    st.sampled_from("bc"),
    st.sampled_from([0, 1, 3, 0x80000000]),
    st.sampled_from([0, 3, 255, 0xFFFFFFFF]),
    ACCESS,
)
def test_program_decides_by_the_last_match(
    rules: list[dict[str, Any]], kind: str, major: int, minor: int, access: str
) -> None:
    parsed = parse(rules)
    assert run(assemble(parsed), kind, major, minor, access) == decide(parsed, kind, major, minor, access)


def test_opening_for_both_needs_both() -> None:
    read = {**NULL, "access": "r"}
    write = {**NULL, "access": "w"}
    assert run(assemble(parse([DENY_ALL, read, write])), "c", 1, 3, "rw")
    assert not run(assemble(parse([DENY_ALL, read])), "c", 1, 3, "rw")
