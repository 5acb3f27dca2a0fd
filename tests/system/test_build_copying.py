"""COPY, ADD and WORKDIR by real jobs on real root file systems, on every storage driver that needs no disk of its own."""

import asyncio
import dataclasses
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from minid.build import dockerfile as language
from minid.build.context import Context, receive
from minid.build.copying import Copier, Copy, Source
from minid.build.dockerfile import model
from minid.errors import MinidError
from minid.images.rootfs import Rootfs
from minid.images.snapshots import Snapshots
from minid.layout import Layout
from minid.shim.client import Jobs
from tests import copy_rules, tars
from tests.copy_rules import BASE, BASE_MTIME, CONTEXT, NEWER, RULES, Rule, tar_of, tree_of
from tests.system.test_snapshots import diff_id

PRELOAD = (
    "minid.images.layers",
    "minid.build.receive_jobs",
    "minid.build.copy_jobs",
    "tests.system.rootfs_jobs",
)


@pytest.fixture(scope="module")
def jobs(privileged: None) -> Iterator[Jobs]:
    jobs = Jobs(PRELOAD)
    yield jobs
    jobs.close()


@pytest.fixture
def root(privileged: None) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    yield root
    shutil.rmtree(root)


class Bench:
    """Layers, root file systems and contexts of one test."""

    def __init__(self, root: Path, snapshots: Snapshots, jobs: Jobs) -> None:
        self.root = root
        self.snapshots = snapshots
        self.jobs = jobs
        self.copier = Copier(jobs)
        self._made = 0

    async def layer(self, data: bytes) -> str:
        fd = tars.feed(data)
        try:
            await self.snapshots.unpack(diff_id(data), "", fd)
        finally:
            os.close(fd)
        return diff_id(data)

    async def rootfs(self, *layers: str) -> Rootfs:
        self._made += 1
        return await self.snapshots.create_rootfs(f"{self._made:064x}", layers)

    async def context(self, data: bytes, size: int = 1 << 16) -> Context:
        return await receive(pieces(data, size), self.root, self.jobs)

    async def look(self, rootfs: Rootfs, path: str = "/") -> dict[str, str]:
        read, write = os.pipe()
        os.set_blocking(read, False)
        request = {"rootfs": dataclasses.asdict(rootfs), "mounts": [], "running": False, "path": path}
        job = asyncio.ensure_future(self.jobs.call("minid.containers.archive_jobs:get_job", request, [write]))
        await asyncio.sleep(0)
        os.close(write)
        with open(read, "rb") as file:
            os.set_blocking(read, True)
            data = await asyncio.to_thread(file.read)
        await job
        return tree_of(data)


async def pieces(data: bytes, size: int = 1 << 16) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.fixture(params=["overlay2", "vfs"])
async def bench(request: pytest.FixtureRequest, root: Path, jobs: Jobs) -> AsyncIterator[Bench]:
    layout = Layout(root / "data", root / "exec")
    for directory in (layout.data_root, layout.snapshots, layout.containers):
        directory.mkdir()
    snapshots = Snapshots(layout, request.param, jobs)
    await snapshots.start()
    yield Bench(root, snapshots, jobs)
    await snapshots.close()


def copy_of(transfer: model.Transfer, workdir: str, **more: Any) -> Copy:
    is_add = isinstance(transfer, model.Add)
    return Copy(
        sources=tuple(word for word in transfer.sources if isinstance(word, str)),
        inline=tuple(
            (word.name, word.text.encode()) for word in transfer.sources if isinstance(word, model.Heredoc)
        ),
        destination=transfer.destination,
        workdir=workdir,
        chown=transfer.chown,
        chmod=transfer.chmod,
        parents=isinstance(transfer, model.Copy) and transfer.parents,
        exclude=transfer.exclude,
        unpack=isinstance(transfer, model.Add) and transfer.unpack is not False,
        instruction="ADD" if is_add else "COPY",
        **more,
    )


async def build(bench: Bench, rule: Rule) -> tuple[Rootfs, Rootfs]:
    """What the builder does with the rule's Dockerfile, without a builder: the base's root and the result's."""
    base = await bench.layer(tar_of({**BASE, **rule.base}, BASE_MTIME))
    text = rule.dockerfile.replace("{base}", "base").replace("{instruction}", rule.instruction)
    parsed = language.parse(text.encode(), name="Dockerfile")
    context = {**CONTEXT, **rule.context}
    if context.get("t") == "zstd":
        context["t"] = "f 644 0:0 " + zstandard.compress(tar_of(copy_rules.TAR)).decode("latin-1")
    stages: dict[str, Rootfs] = {}
    with await bench.context(tar_of(context)) as received:
        for stage in parsed.stages:
            target = await bench.rootfs(base)
            workdir = "/"
            for instruction in stage.instructions:
                if isinstance(instruction, model.Workdir):
                    workdir = os.path.normpath(os.path.join(workdir, instruction.path))
                    await bench.copier.make_directory(target, workdir)
                elif isinstance(instruction, model.Transfer):
                    final = language.resolve(instruction, lambda name: None)
                    assert isinstance(final, model.Transfer)
                    source = Source(context=received)
                    if isinstance(final, model.Copy) and final.from_:
                        source = Source(rootfs=stages[final.from_])
                    copy = copy_of(final, workdir)
                    digest = await bench.copier.digest(source, copy)
                    assert digest == await bench.copier.digest(source, copy)
                    await bench.copier.copy(target, source, copy)
            stages[stage.name] = target
    return await bench.rootfs(base), target


@pytest.mark.parametrize("rule", RULES + NEWER, ids=lambda rule: rule.name)
async def test_rule(bench: Bench, rule: Rule) -> None:
    if rule.error:
        with pytest.raises(MinidError) as raised:
            await build(bench, rule)
        assert rule.error in str(raised.value)
        return
    base, result = await build(bench, rule)
    before, after = await bench.look(base), await bench.look(result)
    changed = {path: line for path, line in after.items() if before.get(path) != line}
    changed |= dict.fromkeys(before.keys() - after.keys(), "")
    assert changed == rule.expected
