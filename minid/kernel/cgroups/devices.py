"""Device rules of the OCI runtime spec (``linux.resources.devices``): normal form, and the lines for cgroup
v1.

A rule is ``{"allow": bool, "type": "a"|"b"|"c", "major": int, "minor": int, "access": "rwm"}``; what is
missing matches everything. The last rule that matches decides, and what no rule mentions is denied.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """``type`` b or c; None for a major or minor matches every one; ``access`` a subset of "rwm" in that
    order.
    """

    allow: bool
    type: str
    major: int | None
    minor: int | None
    access: str


def parse(devices: Iterable[Mapping[str, Any]]) -> tuple[DeviceRule, ...]:
    """Spec entries in normal form: type ``a`` as two rules, ``u`` as ``c``; ValueError if malformed."""
    rules = []
    for entry in devices:
        kind = entry.get("type") or "a"
        wanted = entry.get("access") or "rwm"
        if kind not in ("a", "b", "c", "u") or set(wanted) - set("rwm"):
            raise ValueError(f"invalid device cgroup rule: type {kind!r}, access {wanted!r}")
        access = "".join(letter for letter in "rwm" if letter in wanted)
        major, minor = (_number(entry.get(key)) for key in ("major", "minor"))
        kinds = ("b", "c") if kind == "a" else ("c" if kind == "u" else kind,)
        rules += [DeviceRule(bool(entry.get("allow")), each, major, minor, access) for each in kinds]
    return tuple(rules)


def _number(value: int | None) -> int | None:
    if value is None or value == -1:
        return None
    if not 0 <= value < 1 << 32:
        raise ValueError(f"invalid device cgroup rule: device number {value}")
    return value


def allows_everything(rules: Sequence[DeviceRule]) -> bool:
    """Whether no device needs to be refused: no rules, or rules that end by allowing every device."""
    if not rules:
        return True
    both = {"b", "c"}
    for rule in reversed(rules):
        if not rule.allow:
            return False
        if rule.major is None and rule.minor is None and rule.access == "rwm":
            both.discard(rule.type)
            if not both:
                return True
    return False


def lines_v1(rules: Sequence[DeviceRule]) -> list[tuple[str, str]]:
    """(file, line) in order, for a cgroup v1 that starts from anything: ``a`` to devices.deny empties the
    list.
    """
    lines = [("devices.deny", "a")]
    for rule in rules:
        everything = rule.major is None and rule.minor is None and rule.access == "rwm"
        if not rule.allow and everything and len(lines) == 1:
            continue
        number = ":".join("*" if part is None else str(part) for part in (rule.major, rule.minor))
        lines.append(
            ("devices.allow" if rule.allow else "devices.deny", f"{rule.type} {number} {rule.access}")
        )
    return lines
