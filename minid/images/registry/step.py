"""What ``registry test`` says: one step after the other."""

from dataclasses import dataclass

OK, NOTE, FAILED, SKIPPED = "ok", "note", "failed", "skipped"


@dataclass(frozen=True, slots=True)
class Step:
    """``result`` is ok, note (worth knowing), failed or skipped; ``rule`` made it so; ``advice``: what to change."""

    name: str
    result: str
    detail: str
    rule: str = ""
    advice: str = ""
    took_ms: float = 0.0
