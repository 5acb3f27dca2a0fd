"""Words with variables: the reference's examples, and what two shells make of the same words."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minid.build.dockerfile import ExpansionError, expand, process_words
from minid.build.dockerfile.expansion import Expander

VALUES = {
    "str": "foobarbaz",
    "FOO": "/bar",
    "empty": "",
    "sp": "a b",
    "n": "1",
    "star": "*",
    "p": "a/b/c.tar.gz",
}

WORDS = [
    # § Environment replacement.
    ("${FOO}", "/bar"),
    ("$FOO", "/bar"),
    ("\\$FOO", "$FOO"),
    ("\\${FOO}", "${FOO}"),
    ("${FOO}_bar", "/bar_bar"),
    ("$FOO_bar", ""),
    ("${str#f*b}", "arbaz"),
    ("${str##f*b}", "az"),
    ("${str%b*}", "foobar"),
    ("${str%%b*}", "foo"),
    ("${str/ba/fo}", "fooforbaz"),
    ("${str//ba/fo}", "fooforfoz"),
    ("/path/$DIRNAME", "/path/"),
    # Alternatives.
    ("${no:-x}", "x"),
    ("${no-x}", "x"),
    ("${empty:-x}", "x"),
    ("${empty-x}", ""),
    ("${FOO:-x}", "/bar"),
    ("${no:+x}", ""),
    ("${no+x}", ""),
    ("${empty:+x}", ""),
    ("${empty+x}", "x"),
    ("${FOO:+x}", "x"),
    ("${FOO:?no}", "/bar"),
    ("${empty?no}", ""),
    ("${no:-${FOO}}", "/bar"),
    ("${no:-${no2:-${FOO:+deep}}}", "deep"),
    ("${no:-a b}", "a b"),
    ('${no:-"a}b"}', "a}b"),
    ("${no:-a\\}b}", "a}b"),
    ("${no:-}", ""),
    ("${no:-$}", "$"),
    # Patterns.
    ("${p##*/}", "c.tar.gz"),
    ("${p%/*}", "a/b"),
    ("${p%%.*}", "a/b/c"),
    ("${p#?/}", "b/c.tar.gz"),
    ("${p//\\//-}", "a-b-c.tar.gz"),
    ("${p/.*}", "a/b/c"),
    ("${p//}", "a/b/c.tar.gz"),
    ("${empty/*/x}", "x"),
    ("${empty/a*/x}", ""),
    ("${p/nothing/x}", "a/b/c.tar.gz"),
    ("${star#\\*}", ""),
    ('${str#"f*b"}', "foobarbaz"),
    ("${str/o*r/$n}", "f1baz"),
    ("${no#x}", ""),
    ("${str#$n}", "foobarbaz"),
    # Quotes and escapes.
    ("'$FOO'", "$FOO"),
    ('"$FOO"', "/bar"),
    ("'a\\b'", "a\\b"),
    ('"a\\b\\"\\$\\\\"', 'a\\b"$\\'),
    ("a\\ b", "a b"),
    ("a\"b c\"d'e f'", "ab cde f"),
    ("\\", ""),
    ("$", "$"),
    ("a$", "a$"),
    ("$.x", "$.x"),
    ("$$x", "x"),
    ("$1x", "x"),
    ("$10x", "x"),
    ("${1}y", "y"),
    ("$(date)", "$(date)"),
    ("", ""),
    ("no special", "no special"),
    ("caf\u00e9-$n", "caf\u00e9-1"),
]


@pytest.mark.parametrize(("word", "expected"), WORDS)
def test_words(word: str, expected: str) -> None:
    assert expand(word, VALUES.get) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("'x", "looking for matching single-quote"),
        ('"x', "looking for matching double-quote"),
        ('"x\\', "looking for matching double-quote"),
        ("${x", "missing '}'"),
        ("${x:-y", "missing '}'"),
        ("${x/y", "missing '}'"),
        ("${x/y/z", "missing '}'"),
        ("${x#'y}'", "missing '}'"),
        ("${}", "bad substitution"),
        ("${", "bad substitution"),
        ("${.}", "bad substitution"),
        ("${x!}", "unsupported modifier \\(!\\)"),
        ("${x:}", "unsupported modifier \\(:}\\)"),
        ("${x:=y}", "unsupported modifier \\(:=\\)"),
        ("${x:?no x}", "x: no x"),
        ("${x?}", "x: not allowed to be unset"),
        ("${empty:?}", "empty: not allowed to be empty"),
        ("${x:-" * 60 + "}" * 60, "substitutions in each other"),
    ],
)
def test_wrong_words(word: str, message: str) -> None:
    with pytest.raises(ExpansionError, match=message) as caught:
        expand(word, VALUES.get)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80 $sp 443/udp", ["80", "a", "b", "443/udp"]),
        ('"$sp" c', ["a b", "c"]),
        ("x${sp}y", ["xa", "by"]),
        ("a\\ b 'c d'", ["a b", "c d"]),
        ("$no", []),
        ('"" $empty ""', ["", ""]),
        ("  a\t b ", ["a", "b"]),
        ("${no:-a b}", ["a", "b"]),
        (
            '${no:-"a b"}',
            ["a", "b"],
        ),  # quotes inside an alternative do not keep words together
    ],
)
def test_splitting(text: str, expected: list[str]) -> None:
    assert process_words(text, VALUES.get) == expected


def test_another_escape_character() -> None:
    assert expand("c:\\x\\", VALUES.get, escape="`") == "c:\\x\\"
    assert expand("a` b`$FOO", VALUES.get, escape="`") == "a b$FOO"


def test_here_documents() -> None:
    text = 'a \'$n\' "${n}" \\$n \\\\ \\x \\` ${no:-"q"} $(x) end\\\nless\n'
    assert Expander(VALUES.get).heredoc(text) == 'a \'1\' "1" $n \\ \\x ` "q" $(x) endless\n'


def test_what_was_used() -> None:
    expander = Expander(VALUES.get)
    expander.word("$a ${b:-$c} ${n:-$d} ${e:+$f} $n")
    assert expander.undefined == ["a", "c"]
    assert expander.used == ["a", "b", "c", "n", "d", "e", "f", "n"]


@settings(max_examples=500)
@given(st.text("ab$\\'\"{}:-+?#%/* \n", max_size=25))
def test_anything_expands_or_is_wrong(word: str) -> None:
    try:
        expanded = expand(word, VALUES.get)
    except ExpansionError:
        return
    assert "'" not in expanded or "'" in word


# Against shells: words that POSIX defines, with values of one word, as ``printf %s "$(word)"`` would show them.

NAMES = {"one": "abcabc", "two": "a.b-c", "nil": "", "path": "x/yy/z"}
PLAIN = st.sampled_from(["a", "b", ".", "-", "/x", "yy"])
PATTERN = st.lists(
    st.sampled_from(["a", "b", "c", ".", "y", "*", "?", "\\*", "'*'", '"b"', "$two"]), min_size=1, max_size=3
).map("".join)
NAME = st.sampled_from([*NAMES, "unset"])
NUMBER = st.integers(0, 3)


def parameters(word: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        NAME.map("${{{}}}".format),
        NAME.map("${}".format).map(lambda text: text + "-"),
        st.builds("${{{}{}{}}}".format, NAME, st.sampled_from([":-", "-", ":+", "+"]), word),
        st.builds("${{{}{}{}}}".format, NAME, st.sampled_from(["#", "##", "%", "%%"]), PATTERN),
    )


QUOTED = st.one_of(
    st.sampled_from(["'a$one'", "'\\'", "\\$", "\\a", "\\\\", '""', "''", "'x y'"]),
    NAME.map('"${}"'.format),
    NAME.map('"${{{}:-d}}\\$\\\\x"'.format),
)
PIECES = st.recursive(st.one_of(PLAIN, QUOTED), lambda word: st.one_of(parameters(word), word), max_leaves=4)
SHELL_WORDS = st.lists(st.one_of(PIECES, parameters(PLAIN)), min_size=1, max_size=4).map("".join)
REPLACEMENTS = st.builds(
    "${{{}{}{}/{}}}".format, NAME, st.sampled_from(["/", "//"]), PATTERN, st.sampled_from(["X", "", "$two"])
)


def run_shell(shell: str, words: list[str]) -> list[str]:
    # Assignments neither split words nor expand names of files: as our single words.
    lines = [f"{name}='{value}'" for name, value in NAMES.items()]
    lines += [f"r={word}\nprintf '%s\\0' \"$r\"" for word in words]
    program = shutil.which(shell)
    assert program, f"{shell} is not installed"
    result = subprocess.run(
        [program, "-c", "\n".join(lines)],
        capture_output=True,
        check=True,
        timeout=20,
        env={"LC_ALL": "C.UTF-8"},
    )
    assert not result.stderr, result.stderr
    return result.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("shell", ["dash", "bash"])
@settings(max_examples=40, deadline=None)
@given(words=st.lists(SHELL_WORDS, min_size=1, max_size=30))
def test_as_a_shell(shell: str, words: list[str]) -> None:
    expected = run_shell(shell, words)
    got = [expand(word, NAMES.get) for word in words]
    assert dict(zip(words, got, strict=True)) == dict(zip(words, expected, strict=True))


@settings(max_examples=40, deadline=None)
@given(words=st.lists(REPLACEMENTS, min_size=1, max_size=30))
def test_replacements_as_bash(words: list[str]) -> None:
    expected = run_shell("bash", words)
    got = [expand(word, NAMES.get) for word in words]
    assert dict(zip(words, got, strict=True)) == dict(zip(words, expected, strict=True))
