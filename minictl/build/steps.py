"""What a build does, from the daemon's messages: steps that start, print and end, warnings, the image, the failure.

The messages of `progress=steps` are minid's own; docker's daemon sends `stream` instead, which is kept apart.
docs/compatibility.md describes both.
"""

from __future__ import annotations

import time

from minictl import jsontext, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Display(Protocol):
        """Where a build is shown. `changed` after each change of a step, `printed` for each line that one printed,
        `flush` after all that came at once.
        """

        def changed(self, step: Step) -> None: ...

        def printed(self, step: Step, line: str) -> None: ...

        def streamed(self, text: str) -> None: ...

        def flush(self) -> None: ...

        def tick(self) -> float | None: ...

        def close(self) -> None: ...


_KEPT_LINES = 50
_LONGEST_LINE = 64 * 1024
_ENDED = ("cached", "done", "failed", "canceled")


class Step:
    """One step: `number` is how it is called on the screen, `state` started, cached, done, failed or canceled."""

    __slots__ = ("_open", "details", "duration_s", "index", "line", "log", "name", "number", "stage", "started_s",
                 "state", "total")  # fmt: skip

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.stage = ""
        self.index = self.total = 0
        self.line = 0
        self.state = "started"
        self.started_s = time.monotonic()
        self.duration_s = 0.0
        self.details = ""
        self.log: list[str] = []
        self._open = {1: "", 2: ""}

    @property
    def ended(self) -> bool:
        return self.state in _ENDED

    @property
    def title(self) -> str:
        """`[builder 2/5] RUN make`."""
        name = " ".join(self.name.split("\n"))
        if not self.index:
            return f"[{self.stage}] {name}" if self.stage else name
        place = f"{self.index}/{self.total}"
        return f"[{self.stage} {place}] {name}" if self.stage else f"[{place}] {name}"

    @property
    def elapsed_s(self) -> float:
        return self.duration_s if self.ended else time.monotonic() - self.started_s

    def feed(self, fd: int, text: str) -> list[str]:
        """The lines that have become whole by `text`. Of a line that a program rewrote, what it wrote last."""
        *whole, rest = (self._open.get(fd, "") + text).split("\n")
        if len(rest) > _LONGEST_LINE:
            whole.append(rest)
            rest = ""
        self._open[fd] = rest
        return self._keep([_last_version(line) for line in whole])

    def flush(self) -> list[str]:
        """What stands in lines that have no end yet."""
        rest = [_last_version(text) for text in self._open.values() if text]
        self._open = {}
        return self._keep(rest)

    def _keep(self, lines: list[str]) -> list[str]:
        self.log = [*self.log, *lines][-_KEPT_LINES:]
        return lines


class Build:
    """Takes the daemon's messages and tells a display. After the end: `image_id`, `warnings`, `failure`."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._steps: dict[int, Step] = {}
        self._count = 0
        self._rest = b""
        self.image_id = ""
        self.warnings: list[dict[str, Any]] = []
        self.failure: dict[str, Any] | None = None
        self.said = ""  # the end of what docker's daemon streamed

    def own_step(self, name: str) -> Step:
        """A step of the client's own, as sending the context."""
        self._count += 1
        step = Step(self._count, name)
        self._display.changed(step)
        self._display.flush()
        return step

    def update(self, step: Step, details: str, state: str) -> None:
        step.details = details
        step.duration_s = step.elapsed_s
        step.state = state
        self._display.changed(step)
        self._display.flush()

    def note(self, step: Step, details: str) -> None:
        """What a step is doing, which is worth showing only where it is redrawn."""
        step.details = details

    def tick(self) -> float | None:
        return self._display.tick()

    @property
    def failed_step(self) -> Step | None:
        return next((step for step in self._steps.values() if step.state == "failed"), None)

    def feed(self, data: bytes) -> None:
        """A piece of the answer, cut anywhere. Raises ValueError when it can't be the stream of messages."""
        data = self._rest + data
        cut = data.rfind(b"\n") + 1
        messages, rest = jsontext.loads_many(data[:cut].decode("utf-8", "replace"))
        self._rest = rest.encode() + data[cut:]
        for message in messages:
            if isinstance(message, dict):
                self.take(message)
        self._display.flush()

    def finish(self) -> None:
        """The answer has ended: what came without an end of line counts, too."""
        for message in jsontext.loads_many(self._rest.decode("utf-8", "replace"))[0]:
            if isinstance(message, dict):
                self.take(message)
        self._rest = b""
        self._display.flush()

    def take(self, message: dict[str, Any]) -> None:
        if "step" in message:
            self._take_step(message["step"])
        elif "log" in message:
            log = message["log"]
            step = self._steps.get(log.get("step"))
            if step:
                for line in step.feed(log.get("fd", 1), log.get("data", "")):
                    self._display.printed(step, line)
        elif "step_id" in message:
            self._take_pull(message)
        elif "warning" in message:
            self.warnings.append(message["warning"])
        elif "errorDetail" in message or "error" in message:
            detail = message.get("errorDetail")
            self.failure = detail if isinstance(detail, dict) else {"message": str(message.get("error"))}
        elif isinstance(message.get("aux"), dict):
            self.image_id = message["aux"].get("ID", self.image_id)
        elif "stream" in message:
            self.said = (self.said + message["stream"])[-4096:]
            self._display.streamed(message["stream"])
        elif "status" in message:
            self._display.streamed(_status(message))

    def _take_step(self, said: dict[str, Any]) -> None:
        step = self._steps.get(said["id"])
        if step is None or (
            step.ended and said.get("state") == "started"
        ):  # the triggers of FROM have its number
            self._count += 1
            step = self._steps[said["id"]] = Step(self._count, str(said.get("name", "")))
        if step.ended:  # cached, and then done
            return
        step.name = str(said.get("name") or step.name)
        step.stage = str(said.get("stage") or step.stage)
        step.index = int(said.get("index") or step.index)
        step.total = int(said.get("total") or step.total)
        step.line = int(said.get("line") or step.line)
        state = str(said.get("state") or step.state)
        if state in _ENDED:
            for line in step.flush():
                self._display.printed(step, line)
            step.details = ""
            duration_s = said.get("duration_s")
            step.duration_s = step.elapsed_s if duration_s is None else float(duration_s)
        step.state = state
        self._display.changed(step)

    def _take_pull(self, said: dict[str, Any]) -> None:
        """How far a base image has come: only its last state is worth showing, and its layers where they end."""
        step = self._steps.get(said["step_id"])
        if step is None:
            return
        name = str(said.get("id") or "")
        detail = said.get("progressDetail") or {}
        text = f"{name}: {said.get('status', '')}" if name else str(said.get("status", ""))
        if detail.get("total"):
            step.details = (
                f"{text} {units.human_size(detail.get('current') or 0)}/{units.human_size(detail['total'])}"
            )
            return
        step.details = ""
        self._display.printed(step, text)


def _last_version(line: str) -> str:
    """What a terminal would show of a line with carriage returns."""
    return line.rstrip("\r").rpartition("\r")[2]


def _status(message: dict[str, Any]) -> str:
    """A line of a pull's progress, without what only counts bytes."""
    if message.get("progressDetail"):
        return ""
    name = message.get("id")
    return f"{name}: {message['status']}\n" if name else f"{message['status']}\n"
