"""Whatever the bytes are, parsing ends in records or in a ``DockerfileError``; what is written down is read again."""

import re
import time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from minid.build.dockerfile import DockerfileError, Surroundings, check, model, parse, resolve
from minid.build.dockerfile.model import (
    Dockerfile,
    ExecForm,
    Heredoc,
    Instruction,
    Location,
    Mount,
    Pair,
    ShellForm,
)
from minid.errors import InvalidParameter

from .dockerfile_text import render, render_instruction

HERE = {"location": Location("Dockerfile", 1, 1), "original": ""}

SCRAPS = st.sampled_from(
    [
        *(
            "FROM ",
            "RUN ",
            "COPY ",
            "ADD ",
            "ENV ",
            "LABEL ",
            "ARG ",
            "ONBUILD ",
            "HEALTHCHECK ",
            "CMD ",
            "VOLUME ",
        ),
        *(
            "SHELL ",
            "EXPOSE ",
            "USER ",
            "# escape=`",
            "# check=skip=all",
            "--mount=",
            "type=cache,target=/x",
            "--from=",
        ),
        *(
            "<<EOF",
            "<<-'E'",
            "EOF",
            "E",
            "\n",
            "\n",
            "\n",
            "\r\n",
            "\\\n",
            "`\n",
            " ",
            "\t",
            '["a"',
            ",",
            "]",
            "'",
            '"',
        ),
        *(
            "$X",
            "${X:-",
            "}",
            "\\",
            "=",
            "a",
            "b",
            "--",
            "AS ",
            "#",
            "\u00a0",
            "\ufeff",
            "NONE",
            "CMD",
            "\0",
            "/",
        ),
    ]
)


def survive(data: bytes) -> None:
    try:
        dockerfile = parse(data)
    except DockerfileError as error:
        assert str(error)
        return
    values = {"X": "a b", "PATH": "/bin"}
    for stage in dockerfile.stages:
        for instruction in (stage.base, *stage.instructions):
            try:
                resolve(instruction, values.get, dockerfile.directives.escape)
            except DockerfileError:
                pass
    try:
        check(dockerfile, surroundings=Surroundings(is_ignored=lambda path: "a" in path))
    except InvalidParameter:
        assert dockerfile.directives.check


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    survive(data)
    survive(b"FROM a\n" + data)


@settings(max_examples=700, deadline=None)
@given(st.lists(SCRAPS, max_size=25).map("".join))
@example("FROM a\nRUN [" + "[" * 5000)
@example("FROM a\nENV a=" + "${x:-" * 5000)
@example("FROM a\nHEALTHCHECK --interval=" + "9" * 5000 + "h CMD a")
@example("FROM a\nHEALTHCHECK --retries=" + "9" * 5000 + " CMD a")
@example("FROM a\nRUN --mount=type=tmpfs,target=/a,size=" + "9" * 5000 + " a")
@example("FROM a\nRUN --mount=type=cache,target=/a,uid=\u0663 a")
@example("FROM a\nRUN " + "9" * 5000 + "<<EOF\nEOF")
def test_scraps_of_dockerfiles(text: str) -> None:
    survive(text.encode())
    survive(b"FROM a\n" + text.encode())


# Round trips

PLAIN = st.text("abcXYZ019._/-", min_size=1, max_size=8).filter(lambda text: not text.startswith("-"))
NAME = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
VALUE = st.lists(
    st.one_of(PLAIN, st.sampled_from(["'a b'", '"c  d"', "\\ x", "$x", "${x:-y}", '\\"', "=", '""', "é"])),
    min_size=1,
    max_size=4,
).map("".join)
ARGUMENTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=3
).map(tuple)
SHELL_TEXT = st.lists(
    st.one_of(PLAIN, st.sampled_from(["&&", "|", "$x", "'a  b'", '"c"', "#", "\\\\x", "--flag", "=", "[ -f x ]"])),
    min_size=1,
    max_size=6,
).map(" ".join).filter(lambda text: not text.startswith(("--", "[")))  # fmt: skip
COMMAND = st.one_of(st.builds(ShellForm, SHELL_TEXT), st.builds(ExecForm, ARGUMENTS))
BODY = st.lists(
    st.text("ab $\\#'\"\t", max_size=8).filter(lambda line: line.strip() != "END"), max_size=3
).map(lambda lines: "".join(f"{line}\n" for line in lines))
HEREDOC = st.builds(Heredoc, st.just("END"), BODY, st.booleans(), st.booleans())
NUMBER = st.one_of(st.none(), st.integers(0, 2**31 - 1))
MODE = st.one_of(st.none(), st.integers(0, 0o7777))
MOUNT = st.one_of(
    st.builds(Mount, st.just("bind"), PLAIN, PLAIN, PLAIN, readonly=st.booleans()),
    st.builds(
        Mount, st.just("cache"), PLAIN, PLAIN, PLAIN, NAME, st.sampled_from(["shared", "locked", "private"]),
        st.booleans(), MODE, NUMBER, NUMBER,
    ),
    st.builds(Mount, st.just("tmpfs"), PLAIN, size_bytes=NUMBER),
    st.builds(Mount, st.just("secret"), PLAIN, id=NAME, mode=MODE, uid=NUMBER, gid=NUMBER, required=st.booleans(), env=st.one_of(st.just(""), NAME)),
    st.builds(Mount, st.just("ssh"), PLAIN, id=NAME, mode=MODE, required=st.booleans()),
)  # fmt: skip
TUPLES = st.lists(PLAIN, min_size=1, max_size=3).map(tuple)
PAIRS = st.lists(st.builds(Pair, NAME, VALUE), min_size=1, max_size=3).map(tuple)
DURATION = st.one_of(st.none(), st.integers(10**6, 10**13))
OPTIONAL = st.one_of(st.just(""), PLAIN)
SOURCES = st.one_of(
    TUPLES,
    st.lists(st.text("a b'\"$*", min_size=1), min_size=1, max_size=2).map(tuple),
    st.lists(st.one_of(HEREDOC, PLAIN), min_size=1, max_size=3).map(tuple),
)


def record(kind: type[Instruction], **fields: st.SearchStrategy[object]) -> st.SearchStrategy[Instruction]:
    return st.builds(kind, **{name: st.just(value) for name, value in HERE.items()}, **fields)


TRANSFER = {
    "sources": SOURCES,
    "destination": PLAIN,
    "chown": OPTIONAL,
    "chmod": OPTIONAL,
    "link": st.booleans(),
    "exclude": st.lists(PLAIN, max_size=2).map(tuple),
}
BASE = record(model.From, image=PLAIN, platform=OPTIONAL, stage_name=st.one_of(st.just(""), NAME))
ARG = record(
    model.Arg,
    definitions=st.lists(
        st.builds(model.ArgDefinition, NAME, st.one_of(st.none(), VALUE)), min_size=1, max_size=3
    ).map(tuple),
)
TRIGGERS = st.one_of(
    record(model.Run, command=COMMAND, mounts=st.lists(MOUNT, max_size=2).map(tuple)),
    record(model.Run, command=st.just(ShellForm("cat <<'END'")), heredocs=BODY.map(lambda body: (Heredoc("END", body, False),))),
    record(model.Copy, **TRANSFER, from_=OPTIONAL, parents=st.booleans()),
    record(model.Add, **TRANSFER, checksum=OPTIONAL, keep_git_dir=st.booleans(), unpack=st.one_of(st.none(), st.booleans())),
    record(model.Env, pairs=PAIRS),
    record(model.Label, pairs=PAIRS),
    ARG,
    record(model.User, user=PLAIN),
    record(model.Workdir, path=PLAIN),
    record(model.StopSignal, signal=PLAIN),
    record(model.Shell, args=ARGUMENTS),
    record(model.Entrypoint, command=COMMAND),
    record(model.Cmd, command=COMMAND),
    record(model.Expose, ports=TUPLES),
    record(model.Volume, paths=TUPLES),
    record(model.Healthcheck, command=st.none()),
    record(
        model.Healthcheck, command=COMMAND, interval_ns=DURATION, timeout_ns=DURATION, start_period_ns=DURATION,
        start_interval_ns=DURATION, retries=NUMBER,
    ),
)  # fmt: skip
INSTRUCTION = st.one_of(
    TRIGGERS,
    record(model.Maintainer, author=PLAIN),
    record(model.Onbuild, trigger=TRIGGERS.map(render_instruction)),
)


@st.composite
def dockerfiles(draw: st.DrawFn) -> Dockerfile:
    stages = []
    for index in range(draw(st.integers(1, 3))):
        base = draw(BASE)
        assert isinstance(base, model.From)
        body = draw(st.lists(INSTRUCTION, max_size=4))
        stages.append(model.Stage(index, base.stage_name, base, tuple(body)))
    args = [each for each in draw(st.lists(ARG, max_size=2)) if isinstance(each, model.Arg)]
    directives = model.Directives(draw(st.sampled_from(["", "docker/dockerfile:1"])))
    return Dockerfile("Dockerfile", directives, tuple(args), tuple(stages), ())


@settings(max_examples=150, deadline=None)
@given(dockerfiles())
def test_what_is_written_is_read_again(dockerfile: Dockerfile) -> None:
    assert parse(render(dockerfile).encode()) == dockerfile


def disguised(text: str, draw: st.DrawFn) -> str:
    """The same Dockerfile in another hand: a break, with a comment, where a blank was in the line.

    Not before a "#", which would begin a comment there.
    """
    blanks = [match.end() for match in re.finditer(r" (?!\s*#)", text)]
    for position in sorted(
        draw(st.lists(st.sampled_from(blanks or [0]), max_size=3, unique=True)), reverse=True
    ):
        middle = draw(
            st.sampled_from(["\\\n", "\\  \n", "\\\n# comment\n", "\\\n  # comment \\\n", "\\\n\n", "\\\r\n"])
        )
        if blanks:
            text = text[:position] + middle + text[position:]
    return text


@settings(max_examples=150, deadline=None)
@given(INSTRUCTION, st.data())
def test_continuation_lines_change_nothing(instruction: Instruction, data: st.DataObject) -> None:
    head, *body = render_instruction(instruction).split("\n")
    if "\\ " in head:
        return  # an escaped blank is no place for a break
    text = data.draw(st.composite(lambda draw: "\n".join([disguised(head, draw), *body]))())
    lead = data.draw(st.sampled_from(["", " ", "\t", "# c\n", "\n"]))
    keyword = instruction.KEYWORD
    written = data.draw(st.sampled_from([keyword, keyword.lower(), keyword.title()]))
    got = parse(f"\ufeffFROM x\n{lead}{written}{text[len(keyword) :]}\n".encode()).stages[0].instructions
    if isinstance(instruction, model.Onbuild):
        assert [each.KEYWORD for each in got] == ["ONBUILD"]
    else:
        assert got == (instruction,)


def test_long_ones_take_no_ages() -> None:
    """A megabyte of anything is read in a few seconds: nothing is looked through again for every line or character."""
    texts = [
        "FROM a AS b\n" * 10_000,
        "FROM scratch\n" + "".join(f"ENV abc{number}=$bcd{number}\n" for number in range(3_000)),
        "FROM a\nENV a=" + "$a" * 50_000,
        "FROM a\nRUN " + "<<A " * 15_000 + "\n" + "A\n" * 15_000,
        "FROM a\nRUN a " + "\\\n a" * 30_000,
        'FROM a\nENV b="${a//x*y*z/q}" c="${a%%x*y}" d="${a//x?/q}"',
    ]
    for text in texts:
        begun_s = time.process_time()
        dockerfile = parse(text.encode())
        check(dockerfile)
        for instruction in dockerfile.stages[0].instructions:
            resolve(instruction, {"a": "x" * 20_000}.get if len(text) < 100 else {"a": "x"}.get)
        assert time.process_time() - begun_s < 10  # less than 1 s; quadratic ones take minutes
