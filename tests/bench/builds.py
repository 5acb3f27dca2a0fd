"""What builds cost: steps, a full cache, many files to send, a large layer. Beside docker's classic builder and podman's."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.bench.contenders import Contender
from tests.bench.measures import Measure, interleaved, milliseconds, ratio

FILES = 20_000
LAYER_MIB = 500
STEPS = 10


def measure(contenders: list[Contender], image: str, place: Path, quick: bool) -> list[Measure]:
    """``image`` has a shell and is there everywhere; ``place`` is for contexts."""
    for each in contenders:
        each.environment["DOCKER_BUILDKIT"] = "0"
    return [
        ten_steps(contenders, image, place, 3 if quick else 9),
        cached(contenders, image, place, 5 if quick else 15),
        many_files(contenders, place, 2 if quick else 5),
        large_layer(contenders, image, place, 2 if quick else 5),
    ]


def ten_steps(contenders: list[Contender], image: str, place: Path, rounds: int) -> Measure:
    """FROM, COPY and eight RUNs, each of which makes a file, without cache."""
    context = _context(place / "steps", _steps(image))

    def runner(contender: Contender) -> Callable[[], float]:
        return lambda: _build(contender, context, "--no-cache")

    times = interleaved([(each.name, runner(each)) for each in contenders], rounds)
    return ratio(Measure(f"build of {STEPS} steps without cache", "ms", milliseconds(times), limit=0.3))


def cached(contenders: list[Contender], image: str, place: Path, rounds: int) -> Measure:
    """The same again and again: everything is in the cache."""
    context = _context(place / "cached", _steps(image))

    def runner(contender: Contender) -> Callable[[], float]:
        return lambda: _build(contender, context)

    times = interleaved([(each.name, runner(each)) for each in contenders], rounds)
    return ratio(Measure(f"build of {STEPS} steps from the cache", "ms", milliseconds(times), limit=0.5))


def many_files(contenders: list[Contender], place: Path, rounds: int) -> Measure:
    """A context of many small files, all copied into a layer."""
    context = _context(place / "files", "FROM scratch\nCOPY . /\n")
    for number in range(FILES):
        path = context / f"d{number // 200}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"file {number}\n".encode() * (number % 50 + 1))

    def runner(contender: Contender) -> Callable[[], float]:
        return lambda: _build(contender, context, "--no-cache")

    times = interleaved([(each.name, runner(each)) for each in contenders], rounds)
    shutil.rmtree(context)
    title = f"build with a context of {FILES} small files"
    return ratio(Measure(title, "ms", milliseconds(times), limit=0.7))


def large_layer(contenders: list[Contender], image: str, place: Path, rounds: int) -> Measure:
    """A RUN that writes much, the same whichever builder: what differs is making a layer of it."""
    command = f"dd if=/dev/urandom of=/large bs=1048576 count={LAYER_MIB} 2>/dev/null"
    context = _context(place / "large", f"FROM {image}\nRUN {command}\n")

    def runner(contender: Contender) -> Callable[[], float]:
        return lambda: _build(contender, context, "--no-cache")

    times = interleaved([(each.name, runner(each)) for each in contenders], rounds)
    title = f"build of a layer of {LAYER_MIB} MB (writing it included)"
    return ratio(Measure(title, "ms", milliseconds(times), limit=0.8))


def _steps(image: str) -> str:
    runs = "".join(f"RUN echo {number} > /file{number}\n" for number in range(STEPS - 2))
    return f"FROM {image}\nCOPY . /context\n{runs}"


def _context(place: Path, dockerfile: str) -> Path:
    place.mkdir(parents=True)
    (place / "Dockerfile").write_text(dockerfile)
    (place / "data").write_bytes(os.urandom(1000))
    return place


def _build(contender: Contender, context: Path, *options: str) -> float:
    return contender.timed("build", "-q", "--network", "none", "-t", "bench/built", *options, str(context))
