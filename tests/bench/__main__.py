"""``scripts/bench [--quick] [--check] [--only WORD]``: the table of what the project promises about speed and size."""

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests import images
from tests.bench import builds, measures, networks, transfers
from tests.bench.contenders import Contender, MinidContender, present
from tests.bench.measures import Measure
from tests.registry import Registry

Step = tuple[str, Callable[[], Measure | list[Measure]]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="minid beside docker and podman")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: a first impression, not a measurement"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument(
        "--only",
        metavar="WORDS",
        default="",
        help="comma-separated: run api exec ps pull push transfer build network idle daemon",
    )
    parser.add_argument(
        "--without", metavar="NAMES", default="", help="comma-separated contenders to leave out"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("scripts/bench: needs root: it starts daemons and containers", file=sys.stderr)
        return 2
    os.setpriority(
        os.PRIO_PROCESS, 0, -15
    )  # for all contenders alike: other work on the machine disturbs less
    place = Path(tempfile.mkdtemp(prefix="mb-", dir="/var/tmp"))
    registry = Registry(place / "registry")
    contenders: list[Contender] = [
        kind(place / kind.name) for kind in present() if kind.name not in options.without.split(",")
    ]
    started: list[Contender] = []
    try:
        registry.start()
        images.busybox().push(registry, "busybox", form="docker")
        image = f"{registry.address}/busybox:latest"
        for each in contenders:
            started.append(each)
            each.start()
            each("pull", image)
        wanted = [word for word in options.only.split(",") if word]
        found: list[Measure] = []
        for word, step in steps(contenders, registry, image, place, options.quick):
            if not wanted or word in wanted:
                print(f"… {word}", file=sys.stderr, flush=True)
                result = step()
                found += result if isinstance(result, list) else [result]
        show(found, [each.name for each in contenders])
    finally:
        for each in reversed(started):
            each.stop()
        registry.destroy()
        shutil.rmtree(place, ignore_errors=True)
    missed = [measure for measure in found if measure.met is False]
    return 1 if options.check and missed else 0


def steps(
    contenders: list[Contender], registry: Registry, image: str, place: Path, quick: bool
) -> list[Step]:
    minid = contenders[0]
    assert isinstance(minid, MinidContender)

    def pull() -> list[Measure]:
        if not images.have_mmdebstrap():
            print("no mmdebstrap: the pull is not measured", file=sys.stderr)
            return []
        images.debian().push(registry, "debian", "12")
        return measures.pull(contenders, f"{registry.address}/debian:12", 2 if quick else 5)

    def push() -> list[Measure]:
        if not images.have_mmdebstrap():
            print("no mmdebstrap: the push is not measured", file=sys.stderr)
            return []
        images.debian().push(registry, "debian", "12")
        return measures.push(contenders, f"{registry.address}/debian:12", place, 1 if quick else 3)

    return [
        ("daemon", lambda: measures.idle_daemon(contenders)),
        ("run", lambda: measures.run_true(contenders, image, 7 if quick else 25)),
        ("api", lambda: measures.api_life(minid, image, place / "crun", 20 if quick else 100)),
        ("exec", lambda: measures.exec_true(contenders, image, 7 if quick else 25)),
        ("ps", lambda: measures.ps_hundred(contenders, image, 7 if quick else 25)),
        ("pull", pull),
        ("push", push),
        ("transfer", lambda: transfers.measure(contenders, registry, place / "transfers", 2 if quick else 5)),
        ("build", lambda: builds.measure(contenders, image, place / "builds", quick)),
        ("network", lambda: networks.measure([each.name for each in contenders], place, quick)),
        ("idle", lambda: measures.idle_containers(contenders, image, 5 if quick else 10, 5)),
    ]


def show(found: list[Measure], names: list[str]) -> None:
    columns = [*names, "crun"]
    print(f"Linux {platform.release()}, {os.cpu_count()} cores; " + "; ".join(measures.versions([])))
    width = max(len(measure.title) for measure in found) + 2
    print(f"{'':{width}}" + "".join(f"{name:>10}" for name in columns) + f"{'':6}{'minid':>14}{'target':>10}")
    for measure in found:
        cells = "".join(f"{number(measure.figures.get(name)):>10}" for name in columns)
        value = f"{measure.value:.2f} {measure.value_unit}" if measure.value is not None else ""
        target = f"<= {measure.limit:g}" if measure.limit is not None else ""
        target = f">= {measure.floor:g}" if measure.floor is not None else target
        verdict = {True: "met", False: "MISSED", None: ""}[measure.met]
        print(f"{measure.title:{width}}{cells} {measure.unit:5}{value:>14}{target:>10}  {verdict}".rstrip())


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
