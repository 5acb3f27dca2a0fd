""".dockerignore's rules: the vectors are what moby's patternmatcher says; the rest holds for any patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minictl.build.ignore import Pattern, Patterns, clean, parse
from minictl.errors import Failure

# pattern, path, whether the pattern itself matches it ("above": only a directory above the path matches)
ONE = [
    ("**", "file", True),
    ("**/", "dir/file", True),
    ("**/**", "dir/file", True),
    ("***", "dir/file", True),
    ("dir/**", "dir/file", True),
    ("dir/**", "dir/dir2/file", True),
    ("dir/**", "dir", False),
    ("dir**", "directory/x", True),
    ("**/dir", "dir", True),
    ("**/dir", "a/b/dir", True),
    ("**/dir", "dir/file", True),  # above
    ("**/dir", "adir", False),
    ("**file", "a/bfile", True),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/**", "dir/dir2/dir3/file", True),
    ("**/dir2/**", "dir/dir2", False),
    ("**/file*", "dir/dir/file.txt", True),
    ("**/file*.txt*", "dir/dir/file.txt", True),
    ("**/**/*.txt", "file.txt", True),
    ("**/**/*.txt2", "dir/dir/file.txt", False),
    ("a**/*.txt", "a/dir/dir/file.txt", True),
    ("a/*.txt", "a/dir/file.txt", False),
    ("a/*.txt**", "a/file.txt", True),
    ("a[b-d]e", "ace", True),
    ("a[b-d]e", "aae", False),
    ("a[^b-d]e", "aze", True),
    ("[!a]", "b", False),  # not a negation here
    ("[!a]", "!", True),
    ("[a-ζ]*", "δ", True),
    ("[\\]a]", "]", True),
    ("[x\\-]", "-", True),
    ("a?b", "a☺b", True),
    ("a?b", "a/b", False),
    ("a*b", "a/b", False),
    ("*", "a/b", True),  # above
    ("*/b", "a/b/c", True),  # above
    (".*", ".foo", True),
    (".*", "foo", False),
    ("abc.def", "abcZdef", False),
    ("a(b)c|{d}$^", "a(b)c|{d}$^", True),
    ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", True),
    ("a\\*b", "a*b", True),
    ("a\\*b", "axb", False),
    ("a\\\\", "a\\", True),
    ("./a/../b/", "b/c", True),  # above
    ("a", "ab", False),
    ("a\n", "a", True),
    ("*", "a\n", True),
]


@pytest.mark.parametrize(("pattern", "path", "ignored"), ONE)
def test_one_pattern(pattern: str, path: str, ignored: bool) -> None:
    assert Patterns([pattern]).ignored_alone(path) is ignored


SEVERAL = [
    (["!a.go", "*.go"], "a.go", True),
    (["*.go", "!a.go"], "a.go", False),
    (["docs", "!docs/README.md"], "docs/README.md", False),
    (["docs/", "!docs/README.md"], "docs/other", True),
    (["docs/*", "!docs/README.md"], "docs/README.md", False),
    (["**", "!util/web"], "util/web/foo", False),
    (["**", "!util/web", "util/web/foo"], "util/web/foo", True),
    (["**", "!dist/*.whl"], "dist/x.whl", False),
    (["*", "!**/*.go"], "a/b/c.go", False),
    (["a", "!a/b", "a*"], "a/b", False),  # the third is not looked at for "a", which is ignored already
    ([], "a", False),
]


@pytest.mark.parametrize(("patterns", "path", "ignored"), SEVERAL)
def test_several_patterns(patterns: list[str], path: str, ignored: bool) -> None:
    assert Patterns(patterns).ignored_alone(path) is ignored


@pytest.mark.parametrize(
    "pattern", ["[", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[^", "[^bc", "a[", "ab\\", "!", "[a\\"]
)
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(Failure):
        Patterns([pattern])


def test_a_file() -> None:
    text = b"\xef\xbb\xbf# comment\n\n  /a/b/  \n #x\r\n! /c\n!\n//d\n.\n/\n\\#e\nf#\n"
    assert parse(text) == ["a/b", "#x", "!c", "!", "d", ".", "/", "\\#e", "f#"]


def test_an_ignored_directory_is_walked_only_where_something_may_come_back() -> None:
    patterns = Patterns(["node_modules", "vendor", "!vendor/mine/*"])
    assert not patterns.may_bring_back("node_modules")
    assert patterns.may_bring_back("vendor")
    assert patterns.may_bring_back("vendor/mine")
    assert not patterns.may_bring_back("vendor/other")
    assert Patterns(["vendor", "!**/x"]).may_bring_back("vendor/other")
    assert not Patterns(["*"]).may_bring_back("a")


NAMES = st.sampled_from(["a", "b", "ab", "ba", ".a", "a.b"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PARTS = st.one_of(NAMES, st.sampled_from(["*", "**", "?", "a*", "*b", "[ab]", "[^a]", "**b", "a**", "a?"]))
PATTERNS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
LINES = st.lists(
    st.builds(lambda mark, text: mark + text, st.sampled_from(["", "", "!"]), PATTERNS), max_size=4
)


def matches(pattern: str, path: str) -> bool:
    """What the documentation says, straightforwardly: a wildcard is tried with each length that it may have."""
    if not pattern:
        return not path
    if pattern.startswith("**"):
        rest = pattern[2:].removeprefix("/")
        if not rest:
            return True
        return matches(rest, path) or any(
            matches(rest, path[index + 1 :]) for index, letter in enumerate(path) if letter == "/"
        )
    if pattern[0] == "*":
        end = path.find("/") if "/" in path else len(path)
        return any(matches(pattern[1:], path[length:]) for length in range(end + 1))
    if pattern[0] == "[":
        inside, _, rest = pattern[1:].partition("]")
        negated = inside.startswith("^")
        return bool(path) and (path[0] in inside.lstrip("^")) != negated and matches(rest, path[1:])
    if not path:
        return False
    if pattern[0] == "?":
        return path[0] != "/" and matches(pattern[1:], path[1:])
    return pattern[0] == path[0] and matches(pattern[1:], path[1:])


@given(PATTERNS, PATHS)
def test_a_pattern_matches_what_is_written_of_it(pattern: str, path: str) -> None:
    plain_end = pattern.startswith("**") and pattern[2:3] not in ("", "/")
    after = any(pattern[at : at + 2] == "**" and pattern[at - 1] != "/" for at in range(1, len(pattern)))
    if plain_end or after:  # patternmatcher's own ideas of "**b" and "a**": vectors above
        return
    above = ["/".join(path.split("/")[:count]) for count in range(1, path.count("/") + 2)]
    assert Patterns([pattern]).ignored_alone(path) is any(matches(pattern, one) for one in above), above


@given(LINES, PATHS)
def test_a_directory_that_is_not_walked_has_nothing_in_it_to_send(lines: list[str], path: str) -> None:
    patterns = Patterns(lines)
    parts = path.split("/")
    for count in range(1, len(parts)):
        directory = "/".join(parts[:count])
        if patterns.ignored_alone(directory) and not patterns.may_bring_back(directory):
            assert patterns.ignored_alone(path), directory


@given(LINES, PATTERNS, PATHS)
def test_the_last_pattern_that_matches_counts(lines: list[str], pattern: str, path: str) -> None:
    # The path itself: a directory above that was ignored already is not compared with later patterns.
    if Pattern(pattern).match(path):
        assert Patterns([*lines, pattern]).ignored_alone(path)
        assert not Patterns([*lines, f"!{pattern}"]).ignored_alone(path)


@given(st.text(alphabet="ab/.! *", max_size=12))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(st.lists(st.text(alphabet="ab/*?[]^-\\! #.\t", max_size=8), max_size=4), PATHS)
def test_any_file_is_taken_or_refused(lines: list[str], path: str) -> None:
    try:
        patterns = Patterns(parse("\n".join(lines).encode()))
    except Failure:
        return
    patterns.ignored_alone(path)
