"""Platforms: ``os[/architecture[/variant]]``, their many spellings, and which of them this machine can run.

Pure but for ``host_platform``. Source: OCI image-spec image-index.md § platform;
github.com/containerd/platforms for the spellings and for what runs on what.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minid.errors import InvalidParameter

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_OS_NAMES = {"macos": "darwin"}
_KNOWN_OS = frozenset(
    (
        *("aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd"),
        *("openbsd", "plan9", "solaris", "wasip1", "windows"),
    )
)
_ARCHITECTURES: dict[str, tuple[str, str]] = {
    "i386": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv8l": ("arm", "v7"),
}


@dataclass(frozen=True, slots=True)
class Platform:
    """Always normalized: ``Platform("linux", "amd64")``, ``Platform("linux", "arm", "v7")``."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def normalize(os_name: str, architecture: str, variant: str = "") -> Platform:
    """A ``Platform`` from any of the usual spellings (``x86_64``, ``aarch64``, ``armhf``, ``arm64/v8`` …)."""
    os_name, architecture, variant = os_name.lower(), architecture.lower(), variant.lower()
    os_name = _OS_NAMES.get(os_name, os_name)
    if architecture in _ARCHITECTURES:
        architecture, implied = _ARCHITECTURES[architecture]
        variant = implied or variant
    if architecture == "arm64" and variant in ("8", "v8"):
        variant = ""
    elif architecture == "arm":
        variant = f"v{variant}" if variant.isdigit() else variant or "v7"
    elif architecture == "amd64" and variant == "v1":
        variant = ""
    return Platform(os_name, architecture, variant)


def parse_platform(text: str, host: Platform) -> Platform:
    """``text`` as given to ``--platform``, the rest from ``host``. ``InvalidParameter`` if malformed."""
    parts = text.split("/")
    if len(parts) > 3 or not all(_COMPONENT.fullmatch(part) for part in parts):
        raise InvalidParameter(
            f"{text!r} is an invalid platform: expected os[/architecture[/variant]], for instance linux/arm64"
        )
    if len(parts) == 1:
        name = parts[0].lower()
        if _OS_NAMES.get(name, name) in _KNOWN_OS:
            return normalize(name, host.architecture, host.variant)
        return normalize(host.os, name)
    return normalize(*parts)


def from_fields(fields: Mapping[str, Any]) -> Platform | None:
    """The platform of an index entry or an image config (``os``, ``architecture``, ``variant``), if any."""
    os_name, architecture, variant = (fields.get(key) for key in ("os", "architecture", "variant"))
    if not isinstance(os_name, str) or not isinstance(architecture, str) or not (os_name or architecture):
        return None
    return normalize(os_name, architecture, variant if isinstance(variant, str) else "")


def host_platform() -> Platform:
    """The platform of the running kernel (``uname(2)``)."""
    uname = os.uname()
    return normalize(uname.sysname, uname.machine)


def preferences(wanted: Platform) -> list[Platform]:
    """What can run on ``wanted``, best first: an amd64 runs 386, an arm64 runs arm v8 down to v5."""
    architecture, variant, os_name = wanted.architecture, wanted.variant, wanted.os
    if architecture == "amd64":
        level = int(variant[1:]) if re.fullmatch(r"v[2-9]", variant) else 1
        levels = [Platform(os_name, "amd64", f"v{number}") for number in range(level, 1, -1)]
        return [*levels, Platform(os_name, "amd64"), Platform(os_name, "386")]
    if architecture == "arm64" and not variant:
        return [wanted, *(Platform(os_name, "arm", f"v{number}") for number in range(8, 4, -1))]
    if architecture == "arm" and re.fullmatch(r"v[5-8]", variant):
        return [Platform(os_name, "arm", f"v{number}") for number in range(int(variant[1:]), 4, -1)]
    return [wanted]
