"""The steps of a build, numbered, and told: when each begins and how it ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from minid.build.dockerfile.model import Instruction, Stage
from minid.build.progress import CANCELED, DONE, FAILED, STARTED, Report, Step, StepState
from minid.build.state import StageState
from minid.errors import MinidError

T = TypeVar("T")


def number(stages: Sequence[Stage]) -> dict[int, list[Step]]:
    """The steps of these stages by their index, FROM first, counted through all of them."""
    count = sum(1 + len(stage.instructions) for stage in stages)
    numbers = iter(range(1, count + 1))
    return {
        stage.index: [
            Step(
                next(numbers),
                count,
                stage.name or f"stage-{stage.index}",
                index,
                1 + len(stage.instructions),
                instruction.original,
                instruction.location.first,
            )
            for index, instruction in enumerate((stage.base, *stage.instructions), 1)
        ]
        for stage in stages
    }


async def timed(report: Report, step: Step, instruction: Instruction, work: Callable[[], Awaitable[T]]) -> T:
    """Do ``work`` and tell how it went. An error gets a note: where in the Dockerfile it happened."""
    begun = time.monotonic()
    report(StepState(step, STARTED))
    try:
        result = await work()
    except asyncio.CancelledError:
        report(StepState(step, CANCELED, time.monotonic() - begun))
        raise
    except Exception as error:
        report(StepState(step, FAILED, time.monotonic() - begun))
        if isinstance(error, MinidError) and not hasattr(error, "__notes__"):
            error.add_note(f"{instruction.location}: {instruction.original}")
        raise
    state = result[0] if isinstance(result, tuple) else result  # FROM has triggers as well
    layer = state.diff_ids[-1] if isinstance(state, StageState) and state.diff_ids else ""
    report(StepState(step, DONE, time.monotonic() - begun, layer))
    return result
