"""Points in time as `--since` and `--until` take them."""

from __future__ import annotations

import time

from minictl import units
from minictl.errors import Failure


def parse_timestamp(flag: str, text: str) -> str:
    """Seconds since 1970 as the API takes them ("1136073845.000000001"): from a duration before now ("10m"),
    a date or time (local unless it says its zone), or such seconds. Raises Failure for anything else.
    """
    if not text:
        return ""
    if text != "0":
        try:
            return str(int(time.time() - units.parse_duration(text) / 1e9))
        except ValueError:
            pass
    whole, _, fraction = text.partition(".")
    if whole.isdigit() and (not fraction or fraction.isdigit()):
        return text
    try:
        return _date(text)
    except ValueError:
        reason = f'failed to parse value as time or duration: "{text}"'
        raise Failure(f'invalid value for "{flag}": {reason}') from None


def _date(text: str) -> str:
    day, _, clock = text.partition("T")
    zone = ""
    for mark in ("Z", "+", "-"):
        at = (clock or day[10:]).find(mark)
        if at >= 0:
            zone = (clock or day[10:])[at:]
            if clock:
                clock = clock[:at]
            else:
                day = day[:10]
            break
    clock = clock or "00:00:00"
    clock, _, fraction = clock.partition(".")
    clock += ":00" * (2 - clock.count(":"))
    seconds, nanoseconds = units.parse_time_ns(f"{day}T{clock}.{fraction or '0'}{zone or 'Z'}")
    if not zone:
        seconds = int(time.mktime(time.strptime(f"{day}T{clock}", "%Y-%m-%dT%H:%M:%S")))
    return f"{seconds}.{nanoseconds:09d}"
