import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.containers import names
from minid.errors import InvalidParameter


@pytest.mark.parametrize("name", ["ab", "a.b", "A-b_c.9", "0x", "/ab"])
def test_good_names(name: str) -> None:
    assert names.check(name) == name.removeprefix("/")


@pytest.mark.parametrize(
    "name", ["", "a", "/a", "a b", " ", "_a", "-a", ".a", "a/b", "//ab", "ab\n", "aé", "a:b"]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        names.check(name)
    assert str(caught.value) == f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"


def test_enough_words_and_none_twice() -> None:
    for words in (names.ADJECTIVES, names.SURNAMES):
        assert len(words) == len(set(words)) >= 90
        assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


@given(st.integers())
def test_random_names_are_good_names(seed: int) -> None:
    name = names.generate(lambda _: False, random.Random(seed))
    assert names.check(name) == name
    adjective, surname = name.split("_")
    assert adjective in names.ADJECTIVES
    assert surname in names.SURNAMES


def test_taken_names_are_avoided() -> None:
    taken = {f"{adjective}_{surname}" for adjective in names.ADJECTIVES for surname in names.SURNAMES}
    name = names.generate(taken.__contains__)
    assert name not in taken
    assert name.rstrip("0123456789") in taken
