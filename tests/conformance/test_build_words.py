"""What the words of a Dockerfile come to in the image's config: the same by dockerd's classic builder and by minid."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cli import Cli
from tests.wire import Wire

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
START = "FROM BASE\nENV A='p q' E=\n"
ENV = ["A=p q", "E="]

Build = Callable[[str], Any]


@pytest.fixture
def build(docker_cli: Cli, busybox: str, wire: Wire) -> Iterator[Build]:
    """Builds a Dockerfile without a context: the new image's config, or the error."""
    before = {image["Id"] for image in wire.get("/images/json", all="1")}

    def run(dockerfile: str) -> Any:
        result = docker_cli(
            *("build", "-q", "--network", "none", "-"),
            stdin=dockerfile.replace("BASE", busybox),
            env={"DOCKER_BUILDKIT": "0"},
        )
        if result.code:
            return result.err
        return wire.get(f"/images/{result.out.split()[-1]}/json")["Config"]

    yield run
    for image in wire.get("/images/json", all="1"):
        if image["Id"] not in before:
            wire("DELETE", f"/images/{image['Id']}", query={"force": "1"})


CASES: list[tuple[str, dict[str, Any]]] = [
    (
        "ENV X Y  Z=1 'a' \"b\"\nLABEL \"a b\"=\"c d\" e\\ f=g '$A'=h $A=i",
        {"Env": [*ENV, "X=Y  Z=1 a b"], "Labels": {"$A": "h", "a b": "c d", "e f": "g", "p q": "i"}},
    ),
    (
        "ENV X=$A Y=\"$A\" Z='$A' W=\\$A V=${A} U=\"${A:-z}\" R=${E:-e} Q=${N:+n} O=\"a\\nb\\\"c\\$d\\\\e\" M=${N:-x}",
        {
            "Env": [
                *(*ENV, "X=p q", "Y=p q", "Z=$A", "W=$A", "V=p q", "U=p q", "R=e", "Q=", 'O=a\\nb"c$d\\e'),
                "M=x",
            ]
        },
    ),
    ("ENV A=$$x B=$? C=$ D=a$1b\\", {"Env": ["A=x", "E=", "B=", "C=$", "D=ab"]}),
    ("ENV A=new B=$A\nENV C=$A", {"Env": ["A=new", "E=", "B=p q", "C=new"]}),
    (
        "EXPOSE 80 $N 443/udp ${A:+1-3} 9:10\nVOLUME /a $A \"/q\"\nUSER \"u\"\nSTOPSIGNAL ${N:-9}",
        {
            "Env": ENV,
            "ExposedPorts": {key: {} for key in ("1/tcp", "2/tcp", "3/tcp", "443/udp", "80/tcp", "10/tcp")},
            "Volumes": {"/a": {}, "p q": {}, "/q": {}},
            "User": "u",
            "StopSignal": "9",
        },
    ),
    ("WORKDIR \"/a b\"\nWORKDIR c\nWORKDIR ${N}d", {"Env": ENV, "WorkingDir": "/a b/c/d"}),
    ("ARG Q=$A R=\"r s\" S=$Q\nENV Z=$Q-$R-$S", {"Env": [*ENV, "Z=p q-r s-"]}),
    (
        "HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=2 --start-period=2s CMD echo  a  b",
        {
            "Env": ENV,
            "Healthcheck": {
                "Test": ["CMD-SHELL", "echo  a  b"],
                "Interval": 90_000_000_000,
                "Timeout": 1_500_000_000,
                "StartPeriod": 2_000_000_000,
                "Retries": 2,
            },
        },
    ),
    (
        'CMD  echo   $A \\\n  # comment\n x\nENTRYPOINT [ "a" , "b\\u0041" ]',
        {"Env": ENV, "Cmd": ["/bin/sh", "-c", "echo   $A  x"], "Entrypoint": ["a", "bA"]},
    ),
    ("CMD ['a']", {"Env": ENV, "Cmd": ["/bin/sh", "-c", "['a']"]}),
    ('CMD ["a"] trailing', {"Env": ENV, "Cmd": ["a"]}),
    ('SHELL ["/bin/sh","-x","-c"]\nCMD a', {"Env": ENV, "Shell": ["/bin/sh", "-x", "-c"], "Cmd": ["/bin/sh", "-x", "-c", "a"]}),
    ("ONBUILD  run  echo  \\\n  x\nonbuild COPY a  b", {"Env": ENV, "OnBuild": ["run  echo    x", "COPY a  b"]}),
    ("LABEL a=c:\\\\\nLABEL b=d\\\ne", {"Env": ENV, "Labels": {"a": "c:\\", "b": "de"}}),
    ("label  a=b \\\r\n   c=d\r\n\tcmd x\ty\r", {"Env": ENV, "Labels": {"a": "b", "c": "d"}, "Cmd": ["/bin/sh", "-c", "x\ty"]}),
    ("LABEL a=\"x\\\n   y\"", {"Env": ENV, "Labels": {"a": "x   y"}}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_words(build: Build, text: str, expected: dict[str, Any]) -> None:
    config = build(START + text)
    assert isinstance(config, dict), config
    wanted = {"Cmd": config["Cmd"], **expected}  # without one of its own it has the base image's
    got = {key: value for key, value in config.items() if value and key in {*wanted, "Labels", "Volumes"}}
    got["Env"] = [item for item in config["Env"] if item != PATH]
    assert got == wanted


def test_another_escape_character(build: Build) -> None:
    config = build('# escape=`\nFROM BASE\nENV P=c:\\x\\ Q=a` b\nLABEL z="a`"b\\" `\n  y=1\n')
    assert config["Env"][-2:] == ["P=c:\\x\\", "Q=a b"]
    assert config["Labels"] == {"z": 'a"b\\', "y": "1"}


def test_arguments_before_the_first_stage(build: Build) -> None:
    config = build("ARG I=BASE\nFROM ${I:-x}\nENV J=[$I]\nARG I\nENV K=[${I:+set}]\n")
    assert config["Env"][-2:] == ["J=[]", "K=[set]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# comment", "file with no instructions"),
        ("RUN x", "no build stage in current context"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM BASE AS 1x", 'invalid name for build stage: "1x", name can\'t start with a number or contain symbols'),
        (START + "FOO x", "unknown instruction: FOO"),
        (START + "ENV a", "ENV must have two arguments"),
        (START + "ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        (START + "ENV =b", "ENV names can not be blank"),
        (START + "LABEL a='b", "unexpected end of statement while looking for matching single-quote"),
        (START + "LABEL a=${}", "syntax error: bad substitution"),
        (START + "COPY a", "COPY requires at least two arguments, but only one was provided."),
        (START + "SHELL sh", "SHELL requires the arguments to be in JSON form"),
        (START + 'CMD ["a", 1]', "arrays must be comprised of strings only"),
        (START + "HEALTHCHECK FOO", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
        (START + "HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        (START + "ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        (START + "ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("# escape=x\nFROM BASE", "invalid escape token 'x' does not match ` or \\"),
    ],
)  # fmt: skip
def test_errors(build: Build, text: str, message: str) -> None:
    answer = build(text)
    assert isinstance(answer, str), answer
    assert message in answer
