"""The counters of /proc: texts of proc(5), and the machine's own."""

import os

from minid.kernel import usage

STAT = """\
cpu  100 20 30 4000 5 6 7 8 9 10
cpu0 50 10 15 2000 2 3 3 4 4 5
cpu3 50 10 15 2000 3 3 4 4 5 5
intr 12345 0 9
ctxt 99
"""
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:    5338      36    1    2    0     0          0         0      648       8    3    4    0     0       0          0
eth0:1:       7       7    7    7    7     7          7         7        7       7    7    7    7     7       7          7
eth1:18446744073709551615 5 0 0 0 0 0 0 1 2 0 0 0 0 0 0
short: 1 2 3
"""


def test_cpu_time() -> None:
    tick_ns = 10**9 // os.sysconf("SC_CLK_TCK")
    assert usage.parse_cpu_time(STAT) == usage.CpuTime(4168 * tick_ns, 2)
    assert usage.parse_cpu_time("") == usage.CpuTime(0, 0)
    first, second = usage.cpu_time(), usage.cpu_time()
    assert first.online == os.cpu_count() and 0 < first.total_ns <= second.total_ns


def test_interfaces() -> None:
    found = usage.parse_interfaces(NET_DEV, {"eth0", "eth1", "short", "eth9"})
    zero = dict.fromkeys(
        ("rx_packets", "rx_errors", "rx_dropped", "tx_packets", "tx_errors", "tx_dropped"), 0
    )
    received = {"rx_bytes": 5338, "rx_packets": 36, "rx_errors": 1, "rx_dropped": 2}
    sent = {"tx_bytes": 648, "tx_packets": 8, "tx_errors": 3, "tx_dropped": 4}
    assert found == {
        "eth0": received | sent,
        "eth1": zero | {"rx_bytes": 2**64 - 1, "rx_packets": 5, "tx_bytes": 1, "tx_packets": 2},
    }
    assert usage.interfaces(os.getpid(), {"lo"})["lo"]["rx_bytes"] >= 0
    assert usage.interfaces(2**22 + 1, {"lo"}) == {}, "no such process"


def test_memory() -> None:
    with open("/proc/meminfo") as file:
        total_kib = int(file.readline().split()[1])
    assert usage.machine_memory_bytes() == total_kib * 1024
