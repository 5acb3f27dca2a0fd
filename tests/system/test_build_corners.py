"""Dockerfiles in which instructions have to do with one another in ways that are not seen from one of them."""

import os

import pytest

from tests.system.test_builds import Builder, builder  # noqa: F401

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.minid_only("dockerd's classic builder has none of these"),
]


def test_a_trigger_needs_a_stage_that_nothing_else_needs(builder: Builder) -> None:  # noqa: F811
    builder.write(
        "FROM BASE AS build\nRUN echo made > /x\n"
        "FROM BASE AS base\nONBUILD COPY --from=build /x /y\n"
        "FROM base\nRUN echo got $(cat /y)\n"
    )
    assert "got made" in builder().out


def test_arguments_are_inherited_by_stages_that_are_based_on_theirs(builder: Builder) -> None:  # noqa: F811
    builder.write("FROM BASE AS p\nARG X=1 Y=$X\nFROM BASE\nFROM p\nRUN echo x=$X y=$Y.\nLABEL x=$X\n")
    result = builder("--build-arg", "X=2")
    assert "x=2 y=." in result.out  # the defaults of a line see what was before the line


def test_locked_caches_in_another_order(builder: Builder) -> None:  # noqa: F811
    one, two = (f"--mount=type=cache,id={name},sharing=locked,target=/{name}" for name in ("one", "two"))
    builder.write(
        f"FROM BASE AS a\nRUN {one} i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo > /q\n"
        f"FROM BASE AS b\nRUN {one} {two} echo > /q\n"
        f"FROM BASE AS c\nRUN {two} {one} --mount=type=cache,id=one,sharing=locked,target=/again echo > /q\n"
        "FROM BASE\nCOPY --from=a /q /a\nCOPY --from=b /q /b\nCOPY --from=c /q /c\n"
    )
    builder.ok("--no-cache")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--network=host", "network.host is not allowed"),
        ("--device=example.org/gpu", "--device is not supported"),
    ],
)
def test_what_a_run_may_not(builder: Builder, option: str, message: str) -> None:  # noqa: F811
    builder.write(f"FROM BASE\nRUN {option} true\n")
    result = builder()
    assert result.code != 0
    assert message in result.err
