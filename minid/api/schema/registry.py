"""What minid says of registries in JSON: an extension, not part of Docker's API."""

from typing import Any

from minid.images.registry.probe import Step


def step(step: Step) -> dict[str, Any]:
    """One line of ``GET /minid/registries/{name}/test``."""
    return {
        "Step": step.name,
        "Result": step.result,
        "Detail": step.detail,
        "Rule": step.rule,
        "Advice": step.advice,
        "DurationMs": step.took_ms,
    }
