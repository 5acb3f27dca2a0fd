"""What networks cost: starts on a bridge, published ports, traffic through them.

Each engine has a network namespace of its own, so that its firewall rules are nobody else's and both may have all
ports; another namespace is another machine to it.
"""

import concurrent.futures
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import http_load
from tests.bench.contenders import DockerContender, MinidContender
from tests.bench.measures import Measure, interleaved, milliseconds, ratio
from tests.machines import HOST4, IMAGE, DockerdOfItsOwn, Machine, MinidOfItsOwn, busybox_archive

PYTHON = "/usr/bin/python3"  # Debian's: what it needs is below /usr
CONNECTIONS = 32


class NetworkedMinid(MinidContender):
    run_options = ()

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.engine = MinidOfItsOwn(root)


class NetworkedDocker(DockerContender):
    run_options = ()

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.engine = DockerdOfItsOwn(root)


Networked = NetworkedMinid | NetworkedDocker


@contextmanager
def machines(names: list[str], place: Path) -> Iterator[list[tuple[Networked, Machine]]]:
    """The engines of these names, each on its machine, with the image."""
    kinds: list[type[Networked]] = [NetworkedMinid, NetworkedDocker]
    archive = busybox_archive(place)
    found: list[tuple[Networked, Machine]] = []
    try:
        for kind in kinds:
            if kind.name in names:
                found.append((kind(place / f"net-{kind.name}"), Machine()))
                contender, machine = found[-1]
                machine.host.inside(contender.start)
                contender("load", "-i", str(archive))
                contender("network", "create", "bench")
        yield found
    finally:
        for contender, machine in reversed(found):
            machine.host.inside(contender.stop)
            machine.close()


def measure(names: list[str], place: Path, quick: bool) -> list[Measure]:
    """``names``: of the contenders that take part."""
    rounds = 7 if quick else 25
    with machines(names, place) as found:
        contenders = [contender for contender, _ in found]
        return [
            _run(contenders, rounds, "on the default bridge", (), 0.20),
            _run(contenders, rounds, "with -p 80", ("-p", "80"), 0.25),
            _run(contenders, rounds, "on a network of one's own", ("--network", "bench"), 0.25),
            twenty(contenders, 2 if quick else 5),
            *requests(found, 2 if quick else 5),
            two_hundred(contenders[0], 100 if quick else 200),
        ]


def _run(
    contenders: list[Networked], rounds: int, where: str, options: tuple[str, ...], limit: float
) -> Measure:
    def runner(contender: Networked) -> Callable[[], float]:
        return lambda: contender.timed("run", "--rm", *options, IMAGE, "true")

    times = interleaved([(each.name, runner(each)) for each in contenders], rounds)
    return ratio(Measure(f"run --rm busybox true, {where}", "ms", milliseconds(times), limit=limit, aim=0.12))


def twenty(contenders: list[Networked], rounds: int) -> Measure:
    """``run -d``, four clients at a time, until the last one has printed its id."""

    def runner(contender: Networked) -> Callable[[], float]:
        def once() -> float:
            with concurrent.futures.ThreadPoolExecutor(4) as clients:
                started = time.perf_counter()
                ids = list(clients.map(lambda _: contender("run", "-d", IMAGE, "sleep", "1000"), range(20)))
                elapsed_s = time.perf_counter() - started
            contender("rm", "-f", *ids)
            return elapsed_s

        return once

    times = interleaved([(each.name, runner(each)) for each in contenders], rounds)
    return ratio(Measure("20 detached starts, 4 at a time", "ms", milliseconds(times), limit=0.25, aim=0.12))


def requests(found: list[tuple[Networked, Machine]], rounds: int) -> list[Measure]:
    """HTTP requests a second through a published port, from another machine and from the host itself.

    Docker leads the first in the kernel, and gives the second to its userland proxy.
    """
    ways: list[tuple[str, bool, str, float | None]] = [
        ("HTTP requests/s to -p 80 from another machine", True, HOST4, 0.95),
        ("HTTP requests/s to -p 80 by 127.0.0.1", False, "127.0.0.1", 1.0),
        ("HTTP requests/s to -p 80 by ::1", False, "::1", None),
    ]
    program = http_load.__file__
    binds = [f"--volume={path}:{path}:ro" for path in ("/usr", program)]
    binds += ["--volume=/usr/lib:/lib:ro", "--volume=/usr/lib64:/lib64:ro"]
    for contender, _ in found:
        contender(
            *("run", "-d", "--name", "web", "-p", "5000:80", *binds, IMAGE),
            *(PYTHON, "-IS", program, "serve", "80"),
        )
    measures = []
    try:
        for title, other_machine, address, floor in ways:

            def runner(machine: Machine, other: bool, address: str) -> Callable[[], float]:
                space = machine.outside if other else machine.host
                command = [sys.executable, "-IS", program, "load", address, "5000", "1", str(CONNECTIONS)]

                def once() -> float:
                    done = space.inside(lambda: subprocess.run(command, stdout=subprocess.PIPE, check=True))
                    return float(done.stdout)

                return once

            rates = interleaved(
                [(contender.name, runner(machine, other_machine, address)) for contender, machine in found],
                rounds,
            )
            measures.append(ratio(Measure(title, "1/s", rates, floor=floor)))
    finally:
        for contender, _ in found:
            contender("rm", "-f", "web")
    return measures


def two_hundred(minid: Networked, count: int) -> Measure:
    """Starting the last of many containers beside starting the first ones: the best of ten each, because they
    cannot take turns.
    """
    title = f"start of container {count} beside that of the 10th"
    times = []
    for number in range(count + 5):
        times.append(minid.timed("run", "-d", "--name", f"many-{number}", IMAGE, "sleep", "1000"))
    minid("rm", "-f", *(f"many-{number}" for number in range(count + 5)))
    early, late = min(times[5:15]), min(times[-10:])
    return Measure(title, "ms", {"minid": late * 1000}, late / early, "x the 10th", limit=1.5)
