"""Sizes, durations and times as people write and read them (go-units' and Go's own notations)."""

from __future__ import annotations

import time

_BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DURATIONS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3600_000_000_000,
}
_DECIMAL_NAMES = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def parse_bytes(text: str) -> int:
    """Bytes for "64m", "1.5GiB", "100 kb", "42": units of 1024. Raises ValueError("invalid size: …")."""
    end = max((text.rfind(mark) for mark in "0123456789. "), default=-1)
    if end < 0:
        raise ValueError(f"invalid size: '{text}'")
    number = text[:end] if text[end] == " " else text[: end + 1]
    suffix = text[end + 1 :].lower()
    try:
        size = float(number)
    except ValueError:
        raise ValueError(f'strconv.ParseFloat: parsing "{number}": invalid syntax') from None
    if size < 0:
        raise ValueError(f"invalid size: '{text}'")
    if suffix in ("", "b"):
        return int(size)
    if suffix[0] in _BINARY and suffix[1:] in ("", "b", "ib"):
        return int(size * _BINARY[suffix[0]])
    raise ValueError(f"invalid suffix: '{text[end + 1 :]}'")


def parse_duration(text: str) -> int:
    """Nanoseconds for Go's notation ("1h30m", "1.5s", "-2ms", "0"). Raises ValueError in Go's words."""
    rest = text.lstrip("+-") if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f'time: invalid duration "{text}"')
    total = 0.0
    while rest:
        length = 0
        while length < len(rest) and rest[length] in "0123456789.":
            length += 1
        number, rest = rest[:length], rest[length:]
        length = 0
        while length < len(rest) and rest[length] not in "0123456789.":
            length += 1
        unit, rest = rest[:length], rest[length:]
        try:
            value = float(number)
        except ValueError:
            raise ValueError(f'time: invalid duration "{text}"') from None
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _DURATIONS_NS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += value * _DURATIONS_NS[unit]
    return -round(total) if text[0] == "-" else round(total)


def parse_nano_cpus(text: str) -> int:
    """Billionths of a CPU for "1.5", "2", "1/2". Raises ValueError."""
    try:
        if "/" in text:
            above, _, below = text.partition("/")
            nano = int(above) * 1_000_000_000 / int(below)
        else:
            whole, _, part = text.partition(".")
            if not (whole + part).isdigit() and not (whole[:1] in "+-" and (whole[1:] + part).isdigit()):
                nano = float(text) * 1_000_000_000
            elif len(part.rstrip("0")) > 9:
                raise ArithmeticError
            else:
                nano = int(whole or "0") * 1_000_000_000 + int((part.rstrip("0")).ljust(9, "0") or "0")
    except ArithmeticError:
        raise ValueError("value is too precise") from None
    except ValueError:
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if nano != int(nano):
        raise ValueError("value is too precise")
    return int(nano)


def human_size(size_bytes: float, precision: int = 4) -> str:
    """Powers of 1000 with `precision` significant digits: 1.24MB."""
    return _scaled(size_bytes, 1000.0, _DECIMAL_NAMES, precision)


def binary_size(size_bytes: float) -> str:
    """Powers of 1024 with four significant digits: 1.184MiB."""
    return _scaled(size_bytes, 1024.0, _BINARY_NAMES, 4)


def _scaled(size: float, base: float, names: tuple[str, ...], precision: int) -> str:
    index = 0
    while size >= base and index < len(names) - 1:
        size /= base
        index += 1
    return f"{size:.{precision}g}{names[index]}"


def human_duration(seconds: float) -> str:
    """As go-units says it: "Less than a second", "About a minute", "3 hours", "2 weeks"."""
    if seconds < 1:
        return "Less than a second"
    whole = int(seconds)
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def go_duration(nanoseconds: int) -> str:
    """As Go prints a time.Duration: "1m30s", "1.5s", "0s"."""
    if nanoseconds == 0:
        return "0s"
    sign = "-" if nanoseconds < 0 else ""
    left = abs(nanoseconds)
    if left < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if left >= size:
                return f"{sign}{_fraction(left, size)}{unit}"
    minutes, rest = divmod(left, 60_000_000_000)
    seconds = _fraction(rest, 1_000_000_000) + "s"
    if minutes < 60:
        return f"{sign}{minutes}m{seconds}" if minutes else sign + seconds
    return f"{sign}{minutes // 60}h{minutes % 60}m{seconds}"


def _fraction(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    if not part:
        return str(whole)
    return f"{whole}.{str(part).rjust(len(str(unit)) - 1, '0').rstrip('0')}"


def parse_time(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time ("2024-05-01T10:00:00.123456789Z"), nanoseconds rounded by
    float.
    """
    seconds, nanoseconds = parse_time_ns(text)
    return seconds + nanoseconds / 1e9


def parse_time_ns(text: str) -> tuple[int, int]:
    """Seconds since 1970 and the nanoseconds beyond of an RFC 3339 time. Raises ValueError."""
    try:
        date, rest = text[:10], text[11:]
        year, month, day = int(date[:4]), int(date[5:7]), int(date[8:10])
        hour, minute, second = int(rest[:2]), int(rest[3:5]), int(rest[6:8])
        rest = rest[8:]
        nanoseconds = 0
        if rest.startswith("."):
            digits = ""
            for letter in rest[1:]:
                if not letter.isdigit():
                    break
                digits += letter
            rest = rest[1 + len(digits) :]
            nanoseconds = int(digits[:9].ljust(9, "0"))
        offset_s = 0
        if rest not in ("Z", "z", ""):
            sign = -1 if rest[0] == "-" else 1
            offset_s = sign * (int(rest[1:3]) * 3600 + int(rest[4:6]) * 60)
    except (ValueError, IndexError):
        raise ValueError(f"not an RFC 3339 time: {text!r}") from None
    return _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset_s, nanoseconds


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar, which time.mktime and datetime need imports or zones for."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def ago(seconds_since_1970: float) -> str:
    """ "3 hours ago", and "N/A" for the time before 1970 that Go's zero time stands for."""
    if seconds_since_1970 <= 0:
        return "N/A"
    return human_duration(time.time() - seconds_since_1970) + " ago"
