import os

import pytest

from minid.containers import processes
from minid.errors import InvalidParameter

EF = """UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 14:50 ?        00:00:01 /sbin/init splash
root          77       1  0 14:50 ?        00:00:00 sh -c echo  two   spaces
www           78      77  9 14:50 pts/0    00:00:00 nginx: worker
"""


def test_only_the_wanted_processes_and_the_last_column_whole() -> None:
    titles, rows = processes.parse(EF, [77, 78])
    assert titles == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert rows == [
        ["root", "77", "1", "0", "14:50", "?", "00:00:00", "sh -c echo  two   spaces"],
        ["www", "78", "77", "9", "14:50", "pts/0", "00:00:00", "nginx: worker"],
    ]


def test_columns_in_any_order() -> None:
    assert processes.parse("  PID COMMAND\n  7 a b\n  8 c\n", [8]) == (["PID", "COMMAND"], [["8", "c"]])


@pytest.mark.parametrize("output", ["", "COMMAND\nsh\n"])
def test_without_a_pid_column_nothing_can_be_chosen(output: str) -> None:
    with pytest.raises(InvalidParameter, match="Couldn't find PID field"):
        processes.parse(output, [1])


def test_lines_that_are_cut_short_are_passed_over() -> None:
    assert processes.parse("UID PID CMD\nroot\n\nroot 5 sh\n", [5])[1] == [["root", "5", "sh"]]


async def test_a_real_ps() -> None:
    titles, rows = await processes.table([os.getpid()], "-eo pid,comm")
    assert titles == ["PID", "COMMAND"] and [row[0] for row in rows] == [str(os.getpid())]


async def test_what_ps_refuses_is_the_callers_mistake() -> None:
    with pytest.raises(InvalidParameter, match="ps: "):
        await processes.table([1], "--no-such-option")
