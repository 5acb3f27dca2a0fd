"""``WWW-Authenticate`` headers: what a registry wants before it answers.

Pure. Source: RFC 9110 § 11.6.1; distribution's "Token Authentication Specification".
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf"\s*({_TOKEN})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|({_TOKEN}|[^\s,\"]+))\s*(?:,|$)")
_SCHEME = re.compile(rf"\s*,*\s*({_TOKEN})(?:\s+|$|,)")
LENGTH_MAX = 8192


@dataclass(frozen=True, slots=True)
class Challenge:
    """``scheme`` in lower case (``basic``, ``bearer``) and its parameters (names in lower case)."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of all ``WWW-Authenticate`` headers, in order; what cannot be read is left out."""
    challenges: list[Challenge] = []
    for header in headers:
        text, position = header[:LENGTH_MAX], 0
        while match := _SCHEME.match(text, position):
            position = match.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(text, position):
                name, quoted, plain = parameter.groups()
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
                parameters.setdefault(name.lower(), value)
                position = parameter.end()
            challenges.append(Challenge(match[1].lower(), parameters))
    return challenges
