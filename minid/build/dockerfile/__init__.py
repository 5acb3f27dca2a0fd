"""The Dockerfile language: bytes in, records out. Pure: no files, no network, standard library only.

    dockerfile = parse(data, name="Dockerfile")          DockerfileError (an InvalidParameter) with file, line and text
    for stage in dockerfile.stages:                      stage.base is its FROM, stage.instructions what follows
        for instruction in stage.instructions:
            final = resolve(instruction, lookup, escape=dockerfile.directives.escape)

A parsed instruction has its words as written; ``resolve`` expands what the reference expands for that instruction
(``lookup(name)`` gives the value of a variable or None) and nothing else. The records are in ``model``.

    parse_trigger(text)          the instruction of an ONBUILD trigger, in the build of a child
    expand(word, lookup)         one word: variables, quotes, escapes;  process_words: the same, split at white space
    PREDEFINED_ARGS              proxies: usable without ARG, never in history or cache keys
    platform_args(target, build) TARGETPLATFORM … BUILDVARIANT, for the global scope
    check(dockerfile)            the warnings of ``docker build --check``; ``Surroundings`` is what it does not say

Source: docs.docker.com/reference/dockerfile and docs.docker.com/reference/build-checks.
"""

from minid.build.dockerfile.args import BUILDER_ARGS, PLATFORM_ARGS, PREDEFINED_ARGS, platform_args
from minid.build.dockerfile.checks import CheckOptions, CheckWarning, Surroundings, check, parse_options
from minid.build.dockerfile.errors import DockerfileError, ExpansionError
from minid.build.dockerfile.expansion import expand, process_words
from minid.build.dockerfile.parser import parse, parse_trigger
from minid.build.dockerfile.resolution import resolve

__all__ = [
    "BUILDER_ARGS",
    "PLATFORM_ARGS",
    "PREDEFINED_ARGS",
    "CheckOptions",
    "CheckWarning",
    "DockerfileError",
    "ExpansionError",
    "Surroundings",
    "check",
    "expand",
    "parse",
    "parse_options",
    "parse_trigger",
    "platform_args",
    "process_words",
    "resolve",
]
