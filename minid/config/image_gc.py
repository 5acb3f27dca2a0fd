"""The key ``image-gc``: when images that nobody needs are removed by themselves.

    image-gc:
      max-age: 30d        not used for so long
      max-size: 50g       the least recently used, while images take more
      min-free: 10g       the same, while less is free on the file system of the data root
      tagged: false       true: a tag does not keep an image
      interval: 1h        how often

Off unless one of the three limits is given. Pure.
"""

import re
from dataclasses import dataclass
from typing import Any

from minid.config.kinds import BOOL, SIZE, Kind
from minid.config.located import Entries, Located, Wrong

INTERVAL_S = 3600.0
INTERVAL_MIN_S = 1.0
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, slots=True)
class ImageGc:
    """Limits that are None are none."""

    max_age_s: float | None = None
    max_size_bytes: int | None = None
    min_free_bytes: int | None = None
    tagged: bool = False
    interval_s: float = INTERVAL_S


def duration_s(raw: str) -> float:
    """``90s``, ``12h``, ``30d``, ``1d12h`` in seconds. ValueError for anything else."""
    if not _DURATION.fullmatch(raw.strip()):
        raise ValueError(f"expected a duration such as 12h or 30d, got {raw!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(raw))


def _duration(node: Located) -> float:
    try:
        return duration_s(node.value if isinstance(node.value, str) else "")
    except ValueError:
        raise Wrong(f"expected a duration such as 12h or 30d, got {node.described()}", node.line) from None


_KEYS = {
    "max-age": ("max_age_s", _duration),
    "max-size": ("max_size_bytes", SIZE.from_file),
    "min-free": ("min_free_bytes", SIZE.from_file),
    "tagged": ("tagged", BOOL.from_file),
    "interval": ("interval_s", _duration),
}


def _from_file(node: Located) -> ImageGc:
    if not isinstance(node.value, Entries):
        raise Wrong(f"expected a mapping, got {node.described()}", node.line)
    fields: dict[str, Any] = {}
    for key, line, value in node.value.items:
        if key not in _KEYS:
            raise Wrong(f"{key}: unknown key (known are {', '.join(_KEYS)})", line)
        name, read = _KEYS[key]
        try:
            fields[name] = read(value)
        except Wrong as error:
            raise Wrong(f"{key}: {error}", error.line) from None
    settings = ImageGc(**fields)
    if settings.interval_s < INTERVAL_MIN_S:
        raise Wrong("interval: less than a second is too often", node.line)
    if settings.max_age_s is None and settings.max_size_bytes is None and settings.min_free_bytes is None:
        raise Wrong("give at least one of max-age, max-size and min-free", node.line)
    return settings


def _from_text(raw: str) -> ImageGc:
    raise Wrong("only in the configuration file")


IMAGE_GC = Kind("map", _from_text, _from_file)
