"""The build checks: for each rule the Dockerfile that its page calls bad, and those that it calls good."""

import pytest

from minid.build.dockerfile import CheckOptions, Surroundings, check, parse, parse_options
from minid.build.dockerfile.checks import RULES
from minid.errors import InvalidParameter

EVERYTHING = CheckOptions(experimental=frozenset(["all"]))


def found(text: str, **surroundings: object) -> list[tuple[str, str, int]]:
    warnings = check(
        parse(text.encode()),
        options=EVERYTHING,
        surroundings=Surroundings(**surroundings),  # type: ignore[arg-type]
    )
    return [(each.rule, each.message, each.location.first) for each in warnings]


BAD = [
    ("FROM alpine AS BuilderBase", "StageNameCasing", "Stage name 'BuilderBase' should be lowercase", 1),
    ("FROM debian:latest as builder", "FromAsCasing", "'as' and 'FROM' keywords' casing do not match", 1),
    ("from debian:latest AS builder", "FromAsCasing", "'AS' and 'from' keywords' casing do not match", 1),
    (
        "FROM alpine\nRUN apk add \\\n\n    gnupg \\\n\n    curl",
        "NoEmptyContinuation",
        "Empty continuation line found in: RUN apk add     gnupg     curl",
        2,
    ),
    (
        'FROM alpine\nRUN a\nEntryPoint ["a"]',
        "ConsistentInstructionCasing",
        "Command 'EntryPoint' should match the case of the command majority (uppercase)",
        3,
    ),
    (
        "from alpine\nrun a\nRUN b",
        "ConsistentInstructionCasing",
        "Command 'RUN' should match the case of the command majority (lowercase)",
        3,
    ),
    (
        "FROM a AS build\nFROM b AS build",
        "DuplicateStageName",
        "Duplicate stage name 'build', stage names should be unique",
        2,
    ),
    (
        "FROM alpine AS scratch",
        "ReservedStageName",
        "'scratch' is reserved and should not be used as a stage name",
        1,
    ),
    (
        "FROM alpine AS context",
        "ReservedStageName",
        "'context' is reserved and should not be used as a stage name",
        1,
    ),
    (
        "FROM alpine\nENTRYPOINT my-program start",
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
        2,
    ),
    (
        "FROM alpine\nMAINTAINER moby@example.com",
        "MaintainerDeprecated",
        "Maintainer instruction is deprecated in favor of using label",
        2,
    ),
    (
        "ARG VERSION=1\nFROM alpine:$VERSIN",
        "UndefinedArgInFrom",
        "FROM argument 'VERSIN' is not declared (did you mean VERSION?)",
        2,
    ),
    (
        "FROM nginx AS web\nWORKDIR usr/share/nginx/html",
        "WorkdirRelativePath",
        "Relative workdir 'usr/share/nginx/html' can have unexpected results if the base image changes",
        2,
    ),
    ("FROM scratch\nCOPY $foo .", "UndefinedVar", "Usage of undefined variable '$foo'", 2),
    (
        "FROM alpine\nENV PATH=$PAHT:/app/bin",
        "UndefinedVar",
        "Usage of undefined variable '$PAHT' (did you mean $PATH?)",
        2,
    ),
    ("ARG A=1\nFROM scratch\nLABEL a=$A", "UndefinedVar", "Usage of undefined variable '$A'", 3),
    (
        "FROM alpine\nCMD [\"a\"]\nRUN x\nCMD [\"b\"]",
        "MultipleInstructionsDisallowed",
        "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        2,
    ),
    (
        "FROM alpine\nENV name value",
        "LegacyKeyValueFormat",
        '"ENV key=value" should be used instead of legacy "ENV key value" format',
        2,
    ),
    (
        "FROM alpine\nLABEL key value",
        "LegacyKeyValueFormat",
        '"LABEL key=value" should be used instead of legacy "LABEL key value" format',
        2,
    ),
    (
        "FROM --platform=$TARGETPLATFORM alpine AS builder",
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        1,
    ),
    (
        "FROM scratch\nARG AWS_SECRET_ACCESS_KEY",
        "SecretsUsedInArgOrEnv",
        'Do not use ARG or ENV instructions for sensitive data (ARG "AWS_SECRET_ACCESS_KEY")',
        2,
    ),
    (
        "FROM scratch\nENV db_password=x",
        "SecretsUsedInArgOrEnv",
        'Do not use ARG or ENV instructions for sensitive data (ENV "db_password")',
        2,
    ),
    (
        "ARG TAG\nFROM busybox:${TAG}",
        "InvalidDefaultArgInFrom",
        "Default value for ARG busybox:${TAG} results in empty or invalid base image name",
        2,
    ),
    (
        "FROM --platform=linux/amd64 alpine AS base",
        "FromPlatformFlagConstDisallowed",
        'FROM --platform flag should not use constant value "linux/amd64"',
        1,
    ),
    ("# a non-descriptive comment\nFROM scratch AS base", "InvalidDefinitionDescription", RULES["InvalidDefinitionDescription"], 2),
    ("FROM scratch\n# another comment\nARG VERSION=1", "InvalidDefinitionDescription", RULES["InvalidDefinitionDescription"], 3),
    (
        "FROM alpine\nEXPOSE 80/TcP",
        "ExposeProtoCasing",
        "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
        2,
    ),
    (
        "FROM alpine\nEXPOSE 127.0.0.1:80:80",
        "ExposeInvalidFormat",
        "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
        2,
    ),
    (
        "FROM alpine\nRUN ['a', 'b']",
        "JSONFormMistaken",
        "RUN: not a JSON array (use double quotes), so the shell is given ['a', 'b']",
        2,
    ),
    ('FROM alpine\nRUN ["ls", "/"] || true', "JSONFormMistaken", "RUN: '|| true' after the array is ignored", 2),
    (
        'FROM alpine\nRUN ["c:\\windows.exe"]',
        "JSONFormMistaken",
        'RUN: not a JSON array (use double quotes), so the shell is given ["c:\\windows.exe"]',
        2,
    ),
    (
        "FROM alpine\nVOLUME ['/a', '/b']",
        "JSONFormMistaken",
        "VOLUME: not a JSON array (use double quotes), so the volumes are ['/a', '/b']",
        2,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "rule", "message", "line"), BAD)
def test_bad(text: str, rule: str, message: str, line: int) -> None:
    assert found(text) == [(rule, message, line)]


@pytest.mark.parametrize(
    "text",
    [
        "FROM debian:latest AS deb-builder",
        "from debian:latest as deb-builder",
        'from alpine\nrun echo hello > /greeting.txt\nentrypoint ["cat", "/greeting.txt"]',
        "FROM alpine\nEXPOSE \\\n# Port\n80",
        'FROM alpine\nRUN apk add bash\nSHELL ["/bin/bash", "-c"]\nENTRYPOINT echo "hello world"',
        'FROM alpine AS base\nSHELL ["/bin/bash", "-c"]\nFROM base\nCMD a',
        "FROM nginx AS web\nWORKDIR /usr/share/nginx/html\nWORKDIR x",
        "FROM nginx AS web\nWORKDIR /a\nFROM web\nWORKDIR x",
        "FROM alpine AS base\nARG foo\nCOPY $foo .",
        "FROM scratch\nCOPY ${foo:-x} ${foo+y}.",
        "FROM golang\nENV X=$GOPATH/bin",  # what golang sets is not known here
        "FROM scratch AS a\nENV X=1\nFROM a\nLABEL x=$X",
        "FROM scratch\nLABEL x=\\$X y='$X'",
        "FROM scratch\nRUN echo $X",
        'FROM python:alpine\nHEALTHCHECK --interval=1s CMD curl -f http://localhost:8080 || exit 1\nCMD ["a"]',
        'FROM alpine\nCMD ["a"]\nFROM alpine\nCMD ["a"]',
        "FROM alpine\nARG foo=bar",
        "FROM scratch\nENV GPG_PUBLIC_KEY=x KEYBOARD=us TOKENIZER=x MONKEY=x",
        "ARG TAG=latest\nFROM busybox:${TAG}",
        "ARG VARIANT\nFROM busybox:stable${VARIANT}",
        "ARG TAG\nFROM alpine:${TAG:-3.14}",
        "FROM --platform=${BUILDPLATFORM} alpine AS base",
        "FROM --platform=linux/amd64 alpine AS build_amd64\nFROM --platform=linux/arm64 alpine AS build_arm64\n"
        "FROM build_${TARGETARCH} AS build",
        "# a non-descriptive comment\n\nFROM scratch AS base\n\n# another one\n\nARG VERSION=1",
        "# base is a stage for compiling source\nFROM scratch AS base\n# VERSION This is the version number.\nARG VERSION=1",
        "FROM alpine\nEXPOSE 80/tcp 1000-1010/udp $PORT",
        'FROM alpine\nRUN [ -f x ] && y\nRUN [ "$a" = b ] && x\nRUN [ "$a" -lt "1" ]',
        "FROM scratch\nENV LONG=1\nLABEL a=$LONG",
        "FROM alpine\nCOPY ./forever/helloworld.txt /helloworld.txt",
    ],
)  # fmt: skip
def test_good(text: str) -> None:
    assert found(text) == []


def test_ignored_files() -> None:
    text = (
        "FROM scratch AS a\nCOPY ./tmp/x ok /y\nADD https://tmp/x *.c <<EOF /z\nEOF\nCOPY --from=a tmp/x /z"
    )
    assert found(text, is_ignored=lambda path: path.startswith("tmp/")) == [
        ("CopyIgnoredFile", 'Attempting to Copy file "./tmp/x" that is excluded by .dockerignore', 2)
    ]


def test_what_is_known_of_the_surroundings() -> None:
    text = "FROM python:3\nLABEL a=$PYTHON_VERSION b=$NOPE"
    assert found(text) == []
    known = found(text, variables_of=lambda image: {"PYTHON_VERSION"} if image == "python:3" else None)
    assert known == [("UndefinedVar", "Usage of undefined variable '$NOPE'", 2)]
    relative = "FROM x\nARG D\nWORKDIR $D"
    assert found(relative) == []
    slips = "FROM x\nENV FOLDER=1\nLABEL a=$FOLDR b=$FOLDERS c=$FLODER d=$FOLDEM e=$FOLDERING f=$FO g=$GOPATH h=$AB"
    names = [message.partition("'$")[2].partition("'")[0] for _, message, _ in found(slips)]
    assert names == ["FOLDR", "FOLDERS", "FLODER", "FOLDEM"]
    assert [rule for rule, _, _ in found(relative, build_args={"D": "sub"})] == ["WorkdirRelativePath"]


def test_the_directive() -> None:
    text = "FROM alpine AS Base\nMAINTAINER x\n# c\nARG a\n"
    rules = {
        "": ["StageNameCasing", "MaintainerDeprecated"],
        "# check=skip=all\n": [],
        "# check=skip=StageNameCasing\n": ["MaintainerDeprecated"],
        "# check=skip=stagenamecasing\n": ["StageNameCasing", "MaintainerDeprecated"],
        "# check=skip=StageNameCasing,MaintainerDeprecated;error=true\n": [],
        "# check=experimental=all\n": [
            "StageNameCasing",
            "MaintainerDeprecated",
            "InvalidDefinitionDescription",
        ],
    }
    for directive, expected in rules.items():
        assert [each.rule for each in check(parse((directive + text).encode()))] == expected
    (warning, *_) = check(parse(text.encode()))
    assert str(warning) == "StageNameCasing: Stage name 'Base' should be lowercase (Dockerfile:1)"
    assert warning.description == "Stage names should be lowercase"


def test_options() -> None:
    assert parse_options("skip=JSONArgsRecommended, StageNameCasing;error=true") == CheckOptions(
        frozenset(["JSONArgsRecommended", "StageNameCasing"]), error=True
    )
    assert parse_options("") == CheckOptions()
    for text in ("skip", "error=maybe", "what=ever", "=x"):
        with pytest.raises(InvalidParameter, match="check option"):
            parse_options(text)


def test_every_rule_is_tested() -> None:
    tested = {rule for _, rule, _, _ in BAD} | {"CopyIgnoredFile"}
    assert tested == set(RULES)
