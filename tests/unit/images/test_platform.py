"""Platforms: spellings and preferences."""

import pytest

from minid.errors import InvalidParameter
from minid.images.platform import Platform, from_fields, host_platform, normalize, parse_platform, preferences

AMD64 = Platform("linux", "amd64")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("Linux/X86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"),
        ("i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
        ("windows", "windows/amd64"),
        ("linux/s390x", "linux/s390x"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_spellings(text: str, expected: str) -> None:
    platform = parse_platform(text, AMD64)
    assert str(platform) == expected
    assert parse_platform(expected, AMD64) == platform


@pytest.mark.parametrize(
    "text", ["", "linux/", "/amd64", "linux/amd64/v1/x", "lin ux", "linux//v7", "linux/am*d"]
)
def test_malformed(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid platform"):
        parse_platform(text, AMD64)


def test_what_runs_on_what() -> None:
    def names(text: str) -> list[str]:
        return [str(platform) for platform in preferences(parse_platform(text, AMD64))]

    assert names("linux/amd64") == ["linux/amd64", "linux/386"]
    assert names("linux/amd64/v3") == ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]
    assert names("linux/arm64") == [
        "linux/arm64",
        "linux/arm/v8",
        "linux/arm/v7",
        "linux/arm/v6",
        "linux/arm/v5",
    ]
    assert names("linux/arm/v6") == ["linux/arm/v6", "linux/arm/v5"]
    assert names("linux/s390x") == ["linux/s390x"]


def test_fields_of_documents() -> None:
    assert from_fields({"os": "linux", "architecture": "arm64", "variant": "v8"}) == normalize(
        "linux", "aarch64"
    )
    assert from_fields({"os": "", "architecture": ""}) is None
    assert from_fields({"architecture": "amd64"}) is None
    assert from_fields({"os": 1, "architecture": "amd64"}) is None


def test_this_machine_has_a_platform() -> None:
    platform = host_platform()
    assert platform.os == "linux"
    assert platform == normalize(platform.os, platform.architecture, platform.variant)
