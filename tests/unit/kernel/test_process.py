"""Signal names, limits' names and stat(5) of strange processes; and of this one."""

import os
import resource
import signal

import pytest

from minid.kernel import process


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("TERM", 15),
        ("term", 15),
        ("15", 15),
        ("SIGKILL", 9),
        ("64", 64),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("rtmin+15", 49),
        ("RTMAX-14", 50),
        ("SIGRTMAX", 64),
        ("CLD", 17),
        ("STKFLT", 16),
    ],
)
def test_parse_signal(text: str, number: int) -> None:
    assert process.parse_signal(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "0", "65", "-9", "BOGUS", "SIGSIGTERM", "RTMIN+31", "RTMAX+1", "RTMIN-1", "RTMIN+", "٣", "9" * 5000],
)
def test_parse_signal_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"^Invalid signal: ") as caught:
        process.parse_signal(text)
    assert str(caught.value) == f"Invalid signal: {text}"


@pytest.mark.parametrize("number", range(1, 65))
def test_names_lead_back(number: int) -> None:
    assert process.parse_signal(process.signal_name(number)) == number


def test_rlimit_names() -> None:
    assert process.rlimit_number("nofile") == process.rlimit_number("RLIMIT_NOFILE") == resource.RLIMIT_NOFILE
    assert sorted(process.RLIMITS.values()) == list(range(16))
    with pytest.raises(ValueError, match=r"^invalid ulimit type: bogus$"):
        process.rlimit_number("bogus")


def test_soft_above_hard() -> None:
    for soft, hard in ((2, 1), (-1, 1)):
        with pytest.raises(ValueError, match="soft limit"):
            process.set_rlimit("core", soft, hard)


def test_stat_of_a_hostile_name() -> None:
    fields = ["S", "1", *(str(number) for number in range(5, 53))]
    text = b"42 (a) R 7 (b) ) " + " ".join(fields).encode() + b"\n"
    assert process.parse_stat(text) == fields


def test_this_process() -> None:
    pid = os.getpid()
    ticks = process.start_ticks(pid)
    assert process.exists(pid, ticks)
    assert not process.exists(pid, ticks + 1)
    assert pid in process.list_threads(pid)


def test_a_zombie_does_not_exist() -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    ticks = process.start_ticks(child)
    assert child in process.list_children(os.getpid())
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not process.exists(child, ticks)
    os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError):
        process.start_ticks(child)


def test_reset_signals_covers_what_can_be_set() -> None:
    assert set(process._RESETTABLE) == signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
