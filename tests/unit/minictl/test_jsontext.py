"""The light JSON agrees with the json package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minictl import jsontext

TOP = Path(__file__).parents[3]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_both_ways(value: object) -> None:
    assert jsontext.loads(json.dumps(value)) == value
    assert json.loads(jsontext.dumps(value)) == value
    assert jsontext.loads(json.dumps(value, indent=2).encode()) == value


@given(st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=5), st.integers(0, 200))
def test_a_stream_cut_anywhere(values: list[object], cut: int) -> None:
    text = "".join(json.dumps(value) + "\r\n" for value in values)
    first, rest = jsontext.loads_many(text[:cut])
    second, rest = jsontext.loads_many(rest + text[cut:])
    assert [*first, *second] == values
    assert rest == ""


@pytest.mark.parametrize("text", ["", "{", '{"a":}', "1 2", "nul", '"\\x"'])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        jsontext.loads(text)


def test_what_is_no_json_without_the_json_package() -> None:
    """As in minictl, which does not load it: the C scanner has no exception to raise then."""
    program = (
        "import sys\nfrom minictl import jsontext\n"
        "try:\n    jsontext.loads('{')\nexcept ValueError as error:\n    print(error)\n"
        "print(jsontext.loads_many('{\"a\": 1}\\n{\"b\": '), 'json' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", f"import sys\nsys.path.append({str(TOP)!r})\n{program}"],
                          capture_output=True, text=True, check=True, timeout=60)  # fmt: skip
    assert done.stdout == "not JSON: '{'\n([{'a': 1}], '{\"b\": ') False\n"


def test_only_what_must_be_is_escaped() -> None:
    assert jsontext.dumps({"é": "<\n>"}) == '{"é":"<\\n>"}'
    assert jsontext.dumps_for_html("<a&b>") == '"\\u003ca\\u0026b\\u003e"'
