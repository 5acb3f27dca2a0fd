"""Whole files and single triggers. Source: docs.docker.com/reference/dockerfile § Format, FROM, ONBUILD."""

from dataclasses import replace

from minid.build.dockerfile import lines
from minid.build.dockerfile.errors import DockerfileError
from minid.build.dockerfile.instructions import check_trigger, parse_statement
from minid.build.dockerfile.model import Arg, Dockerfile, From, Instruction, Location, Stage


def parse(data: bytes, *, name: str = "Dockerfile") -> Dockerfile:
    """``name`` is what errors call the file. ``DockerfileError``, whatever the bytes are."""
    text = lines.decode(data, name)
    directives, statements = lines.read(text, name)
    if not statements:
        raise DockerfileError(f"file with no instructions: the Dockerfile ({name}) cannot be empty")
    args: list[Arg] = []
    bases: list[From] = []
    bodies: list[list[Instruction]] = []
    for statement in statements:
        instruction = parse_statement(statement, directives.escape)
        if isinstance(instruction, From):
            bases.append(instruction)
            bodies.append([])
        elif bodies:
            bodies[-1].append(instruction)
        elif isinstance(instruction, Arg):
            args.append(instruction)
        else:
            raise DockerfileError(
                "no build stage in current context",
                statement.location,
                statement.text,
                "FROM <image> before any instruction but ARG",
            )
    if not bases:
        last = statements[-1]
        raise DockerfileError("no build stage in current context", last.location, last.text, "FROM <image>")
    stages = tuple(
        Stage(index, base.stage_name.lower(), base, tuple(body))
        for index, (base, body) in enumerate(zip(bases, bodies, strict=True))
    )
    return Dockerfile(name, directives, tuple(args), stages, lines.source_lines(text))


def parse_trigger(text: str, *, name: str = "ONBUILD", escape: str = "\\") -> Instruction:
    """The instruction of one trigger of a base image (``Onbuild.trigger``, ``OnBuild`` of its config).

    ``DockerfileError``. Its location is in ``name``, line 1 and following.
    """
    location = Location(name, 1, 1)
    _, statements = lines.read("\n" + text, name, escape)  # a newline ahead: no parser directives here
    if len(statements) != 1:
        raise DockerfileError("an ONBUILD trigger must be one instruction", location, text)
    statement = replace(statements[0], location=location)
    check_trigger(statement.text, lambda reason: DockerfileError(reason, location, statement.text))
    return parse_statement(statement, escape)
