"""What a build tells while it goes on: immutable records, in the order in which things happen.

Which form clients get them in is ``minid.api``'s business; a build only reports.
"""

from collections.abc import Callable
from dataclasses import dataclass

from minid.images.model import Progress

STARTED, CACHED, DONE, FAILED, CANCELED = "started", "cached", "done", "failed", "canceled"


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of one stage. ``id`` counts all steps of the build in the file's order from 1, to ``count``;
    ``index`` those of its stage, to ``total``.
    """

    id: int
    count: int
    stage: str  # its name, or stage-N
    index: int
    total: int
    name: str  # the instruction as written
    line: int  # of the Dockerfile


@dataclass(frozen=True, slots=True)
class StepState:
    """``state`` is one of the words above; ``image`` is the short id of what the step came to, for old clients."""

    step: Step
    state: str
    duration_s: float = 0.0
    layer: str = ""


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a RUN wrote to descriptor ``fd`` (1 or 2)."""

    step: Step
    fd: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StepPull:
    """A base image on its way."""

    step: Step
    progress: Progress


@dataclass(frozen=True, slots=True)
class BuildWarning:
    """A well-known mistake in the Dockerfile, by the name of the rule of ``docker build --check``."""

    rule: str
    message: str
    line: int


Event = StepState | StepOutput | StepPull | BuildWarning
Report = Callable[[Event], None]
