"""The key ``image-gc`` of the configuration."""

from pathlib import Path

import pytest

from minid.config import ConfigError, ImageGc, load, reload
from minid.config.image_gc import duration_s


def read(tmp_path: Path, text: str) -> ImageGc | None:
    path = tmp_path / "minid.yaml"
    path.write_text(text)
    return load(path).image_gc


def test_off_unless_a_limit_is_given(tmp_path: Path) -> None:
    assert read(tmp_path, "debug: true\n") is None
    assert read(tmp_path, "image-gc: {max-age: 30d}\n") == ImageGc(max_age_s=30 * 86400)
    assert read(
        tmp_path, "image-gc: {max-size: 50g, min-free: 10g, tagged: true, interval: 90m, max-age: 1d12h}\n"
    ) == ImageGc(36 * 3600, 50 << 30, 10 << 30, True, 5400)
    assert read(tmp_path, '{"image-gc": {"max-size": 0}}') == ImageGc(max_size_bytes=0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image-gc: {tagged: true}", "give at least one of max-age, max-size and min-free"),
        ("image-gc: {max-age: 30}", "max-age: expected a duration such as 12h or 30d, got"),
        ("image-gc: {max-age: soon}", "max-age: expected a duration"),
        ("image-gc: {max-size: many}", "max-size: expected a size such as 64m or 1g"),
        ("image-gc: {max-age: 1d, interval: 10ms}", "interval: expected a duration"),
        ("image-gc: {max-age: 1d, interval: 0.5s}", "less than a second is too often"),
        ("image-gc: {max-age: 1d, tagged: maybe}", "tagged: expected true or false"),
        ("image-gc: {max-aeg: 1d}", "max-aeg: unknown key"),
        ("image-gc: true", "expected a mapping"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, f"debug: true\n{text}\n")
    assert "minid.yaml:2: image-gc: " in str(raised.value) and problem in str(raised.value)


def test_reloaded(tmp_path: Path) -> None:
    path = tmp_path / "minid.yaml"
    path.write_text("{}\n")
    old = load(path)
    path.write_text("image-gc: {max-age: 1w}\n")
    new, applied, waiting = reload(old)
    assert new.image_gc == ImageGc(max_age_s=7 * 86400) and applied == ("image-gc",) and waiting == ()


def test_durations() -> None:
    assert [duration_s(text) for text in ("90s", "1.5h", "2d", "1w", "1h30m")] == [
        90,
        5400,
        172800,
        604800,
        5400,
    ]
    for text in ("", "5", "h", "-1h", "1y"):
        with pytest.raises(ValueError, match="duration"):
            duration_s(text)
