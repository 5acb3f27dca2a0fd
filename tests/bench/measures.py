"""What is measured. Each takes the contenders and returns figures by name; times are interleaved, medians reported."""

import json
import shutil
import statistics
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import bare, memory
from tests.bench.contenders import Contender, MinidContender
from tests.registry import Registry
from tests.wire import UnixConnection, Wire

MIB = 1 << 20
IDLE_AFTER_S = 12.0
BATCH_SETTLES_S = 2.0


@dataclass
class Measure:
    """One line of the table. ``figures`` by contender; ``value`` is what ``limit`` (at most), ``floor`` (at
    least) and ``aim`` are about.
    """

    title: str
    unit: str
    figures: dict[str, float] = field(default_factory=dict)
    value: float | None = None
    value_unit: str = ""
    limit: float | None = None
    floor: float | None = None
    aim: float | None = None

    @property
    def met(self) -> bool | None:
        """None: nothing to compare with on this machine."""
        if self.value is None:
            return None
        if self.floor is not None:
            return self.value >= self.floor
        return None if self.limit is None else self.value <= self.limit


def interleaved(
    contenders: Iterable[tuple[str, Callable[[], float]]], rounds: int, warm_up: int = 1
) -> dict[str, float]:
    """Median seconds of each, taking turns, so that a disturbance of the machine meets all of them."""
    runs = list(contenders)
    times: dict[str, list[float]] = {name: [] for name, _ in runs}
    for number in range(-warm_up, rounds):
        for name, run in runs:
            elapsed_s = run()
            if number >= 0:
                times[name].append(elapsed_s)
    return {name: statistics.median(each) for name, each in times.items()}


def ratio(measure: Measure, of: str = "minid", to: str = "docker") -> Measure:
    if of in measure.figures and to in measure.figures:
        measure.value = measure.figures[of] / measure.figures[to]
        measure.value_unit = f"x {to}"
    return measure


def milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: each * 1000 for name, each in seconds.items()}


def run_true(contenders: list[Contender], image: str, rounds: int) -> Measure:
    def runner(contender: Contender) -> Callable[[], float]:
        return lambda: contender.timed("run", "--rm", image, "true")

    times = interleaved([(each.name, runner(each)) for each in contenders], rounds)
    return ratio(
        Measure("run --rm --network none busybox true", "ms", milliseconds(times), limit=0.20, aim=0.12)
    )


def api_life(minid: MinidContender, image: str, place: Path, rounds: int) -> Measure:
    """create + start + wait + delete on one connection, beside ``crun run`` of the bundle that minid makes for it."""
    import time

    engine = minid.engine
    wire, connection = Wire(engine.socket, "1.44"), UnixConnection(engine.socket)
    body = {"Image": image, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}

    def life() -> float:
        started = time.perf_counter()
        container = wire("POST", "/containers/create", body, connection=connection).json["Id"]
        assert wire("POST", f"/containers/{container}/start", connection=connection).status == 204
        assert wire("POST", f"/containers/{container}/wait", connection=connection).json["StatusCode"] == 0
        assert wire("DELETE", f"/containers/{container}", connection=connection).status == 204
        return time.perf_counter() - started

    measure = Measure("API create+start+wait+delete", "ms", limit=2.0)
    try:
        if shutil.which("crun") is None:
            measure.figures = milliseconds(interleaved([("minid", life)], rounds))
            return measure
        with bare.hugetlb_mounted():
            runtime = bare.BareRuntime(place, _bundle_of(minid, wire, image, place))
            measure.figures = milliseconds(
                interleaved([("minid", life), ("crun", runtime.timed)], rounds, warm_up=3)
            )
        return ratio(measure, to="crun")
    finally:
        connection.close()


def _bundle_of(minid: MinidContender, wire: Wire, image: str, place: Path) -> dict[str, object]:
    """The config.json of a container of ``image``; its root file system is exported to ``place``/rootfs."""
    body = {"Image": image, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
    container = wire("POST", "/containers/create", body).json["Id"]
    wire("POST", f"/containers/{container}/start")
    wire("POST", f"/containers/{container}/wait")
    path = minid.engine.data_root / "containers" / container / "bundle/config.json"
    config: dict[str, object] = json.loads(path.read_text())
    wire("DELETE", f"/containers/{container}")
    rootfs = place / "rootfs"
    rootfs.mkdir(parents=True)
    from tests import images

    for layer in images.busybox().layers:
        archive = place / "layer.tar"
        archive.write_bytes(layer if isinstance(layer, bytes) else layer.read_bytes())
        with tarfile.open(archive) as tar:
            tar.extractall(rootfs, members=[m for m in tar if "/.wh." not in m.name])
    return config


def exec_true(contenders: list[Contender], image: str, rounds: int) -> Measure:
    for each in contenders:
        each("run", "-d", "--name", "bench-exec", image, "sleep", "1000")
    try:

        def runner(contender: Contender) -> Callable[[], float]:
            return lambda: contender.timed("exec", "bench-exec", "true")

        times = interleaved([(each.name, runner(each)) for each in contenders], rounds)
    finally:
        for each in contenders:
            each("rm", "-f", "bench-exec")
    return ratio(Measure("exec CONTAINER true", "ms", milliseconds(times), limit=0.35))


def ps_hundred(contenders: list[Contender], image: str, rounds: int, count: int = 100) -> Measure:
    names = [f"bench-ps-{number}" for number in range(count)]
    for each in contenders:
        for name in names:
            each("create", "--name", name, image, "sleep", "1000")
    try:

        def runner(contender: Contender) -> Callable[[], float]:
            return lambda: contender.timed("ps", "-a")

        times = interleaved([(each.name, runner(each)) for each in contenders], rounds)
    finally:
        for each in contenders:
            each("rm", "-f", *names)
    return ratio(Measure(f"ps -a, {count} containers", "ms", milliseconds(times), limit=2.5))


def pull(contenders: list[Contender], image: str, rounds: int) -> list[Measure]:
    def runner(contender: Contender) -> Callable[[], float]:
        def once() -> float:
            elapsed_s = contender.timed("pull", image)
            contender("rmi", image)
            return elapsed_s

        return once

    times = interleaved([(each.name, runner(each)) for each in contenders], rounds, warm_up=0)
    measures = [ratio(Measure("pull Debian, 3 layers, local registry", "s", times, limit=0.8))]
    growth = Measure("daemon memory growth in that pull, peak", "MiB", limit=64)
    for each in contenders:
        if each.daemon_pids():
            pid = each.engine.pid  # type: ignore[attr-defined]
            with memory.PeakPss(pid) as peak:
                each("pull", image)
            each("rmi", image)
            growth.figures[each.name] = peak.growth_bytes / MIB
    growth.value, growth.value_unit = growth.figures.get("minid"), "MiB"
    return [*measures, growth]


def push(contenders: list[Contender], image: str, place: Path, rounds: int) -> list[Measure]:
    """To a registry that is empty, each time, so that nothing can be mounted; and again, when all is there."""
    times: dict[str, tuple[list[float], list[float]]] = {each.name: ([], []) for each in contenders}
    for each in contenders:
        each("pull", image)
    for number in range(rounds):
        for each in contenders:
            target = Registry(place / f"target-{number}-{each.name}")
            target.start()
            try:
                name = f"{target.address}/pushed:{number}"
                each("tag", image, name)
                for kept in times[each.name]:
                    kept.append(each.timed("push", name))
                each("rmi", name)
            finally:
                target.destroy()
    for each in contenders:
        each("rmi", image)
    first = {name: statistics.median(kept[0]) for name, kept in times.items()}
    again = {name: statistics.median(kept[1]) for name, kept in times.items()}
    return [
        ratio(Measure("push Debian, 3 layers, empty local registry", "s", first, limit=0.8)),
        ratio(Measure("push again, everything is there", "s", again)),
    ]


def idle_containers(contenders: list[Contender], image: str, batches: int, batch: int) -> list[Measure]:
    """What containers that sleep add to the machine, divided by their number."""
    count = batches * batch
    measures = [
        Measure(f"memory of an idle container, mean of {count}", "MiB", limit=1.5),
        Measure("  anonymous and shared memory of its and the engine's processes", "MiB"),
        Measure("  page tables and kernel stacks of these", "MiB"),
        Measure(f"  slab and per-cpu memory (median of {2 * batches} differences)", "MiB"),
        Measure("  processes besides its own", "", limit=1),
    ]
    for each in contenders:
        each("run", "--rm", image, "true")
        figures = _idle_containers(
            each, image, [[f"bench-idle-{x}-{y}" for y in range(batch)] for x in range(batches)]
        )
        for measure, figure in zip(measures, (sum(figures[:3]), *figures), strict=True):
            measure.figures[each.name] = figure
    for measure in (measures[0], measures[-1]):
        measure.value, measure.value_unit = measure.figures["minid"], measure.unit
    return measures


def _idle_containers(
    contender: Contender, image: str, batches: list[list[str]]
) -> tuple[float, float, float, float]:
    """Of each container: processes' memory, their page tables and stacks, slab (MiB); processes besides its own.

    The first two are exact: the sum over the containers' processes and those that the engine has for them, and what
    the engine's others have grown by. Slab is what the machine's grows by when a batch comes and shrinks by when it goes.
    """

    def exact(more: set[int]) -> tuple[int, int]:
        time.sleep(IDLE_AFTER_S)
        pids = contender.daemon_pids() | more
        return memory.own_bytes(pids), memory.table_and_stack_bytes(pids)

    def settled_slab() -> int:
        time.sleep(BATCH_SETTLES_S)
        return memory.slab_bytes()

    names = [name for batch in batches for name in batch]
    before = exact(set())
    differences, slab = [], settled_slab()
    for batch in batches:
        for name in batch:
            contender("run", "-d", "--name", name, image, "sleep", "1000")
        previous, slab = slab, settled_slab()
        differences.append(slab - previous)
    inside, beside = _processes_of(contender, names)
    own, tables = (now - then for now, then in zip(exact(inside | beside), before, strict=True))
    slab = settled_slab()
    for batch in batches:
        contender("rm", "-f", *batch)
        previous, slab = slab, settled_slab()
        differences.append(previous - slab)
    count = len(names)
    slab_mib = statistics.median(differences) / len(batches[0]) / MIB
    return own / count / MIB, tables / count / MIB, slab_mib, len(beside) / count


def _processes_of(contender: Contender, names: list[str]) -> tuple[set[int], set[int]]:
    """The containers' processes, and those that the engine has for them (their parents and what is below these)."""
    inside, beside = set(), set()
    for word in contender("inspect", "-f", "{{.State.Pid}}", *names).split():
        inside |= memory.family(int(word))
        beside |= memory.family(memory.parent(int(word)))
    return inside, beside - inside


def idle_daemon(contenders: list[Contender]) -> Measure:
    measure = Measure("idle daemon, PSS of all its processes", "MiB", limit=60)
    time.sleep(IDLE_AFTER_S)  # idle is what has had nothing to do for a while: helpers end by then
    for each in contenders:
        if pids := each.daemon_pids():
            measure.figures[each.name] = memory.pss_bytes(pids) / MIB
    measure.value, measure.value_unit = measure.figures.get("minid"), "MiB"
    return measure


def versions(contenders: list[Contender]) -> list[str]:
    lines = []
    for command in (
        ["docker", "--version"],
        ["dockerd", "--version"],
        ["podman", "--version"],
        ["crun", "--version"],
    ):
        if shutil.which(command[0]):
            lines.append(
                subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()[0]
            )
    return lines
