"""``--chmod`` beside chmod(1) itself, which is the reference of the symbolic form."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minid.build.modes import parse

CLAUSES = st.builds(
    lambda who, actions: who + "".join(actions),
    st.sampled_from(["", "a", "u", "g", "o", "ug", "go", "ugo"]),
    st.lists(
        st.builds(
            lambda operator, what: operator + what,
            st.sampled_from("+-="),
            st.sampled_from(["r", "w", "x", "X", "rw", "rwx", "rX", "s", "t", "st", "u", "g", "o", ""]),
        ),
        min_size=1,
        max_size=2,
    ),
)


@pytest.mark.parametrize(
    ("text", "mode"), [("0", 0), ("755", 0o755), ("0644", 0o644), ("4711", 0o4711), ("07777", 0o7777)]
)
def test_octal(text: str, mode: int) -> None:
    assert parse(text)(0o123, False) == mode


@pytest.mark.parametrize(
    "text", ["8", "99", "77777", "u", "u+q", "+", "x", "u+x,", " u+x", "-1", "u=rwx g=r"]
)
def test_refused(text: str) -> None:
    if text == "+":
        assert parse(text)(0o640, False) == 0o640  # as chmod(1): adds nothing
        return
    with pytest.raises(ValueError, match="invalid chmod parameter"):
        parse(text)


@settings(deadline=None)
@given(clauses=st.lists(CLAUSES, min_size=1, max_size=3), mode=st.integers(0, 0o7777), is_dir=st.booleans())
def test_as_chmod_does_it(
    clauses: list[str], mode: int, is_dir: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = _path(tmp_path_factory, is_dir)
    path.chmod(mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    text = ",".join(clauses)
    subprocess.run(["chmod", "--", text, str(path)], check=True, umask=0, capture_output=True)
    assert f"{parse(text)(mode, is_dir):o}" == f"{stat.S_IMODE(os.stat(path).st_mode):o}", (text, f"{mode:o}")


def _path(factory: pytest.TempPathFactory, is_dir: bool) -> Path:
    root = factory.getbasetemp()
    path = root / ("chmod-directory" if is_dir else "chmod-file")
    if not path.exists():
        path.mkdir() if is_dir else path.touch()
    return path
