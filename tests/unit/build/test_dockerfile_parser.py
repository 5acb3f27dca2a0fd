"""Statements and instructions: the reference's examples, and what dockerd (20.10, classic builder) makes of odd ones."""

import pytest

from minid.build.dockerfile import DockerfileError, ExpansionError, parse, parse_trigger, resolve
from minid.build.dockerfile.model import (
    Add,
    Arg,
    ArgDefinition,
    Cmd,
    Copy,
    Device,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Mount,
    Onbuild,
    Pair,
    Run,
    Script,
    ShellForm,
    Volume,
    Workdir,
)
from minid.errors import InvalidParameter

NOTHING: dict[str, str] = {}


def one(text: str) -> Instruction:
    (instruction,) = parse(f"FROM busybox\n{text}\n".encode()).stages[0].instructions
    return instruction


def run(text: str) -> Run:
    instruction = one(text)
    assert isinstance(instruction, Run)
    return instruction


# Lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN echo hello \\\n# comment\nworld", "echo hello world"),
        ("RUN echo hello \\\n   # comment \\\n  world", "echo hello   world"),
        ("RUN echo 'some # of things'", "echo 'some # of things'"),
        ('RUN echo "\\\n     hello\\\n     world"', 'echo "     hello     world"'),
        ("   \tRUN echo a  ", "echo a"),
        ("RUN a \\  \t\nb", "a b"),
        ("RUN a \\\r\nb\r", "a b"),
        ("RUN a \\\n\n\n b", "a  b"),
        ("RUN a \\", "a"),
        ("RUN a\\\\", "a\\\\"),
        ("run a", "a"),
        ("RUN\ta", "a"),
        ("RUN \\\n  a", "a"),
        ("RU\\\nN a", "a"),
    ],
)
def test_lines_are_joined(text: str, expected: str) -> None:
    assert run(text).command == ShellForm(expected)


def test_what_docker_shows_of_a_step() -> None:
    instruction = run("RUN  apk add \\\n\n    gnupg \\\n  # why\n    curl")
    assert instruction.original == "RUN  apk add     gnupg     curl"
    assert (instruction.location.first, instruction.location.last) == (2, 6)
    assert str(instruction.location) == "Dockerfile:2"
    assert instruction.has_empty_continuation
    assert instruction.keyword == "RUN"


def test_comments_directly_above() -> None:
    dockerfile = parse(b"# a\n\n# b\n#c\nFROM x\nRUN a\n# d\nRUN b\n")
    assert dockerfile.stages[0].base.comments == ("b", "c")
    assert [each.comments for each in dockerfile.stages[0].instructions] == [(), ("d",)]


def test_a_bom_and_windows_line_ends() -> None:
    dockerfile = parse("\ufeff# escape=`\r\nFROM busybox\r\nLABEL a=b `\r\n  c=d\r\n".encode())
    assert dockerfile.directives.escape == "`"
    assert dockerfile.stages[0].instructions == (one("LABEL a=b c=d"),)
    assert dockerfile.lines == ("# escape=`", "FROM busybox", "LABEL a=b `", "  c=d")


def test_bytes_that_are_no_text() -> None:
    assert one("LABEL a=b") == parse(b"FROM x\n# caf\xe9\nLABEL a=b").stages[0].instructions[0]
    (label,) = parse(b"FROM x\nLABEL a=caf\xe9").stages[0].instructions
    assert isinstance(label, Label)
    assert label.pairs == (Pair("a", "caf\ufffd"),)
    with pytest.raises(DockerfileError, match="UTF-16"):
        parse("FROM x".encode("utf-16"))
    with pytest.raises(DockerfileError, match="NUL"):
        parse(b"FROM x\nRUN a\0b")


# Directives


@pytest.mark.parametrize(
    "line",
    ["#syntax=value", "# syntax =value", "#\tsyntax= value", "# syntax = value", "#\t  sYnTaX=value  "],
)
def test_spellings_of_a_directive(line: str) -> None:
    assert parse(f"{line}\nFROM x".encode()).directives.syntax == "value"


@pytest.mark.parametrize(
    "text",
    [
        "FROM ImageName\n# escape=`\n",
        "# About my dockerfile\n# escape=`\nFROM ImageName",
        "# unknowndirective=value\n# escape=`\nFROM x",
        "\n# escape=`\nFROM x",
        "# esc \\\nape=`\nFROM x",
    ],
)
def test_comments_that_look_like_directives(text: str) -> None:
    if "ape=`\nFROM" in text and "esc \\" in text:
        with pytest.raises(DockerfileError, match="unknown instruction: ape=`"):
            parse(text.encode())
    else:
        assert parse(text.encode()).directives.escape == "\\"


def test_directives_together() -> None:
    directives = parse(
        b"# check=skip=all;error=true\n#syntax=docker/dockerfile:1\n# escape = `\nFROM x"
    ).directives
    assert (directives.check, directives.syntax, directives.escape) == (
        "skip=all;error=true",
        "docker/dockerfile:1",
        "`",
    )


def test_escape_is_a_backtick() -> None:
    text = b"# escape=`\n\nFROM microsoft/nanoserver\nCOPY testfile.txt c:\\\nRUN dir c:\\\n"
    copy, dir_ = parse(text).stages[0].instructions
    assert isinstance(copy, Copy)
    assert resolve(copy, NOTHING.get, "`").destination == "c:\\"
    assert isinstance(dir_, Run)
    assert dir_.command == ShellForm("dir c:\\")


def test_two_escapes_at_the_end_of_a_line() -> None:
    """The reference still tells of older versions, which went on after two."""
    instructions = parse(b"FROM a\nCOPY testfile.txt c:\\\\\nRUN dir c:\\\n").stages[0].instructions
    assert [each.original for each in instructions] == ["COPY testfile.txt c:\\\\", "RUN dir c:"]


# Stages


def test_stages_and_global_arguments() -> None:
    dockerfile = parse(
        b"ARG V=1 W\nARG X\nFROM --platform=$BUILDPLATFORM busybox:$V AS Build\nRUN a\nfrom build\nFROM scratch\nCMD b"
    )
    assert [each.definitions for each in dockerfile.args] == [
        (ArgDefinition("V", "1"), ArgDefinition("W")),
        (ArgDefinition("X"),),
    ]
    first, second, third = dockerfile.stages
    assert (first.name, first.index, first.base.platform, first.base.stage_name) == (
        "build",
        0,
        "$BUILDPLATFORM",
        "Build",
    )
    assert resolve(first.base, {"V": "1", "BUILDPLATFORM": "linux/arm64"}.get).image == "busybox:1"
    assert [len(stage.instructions) for stage in dockerfile.stages] == [1, 0, 1]
    assert dockerfile.find_stage("BUILD") == first
    assert dockerfile.find_stage("1") == second
    assert dockerfile.find_stage("2", before=2) is None
    assert dockerfile.find_stage("build", before=0) is None
    assert dockerfile.find_stage("busybox") is None
    assert third.name == ""


# Commands


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('["/bin/bash", "-c", "echo hello"]', ExecForm(("/bin/bash", "-c", "echo hello"))),
        ('[ "echo" , "b\\u0041" ]', ExecForm(("echo", "bA"))),
        ("['a', 'b']", ShellForm("['a', 'b']")),
        ('["c:\\windows\\system32\\tasklist.exe"]', ShellForm('["c:\\windows\\system32\\tasklist.exe"]')),
        (
            '["c:\\\\windows\\\\system32\\\\tasklist.exe"]',
            ExecForm(("c:\\windows\\system32\\tasklist.exe",)),
        ),
        ("[ -f x ] && y", ShellForm("[ -f x ] && y")),
        ('["a"] trailing', ExecForm(("a",))),
        ('["a"', ShellForm('["a"')),
        ('["a",]', ShellForm('["a",]')),
        ("echo   a  b", ShellForm("echo   a  b")),
        ('["half \\ud800"]', ExecForm(("half \ufffd",))),
    ],
)
def test_shell_and_exec_form(text: str, command: object) -> None:
    assert run(f"RUN {text}").command == command
    for keyword, kind in (("CMD", Cmd), ("ENTRYPOINT", Entrypoint), ("HEALTHCHECK CMD", Healthcheck)):
        instruction = one(f"{keyword} {text}")
        assert isinstance(instruction, kind)
        assert instruction.command == command


def test_empty_commands() -> None:
    for text in ("CMD", "CMD []"):
        instruction = one(text)
        assert isinstance(instruction, Cmd)
        assert instruction.command == ExecForm(())


# Here-documents


def test_a_script() -> None:
    assert run("RUN <<EOF\n  a $x\\\n\n# no comment\nEOF").script == Script(
        "  a $x\\\n\n# no comment\n", name="EOF"
    )


def test_a_script_for_another_program() -> None:
    assert run("RUN <<EOT bash\n  set -ex\nEOT").script == Script("<<EOT bash\n  set -ex\nEOT\n")


def test_a_script_with_its_interpreter() -> None:
    script = run("RUN <<-'EOT'\n\t#!/usr/bin/env python\n\tprint(1)\n\tEOT").script
    assert script == Script("#!/usr/bin/env python\nprint(1)\n", own_interpreter=True, name="EOT")


def test_several_here_documents() -> None:
    instruction = run(
        "RUN <<FILE1 cat > file1 && <<FILE2 cat > file2\nI am\nfirst\nFILE1\nI am\nsecond\nFILE2"
    )
    assert [each.content for each in instruction.heredocs] == ["I am\nfirst\n", "I am\nsecond\n"]
    assert instruction.script == Script(
        "<<FILE1 cat > file1 && <<FILE2 cat > file2\nI am\nfirst\nFILE1\nI am\nsecond\nFILE2\n"
    )
    assert (instruction.location.first, instruction.location.last) == (2, 8)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat <<EOF", ["EOF"]),
        ("3<<EOF cat", ["EOF"]),
        ("cat <<'E F' x", ["E F"]),
        ('cat <<"E\'F"', ["E'F"]),
        ("cat <<E\\OF", ["EOF"]),
        ("(cat <<EOF); x", ["EOF"]),
        ("cat <<EOF>file", ["EOF"]),
        ("--mount=type=cache,target=/c cat <<EOF", ["EOF"]),
        ("cat <<A <<-B", ["A", "B"]),
        ("cat <<<word", []),
        ("echo '<<EOF'", []),
        ('echo "a <<EOF"', []),
        ("echo a<<EOF", []),
        ("x=$((1 << 2)) && y=$((1 <<2))", []),
        ("echo 1 << 2", []),
        ("echo it's <<EOF", []),
        ('["cat", "<<EOF"]', []),
        ("cat << EOF", []),
    ],
)
def test_where_here_documents_begin(text: str, names: list[str]) -> None:
    bodies = "".join(f"\nbody of {name}\n{name}" for name in names)
    assert [each.name for each in run(f"RUN {text}{bodies}").heredocs] == names


def test_only_some_instructions_have_them() -> None:
    label = one("LABEL a=x <<EOF=y")
    assert isinstance(label, Label)
    assert label.pairs == (Pair("a", "x"), Pair("<<EOF", "y"))


def test_inline_files() -> None:
    text = "COPY <<EOF <<-'B' plain.txt /d/\nhello $A\nEOF\n\t$A\n\tB"
    copy = one(text)
    assert isinstance(copy, Copy)
    assert copy.sources == (
        Heredoc("EOF", "hello $A\n"),
        Heredoc("B", "\t$A\n", expand=False, strip_tabs=True),
        "plain.txt",
    )
    resolved = resolve(copy, {"A": "you"}.get)
    assert [each.content for each in resolved.sources if isinstance(each, Heredoc)] == ["hello you\n", "$A\n"]


def test_carriage_returns_stay_in_a_body() -> None:
    assert run("RUN <<EOF\r\na\r\nEOF\r").heredocs == (Heredoc("EOF", "a\r\n"),)


# Options


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/x", Mount("bind", "/x", readonly=True)),
        ("type=bind,src=a,dst=/x,rw", Mount("bind", "/x", source="a")),
        (
            "from=build,source=/a,destination=/x",
            Mount("bind", "/x", source="/a", from_="build", readonly=True),
        ),
        ("type=cache,target=/c", Mount("cache", "/c", id="/c")),
        (
            "type=cache,target=/c,id=k,sharing=locked,ro,mode=0700,uid=1,gid=2,from=x",
            Mount("cache", "/c", "", "x", "k", "locked", True, 0o700, 1, 2),
        ),
        ("type=tmpfs,target=/t,size=64m", Mount("tmpfs", "/t", size_bytes=64 * 2**20)),
        ("type=tmpfs,target=/t,size=1.5GiB", Mount("tmpfs", "/t", size_bytes=3 * 2**29)),
        ("type=secret,id=aws", Mount("secret", "/run/secrets/aws", id="aws")),
        ("type=secret,target=/a/key,required", Mount("secret", "/a/key", id="key", required=True)),
        ("type=secret,id=K,env=K", Mount("secret", "", id="K", env="K")),
        ("type=secret,id=K,env=K,target=/k,required=false", Mount("secret", "/k", id="K", env="K")),
        ("type=ssh", Mount("ssh", id="default")),
        ("type=ssh,id=git,mode=0666", Mount("ssh", id="git", mode=0o666)),
        ('type=bind,"source=a,b",target=/x', Mount("bind", "/x", source="a,b", readonly=True)),
        ("TYPE=cache,Target=/c", Mount("cache", "/c", id="/c")),
    ],
)
def test_mounts(text: str, mount: Mount) -> None:
    quoted = f"'{text}'" if '"' in text else text
    assert run(f"RUN --mount={quoted} x").mounts == (mount,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=cahe,target=/x", "unsupported mount type 'cahe'"),
        ("type=cache", "a cache mount needs a target"),
        ("source=a", "a bind mount needs a target"),
        ("type=secret", "one of id, target required"),
        ("target=/x,sharing=locked", "sharing is not allowed for type bind"),
        ("type=cache,target=/x,sharing=mine", "unsupported sharing value 'mine'"),
        ("type=cache,target=/x,mode=999", "'999' is not an octal mode"),
        ("type=cache,target=/x,uid=root", "'root' is not a user ID"),
        ("type=secret,id=x,required=maybe", "neither true nor false"),
        ("type=cache,tagret=/x", "unexpected key 'tagret' .did you mean target"),
        ("type=bind,target=/x,from=$y", "'from' doesn't support variable expansion"),
        ("type=bind,target", "target needs a value"),
        ("type=tmpfs,target=/x,size=big", "'big' is not a size"),
        ('"type=bind', "mount"),
    ],
)
def test_wrong_mounts(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message):
        one(f"RUN --mount={text} x")


def test_variables_in_mounts() -> None:
    instruction = run("RUN --mount=type=cache,target=$D,id=pip-$A,uid=$U,sharing=$S x")
    assert instruction.mounts[0].uid is None
    resolved = resolve(instruction, {"D": "/c", "A": "arm64", "U": "7", "S": "locked"}.get)
    assert resolved.mounts == (Mount("cache", "/c", id="pip-arm64", uid=7, sharing="locked"),)
    with pytest.raises(DockerfileError, match="'x' is not a user ID"):
        resolve(instruction, {"D": "/c", "U": "x"}.get)


def test_the_other_options_of_run() -> None:
    instruction = run(
        "RUN --network=none --security=insecure --device=nvidia.com/gpu=all,required --device=x a --b"
    )
    assert (instruction.network, instruction.security) == ("none", "insecure")
    assert instruction.devices == (Device("nvidia.com/gpu=all", True), Device("x"))
    assert instruction.command == ShellForm("a --b")
    assert run("RUN -- --x").command == ShellForm("--x")


def test_copy_and_add() -> None:
    assert one(
        'COPY --from=build --chown=1:2 --chmod=u=rwX --link --parents --exclude=*.md --exclude=a a "b" /c/'
    ) == Copy(
        location=one("CMD").location,
        original="",
        sources=("a", '"b"'),
        destination="/c/",
        from_="build",
        chown="1:2",
        chmod="u=rwX",
        link=True,
        parents=True,
        exclude=("*.md", "a"),
    )
    assert one('ADD --checksum=sha256:0 --keep-git-dir=true --unpack=false ["a b", "/c d"]') == Add(
        location=one("CMD").location,
        original="",
        sources=("a b",),
        destination="/c d",
        checksum="sha256:0",
        keep_git_dir=True,
        unpack=False,
    )


# Resolution


def test_an_instruction_sees_the_values_before_it() -> None:
    env = one("ENV abc=bye def=$abc")
    assert isinstance(env, Env)
    assert resolve(env, {"abc": "hello"}.get).pairs == (Pair("abc", "bye"), Pair("def", "hello"))


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ('ENV MY_NAME="John Doe" MY_DOG=Rex\\ The\\ Dog \\\n    MY_CAT=fluffy', [("MY_NAME", "John Doe"), ("MY_DOG", "Rex The Dog"), ("MY_CAT", "fluffy")]),
        ("ENV ONE TWO= THREE=world", [("ONE", "TWO= THREE=world")]),
        ("ENV X Y  Z=1 'a' \"b\"", [("X", "Y  Z=1 a b")]),
        ('LABEL "com.example.vendor"="ACME Incorporated" a.b=c', [("com.example.vendor", "ACME Incorporated"), ("a.b", "c")]),
        ('LABEL description="This text illustrates \\\nthat label-values can span multiple lines."', [("description", "This text illustrates that label-values can span multiple lines.")]),
        ("LABEL \"a b\"=\"c d\" e\\ f=g '$A'=h $A=i", [("a b", "c d"), ("e f", "g"), ("$A", "h"), ("value", "i")]),
        ("LABEL a=b\\ c d=\"e\\ f\" g='h\\ i' j=a\"b c\"d", [("a", "b c"), ("d", "e\\ f"), ("g", "h\\ i"), ("j", "ab cd")]),
        ("LABEL a=b=c d=", [("a", "b=c"), ("d", "")]),
    ],
)  # fmt: skip
def test_pairs(text: str, pairs: list[tuple[str, str]]) -> None:
    instruction = one(text)
    assert isinstance(instruction, Env | Label)
    resolved = resolve(instruction, {"A": "value"}.get)
    assert [(pair.key, pair.value) for pair in resolved.pairs] == pairs


def test_the_words_that_are_expanded() -> None:
    lookup = {"A": "p q", "N": "1", "F": "/bar"}.get
    words = {
        "EXPOSE 80 $X $N-3/udp $A": ("80", "1-3/udp", "p", "q"),
        'VOLUME /a $A "/q"': ("/a", "p q", "/q"),
        "USER $N:$N": "1:1",
        'WORKDIR "$F b/$X"': "/bar b/",
        "STOPSIGNAL ${X:-9}": "9",
        "ADD . $F": "/bar",
        "COPY \\$F /quux": ("$F",),
        "ARG a=$N b": (ArgDefinition("a", "1"), ArgDefinition("b")),
    }
    got: dict[str, object] = {}
    for text in words:
        resolved = resolve(one(text), lookup)
        match resolved:
            case Expose():
                got[text] = resolved.ports
            case Volume():
                got[text] = resolved.paths
            case Copy():
                got[text] = resolved.sources
            case Add():
                got[text] = resolved.destination
            case Arg():
                got[text] = resolved.definitions
            case _:
                got[text] = getattr(
                    resolved, {"USER": "user", "WORKDIR": "path"}.get(resolved.KEYWORD, "signal")
                )
    assert got == words
    options = resolve(one("ADD --chown=$N --chmod=$N --exclude=$F --checksum=$N a $F"), lookup)
    assert isinstance(options, Add)
    assert (options.chown, options.chmod, options.exclude, options.checksum) == ("1", "1", ("/bar",), "1")


@pytest.mark.parametrize(
    "text",
    [
        "RUN echo $A",
        'CMD ["$A"]',
        "ENTRYPOINT $A",
        "HEALTHCHECK CMD $A",
        'SHELL ["$A"]',
        "ONBUILD ENV a=$A",
        "MAINTAINER $A",
    ],
)
def test_the_words_that_are_not(text: str) -> None:
    assert resolve(one(text), {"A": "value"}.get) == one(text)


def test_errors_of_values_show_the_line() -> None:
    with pytest.raises(DockerfileError) as caught:
        resolve(one('ENV a="${b:?give me b}"'), NOTHING.get)
    assert str(caught.value).splitlines() == [
        'dockerfile parse error on line 2: failed to process ""${b:?give me b}"": b: give me b',
        '  Dockerfile:2: ENV a="${b:?give me b}"',
    ]
    with pytest.raises(DockerfileError, match=r"base name .* should not be blank"):
        resolve(parse(b"FROM $X").stages[0].base, NOTHING.get)
    with pytest.raises(DockerfileError, match="write paths with blanks as"):
        resolve(one('COPY "b c" /x'), NOTHING.get)
    assert issubclass(DockerfileError, InvalidParameter)
    assert issubclass(ExpansionError, InvalidParameter)


# Health checks, triggers


def test_health_checks() -> None:
    check = one(
        "HEALTHCHECK --interval=5m --timeout=1.5s --start-period=2s --start-interval=1ms --retries=2 \\\n  CMD curl -f x || exit 1"
    )
    assert isinstance(check, Healthcheck)
    assert check.command == ShellForm("curl -f x || exit 1")
    assert (
        check.interval_ns,
        check.timeout_ns,
        check.start_period_ns,
        check.start_interval_ns,
        check.retries,
    ) == (
        300 * 10**9,
        1_500_000_000,
        2 * 10**9,
        10**6,
        2,
    )
    none = one("healthcheck none")
    assert isinstance(none, Healthcheck)
    assert none.command is None


def test_triggers() -> None:
    onbuild = one("ONBUILD  run  echo  \\\n  x")
    assert isinstance(onbuild, Onbuild)
    assert onbuild.trigger == "run  echo    x"
    assert parse_trigger(onbuild.trigger) == one(onbuild.trigger)


def test_a_trigger_with_a_here_document() -> None:
    onbuild = one("ONBUILD COPY --from=build <<EOF /x\nEOF not yet\n  $A\nEOF")
    assert isinstance(onbuild, Onbuild)
    assert onbuild.trigger == "COPY --from=build <<EOF /x\nEOF not yet\n  $A\nEOF"
    copy = parse_trigger(onbuild.trigger)
    assert isinstance(copy, Copy)
    assert copy.sources == (Heredoc("EOF", "EOF not yet\n  $A\n"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("MAINTAINER x", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FOO", "unknown instruction: FOO"),
    ],
)
def test_what_is_no_trigger(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message):
        one(f"ONBUILD {text}")
    with pytest.raises(DockerfileError, match=message):
        parse_trigger(text)


def test_a_trigger_is_one_instruction() -> None:
    for text in ("", "# escape=`", "RUN a\nRUN b"):
        with pytest.raises(DockerfileError, match="must be one instruction"):
            parse_trigger(text)


# Errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file with no instructions"),
        ("\n# only a comment\n", "file with no instructions"),
        ("RUN x", "no build stage in current context"),
        ("ARG x", "no build stage in current context"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a IS b", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            'invalid name for build stage: "1x", name can\'t start with a number or contain symbols',
        ),
        ("FROM --foo=1 a", "unknown flag: --foo"),
        ("FROM a\nRUNN x", "unknown instruction: RUNN .did you mean RUN"),
        ("FROM a\nCOPPY x y", "unknown instruction: COPPY .did you mean COPY"),
        ("FROM a\n123", "unknown instruction: 123"),
        ("FROM a\nRUN\u200bx y", "unknown instruction: RUN\u200bx .there is an invisible character"),
        ("FROM a\nRUN", "RUN requires at least one argument"),
        ("FROM a\nRUN []", "no command specified"),
        ("FROM a\nRUN [1]", "arrays must be comprised of strings only"),
        ('FROM a\nCMD ["a", ["b"]]', "arrays must be comprised of strings only"),
        ("FROM a\nRUN --mout=x y", "unknown flag: --mout .did you mean --mount"),
        (
            "FROM a\nRUN --network=fast x",
            "invalid value for --network: 'fast': use one of default, none, host",
        ),
        ("FROM a\nRUN --network=host --network=none x", "can only be given once: --network"),
        ("FROM a\nRUN <<EOF\nx", "unterminated heredoc: EOF"),
        ("FROM a\nCMD --foo bar", "unknown flag: --foo"),
        ("FROM a\nENV a", "ENV must have two arguments"),
        ("FROM a\nENV =b", "ENV names can not be blank"),
        ("FROM a\nENV a=b c", 'Syntax error - can\'t find = in "c". Must be of the form: name=value'),
        ("FROM a\nENV", "ENV requires at least one argument"),
        ("FROM a\nLABEL", "LABEL requires at least one argument"),
        ("FROM a\nEXPOSE", "EXPOSE requires at least one argument"),
        ("FROM a\nVOLUME", "VOLUME requires at least one argument"),
        ('FROM a\nVOLUME [""]', "VOLUME specified can not be an empty string"),
        ("FROM a\nARG", "ARG requires at least one argument"),
        ("FROM a\nARG =x", "ARG names can not be blank"),
        ("FROM a\nUSER", "USER requires exactly one argument"),
        ("FROM a\nCOPY", "COPY requires at least two arguments"),
        ("FROM a\nCOPY x", "but only one was provided. Destination could not be determined"),
        ("FROM a\nCOPY --from x y", "missing a value on flag: --from"),
        ("FROM a\nCOPY --from=$x a b", "variable expansion is not supported for --from"),
        ("FROM a\nCOPY --link=maybe a b", "expected a boolean value for flag --link"),
        ("FROM a\nCOPY a <<EOF\nEOF", "cannot accept a heredoc as a destination"),
        ("FROM a\nSHELL sh", "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nSHELL []", "SHELL requires at least one argument"),
        ("FROM a\nHEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("FROM a\nHEALTHCHECK FOO", 'Unknown type "FOO" in HEALTHCHECK .try CMD'),
        ("FROM a\nHEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("FROM a\nHEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK --retries=1 NONE", "unknown flag: --retries"),
        ("FROM a\nHEALTHCHECK --interval=1us CMD x", "cannot be less than 1ms"),
        ("FROM a\nHEALTHCHECK --interval=soon CMD x", "expected a duration"),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative"),
        ("FROM a\nONBUILD", "ONBUILD requires at least one argument"),
        ("# escape=x\nFROM a", "invalid escape token 'x' does not match ` or"),
        ("# escape=`\n# escape=`\nFROM a", "only one escape parser directive can be used"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message):
        parse(text.encode())


def test_what_an_error_shows() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(b"FROM a\n\nCOPY --from=b \\\n  x\n", name="api/Dockerfile")
    assert str(caught.value).splitlines() == [
        "dockerfile parse error on line 3: COPY requires at least two arguments, but only one was provided."
        " Destination could not be determined",
        "  api/Dockerfile:3: COPY --from=b   x",
        "  expected: COPY [--from=…] [--chown=…] [--chmod=…] [--link] [--parents] [--exclude=…] <src>… <dest>",
    ]
    assert caught.value.location is not None
    assert (caught.value.location.first, caught.value.location.last) == (3, 4)


def test_a_working_directory_may_have_blanks() -> None:
    workdir = one("WORKDIR /a b")
    assert isinstance(workdir, Workdir)
    assert workdir.path == "/a b"
