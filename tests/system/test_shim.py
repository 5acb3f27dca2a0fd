"""Shims and what runs in them, driven as the daemon drives them, and left alone at every step."""

import asyncio
import json
import os
import random
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from minid.containers.model import Client, HostConfig
from minid.containers.tasks import ExitRecord, Task, Tasks
from minid.kernel import process
from minid.shim.client import JobError
from tests.system.boxes import BUSYBOX, TIMEOUT_S, Box, Boxes, ended, open_boxes, receive_all, receive_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path(BUSYBOX).exists(), reason="needs busybox-static"),
]


@pytest.fixture
async def boxes() -> AsyncIterator[Boxes]:
    async with open_boxes() as boxes:
        yield boxes


@pytest.fixture
async def sleeper(boxes: Boxes) -> AsyncIterator[Box]:
    """A container that runs until it is killed."""
    box = boxes.make("sleep", "1000")
    client = await box.start()
    yield box
    client.close()


async def kill(box: Box) -> ExitRecord:
    assert box.task is not None
    await box.boxes.tasks.signal(box.task, signal.SIGKILL)
    return await box.end()


# -- the end


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [(("true",), 0), (("false",), 1), (("sh", "-c", "exit 42"), 42), (("sh", "-c", "exit 255"), 255)],
)
async def test_exit_codes(boxes: Boxes, command: tuple[str, ...], exit_code: int) -> None:
    box = boxes.make(*command)
    client = await box.start()
    record = await box.end()
    client.close()
    assert (record.exit_code, record.oom_killed, record.error) == (exit_code, False, "")
    assert boxes.tasks.read_exit(box.id) == record, "and it is on disk"
    assert boxes.tasks.find(box.id) is None
    await boxes.all_gone()
    assert not box.socket_path.exists()


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGKILL, 137), (signal.SIGTERM, 7), (signal.SIGUSR1, 9)]
)
async def test_signals(boxes: Boxes, number: int, exit_code: int) -> None:
    script = "trap 'exit 7' TERM; trap 'exit 9' USR1; echo ready; while :; do sleep 1000 & wait; done"
    box = boxes.make("sh", "-c", script)
    with await box.start() as client:
        await receive_until(client, b"ready")
        assert box.task is not None
        await boxes.tasks.signal(box.task, number)
        assert (await box.end()).exit_code == exit_code


async def test_death_by_signal_below_an_init(boxes: Boxes) -> None:
    box = boxes.make("sh", "-c", "kill -SEGV $$", init=True)
    (await box.start()).close()
    assert (await box.end()).exit_code == 128 + signal.SIGSEGV


async def test_an_init_reaps_and_passes_signals_on(boxes: Boxes) -> None:
    script = "trap 'exit 5' INT; (sleep 0 & exec sleep 0) & echo ready; while :; do sleep 1000 & wait; done"
    box = boxes.make("sh", "-c", script, init=True)
    with await box.start() as client:
        await receive_until(client, b"ready")
        assert box.task is not None
        await boxes.tasks.signal(box.task, signal.SIGINT)
        assert (await box.end()).exit_code == 5


async def test_out_of_memory(boxes: Boxes) -> None:
    box = boxes.make("tail", "/dev/zero", limits={"memory": {"limit": 16 << 20, "swap": 16 << 20}})
    (await box.start()).close()
    record = await box.end()
    assert (record.exit_code, record.oom_killed) == (137, True)


@pytest.mark.parametrize(
    ("command", "kind", "words"),
    [
        ("nope", "CommandNotFound", 'exec: "nope": executable file not found in $PATH'),
        ("/bin/nope", "CommandNotFound", 'exec: "/bin/nope": stat /bin/nope: no such file or directory'),
        ("/bin/not-executable", "CommandNotExecutable", 'exec: "/bin/not-executable": permission denied'),
        ("/etc", "CommandNotExecutable", 'exec: "/etc": permission denied'),
    ],
)
async def test_a_program_that_cannot_be_run(boxes: Boxes, command: str, kind: str, words: str) -> None:
    box = boxes.make(command)
    task = box.spawn()
    with await box.attach("stdout") as client:
        await boxes.tasks.run(task)
        with pytest.raises(JobError) as caught:
            await boxes.tasks.start(task)
        assert (caught.value.kind, str(caught.value)) == (kind, words)
        assert await receive_all(client) == b""
    boxes.tasks.discard(box.id)
    await boxes.all_gone()
    assert not box.exited.done(), "what never started has not exited"
    assert not box.socket_path.exists() and not (box.directory / "exit.json").exists()


async def test_a_file_that_is_no_program(boxes: Boxes) -> None:
    box = boxes.make("/bin/no-format")
    with await box.start() as client:
        assert (await box.end()).exit_code == 255
        assert await receive_all(client) == b"exec /bin/no-format: exec format error\n"


async def test_a_root_file_system_that_cannot_be_mounted(boxes: Boxes) -> None:
    box = boxes.make("true")
    os.rmdir(box.directory / "work")
    task = box.spawn()
    with pytest.raises(JobError, match="No such file"):
        await boxes.tasks.run(task)
    boxes.tasks.discard(box.id)
    await boxes.all_gone()


async def test_a_socket_that_cannot_be_made_is_the_runs_error(boxes: Boxes) -> None:
    """A container that no later daemon could find must not run."""
    box = boxes.make("true")
    boxes.layout.shims.rmdir()
    task = box.spawn()
    with pytest.raises(JobError, match="cannot listen at"):
        await boxes.tasks.run(task)
    boxes.layout.shims.mkdir()
    boxes.tasks.discard(box.id)
    await boxes.all_gone()


async def test_an_exit_that_cannot_be_written_is_told_all_the_same(boxes: Boxes) -> None:
    box = boxes.make("sh", "-c", "exit 3")
    (box.directory / "exit.json.aside").mkdir()
    (await box.start()).close()
    assert (await box.end()).exit_code == 3
    (box.directory / "exit.json.aside").rmdir()


async def test_what_the_shim_makes_is_roots_alone(boxes: Boxes, sleeper: Box) -> None:
    assert sleeper.socket_path.stat().st_mode & 0o077 == 0
    await kill(sleeper)
    assert (sleeper.directory / "exit.json").stat().st_mode & 0o777 == 0o600


# -- output and input


async def test_output_is_complete_however_fast_the_end(boxes: Boxes) -> None:
    for _ in range(10):
        box = boxes.make("sh", "-c", "echo out; echo err >&2")
        with await box.start() as client:
            assert sorted((await receive_all(client)).split()) == [b"err", b"out"]
        await box.end()
        logged = [json.loads(line)["log"] for line in box.log.read_text().splitlines()]
        assert sorted(logged) == ["err\n", "out\n"]


async def test_megabytes_of_anything_through_a_container(boxes: Boxes) -> None:
    box = boxes.make("cat", open_stdin=True, stdin_once=True)
    with await box.start("stdin", "stdout") as client:
        data = random.Random(3).randbytes(4 << 20)
        reading = asyncio.ensure_future(receive_all(client))
        await asyncio.get_running_loop().sock_sendall(client, data)
        client.shutdown(socket.SHUT_WR)
        assert await reading == data
        assert (await box.end()).exit_code == 0


async def test_a_large_environment_and_odd_bytes(boxes: Boxes) -> None:
    box = boxes.make("sh", "-c", 'echo "${#V0} ${#V9} $ODD"')
    odd = os.fsdecode(b"caf\xe9")
    box.spec["process"]["env"] += [f"V{number}={'x' * 100_000}" for number in range(10)] + [f"ODD={odd}"]
    boxes.tasks.write_bundle(box.id, box.spec, boxes.options[box.id])
    with await box.start() as client:
        assert await receive_all(client) == b"100000 100000 caf\xe9\n"


async def test_a_client_that_comes_before_the_sandbox(boxes: Boxes) -> None:
    box = boxes.make("stty", "size", tty=True, open_stdin=True)
    task = box.spawn()
    with await box.attach("stdout") as client:
        await boxes.tasks.resize(task, height=41, width=99)  # and its size even before the terminal
        await boxes.tasks.run(task)
        await boxes.tasks.start(task)
        assert await receive_all(client) == b"41 99\r\n"
    await box.end()


async def test_resizing_a_terminal(boxes: Boxes) -> None:
    box = boxes.make("sh", "-c", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done", tty=True)
    with await box.start("stdin", "stdout") as client:
        await receive_until(client, b"ready")
        assert box.task is not None
        await boxes.tasks.resize(box.task, height=50, width=132)
        await receive_until(client, b"50 132")
        await kill(box)


async def test_a_process_that_lets_go_of_its_terminal_is_not_hung_up_on(boxes: Boxes) -> None:
    script = "exec </dev/null >/dev/null 2>&1; sleep 0.1; echo back >/dev/console; exit 6"
    box = boxes.make("sh", "-c", script, tty=True)
    with await box.start("stdout") as client:
        assert await receive_all(client) == b"back\r\n"
        assert (await box.end()).exit_code == 6


async def test_no_descriptor_reaches_the_programs(boxes: Boxes, sleeper: Box) -> None:
    code, output = await sleeper.exec_output("ls", "/proc/self/fd")
    assert (code, output.split()) == (0, [b"0", b"1", b"2", b"3"]), "3 is ls's own"
    code, output = await sleeper.exec_output("ls", "/proc/1/fd")
    assert output.split() == [b"0", b"1", b"2"]
    await kill(sleeper)


# -- execs


async def test_execs(sleeper: Box) -> None:
    assert await sleeper.exec_output("sh", "-c", "echo $$; exit 12") == (12, b"2\n")
    code, _ = await sleeper.exec_output("sh", "-c", "kill -TERM $$")
    assert code == 128 + signal.SIGTERM
    code, output = await sleeper.exec_output("readlink", "/proc/self/ns/net")
    assert sleeper.task is not None
    assert output.decode().strip() == os.readlink(f"/proc/{sleeper.task.pid}/ns/net")
    await kill(sleeper)


async def test_an_exec_with_long_arguments(sleeper: Box) -> None:
    words = ["x" * 100_000] * 5
    code, output = await sleeper.exec_output("sh", "-c", "echo $# ${#5}", "sh", *words)
    assert (code, output) == (0, b"5 100000\n")
    await kill(sleeper)


async def test_an_exec_that_cannot_be_run(sleeper: Box) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with pytest.raises(JobError) as caught:
            await sleeper.exec("nope", client=theirs)
        assert caught.value.kind == "CommandNotFound"
        assert b"executable file not found" in await receive_all(ours)
    assert await asyncio.wait_for(next(iter(sleeper.exec_exits.values())), TIMEOUT_S) == 127
    assert (await sleeper.exec_output("echo", "fine")) == (0, b"fine\n")
    await kill(sleeper)


async def test_an_exec_that_comes_too_late_lets_go_of_its_client(boxes: Boxes) -> None:
    """The container has ended, its shim still has a slow client: the exec's client must not wait for that one."""
    box = boxes.make("dd", "if=/dev/zero", "bs=1024", "count=700")
    slow = await box.start()
    connection = box.task.connection if box.task else None
    assert connection is not None
    await box.end()
    box.task = Task(box.id, connection)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with pytest.raises(JobError, match="not running"):
            await box.exec("true", client=theirs)
        assert await receive_all(ours) == b""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with pytest.raises(JobError, match="has ended"):
            await boxes.tasks.attach(
                box.task,
                Client(theirs.detach()),
                wanted=["stdout"],
                framed=False,
                detach_keys="",
                exec_id="x",
            )
        assert await receive_all(ours) == b""
    assert len(await receive_all(slow)) >= 700 * 1024
    slow.close()
    connection.close()


async def test_an_exec_that_cannot_be_forked(boxes: Boxes, sleeper: Box) -> None:
    """No process is left for it: an error, the client is let go, and the shim goes on."""
    limited = boxes.tree.create("shim", {"pids": {"limit": 1}})
    limited.join(sleeper.worker())
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with pytest.raises(JobError):
            await sleeper.exec("true", client=theirs)
        assert b"OCI runtime exec failed" in await receive_all(ours)
    descriptors = await shim_descriptors(sleeper)
    for _ in range(3):
        with pytest.raises(JobError):
            await sleeper.exec("true")
    assert await shim_descriptors(sleeper) == descriptors
    limited.update({"pids": {"limit": 10}})
    assert await sleeper.exec_output("echo", "again") == (0, b"again\n")
    shim = sleeper.shim()
    await kill(sleeper)
    await ended(shim)


async def test_an_exec_ends_although_its_child_goes_on(sleeper: Box) -> None:
    code, output = await sleeper.exec_output("sh", "-c", "yes & sleep 0.2; echo over")
    assert code == 0 and b"y\n" in output
    await kill(sleeper)


async def test_execs_end_with_the_container(sleeper: Box) -> None:
    exec_id = await sleeper.exec("sleep", "1000")
    await kill(sleeper)
    assert await asyncio.wait_for(sleeper.exec_exits[exec_id], TIMEOUT_S) == 137


async def test_a_hundred_execs_leave_no_descriptor(sleeper: Box) -> None:
    await sleeper.exec_output("true")
    before = await shim_descriptors(sleeper)
    for _ in range(10):
        await asyncio.gather(*(sleeper.exec_output("true") for _ in range(10)))
    assert await shim_descriptors(sleeper) == before
    await kill(sleeper)


async def shim_descriptors(box: Box) -> list[str]:
    """What the shim has open, when it has done what it was doing."""
    assert box.task is not None
    await box.task.connection.request("state")
    directory = f"/proc/{box.shim()}/fd"
    return sorted(os.readlink(f"{directory}/{fd}").partition(":")[0] for fd in os.listdir(directory))


# -- the daemon ends, at every step


@pytest.mark.parametrize("step", ["spawned", "run is asked for", "run is answered", "start is asked for"])
async def test_a_daemon_that_ends_before_the_start_leaves_nothing(boxes: Boxes, step: str) -> None:
    box = boxes.make("sleep", "1000")
    task = box.spawn()
    request: asyncio.Future[object] | None = None
    if step != "spawned":
        request = asyncio.ensure_future(boxes.tasks.run(task))
        if step == "run is asked for":
            await asyncio.sleep(0)  # it is sent
        else:
            await request
    if step == "start is asked for":
        request = asyncio.ensure_future(boxes.tasks.start(task))
        await asyncio.sleep(0)
    boxes.tasks.discard(box.id)
    if request is not None and step.endswith("asked for"):
        with pytest.raises(ConnectionError):
            await request
    if step == "start is asked for":
        # It may have run: then it runs on, as it would if the daemon had ended a moment later.
        box.group.kill()
    await boxes.all_gone()
    assert not box.socket_path.exists() and box.group.try_remove()


async def test_a_container_runs_on_and_is_found_again(boxes: Boxes, sleeper: Box) -> None:
    shim = sleeper.shim()
    boxes.tasks.discard(sleeper.id)
    later = Tasks(boxes.layout, boxes.forkserver)
    found = await later.reconnect(sleeper.id)
    assert isinstance(found, Task) and sleeper.task is not None and found.pid == sleeper.task.pid
    exits: asyncio.Future[ExitRecord] = asyncio.get_running_loop().create_future()
    later.on_exit = lambda container_id, record: exits.set_result(record)
    await later.signal(found, signal.SIGKILL)
    assert (await asyncio.wait_for(exits, TIMEOUT_S)).exit_code == 137
    await ended(shim)
    later.close()


async def test_an_exit_while_no_daemon_listens(boxes: Boxes, sleeper: Box) -> None:
    assert sleeper.task is not None
    shim, pid = sleeper.shim(), sleeper.task.pid
    boxes.tasks.discard(sleeper.id)
    os.kill(pid, signal.SIGKILL)
    await ended(shim)
    found = await boxes.tasks.reconnect(sleeper.id)
    assert isinstance(found, ExitRecord) and found.exit_code == 137 and found.error == ""


async def test_a_shim_that_is_killed_takes_its_container_along(boxes: Boxes, sleeper: Box) -> None:
    assert sleeper.task is not None
    pid = sleeper.task.pid
    os.kill(sleeper.shim(), signal.SIGKILL)
    record = await sleeper.end()
    assert record.exit_code == 137 and "shim" in record.error
    await ended(pid)
    sleeper.socket_path.unlink()  # remove_files and the next start do that


async def test_a_sandbox_that_is_killed_before_its_start(boxes: Boxes) -> None:
    box = boxes.make("true")
    task = box.spawn()
    await boxes.tasks.run(task)
    os.kill(task.pid, signal.SIGKILL)
    await ended(task.pid)
    with pytest.raises((JobError, ConnectionError)):
        await boxes.tasks.start(task)
    boxes.tasks.discard(box.id)
    await boxes.all_gone()
    assert not box.exited.done()


async def test_a_sandbox_that_is_killed_when_the_daemon_ends(boxes: Boxes) -> None:
    """The keeper has reaped it before the worker hears of either."""
    box = boxes.make("true")
    task = box.spawn()
    await boxes.tasks.run(task)
    worker = box.worker()
    os.kill(worker, signal.SIGSTOP)
    boxes.tasks.discard(box.id)
    os.kill(task.pid, signal.SIGKILL)
    await ended(task.pid)
    os.kill(worker, signal.SIGCONT)
    await boxes.all_gone()
    assert not box.socket_path.exists() and not box.exited.done()


# -- one run after the other


async def test_the_last_run_s_shim_leaves_the_next_ones_socket_alone(boxes: Boxes) -> None:
    first = boxes.make("dd", "if=/dev/zero", "bs=1024", "count=700")
    slow = await first.start()
    shim = first.shim()
    await first.end()
    assert Path(f"/proc/{shim}").exists(), "it still has output for its client"
    second = first.next_run()
    second.spec["process"]["args"] = ["sleep", "1000"]
    boxes.tasks.write_bundle(second.id, second.spec, boxes.options[second.id])
    (await second.start()).close()
    await receive_all(slow)
    slow.close()
    await ended(shim)
    assert second.socket_path.exists()
    boxes.tasks.discard(second.id)
    found = await boxes.tasks.reconnect(second.id)
    assert isinstance(found, Task), "a later daemon finds it"
    await boxes.tasks.signal(found, signal.SIGKILL)
    await boxes.all_gone()


async def test_a_spare_shim(boxes: Boxes) -> None:
    boxes.tasks.ensure_spare()
    spare = boxes.tasks._spare
    assert spare is not None
    boxes.tasks.ensure_spare()
    assert boxes.tasks._spare is spare, "one is enough"
    box = boxes.make("echo", "from the spare")
    with await box.start() as client:
        assert box.task is not None and box.task.connection is spare and boxes.tasks._spare is None
        assert await receive_all(client) == b"from the spare\n"
    assert (await box.end()).exit_code == 0


async def test_a_spare_shim_that_was_killed_fails_no_start(boxes: Boxes) -> None:
    boxes.tasks.ensure_spare()
    spare = boxes.tasks._spare
    assert spare is not None
    await spare.request("state")
    (pid,) = process.list_children(boxes.forkserver.pid)
    (worker,) = process.list_children(pid)
    os.kill(pid, signal.SIGKILL)
    await ended(pid)
    await ended(worker)
    box = boxes.make("true")
    (await box.start()).close()
    assert (await box.end()).exit_code == 0


async def test_a_forkserver_that_was_killed_fails_no_start(boxes: Boxes) -> None:
    os.kill(boxes.forkserver.pid, signal.SIGKILL)
    await ended(boxes.forkserver.pid)
    box = boxes.make("true")
    (await box.start()).close()
    assert (await box.end()).exit_code == 0
    boxes.tasks.ensure_spare()


async def test_containers_that_share_namespaces_get_no_spare(boxes: Boxes, sleeper: Box) -> None:
    boxes.tasks.ensure_spare()
    assert sleeper.task is not None
    box = boxes.make("readlink", "/proc/self/ns/uts", host_config=HostConfig(uts_mode="host"))
    with await box.start() as client:
        assert boxes.tasks._spare is not None
        assert (await receive_all(client)).decode().strip() == os.readlink("/proc/self/ns/uts")
    await box.end()
    await kill(sleeper)


async def test_an_exec_is_never_seen_outside_the_containers_files(boxes: Boxes) -> None:
    """A container with CAP_SYS_PTRACE may look at every process it sees through /proc/PID/root and cwd: from its first
    moment on, an exec's root must be the container's.
    """
    script = (
        "echo watching; while :; do for each in /proc/[0-9]*; do "
        f"for link in root cwd; do test -e $each/$link{boxes.root} && echo escaped by $link; done; done; done"
    )
    box = boxes.make("sh", "-c", script, host_config=HostConfig(cap_add=("SYS_PTRACE",)))
    with await box.start() as client:
        await receive_until(client, b"watching\n")
        for _ in range(60):
            assert (await box.exec_output("true"))[0] == 0
        await kill(box)
        assert await receive_all(client) == b""


async def test_an_exec_in_a_container_that_shares_everything_with_the_host(boxes: Boxes) -> None:
    shared = HostConfig(uts_mode="host", ipc_mode="host", pid_mode="host", cgroupns_mode="host")
    box = boxes.make("sleep", "1000", host_config=shared)
    box.spec["linux"]["namespaces"] = [{"type": "mount"}]
    box.spec["linux"]["sysctl"] = {}
    box.boxes.options[box.id] = replace(boxes.options[box.id], namespaces={"mount": ""})
    boxes.tasks.write_bundle(box.id, box.spec, boxes.options[box.id])
    (await box.start()).close()
    code, output = await box.exec_output("ls", "/")
    assert code == 0 and output.split() == [b"bin", b"dev", b"etc", b"proc", b"sys", b"tmp"]
    await kill(box)
