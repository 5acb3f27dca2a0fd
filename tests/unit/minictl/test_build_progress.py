"""How a build is shown: line by line, and on a terminal, which is read as a terminal would show it."""

import fcntl
import itertools
import json
import os
import re
import struct
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minictl.build import report
from minictl.build.context import Context
from minictl.build.plain import Plain, Quiet
from minictl.build.screen import Screen, columns, printable
from minictl.build.steps import Build, Step


def step(number: int, state: str, name: str = "", **more: Any) -> dict[str, Any]:
    name = name or ("RUN make" if state == "started" else "")
    said = {"id": number, "stage": "builder", "index": number, "total": 5, "name": name, "state": state}
    return {"step": said | more}


def log(number: int, text: str, fd: int = 1) -> dict[str, Any]:
    return {"log": {"step": number, "fd": fd, "data": text}}


def lines(*messages: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\r\n" for message in messages)


class Sink:
    """A pipe; what was written to it so far."""

    def __init__(self) -> None:
        self._read, self.fd = os.pipe()
        os.set_blocking(self._read, False)

    @property
    def text(self) -> str:
        return os.read(self._read, 1 << 20).decode()

    def close(self) -> None:
        os.close(self._read)
        os.close(self.fd)


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


def test_plain(sink: Sink) -> None:
    build = Build(Plain(sink.fd))
    own = build.own_step("[internal] load build context")
    build.update(own, "sending 1kB", "done")
    build.feed(
        lines(
            step(1, "cached", "FROM x"),
            step(2, "started"),
            log(2, "one\ntw"),
            log(2, "o\n"),
            step(3, "started", "COPY a b", stage="other"),
            log(2, "10%\r20%\rdone\r\nno end"),
            step(2, "done", duration_s=1.23),
            step(3, "failed", stage="other", duration_s=2),
        )
    )
    text = re.sub(r"\d\.\d{3} ", "T ", sink.text)
    assert text == (
        "#1 [internal] load build context\n#1 sending 1kB\n#1 DONE 0.0s\n\n"
        "#2 [builder 1/5] FROM x\n#2 CACHED\n\n"
        "#3 [builder 2/5] RUN make\n#3 T one\n#3 T two\n\n"
        "#4 [other 3/5] COPY a b\n\n"
        "#3 [builder 2/5] RUN make\n#3 T done\n#3 T no end\n#3 DONE 1.2s\n\n"
        "#4 [other 3/5] COPY a b\n#4 ERROR after 2.0s\n"
    )
    assert build.failed_step is not None
    assert build.failed_step.title == "[other 3/5] COPY a b"


def test_a_cached_step_is_not_done_as_well(sink: Sink) -> None:
    build = Build(Plain(sink.fd))
    build.feed(lines(step(1, "started"), step(1, "cached"), step(1, "done")))
    assert sink.text == "#1 [builder 1/5] RUN make\n#1 CACHED\n"


def test_triggers_are_steps_of_their_own(sink: Sink) -> None:
    build = Build(Plain(sink.fd))
    first = lines(
        step(1, "started", "FROM x"), step(1, "done"), step(1, "started", "ONBUILD RUN y"), log(1, "z\n")
    )
    build.feed(first + lines(step(1, "failed")))
    titles = [line for line in sink.text.splitlines() if "[builder" in line]
    assert titles == ["#1 [builder 1/5] FROM x", "#2 [builder 1/5] ONBUILD RUN y"]
    assert build.failed_step is not None
    assert build.failed_step.log == ["z"]


def test_a_pull_is_part_of_its_step(sink: Sink) -> None:
    build = Build(Plain(sink.fd))
    build.feed(
        lines(
            step(1, "started", "FROM x"),
            {
                "step_id": 1,
                "id": "abc",
                "status": "Downloading",
                "progressDetail": {"current": 5, "total": 10},
            },
            {"step_id": 1, "id": "abc", "status": "Pull complete", "progressDetail": {}},
            {"step_id": 9, "status": "of a step that nobody knows"},
        )
    )
    assert re.sub(r"\d\.\d{3} ", "", sink.text).splitlines()[1:] == ["#1 abc: Pull complete"]


@given(st.lists(st.text(alphabet="a\u00e9\u2713\n\r", max_size=5), max_size=5), st.lists(st.integers(0, 400)))
def test_messages_may_be_cut_anywhere(texts: list[str], cuts: list[int]) -> None:
    data = lines(
        step(1, "started"), *(log(1, text) for text in texts), step(1, "done"), {"aux": {"ID": "sha256:1"}}
    )
    whole, pieces = Build(Quiet()), Build(Quiet())
    whole.feed(data)
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        pieces.feed(data[start:end])
    for build in (whole, pieces):
        build.finish()
    assert [one._steps[1].log for one in (whole, pieces)] == [whole._steps[1].log] * 2
    assert pieces.image_id == "sha256:1"


def test_a_line_without_end_is_shown_all_the_same(sink: Sink) -> None:
    build = Build(Quiet())
    build.feed(lines(step(1, "started"), *(log(1, "x" * 10_000) for _ in range(20))))
    assert [len(line) for line in build._steps[1].log] == [70_000, 70_000]


def test_docker_s_stream(sink: Sink) -> None:
    build = Build(Plain(2, sink.fd))
    build.feed(
        lines(
            {"stream": "Step 1/1 : FROM x\n"},
            {"status": "Pulling fs layer", "id": "abc"},
            {"status": "Downloading", "id": "abc", "progressDetail": {"current": 1}},
            {"aux": {"ID": "sha256:2"}},
            {"errorDetail": {"code": 3, "message": "no"}, "error": "no"},
        )
    )
    assert sink.text == "Step 1/1 : FROM x\nabc: Pulling fs layer\n"
    assert (build.image_id, build.failure) == ("sha256:2", {"code": 3, "message": "no"})


class Emulator:
    """A terminal that knows what Screen writes: line ends, cursor up, erase below, colours. Long lines wrap."""

    def __init__(self, rows: int, columns_: int) -> None:
        self.master, self.fd = os.openpty()
        self.lines = [""]
        self.row = self.column = 0
        self.resize(rows, columns_)

    def resize(self, rows: int, columns_: int) -> None:
        self.rows, self.columns = rows, columns_
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns_, 0, 0))

    @property
    def text(self) -> list[str]:
        """All lines, those that have scrolled away too, without trailing blanks and empty ones."""
        os.write(self.fd, b"\a")  # the kernel passes on what is written later, by a thread of its own
        data = b""
        while not data.endswith(b"\a"):
            data += os.read(self.master, 1 << 16)
        self._feed(data.removesuffix(b"\a").decode())
        return [line.rstrip() for line in self.lines if line.strip()]

    def _feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\d*[A-Za-z]|\n|\r|[^\x1b\n\r]+", text):
            line = self.lines[self.row]
            if part == "\n":
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append("")
            elif part == "\r":
                self.column = 0
            elif part == "\x1b[K":
                self.lines[self.row] = line[: self.column]
            elif part == "\x1b[J":
                del self.lines[self.row + 1 :]
                self.lines[self.row] = line[: self.column]
            elif part.startswith("\x1b[") and part.endswith("A"):
                count = int(part[2:-1])
                assert count < self.rows, "the cursor can't go above the screen"
                self.row -= count
            elif not part.startswith("\x1b"):
                assert columns(part) <= self.columns, part
                self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
                self.column += len(part)

    def close(self) -> None:
        os.close(self.master)
        os.close(self.fd)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    emulator = Emulator(20, 60)
    yield emulator
    emulator.close()


def redraw(screen: Screen) -> None:
    screen._next_s = 0.0
    screen.tick()


def shown(emulator: Emulator) -> list[str]:
    return [re.sub(r" +\d+\.\ds$", "", line) for line in emulator.text]


def test_a_terminal_shows_what_runs_and_keeps_what_has_ended(emulator: Emulator) -> None:
    screen = Screen(emulator.fd)
    build = Build(screen)
    build.feed(
        lines(
            step(1, "cached", "FROM x"), step(2, "started"), log(2, "a\nb\n"), step(3, "started", "COPY a b")
        )
    )
    redraw(screen)
    redraw(screen)
    assert shown(emulator)[0] == " => CACHED [builder 1/5] FROM x"
    assert shown(emulator)[2:] == [
        " => [builder 2/5] RUN make", " => => # a", " => => # b", " => [builder 3/5] COPY a b",
    ]  # fmt: skip
    assert emulator.text[1].startswith("[+] Building")
    assert emulator.text[1].endswith("(1/3)")
    build.feed(lines(step(2, "failed"), step(3, "canceled")))
    screen.close()
    assert shown(emulator) == [
        " => CACHED [builder 1/5] FROM x",
        " => ERROR [builder 2/5] RUN make",
        " => CANCELED [builder 3/5] COPY a b",
    ]


def test_more_steps_and_lines_than_a_terminal_has_rows(emulator: Emulator) -> None:
    emulator.resize(8, 60)
    screen = Screen(emulator.fd)
    build = Build(screen)
    for number in range(1, 21):
        build.feed(lines(step(number, "started", f"RUN {number}"), log(number, "x\n" * 30)))
        redraw(screen)
        assert len(shown(emulator)) <= 7
    build.feed(lines(*(step(number, "done") for number in range(20, 0, -1))))
    screen.close()
    assert [line.split()[-1] for line in shown(emulator)] == [str(number) for number in range(1, 21)]


def test_programs_cannot_move_the_cursor(emulator: Emulator) -> None:
    screen = Screen(emulator.fd)
    build = Build(screen)
    nasty = "\x1b[2J\x1b]0;title\x07\x1b[31mred\x1b[0m \x1bc\ttab\x08\x9b\u202e漢字" + "漢" * 80 + "\n"
    build.feed(lines(step(1, "started", "RUN \x1b[5A x\n second"), log(1, nasty)))
    redraw(screen)
    assert shown(emulator)[2].startswith(" => => # red   tab漢字漢漢")
    screen.close()


@given(st.text(), st.integers(1, 50))
def test_nothing_is_wider_than_asked(text: str, width: int) -> None:
    from minictl.build.screen import fitting

    assert columns(fitting(text, width)) <= width
    assert "\x1b" not in printable(text)


def test_a_title_has_no_line_ends() -> None:
    one = Step(1, "RUN <<EOF\nmake\nEOF")
    assert "\n" not in one.title


def context(text: bytes = b"") -> Context:
    return Context(None, ".dockerfile.abc", text=text, origin="stdin")


def test_a_failure_names_step_output_line_and_reason(sink: Sink) -> None:
    build = Build(Quiet())
    build.feed(
        lines(
            step(1, "started"),
            log(1, "bad\n"),
            step(1, "failed"),
            {
                "errorDetail": {
                    "message": "in .dockerfile.abc: no",
                    "code": 7,
                    "location": ".dockerfile.abc:2: RUN x",
                }
            },
        )
    )
    assert report.failure_text(build, context(b"FROM a\nRUN make\nCMD x\nUSER y\nUSER z"), with_log=True) == (
        "------\n > [builder 1/5] RUN make:\nbad\n------\n"
        "stdin:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUN make\n   3 |     CMD x\n   4 |     USER y\n"
        "--------------------\nERROR: in stdin: no"
    )
    assert build.failure is not None
    assert report.exit_status(build.failure) == 7
    assert report.exit_status({"message": "x"}) == 1
    assert report.exit_status({"code": 1000}) == 1


@pytest.mark.parametrize(
    ("place", "number"),
    [("D:3: RUN x", 3), ("a:b:12-14: RUN x: y", 12), ("", 0), ("RUN x", 0), ("D:x: y", 0)],
)
def test_the_line_of_a_failure(place: str, number: int) -> None:
    assert report.line_of({"location": place}) == number


def test_warnings() -> None:
    warnings = [{"rule": "A", "message": "m", "line": 1}, {"rule": "B", "message": "n"}]
    assert report.warning_text(warnings, context(b"FROM a")) == (
        "WARNING: A\nm\nstdin:1\n--------------------\n   1 | >>> FROM a\n--------------------\n\nWARNING: B\nn\n"
    )
    assert report.warning_summary(warnings).startswith("2 warnings:\n - A: m (line 1)\n - B: n\n")
    assert report.warning_summary([]) == ""


def test_lines_of_a_file_that_has_gone(tmp_path: Path) -> None:
    assert Context(None, "x", path=str(tmp_path / "x")).lines() == []
