"""RFC 3339 times as image configs have them (nanoseconds, any offset), and Docker's ways to name a moment."""

import re
import time
from datetime import UTC, datetime, timedelta, timezone

from minid.errors import InvalidParameter

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)
_UNIX = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", re.ASCII)
_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def nanoseconds(text: str) -> int | None:
    """Nanoseconds since the epoch of an RFC 3339 time; None for what is none (an image without a date)."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    zone = UTC
    if offset and offset not in "Zz":
        sign = -1 if offset[0] == "-" else 1
        zone = timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6])))
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=zone
        )
    except ValueError:
        return None
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return seconds * 10**9 + int((fraction or "0").ljust(9, "0"))


def rfc3339(time_ns: int) -> str:
    """The time in UTC, with all nine digits."""
    whole = datetime.fromtimestamp(time_ns // 10**9, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09}Z"


def duration_ns(text: str) -> int:
    """Nanoseconds of a Go duration ("1h30m"). ``InvalidParameter``."""
    if not _DURATION.fullmatch(text):
        raise InvalidParameter(f"{text!r} is not a duration (1m30s)")
    return int(sum(float(number) * _UNITS_NS[unit] for number, unit in _DURATION_PART.findall(text)))


def moment(text: str, now_ns: int | None = None) -> int:
    """Nanoseconds since the epoch of Unix seconds, RFC 3339, or a Go duration before now ("1h30m")."""
    if match := _UNIX.fullmatch(text):
        return int(match[1]) * 10**9 + int((match[2] or "0").ljust(9, "0"))
    if _DURATION.fullmatch(text):
        return (time.time_ns() if now_ns is None else now_ns) - duration_ns(text)
    parsed = nanoseconds(text)
    if parsed is None:
        raise InvalidParameter(f"{text!r} is neither a time (RFC 3339, Unix seconds) nor a duration (1h30m)")
    return parsed
