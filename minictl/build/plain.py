"""A build shown line by line, for logs and pipes: `#7 [builder 2/5] RUN make`, `#7 0.412 text`, `#7 DONE 1.2s`."""

from __future__ import annotations

from minictl.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl.build.steps import Step


class Plain:
    """Writes to `fd`; what a daemon streams as docker's does goes to `stream_fd`."""

    def __init__(self, fd: int = 2, stream_fd: int = 1) -> None:
        self._fd = fd
        self._stream_fd = stream_fd
        self._current: Step | None = None
        self._pending: list[str] = []

    def changed(self, step: Step) -> None:
        self._turn_to(step)
        if step.details and step.ended:
            self._write(f"#{step.number} {step.details}")
        if step.state == "cached":
            self._write(f"#{step.number} CACHED")
        elif step.state == "done":
            self._write(f"#{step.number} DONE {step.duration_s:.1f}s")
        elif step.state == "failed":
            self._write(f"#{step.number} ERROR after {step.duration_s:.1f}s")
        elif step.state == "canceled":
            self._write(f"#{step.number} CANCELED")

    def printed(self, step: Step, line: str) -> None:
        self._turn_to(step)
        self._write(f"#{step.number} {step.elapsed_s:.3f} {line}")

    def streamed(self, text: str) -> None:
        write_all(self._stream_fd, text.encode("utf-8", "replace"))

    def flush(self) -> None:
        """All at once: a command that prints a million lines costs no million writes."""
        if self._pending:
            data = "\n".join(self._pending) + "\n"
            self._pending = []
            write_all(self._fd, data.encode("utf-8", "replace"))

    def tick(self) -> float | None:
        return None

    def close(self) -> None:
        pass

    def _turn_to(self, step: Step) -> None:
        """Steps that run side by side take turns: each turn begins with the step's title."""
        if self._current is step:
            return
        if self._current is not None:
            self._write("")
        self._current = step
        self._write(f"#{step.number} {step.title}")

    def _write(self, line: str) -> None:
        self._pending.append(line)


class Quiet:
    """Shows nothing; `-q`, or when the messages themselves are printed."""

    def changed(self, step: Step) -> None:
        pass

    def printed(self, step: Step, line: str) -> None:
        pass

    def streamed(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass

    def tick(self) -> float | None:
        return None

    def close(self) -> None:
        pass
