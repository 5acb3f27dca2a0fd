"""The patterns of .dockerignore: tables of the documented rules, and a slow obvious matcher beside it."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minid.build.patterns import Patterns, match_glob, read_ignore_file
from minid.errors import InvalidParameter

FAIL, EXACT, BELOW = "fail", "exact", "below"

ONE_PATTERN = [
    # Two stars: all directories, none too.
    ("**", "README", EXACT),
    ("**/", "src/main.c", EXACT),
    ("**/**", "src/main.c", EXACT),
    ("src/**", "src/main.c", EXACT),
    ("src/**", "src/lib/x.c", EXACT),
    ("src/**", "src", FAIL),
    ("**/lib", "lib", EXACT),
    ("**/lib", "lib/x.c", BELOW),
    ("**/lib/*", "src/lib/x.c", EXACT),
    ("**/lib/**", "src/lib/deep/x.c", EXACT),
    ("**/*.py", "setup.py", EXACT),
    ("**/*.py", "pkg/sub/mod.py", EXACT),
    ("**/**/*.pyc", "pkg/sub/mod.py", FAIL),
    ("**/.git", "my.git", FAIL),
    ("docs/**/img/*.png", "docs/img/a.png", EXACT),
    ("docs/**/img/*.png", "docs/a/b/img/a.png", EXACT),
    # Two stars inside a name.
    ("**lock", "poetry.lock", EXACT),
    ("**lock", "a/b/lock", EXACT),
    ("test**/*.js", "test/a.js", EXACT),
    ("test**/*.js", "test/x/y/a.js", EXACT),
    ("build/*.o**", "build/a.o", EXACT),
    # One star stays in its directory.
    ("src/*.c", "src/lib/x.c", FAIL),
    ("*/tmp*", "a/tmpfile", EXACT),
    ("*/tmp*", "a/b/tmpfile", FAIL),
    (".*", ".env", EXACT),
    (".*", "env", FAIL),
    ("log?", "log1", EXACT),
    ("log?", "log", FAIL),
    ("v[0-3].txt", "v2.txt", EXACT),
    ("v[0-3].txt", "v.txt", FAIL),
    ("v[^0-3].txt", "v7.txt", EXACT),
    # What means something in a regular expression means nothing here.
    ("a.c", "abc", FAIL),
    ("f(x)|{y}+$", "f(x)|{y}+$", EXACT),
    ("dist/*.whl", "dist/pkg-1.0+gab12-py3-none-any.whl", EXACT),
    ("back\\\\", "back\\", EXACT),
    ("\\*.txt", "*.txt", EXACT),
    ("\\*.txt", "a.txt", FAIL),
    # What matches a directory covers all in it.
    ("node_modules", "node_modules/a/b.js", BELOW),
]


@pytest.mark.parametrize(("pattern", "path", "how"), ONE_PATTERN)
def test_one_pattern(pattern: str, path: str, how: str) -> None:
    assert Patterns([pattern]).matches(path) is (how != FAIL)
    cleaned = pattern.rstrip("/")
    assert match_glob(cleaned, path) is (how == EXACT)


GO_MATCH = [
    ("*", "word", True),
    ("w*d", "word", True),
    ("word*", "word", True),
    ("w*/x", "word/x", True),
    ("w*/x", "w/ord/x", False),
    ("a*c*e*/z", "abcde/z", True),
    ("a*c*e*/z", "abcdeeee/z", True),
    ("a*c*e*/z", "abcde/y/z", False),
    ("a*a?a", "aabaxa", True),
    ("a*a?a", "aabaxb", False),
    ("x[a-c]", "xd", False),
    ("x[^a-c]", "xd", True),
    ("x[^d]", "xd", False),
    ("x?y", "x\u263ay", True),
    ("x??y", "x\u263ay", False),
    ("x[^z]y", "x\u263ay", True),
    ("[a-\u03b6]*", "\u03b1", True),
    ("x?y", "x/y", False),
    ("x*y", "x/y", False),
    ("[\\]x]", "]", True),
    ("[\\-]", "-", True),
    ("[x\\-z]", "y", False),
    ("[x\\-z]", "-", True),
    ("*y", "yyy", True),
    ("arr[[]0].txt", "arr[0].txt", True),
    ("index.?s", "index.js", True),
    ("[z-a]", "b", False),
    ("[!a]", "!", True),
    ("[a^]", "^", True),
]


@pytest.mark.parametrize(("pattern", "path", "matches"), GO_MATCH)
def test_the_rules_of_filepath_match(pattern: str, path: str, matches: bool) -> None:
    assert match_glob(pattern, path) is matches


@pytest.mark.parametrize(
    "pattern",
    ["[", "[^", "[]", "[]x]", "[-y]", "[y-]", "[a-", "[a-c-e]", "[abc", "x[", "\\", "*\\", "[\\"],
)
def test_malformed_patterns(pattern: str) -> None:
    with pytest.raises(InvalidParameter, match="syntax error in pattern"):
        match_glob(pattern, "a")
    with pytest.raises(InvalidParameter, match="syntax error in pattern"):
        Patterns([pattern])


LISTS = [
    (["!main.c", "*.c"], "main.c", True),
    (["*.c", "!main.c"], "main.c", False),
    (["src", "!src/keep.c"], "src/keep.c", False),
    (["src/", "!src/keep.c"], "src/keep.c", False),
    (["src/*", "!src/keep.c"], "src/keep.c", False),
    (["src", "!src/keep.c"], "src/other.c", True),
    (["**", "!src/lib"], "src/lib/x.c", False),
    (["**", "!src/lib", "src/lib/x.c"], "src/lib/x.c", True),
    (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
    (["*.md", "README-secret.md", "!README*.md"], "README-secret.md", False),
    (["*", "!**/*.py"], "a/b/c.py", False),
    (["*", "!**/*.py"], "a/b/c.txt", True),
    (["/foo/bar"], "foo/bar", True),
    (["./foo"], "foo", True),
    (["foo/"], "foo", True),
    (["a/../b"], "b", True),
    (["  !x  ", "x", " ! x "], "x", False),
    (["node_modules"], "a/node_modules", False),
    (["*"], ".", False),
    (["*"], "", False),
    ([], "x", False),
    (["", "x"], "y", False),
]


@pytest.mark.parametrize(("patterns", "path", "ignored"), LISTS)
def test_the_last_match_decides(patterns: list[str], path: str, ignored: bool) -> None:
    assert Patterns(patterns).matches(path) is ignored


def test_an_exclamation_mark_alone() -> None:
    with pytest.raises(InvalidParameter, match='illegal exclusion pattern: "!"'):
        Patterns(["!"])


def test_the_lines_of_a_dockerignore_file() -> None:
    text = "\ufeff# comment\r\n\r\n  # not in column 1\n*.log\r\n ! keep.log \n#x\n"
    assert read_ignore_file(text) == ["# not in column 1", "*.log", "! keep.log"]


def test_where_a_walk_may_stop() -> None:
    patterns = Patterns(["*", "!src/*/keep", "!docs", "!a?/**/z"])
    assert patterns.has_exceptions
    assert patterns.may_unignore_below("src")
    assert patterns.may_unignore_below("src/x")
    assert patterns.may_unignore_below("docs/deep/er")
    assert patterns.may_unignore_below("ab/c/d")
    assert not patterns.may_unignore_below("node_modules")
    assert not patterns.may_unignore_below("a")
    assert not Patterns(["*"]).may_unignore_below("src")


# The slow and obvious one: names against components by trying everything.

CLASS = re.compile(r"\[(\^?)((?:\\.|[^\]\\])+)\]", re.DOTALL)


def slow(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern == "**":
        return True
    if pattern.startswith("**/"):
        rest = pattern[3:]
        starts = [0, *(index + 1 for index, character in enumerate(text) if character == "/")]
        return any(slow(rest, text[start:]) for start in starts)
    if pattern[0] == "*":
        return any(
            slow(pattern[1:], text[length:]) for length in range(len(text) + 1) if "/" not in text[:length]
        )
    if not text:
        return False
    if pattern[0] == "?":
        return text[0] != "/" and slow(pattern[1:], text[1:])
    if match := CLASS.match(pattern):
        return (text[0] in match[2]) != bool(match[1]) and slow(pattern[match.end() :], text[1:])
    if pattern[0] == "\\":
        return text[0] == pattern[1] and slow(pattern[2:], text[1:])
    return text[0] == pattern[0] and slow(pattern[1:], text[1:])


def slow_list(patterns: list[str], path: str) -> bool:
    names = path.split("/")
    paths = ["/".join(names[: count + 1]) for count in range(len(names))]
    ignored = False
    for line in patterns:
        pattern = line.removeprefix("!")
        if any(slow(pattern, each) for each in paths):
            ignored = not line.startswith("!")
    return ignored


names = st.text("ab.", min_size=1, max_size=4).filter(lambda name: name.strip("."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
pieces = st.sampled_from(["a", "b", ".", "*", "?", "[ab]", "[^a]", "\\a", "ab"])
components = (
    st.lists(pieces, min_size=1, max_size=4)
    .map("".join)
    .filter(lambda text: "**" not in text and text.strip("."))
)
globs = st.lists(st.one_of(components, components, st.just("**")), min_size=1, max_size=4).map("/".join)


@settings(max_examples=1000)
@given(globs, paths)
@example("*a*b*/**/[^a]*", "aab/b/ab")
def test_as_the_slow_one(pattern: str, path: str) -> None:
    assert match_glob(pattern, path) is slow(pattern, path)


@settings(max_examples=500)
@given(st.lists(st.builds(str.__add__, st.sampled_from(["", "!"]), globs), max_size=4), paths)
def test_lists_as_the_slow_one(patterns: list[str], path: str) -> None:
    assert Patterns(patterns).matches(path) is slow_list(patterns, path)


@settings(max_examples=500)
@given(st.lists(st.builds(str.__add__, st.sampled_from(["", "!"]), globs), max_size=4), paths)
def test_a_walk_that_stops_misses_nothing(patterns: list[str], path: str) -> None:
    """What is kept below an ignored directory is always found by a walk that asks ``may_unignore_below``."""
    matcher = Patterns(patterns)
    parts = path.split("/")
    directories = ["/".join(parts[: count + 1]) for count in range(len(parts) - 1)]
    stopped = any(matcher.matches(each) and not matcher.may_unignore_below(each) for each in directories)
    assert not (stopped and not matcher.matches(path))


@settings(max_examples=500)
@given(st.text(max_size=12), st.text(max_size=12))
def test_any_pattern_matches_or_is_malformed(pattern: str, path: str) -> None:
    try:
        match_glob(pattern, path)
        Patterns([pattern, "!" + pattern]).matches(path)
    except InvalidParameter:
        pass


def test_many_stars_are_no_trap() -> None:
    assert not match_glob("*a" * 30 + "b", "a" * 250)
    assert not match_glob("**/" * 30 + "*" + "?" * 3 + "b", "a/" * 100 + "aaaa")
