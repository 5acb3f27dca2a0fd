"""Which stages a build needs, and which of them each needs first. Pure."""

from collections.abc import Callable

from minid.build.dockerfile.model import Copy, Dockerfile, Instruction, Run, Stage
from minid.errors import InvalidParameter


def find_target(dockerfile: Dockerfile, target: str) -> Stage:
    """The stage that is asked for: by name or number, the last one without. InvalidParameter."""
    if not target:
        return dockerfile.stages[-1]
    stage = dockerfile.find_stage(target)
    if stage is None:
        names = ", ".join(each.name or str(each.index) for each in dockerfile.stages)
        raise InvalidParameter(
            f"target stage {target!r} could not be found: {dockerfile.name} has the stages {names}"
        )
    return stage


def needed(dockerfile: Dockerfile, target: Stage, base_of: Callable[[Stage], str]) -> list[Stage]:
    """``target`` and what it is made from, directly or not, in the file's order. ``base_of``: the expanded FROM."""
    found: set[int] = set()
    waiting = [target]
    while waiting:
        stage = waiting.pop()
        if stage.index not in found:
            found.add(stage.index)
            waiting += sources(dockerfile, stage, base_of(stage))
    return [stage for stage in dockerfile.stages if stage.index in found]


def sources(dockerfile: Dockerfile, stage: Stage, base: str) -> list[Stage]:
    """The earlier stages that ``stage`` names: in FROM, ``COPY --from`` and ``RUN --mount=from``."""
    words = [word for instruction in stage.instructions for word in sources_of(instruction)]
    found = [find_base(dockerfile, stage, base)]
    found += [dockerfile.find_stage(word, stage.index) for word in words]
    return [each for each in found if each is not None]


def sources_of(instruction: Instruction) -> list[str]:
    """What the instruction takes files from beside the context: words that may name a stage."""
    if isinstance(instruction, Copy):
        return [instruction.from_] if instruction.from_ else []
    if isinstance(instruction, Run):
        return [mount.from_ for mount in instruction.mounts if mount.from_]
    return []


def find_base(dockerfile: Dockerfile, stage: Stage, base: str) -> Stage | None:
    """The earlier stage that FROM names; a number is none there, but an image's name."""
    return None if base.isdigit() else dockerfile.find_stage(base, stage.index)
