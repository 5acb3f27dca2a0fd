"""A shim that rests: its worker has ended, its keeper sleeps, and everything that can happen wakes it."""

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minid.containers.model import HostConfig
from minid.containers.tasks import ExitRecord, Task, Tasks
from tests.system.boxes import BUSYBOX, TIMEOUT_S, Box, Boxes, ended, open_boxes, receive_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path(BUSYBOX).exists(), reason="needs busybox-static"),
]

KEEPER_KB = 900  # measured: 620 to 700


@pytest.fixture
async def boxes() -> AsyncIterator[Boxes]:
    async with open_boxes() as boxes:
        yield boxes


async def resting(boxes: Boxes, *command: str, **options: object) -> Box:
    """A container whose shim rests."""
    box = boxes.make(*command, **options)  # type: ignore[arg-type]
    (await box.start()).close()
    await box.rest()
    return box


async def kill(box: Box) -> ExitRecord:
    assert box.task is not None
    await box.boxes.tasks.signal(box.task, signal.SIGKILL)
    return await box.end()


async def test_an_idle_container_has_one_small_process_beside_it(boxes: Boxes) -> None:
    boxes.tasks.ensure_spare()
    box = await resting(boxes, "sleep", "1000")
    assert box.task is not None and box.boxes.processes() == [
        str(box.task.pid),
        f"{box.shim()} minid: shim of {box.id[:12]}",
    ]
    rollup = Path(f"/proc/{box.shim()}/smaps_rollup").read_text()
    private_kb = sum(int(number) for number in re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE))
    assert private_kb < KEEPER_KB
    for _ in range(3):  # and it does not grow by what it has done
        assert await box.exec_output("echo", "awake") == (0, b"awake\n")
        await box.rest()
    rollup = Path(f"/proc/{box.shim()}/smaps_rollup").read_text()
    again_kb = sum(int(number) for number in re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE))
    assert again_kb < KEEPER_KB
    await kill(box)


async def test_the_end_wakes_it(boxes: Boxes) -> None:
    box = await resting(
        boxes, "sh", "-c", "trap 'echo last words; exit 7' TERM; while :; do sleep 1000 & wait; done"
    )
    assert box.task is not None
    shim = box.shim()
    os.kill(box.task.pid, signal.SIGTERM)  # of nobody that it knows
    assert (await box.end()).exit_code == 7
    await ended(shim)
    assert json.loads(box.log.read_text())["log"] == "last words\n"
    assert not box.socket_path.exists()


async def test_output_wakes_it_and_goes_on_where_it_was(boxes: Boxes) -> None:
    script = "trap 'echo line; echo other >&2' USR1; printf 'half a '; while :; do sleep 1000 & wait; done"
    box = await resting(boxes, "sh", "-c", script)
    keeper = box.shim()
    assert box.task is not None
    os.kill(box.task.pid, signal.SIGUSR1)
    async with asyncio.timeout(TIMEOUT_S):
        while not box.worker():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    await box.rest()
    assert box.shim() == keeper
    logged = [json.loads(line) for line in box.log.read_text().splitlines()]
    assert sorted((each["stream"], each["log"]) for each in logged) == [
        ("stderr", "other\n"),
        ("stdout", "half a line\n"),
    ]
    await kill(box)


async def test_a_later_daemon_wakes_it(boxes: Boxes) -> None:
    box = await resting(boxes, "sleep", "1000")
    shim = box.shim()
    boxes.tasks.discard(box.id)
    later = Tasks(boxes.layout, boxes.forkserver)
    found = await later.reconnect(box.id)
    assert isinstance(found, Task) and box.task is not None and found.pid == box.task.pid
    await box.rest()
    exits: asyncio.Future[ExitRecord] = asyncio.get_running_loop().create_future()
    later.on_exit = lambda container_id, record: exits.set_result(record)
    await later.signal(found, signal.SIGKILL)
    assert (await asyncio.wait_for(exits, TIMEOUT_S)).exit_code == 137
    await ended(shim)
    later.close()


async def test_a_terminal_and_input_after_a_rest(boxes: Boxes) -> None:
    box = await resting(boxes, "sh", tty=True, open_stdin=True)
    with await box.attach("stdin", "stdout") as client:
        await asyncio.get_running_loop().sock_sendall(client, b"echo $((6 * 7)); tty; exit 5\n")
        assert b"42\r\n/dev/pts/0\r\n" in await receive_until(client, b"/dev/pts/0\r\n")
    assert (await box.end()).exit_code == 5


async def test_a_terminal_that_nobody_has_open_lets_it_rest(boxes: Boxes) -> None:
    script = "trap 'echo back >/dev/console; exit' USR1; while :; do sleep 1000 & wait; done"
    box = await resting(boxes, "sh", "-c", f"exec </dev/null >/dev/null 2>&1; {script}", tty=True)
    assert box.task is not None
    os.kill(box.task.pid, signal.SIGUSR1)
    await box.end()
    assert json.loads(box.log.read_text())["log"] == "back\r\n"


async def test_standard_input_is_still_there_after_a_rest(boxes: Boxes) -> None:
    box = await resting(boxes, "cat", open_stdin=True, stdin_once=True)
    with await box.attach("stdin", "stdout") as client:
        await asyncio.get_running_loop().sock_sendall(client, b"late\n")
        assert await receive_until(client, b"late\n") == b"late\n"
        client.shutdown(socket.SHUT_WR)
        assert (await box.end()).exit_code == 0


async def test_an_exec_after_a_rest_is_in_the_sandbox(boxes: Boxes) -> None:
    box = await resting(boxes, "sleep", "1000")
    assert box.task is not None
    for kind in ("pid", "net", "mnt", "uts", "ipc"):
        code, output = await box.exec_output("readlink", f"/proc/self/ns/{kind}")
        assert (code, output.decode().strip()) == (0, os.readlink(f"/proc/{box.task.pid}/ns/{kind}")), kind
    assert await box.exec_output("sh", "-c", "kill -TERM $$") == (128 + signal.SIGTERM, b"")
    await kill(box)


async def test_a_shim_with_an_exec_or_a_client_does_not_rest(boxes: Boxes) -> None:
    box = await resting(boxes, "sleep", "1000")
    exec_id = await box.exec("sh", "-c", "sleep 1.5")
    worker = box.worker()
    assert await asyncio.wait_for(box.exec_exits[exec_id], TIMEOUT_S) == 0
    assert box.worker() == worker, "the exec was longer than it takes to rest"
    client = await box.attach("stdout")
    assert box.worker() == worker
    with client:
        await asyncio.sleep(1.5)  # longer than that
        assert box.worker() == worker
    await box.rest()
    await kill(box)


async def test_orphans_in_the_hosts_pid_namespace_are_reaped(boxes: Boxes) -> None:
    """They become the keeper's children, and it would not wake for them: it has its worker all the time."""
    box = boxes.make("sh", "-c", "sleep 1.5 & exec sleep 1000", host_config=HostConfig(pid_mode="host"))
    (await box.start()).close()
    (orphan_of,) = [box.task.pid] if box.task else []
    code, _ = await box.exec_output("sh", "-c", "(sleep 2 &) ; exit 0")
    assert code == 0
    await asyncio.sleep(2.5)
    assert box.worker()
    states = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in _children(box.shim())
    ]
    assert "Z" not in states and orphan_of
    await kill(box)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_a_killed_keeper_takes_container_and_worker_along(boxes: Boxes) -> None:
    for rest in (True, False):
        box = boxes.make("sleep", "1000")
        (await box.start()).close()
        assert box.task is not None
        pid, worker = box.task.pid, box.worker()
        if rest:
            await box.rest()
        os.kill(box.shim(), signal.SIGKILL)
        record = await box.end()
        assert record.exit_code == 137 and "shim" in record.error
        await ended(pid)
        if not rest:
            await ended(worker)
        box.socket_path.unlink()  # remove_files and the next start do that


async def test_a_killed_worker_takes_the_container_along(boxes: Boxes) -> None:
    box = boxes.make("sleep", "1000")
    (await box.start()).close()
    assert box.task is not None
    pid = box.task.pid
    os.kill(box.worker(), signal.SIGKILL)
    record = await box.end()
    assert record.exit_code == 137 and "shim" in record.error
    await ended(pid)
    box.socket_path.unlink()


async def test_what_wakes_it_waits_until_there_can_be_a_worker(boxes: Boxes) -> None:
    box = await resting(boxes, "sleep", "1000")
    limited = boxes.tree.create("shim", {"pids": {"limit": 1}})
    limited.join(box.shim())
    output = asyncio.ensure_future(box.exec_output("echo", "at last"))
    await asyncio.sleep(0.3)
    assert not output.done() and not box.worker()
    limited.update({"pids": {"limit": 10}})
    assert await asyncio.wait_for(output, TIMEOUT_S) == (0, b"at last\n")
    shim = box.shim()
    await kill(box)
    await ended(shim)


async def test_no_descriptor_is_left_by_waking_and_resting(boxes: Boxes) -> None:
    box = await resting(boxes, "cat", open_stdin=True)
    before = sorted(_descriptors(box))
    for _ in range(3):
        await box.exec_output("true")
        with await box.attach("stdout"):
            pass
        await box.rest()
    assert sorted(_descriptors(box)) == before
    await kill(box)


def _descriptors(box: Box) -> list[str]:
    directory = f"/proc/{box.shim()}/fd"
    return [os.readlink(f"{directory}/{fd}").partition(":")[0] for fd in os.listdir(directory)]
