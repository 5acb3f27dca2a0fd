"""Sizes and durations as docker reads and writes them (examples from go-units' documentation and from runs)."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minictl import timestamps, units
from minictl.errors import Failure


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32", 32),
        ("32b", 32),
        ("32 b", 32),
        ("32k", 32 << 10),
        ("32K", 32 << 10),
        ("32kb", 32 << 10),
        ("32KiB", 32 << 10),
        ("32mb", 32 << 20),
        ("1.5g", 3 << 29),
        ("32 Tib", 32 << 40),
        ("1p", 1 << 50),
        (".5k", 512),
        ("0", 0),
    ],
)
def test_parse_bytes(text: str, size: int) -> None:
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "32x", "32ki", "32bb", "32kib b", "1.2.3", "k", "m5", "5 5"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid|ParseFloat"):
        units.parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1s", 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5h", 5400 * 10**9),
        ("-2ms", -2 * 10**6),
        ("0", 0),
        ("3us1ns", 3001),
    ],
)
def test_parse_duration(text: str, ns: int) -> None:
    assert units.parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "-", "1s2", "."])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="time: "):
        units.parse_duration(text)


@given(st.integers(min_value=0, max_value=10**17))
def test_go_durations_are_read_back(ns: int) -> None:
    assert abs(units.parse_duration(units.go_duration(ns)) - ns) <= ns * 1e-12


@pytest.mark.parametrize(
    ("text", "nano"),
    [("1", 10**9), ("1.5", 15 * 10**8), (".25", 25 * 10**7), ("1/4", 25 * 10**7), ("0.000000001", 1)],
)
def test_cpus(text: str, nano: int) -> None:
    assert units.parse_nano_cpus(text) == nano


@pytest.mark.parametrize("text", ["x", "", "1/0", "0.0000000001", "1/3"])
def test_what_is_no_number_of_cpus(text: str) -> None:
    with pytest.raises(ValueError, match=r"rational|precise"):
        units.parse_nano_cpus(text)


@pytest.mark.parametrize(
    ("size", "precision", "text"),
    [
        (0, 4, "0B"),
        (999, 3, "999B"),
        (1000, 3, "1kB"),
        (1986232, 3, "1.99MB"),
        (1986232, 4, "1.986MB"),
        (10**12, 4, "1TB"),
    ],
)
def test_human_size(size: int, precision: int, text: str) -> None:
    assert units.human_size(size, precision) == text


def test_binary_size() -> None:
    assert units.binary_size(724 << 10) == "724KiB"
    assert units.binary_size(25275904000) == "23.54GiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("2026-11-23T14:37:14.366711877Z", 1795444634, 366711877),
        ("2024-02-29T23:59:59.5+02:00", 1709243999, 500000000),
        ("0001-01-01T00:00:00Z", -62135596800, 0),
    ],
)
def test_times(text: str, seconds: int, ns: int) -> None:
    assert units.parse_time_ns(text) == (seconds, ns)


@given(st.integers(min_value=0, max_value=4 * 10**9))
def test_times_agree_with_the_c_library(seconds: int) -> None:
    assert units.parse_time_ns(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))) == (seconds, 0)


def test_never_was() -> None:
    assert units.ago(units.parse_time("0001-01-01T00:00:00Z")) == "N/A"


def test_since() -> None:
    assert timestamps.parse_timestamp("since", "") == ""
    assert timestamps.parse_timestamp("since", "1136073845.000000001") == "1136073845.000000001"
    assert timestamps.parse_timestamp("since", "2024-05-01T10:00:00.5Z") == "1714557600.500000000"
    assert timestamps.parse_timestamp("since", "2024-05-01T10:00:00+02:00") == "1714550400.000000000"
    local = int(time.mktime(time.strptime("2024-05-01", "%Y-%m-%d")))
    assert timestamps.parse_timestamp("since", "2024-05-01") == f"{local}.000000000"
    assert timestamps.parse_timestamp("since", "2024-05-01T00:00") == f"{local}.000000000"
    assert abs(int(timestamps.parse_timestamp("since", "10m")) - (time.time() - 600)) < 5
    with pytest.raises(
        Failure, match='invalid value for "since": failed to parse value as time or duration: "foo"'
    ):
        timestamps.parse_timestamp("since", "foo")
