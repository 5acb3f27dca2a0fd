"""Capability sets of real processes, before and after execve; limits that need a capability."""

import os
import resource
import signal
from pathlib import Path

import pytest

from minid.kernel import capabilities, process
from minid.kernel.capabilities import ALL, DEFAULT, mask
from tests.forked import Child, forked

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="changing capability sets needs root"),
]


def sets(text: str | None = None) -> dict[str, int]:
    lines = (text or Path("/proc/self/status").read_text()).splitlines()
    return {line[3:6]: int(line[8:], 16) for line in lines if line.startswith("Cap")}


def executed() -> dict[str, int]:
    """The sets of a program that this process becomes (seen from a child)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.execv("/bin/cat", ["cat", "/proc/self/status"])
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    os.waitpid(child, 0)
    return sets(text)


def test_apply_as_for_a_default_container() -> None:
    def run() -> tuple[dict[str, int], dict[str, int]]:
        capabilities.apply(DEFAULT, DEFAULT, DEFAULT, (), ())
        return sets(), executed()

    wanted = {"Inh": 0, "Prm": mask(DEFAULT), "Eff": mask(DEFAULT), "Bnd": mask(DEFAULT), "Amb": 0}
    before, after = forked(run)
    assert before == wanted
    assert after == wanted


def test_apply_nothing() -> None:
    def run() -> dict[str, int]:
        capabilities.apply((), (), (), (), ())
        return executed()

    assert set(forked(run).values()) == {0}


def test_ambient_survives_a_change_of_user() -> None:
    one = ("CAP_NET_BIND_SERVICE",)

    def run() -> dict[str, int]:
        capabilities.clear_ambient()
        capabilities.limit_bounding(DEFAULT)
        capabilities.set_keep_caps(True)
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        capabilities.set_process(one, one, one)
        capabilities.raise_ambient(one)
        return executed()

    bits = mask(one)
    assert forked(run) == {"Inh": bits, "Prm": bits, "Eff": bits, "Bnd": mask(DEFAULT), "Amb": bits}


def test_raising_ambient_needs_inheritable() -> None:
    with pytest.raises(PermissionError, match="PR_CAP_AMBIENT_RAISE"):
        forked(lambda: capabilities.raise_ambient(["CAP_CHOWN"]))


def test_bounding_drops_numbers_that_have_no_name() -> None:
    def run() -> int:
        capabilities.limit_bounding(())
        return sets()["Bnd"]

    assert forked(run) == 0


def test_limit_bounding_without_the_right_to() -> None:
    def run() -> None:
        capabilities.set_process(("CAP_CHOWN",), ("CAP_CHOWN",))
        capabilities.limit_bounding(ALL)  # nothing to drop: no right needed
        capabilities.limit_bounding(())

    with pytest.raises(PermissionError, match="PR_CAPBSET_DROP"):
        forked(run)


def test_available_counts_both_sets() -> None:
    def run() -> frozenset[str]:
        capabilities.limit_bounding(("CAP_CHOWN", "CAP_KILL", "CAP_SETPCAP"))
        capabilities.set_process(("CAP_CHOWN", "CAP_FOWNER"), ())
        return capabilities.available()

    assert forked(run) == {"CAP_CHOWN"}


def test_raising_a_hard_limit_without_the_capability_is_told_apart() -> None:
    def run() -> None:
        capabilities.set_process((), ())
        process.set_rlimit("nofile", 10, 20)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (10, 20)
        process.set_rlimit("RLIMIT_NOFILE", 10, 21)

    with pytest.raises(
        PermissionError, match="raising the hard limit of RLIMIT_NOFILE to 21 needs CAP_SYS_RESOURCE"
    ):
        forked(run)


def test_unlimited() -> None:
    def run() -> tuple[int, int]:
        process.set_rlimit("core", 0, -1)
        return resource.getrlimit(resource.RLIMIT_CORE)

    assert forked(run) == (0, resource.RLIM_INFINITY)


def test_prctls() -> None:
    def run() -> dict[str, str]:
        process.set_name("a name longer than fifteen")
        process.set_no_new_privs()
        process.set_subreaper()
        process.set_dumpable(False)
        process.set_pdeathsig(signal.SIGTERM)
        process.set_oom_score_adj(500)
        status = Path("/proc/self/status").read_text().splitlines()
        lines = dict(line.split(":\t", 1) for line in status if ":\t" in line)
        lines["oom_score_adj"] = Path("/proc/self/oom_score_adj").read_text().strip()
        return lines

    lines = forked(run)
    assert lines["Name"] == "a name longer t"
    assert lines["NoNewPrivs"] == "1"
    assert lines["oom_score_adj"] == "500"


def test_subreaper_gets_the_orphans() -> None:
    def run() -> bool:
        process.set_subreaper()
        read, write = os.pipe()
        if os.fork() == 0:
            if os.fork() == 0:
                os.close(write)
                os.read(read, 1)
                os._exit(5)
            os._exit(0)
        os.close(read)
        os.wait()
        os.close(write)
        return os.waitstatus_to_exitcode(os.wait()[1]) == 5

    assert forked(run)


def test_reset_signals() -> None:
    def run() -> dict[str, str]:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGRTMIN, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        process.reset_signals()
        status = Path("/proc/self/status").read_text().splitlines()
        return {line[:6]: line[8:] for line in status if line.startswith("Sig")}

    lines = forked(run)
    assert int(lines["SigIgn"], 16) == 0
    assert int(lines["SigBlk"], 16) == 0
    glibcs_own = 1 << 31 | 1 << 32  # 32 and 33: caught in any process that had threads, and gone with execve
    assert int(lines["SigCgt"], 16) & ~glibcs_own == 0


def test_children_and_start_of_a_process() -> None:
    with Child() as child:
        assert child.pid in process.list_children(os.getpid())
        ticks = process.start_ticks(child.pid)
        assert process.exists(child.pid, ticks)
    assert not process.exists(child.pid, ticks)
