"""How the ends of ``minictl image copy`` are read."""

import pytest

from minictl.engine import Engine
from minictl.errors import Failure
from minictl.verbs.image_copy import Place
from minictl.verbs.image_gc import _seconds

HERE = Engine("unix:///here.sock")


@pytest.mark.parametrize(
    ("text", "registry", "host", "name"),
    [
        ("app:1", False, "unix:///here.sock", "app:1"),
        ("reg.example:5000/team/app", False, "unix:///here.sock", "reg.example:5000/team/app"),
        ("unix:///run/a.sock::app:1", False, "unix:///run/a.sock", "app:1"),
        ("unix:///run/a.sock::", False, "unix:///run/a.sock", ""),
        ("ssh://user@host:22::app", False, "ssh://user@host:22", "app"),
        ("tcp://[::1]:2376::reg.example:5000/app:1", False, "tcp://[::1]:2376", "reg.example:5000/app:1"),
        (
            "registry://reg.example:5000/team/app",
            True,
            "unix:///here.sock",
            "reg.example:5000/team/app:latest",
        ),
        ("registry://app:2", True, "unix:///here.sock", "app:2"),
    ],
)
def test_places(text: str, registry: bool, host: str, name: str) -> None:
    place = Place(text, HERE)
    assert (place.registry, place.engine.host, place.name) == (registry, host, name)


@pytest.mark.parametrize("text", ["unix:///run/a.sock", "registry://Not A Name", "ssh://host"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(Failure):
        place = Place(text, HERE)
        place.auth  # noqa: B018


def test_ages() -> None:
    assert [_seconds(text) for text in ("", "0", "90s", "1h30m", "30d", "2w", "1.5d")] == [
        *(None, 0, 90, 5400, 30 * 86400, 14 * 86400, 129600)
    ]
    for text in ("soon", "d", "5"):
        with pytest.raises(Failure, match="--max-age"):
            _seconds(text)
