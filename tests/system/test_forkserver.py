"""Forkserver and jobs, for real: processes, descriptors, crashes."""

import asyncio
import errno
import gc
import os
import signal
from collections.abc import Iterator

import pytest

from minid.errors import Failed
from minid.kernel import process
from minid.kernel.cgroups import Tree
from minid.shim import client
from minid.shim.client import Forkserver, JobError, Jobs, ShimConnection
from minid.shim.messages import MessageError

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: the forkserver's interpreter is a detached mount"
)

HERE = "tests.system.forked_jobs:"
TIMEOUT_S = 10


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs(("tests.system.forked_jobs",))
    yield jobs
    jobs.close()


@pytest.fixture
def forkserver() -> Iterator[Forkserver]:
    forkserver = Forkserver()
    yield forkserver
    forkserver.close()


def open_descriptors() -> list[str]:
    gc.collect()
    return sorted(os.listdir("/proc/self/fd"))


async def ended(pid: int) -> None:
    """Until the process has ended."""
    pidfd = os.pidfd_open(pid)
    try:
        over = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, over.set)
        await asyncio.wait_for(over.wait(), TIMEOUT_S)
        asyncio.get_running_loop().remove_reader(pidfd)
    finally:
        os.close(pidfd)


async def test_a_result(jobs: Jobs) -> None:
    answer = await jobs.call(HERE + "echo", {"a": [1, "ü", None]})
    assert answer["request"] == {"a": [1, "ü", None]} and answer["fds"] == 0


async def test_every_call_has_a_process_of_its_own(jobs: Jobs) -> None:
    answers = [await jobs.call(HERE + "echo", {}) for _ in range(3)]
    assert len({answer["pid"] for answer in answers}) == 3
    assert [answer["calls"] for answer in answers] == [1, 1, 1], "nothing is left of the call before"


async def test_descriptors_are_copies(jobs: Jobs) -> None:
    read, write = os.pipe()
    assert await jobs.call(HERE + "write", {"text": "through"}, [write]) == {"written": 7}
    os.close(write)
    assert (os.read(read, 10), os.read(read, 10)) == (b"through", b""), "and the job's copy is closed"
    os.close(read)


async def test_a_job_has_nothing_of_the_daemons(jobs: Jobs) -> None:
    with open("/etc/hostname") as file:
        os.set_inheritable(file.fileno(), True)
        links = (await jobs.call(HERE + "descriptors", {}))["open"]
    assert "/etc/hostname" not in links.values()
    assert sum(link.startswith("socket:") for link in links.values()) == 1, "its answer goes there"


@pytest.mark.parametrize("as_bytes", [False, True])
async def test_an_os_error(jobs: Jobs, as_bytes: bool) -> None:
    with pytest.raises(JobError) as caught:
        await jobs.call(HERE + "open_path", {"path": "/nosuch/ü", "as_bytes": as_bytes})
    error = caught.value
    assert (error.kind, error.errno, error.path) == ("FileNotFoundError", errno.ENOENT, "/nosuch/ü")
    assert str(error) == "No such file or directory"


@pytest.mark.parametrize("kind", ["ValueError", "NotFound"])
async def test_other_errors(jobs: Jobs, kind: str) -> None:
    with pytest.raises(JobError, match=r"^the message$") as caught:
        await jobs.call(HERE + "fail", {"kind": kind, "message": "the message"})
    assert (caught.value.kind, caught.value.errno, caught.value.path) == (kind, None, None)


async def test_a_job_that_is_killed(jobs: Jobs) -> None:
    with pytest.raises(JobError, match="ended without an answer") as caught:
        await jobs.call(HERE + "die", {})
    assert caught.value.kind == "Killed"


async def test_messages_that_are_too_large_are_errors_with_a_reason(jobs: Jobs) -> None:
    await jobs.call(HERE + "echo", {})
    before = open_descriptors()
    with pytest.raises(MessageError, match="exceeds"):
        await jobs.call(HERE + "echo", {"text": "x" * 200_000})
    with pytest.raises(JobError, match="exceeds") as caught:
        await jobs.call(HERE + "answer_at_length", {"size": 200_000})
    assert caught.value.kind == "MessageError"
    assert len((await jobs.call(HERE + "answer_at_length", {"size": 100_000}))["text"]) == 100_000
    assert open_descriptors() == before


async def test_jobs_run_side_by_side_and_are_reaped(jobs: Jobs) -> None:
    wait_read, wait_write = os.pipe()
    ready_read, ready_write = os.pipe()
    calls = [
        asyncio.ensure_future(jobs.call(HERE + "wait_for_the_end_of", {}, [wait_read, ready_write]))
        for _ in range(4)
    ]
    loop = asyncio.get_running_loop()
    count = 0
    while count < 4:  # all are inside at once
        count += len(await loop.run_in_executor(None, os.read, ready_read, 4))
    assert jobs._server is not None
    assert len(process.list_children(jobs._server.pid)) == 4
    os.close(wait_write)
    pids = {(await call)["pid"] for call in calls}
    assert len(pids) == 4
    for pid in pids:
        if os.path.exists(f"/proc/{pid}"):
            await ended(pid)
    assert process.list_children(jobs._server.pid) == []
    for fd in (wait_read, ready_read, ready_write):
        os.close(fd)


async def test_a_cancelled_call_leaves_no_descriptor(jobs: Jobs) -> None:
    await jobs.call(HERE + "echo", {})
    before = open_descriptors()
    wait_read, wait_write = os.pipe()
    ready_read, ready_write = os.pipe()
    call = asyncio.ensure_future(jobs.call(HERE + "wait_for_the_end_of", {}, [wait_read, ready_write]))
    await asyncio.get_running_loop().run_in_executor(None, os.read, ready_read, 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for fd in (wait_read, wait_write, ready_read, ready_write):
        os.close(fd)
    assert open_descriptors() == before


async def test_the_forkserver_of_jobs_ends_when_there_are_none(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "IDLE_S", 0.05)
    await jobs.call(HERE + "echo", {})
    assert jobs._server is not None
    await ended(jobs._server.pid)
    await asyncio.sleep(0)
    assert (await jobs.call(HERE + "echo", {}))["calls"] == 1, "and starts again with the next one"


async def test_a_job_keeps_it_alive(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "IDLE_S", 0.05)
    wait_read, wait_write = os.pipe()
    ready_read, ready_write = os.pipe()
    call = asyncio.ensure_future(jobs.call(HERE + "wait_for_the_end_of", {}, [wait_read, ready_write]))
    await jobs.call(HERE + "echo", {})
    server = jobs._server
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, over.set)  # later than the idle time
    await over.wait()
    assert jobs._server is server
    os.close(wait_write)
    assert (await call)["pid"]
    for fd in (wait_read, ready_read, ready_write):
        os.close(fd)


async def test_a_killed_forkserver_is_started_again(jobs: Jobs) -> None:
    await jobs.call(HERE + "echo", {})
    assert jobs._server is not None
    pid = jobs._server.pid
    os.kill(pid, signal.SIGKILL)
    await ended(pid)
    assert (await jobs.call(HERE + "echo", {}))["calls"] == 1
    assert jobs._server.pid != pid and not os.path.exists(f"/proc/{pid}"), "and the dead one is reaped"


async def test_a_fork_that_the_kernel_refuses_is_an_error_and_the_next_one_works(jobs: Jobs) -> None:
    await jobs.call(HERE + "echo", {})
    assert jobs._server is not None
    tree = Tree.open(f"mt-fork-{os.getpid()}")
    group = tree.create("forkserver", {"pids": {"limit": 1}})
    try:
        group.join(jobs._server.pid)
        with pytest.raises(JobError) as caught:
            await jobs.call(HERE + "echo", {})
        assert caught.value.errno == errno.EAGAIN
        group.update({"pids": {"limit": 5}})
        pid = jobs._server.pid
        assert (await jobs.call(HERE + "echo", {}))["calls"] == 1
        assert jobs._server.pid == pid
    finally:
        jobs.close()
        group.remove()
        tree.prune()


async def test_a_closed_forkserver_refuses(forkserver: Forkserver) -> None:
    forkserver.close()
    with pytest.raises(Failed, match="stopping"):
        forkserver.fork_shim(ahead=False)
    forkserver.close()


async def test_a_spare_shim_ends_with_the_daemon(forkserver: Forkserver) -> None:
    spare = forkserver.fork_shim(ahead=True)
    keeper = await shim_of(forkserver, spare)
    (pid,) = process.list_children(keeper)
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    spare.close()
    await ended(keeper)
    assert not os.path.exists(f"/proc/{pid}"), "and its worker"


async def test_shims_outlive_the_forkserver(forkserver: Forkserver) -> None:
    plain = forkserver.fork_shim(ahead=False)
    pid = await shim_of(forkserver, plain)
    os.kill(forkserver.pid, signal.SIGKILL)
    assert (await plain.request("state"))["running"] is False
    plain.close()
    await ended(pid)


async def shim_of(forkserver: Forkserver, connection: ShimConnection) -> int:
    """The only shim's pid; it answers, so it is there."""
    await connection.request("state")
    (pid,) = process.list_children(forkserver.pid)
    return pid
