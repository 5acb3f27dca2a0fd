"""Expanding the words of an instruction: which fields, and how. Source: docs.docker.com/reference/dockerfile
§ Environment replacement and the instructions' own sections.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from minid.build.dockerfile import model
from minid.build.dockerfile.errors import DockerfileError, ExpansionError
from minid.build.dockerfile.expansion import Expander, Lookup
from minid.build.dockerfile.flags import FlagError
from minid.build.dockerfile.model import ArgDefinition, Heredoc, Instruction, Mount, Pair, Transfer
from minid.build.dockerfile.mounts import parse_mount

_I = TypeVar("_I", bound=Instruction)


def resolve(instruction: _I, lookup: Lookup, escape: str = "\\") -> _I:
    """The instruction with its words final; every variable has the value that it had before the instruction.

    Commands of RUN, CMD, ENTRYPOINT, HEALTHCHECK, the list of SHELL and triggers stay as they are. A FROM is resolved
    with the global scope. ``DockerfileError``.
    """
    return resolve_with(instruction, Expander(lookup, escape))


def resolve_with(instruction: _I, expander: Expander) -> _I:
    """The same with an ``Expander``, which then knows what was undefined."""
    change = _CHANGES.get(type(instruction))
    if change is None:
        return instruction
    try:
        resolved = change(instruction, expander)
    except (ExpansionError, FlagError) as error:
        raise DockerfileError(str(error), instruction.location, instruction.original) from None
    assert isinstance(resolved, type(instruction))
    return resolved


def _from(instruction: Instruction, expander: Expander) -> Instruction:
    assert isinstance(instruction, model.From)
    image = expander.word(instruction.image)
    if not image.strip():
        raise ExpansionError(f"base name ({instruction.image}) should not be blank")
    return replace(instruction, image=image, platform=expander.word(instruction.platform))


def _run(instruction: Instruction, expander: Expander) -> Instruction:
    assert isinstance(instruction, model.Run)
    return replace(instruction, mounts=tuple(_mount(mount, expander) for mount in instruction.mounts))


def _mount(mount: Mount, expander: Expander) -> Mount:
    if not any(special in mount.raw for special in ("$", expander.escape)):
        return mount
    return replace(parse_mount(expander.word(mount.raw)), raw=mount.raw)


def _transfer(instruction: Instruction, expander: Expander) -> Instruction:
    assert isinstance(instruction, Transfer)
    sources = tuple(_source(source, expander) for source in instruction.sources)
    destination = expander.word(instruction.destination)
    if not destination:
        raise ExpansionError(f"{instruction.KEYWORD}: the destination is empty")
    resolved = replace(
        instruction,
        sources=sources,
        destination=destination,
        chown=expander.word(instruction.chown),
        chmod=expander.word(instruction.chmod),
        exclude=tuple(expander.word(pattern) for pattern in instruction.exclude),
    )
    if isinstance(resolved, model.Add):
        return replace(resolved, checksum=expander.word(resolved.checksum))
    return resolved


def _source(source: str | Heredoc, expander: Expander) -> str | Heredoc:
    if isinstance(source, str):
        try:
            return expander.word(source)
        except ExpansionError as error:
            hint = ' (write paths with blanks as ["a b", "…"])' if str(error).endswith("-quote") else ""
            raise ExpansionError(f"{error}{hint}") from None
    text = expander.heredoc(source.text) if source.expand else source.text
    return replace(source, content=text, expand=False, strip_tabs=False)


def _pairs(instruction: Instruction, expander: Expander) -> Instruction:
    assert isinstance(instruction, model.Env | model.Label)
    pairs = tuple(Pair(expander.word(pair.key), expander.word(pair.value)) for pair in instruction.pairs)
    if not all(pair.key for pair in pairs):
        raise ExpansionError(f"{instruction.KEYWORD} names can not be blank")
    return replace(instruction, pairs=pairs)


def _arg(instruction: Instruction, expander: Expander) -> Instruction:
    assert isinstance(instruction, model.Arg)
    definitions = tuple(
        ArgDefinition(expander.word(each.name), None if each.default is None else expander.word(each.default))
        for each in instruction.definitions
    )
    return replace(instruction, definitions=definitions)


def _user(instruction: Instruction, expander: Expander) -> Instruction:
    assert isinstance(instruction, model.User)
    return replace(instruction, user=expander.word(instruction.user))


def _workdir(instruction: Instruction, expander: Expander) -> Instruction:
    assert isinstance(instruction, model.Workdir)
    return replace(instruction, path=expander.word(instruction.path))


def _stopsignal(instruction: Instruction, expander: Expander) -> Instruction:
    assert isinstance(instruction, model.StopSignal)
    return replace(instruction, signal=expander.word(instruction.signal))


def _expose(instruction: Instruction, expander: Expander) -> Instruction:
    assert isinstance(instruction, model.Expose)
    return replace(
        instruction, ports=tuple(word for port in instruction.ports for word in expander.words(port))
    )


def _volume(instruction: Instruction, expander: Expander) -> Instruction:
    assert isinstance(instruction, model.Volume)
    paths = tuple(expander.word(path) for path in instruction.paths)
    if not all(path.strip() for path in paths):
        raise ExpansionError("VOLUME specified can not be an empty string")
    return replace(instruction, paths=paths)


_CHANGES: dict[type[Instruction], Callable[[Instruction, Expander], Instruction]] = {
    model.Add: _transfer,
    model.Arg: _arg,
    model.Copy: _transfer,
    model.Env: _pairs,
    model.Expose: _expose,
    model.From: _from,
    model.Label: _pairs,
    model.Run: _run,
    model.StopSignal: _stopsignal,
    model.User: _user,
    model.Volume: _volume,
    model.Workdir: _workdir,
}
