import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.errors import InvalidParameter
from minid.records import decode, encode


@dataclass(frozen=True)
class Inner:
    name: str = ""
    size: int = 0


@dataclass(frozen=True)
class Outer:
    text: str
    number: int = 1
    share: float = 0.5
    on: bool = False
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    words: tuple[str, ...] = ()
    either: tuple[str, ...] | None = None
    inners: tuple[Inner, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    by_name: Mapping[str, tuple[Inner, ...] | None] = field(default_factory=dict)
    anything: Any = None


def camel(name: str) -> str:
    return "".join(part.title() for part in name.split("_"))


TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
INNERS = st.builds(Inner, TEXT, st.integers())
OUTERS = st.builds(
    Outer,
    text=TEXT,
    number=st.integers(),
    share=st.floats(allow_nan=False, allow_infinity=False),
    on=st.booleans(),
    inner=INNERS,
    maybe=st.none() | INNERS,
    words=st.lists(TEXT, max_size=3).map(tuple),
    either=st.none() | st.lists(TEXT, max_size=3).map(tuple),
    inners=st.lists(INNERS, max_size=2).map(tuple),
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    by_name=st.dictionaries(TEXT, st.none() | st.lists(INNERS, max_size=2).map(tuple), max_size=2),
    anything=st.none()
    | st.integers()
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(TEXT, TEXT, max_size=2),
)


@given(OUTERS)
def test_there_and_back_through_json(outer: Outer) -> None:
    assert decode(Outer, json.loads(json.dumps(encode(outer)))) == outer
    assert decode(Outer, json.loads(json.dumps(encode(outer, camel))), camel) == outer


def test_names_are_mapped() -> None:
    assert encode(Outer("x", by_name={"left_alone": None}), camel)["ByName"] == {"left_alone": None}
    assert decode(Outer, {"Text": "x", "Inner": {"Size": 3}}, camel) == Outer("x", inner=Inner(size=3))


def test_null_and_missing_are_the_default_and_unknown_keys_are_passed_over() -> None:
    assert decode(Outer, {"text": "x", "number": None, "inner": None, "new": 1}) == Outer("x")


def test_null_and_an_empty_list_stay_apart() -> None:
    assert decode(Outer, {"text": "", "either": []}).either == ()
    assert decode(Outer, {"text": "", "either": None}).either is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "request body: expected an object, not a list"),
        ({"text": 1}, "text: expected a string, not an integer"),
        ({"text": "", "number": True}, "number: expected an integer, not a boolean"),
        ({"text": "", "number": 1.5}, "number: expected an integer, not a number"),
        ({"text": "", "share": "1"}, "share: expected a number, not a string"),
        ({"text": "", "share": True}, "share: expected a number, not a boolean"),
        ({"text": "", "on": 1}, "on: expected true or false, not an integer"),
        ({"text": "", "inner": "x"}, "inner: expected an object, not a string"),
        ({"text": "", "inner": {"size": "x"}}, "inner.size: expected an integer, not a string"),
        ({"text": "", "words": "x"}, "words: expected a list, not a string"),
        ({"text": "", "words": ["a", None]}, "words[1]: expected a string, not null"),
        ({"text": "", "inners": [{}, {"name": 3}]}, "inners[1].name: expected a string, not an integer"),
        ({"text": "", "labels": []}, "labels: expected an object, not a list"),
        ({"text": "", "labels": {"a b": 1}}, "labels['a b']: expected a string, not an integer"),
        (
            {"text": "", "by_name": {"x": [{"size": []}]}},
            "by_name['x'][0].size: expected an integer, not a list",
        ),
    ],
)
def test_an_error_names_the_field(data: Any, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        decode(Outer, data)
    assert str(caught.value) == message


def test_an_integer_is_a_number() -> None:
    share = decode(Outer, {"text": "", "share": 2}).share
    assert share == 2.0 and isinstance(share, float)
