"""Images on their way: pulled, pulled again, saved and loaded, of many small files and of few large ones."""

import os
import random
from collections.abc import Callable
from pathlib import Path

from tests.bench.contenders import Contender
from tests.bench.measures import Measure, interleaved, ratio
from tests.images import Image, Layer
from tests.registry import Registry

MIB = 1 << 20
LAYERS, FILES, FILES_A_DIRECTORY = 3, 4000, 100
LARGE_LAYERS, LARGE_BYTES = 2, 96 * MIB
WORDS = 4000


def small_files() -> Image:
    """Three layers of 4000 files, 6 KB in the mean; as compressible as programs and texts are."""
    rng = random.Random(1)
    words = _words(rng)
    layers = []
    for number in range(LAYERS):
        layer = Layer()
        for file in range(FILES):
            if file % FILES_A_DIRECTORY == 0:
                layer.directory(f"d{number}-{file // FILES_A_DIRECTORY}")
            size = rng.choice((200, 1500, 4000, 18000))
            layer.file(f"d{number}-{file // FILES_A_DIRECTORY}/{file}", _text(rng, words, size))
        layers.append(layer.done())
    return Image(layers, {"Cmd": ["none"]})


def large_files() -> Image:
    """Two layers of one file each, 96 MiB: one that cannot be compressed, one that can."""
    rng = random.Random(2)
    text = _text(rng, _words(rng), 8 * MIB)
    contents = [os.urandom(LARGE_BYTES), text * (LARGE_BYTES // len(text))]
    assert len(contents) == LARGE_LAYERS
    return Image(
        [Layer().file(f"large-{number}", data).done() for number, data in enumerate(contents)],
        {"Cmd": ["none"]},
    )


def _words(rng: random.Random) -> list[bytes]:
    return [rng.randbytes(rng.randint(2, 6)).hex().encode() for _ in range(WORDS)]


def _text(rng: random.Random, words: list[bytes], size: int) -> bytes:
    return b" ".join(rng.choices(words, k=size // 8 + 1))[:size]


def measure(contenders: list[Contender], registry: Registry, place: Path, rounds: int) -> list[Measure]:
    """Each with the store empty of the image before; the registry and the archives are on the same disk for all."""
    place.mkdir(parents=True, exist_ok=True)
    found = []
    for title, name, image in (
        ("many small files", "bench-small", small_files()),
        ("few large files", "bench-large", large_files()),
    ):
        image.push(registry, name, form="docker")
        found += _of_image(contenders, f"{registry.address}/{name}:latest", title, place, rounds)
    return found


def _of_image(contenders: list[Contender], image: str, title: str, place: Path, rounds: int) -> list[Measure]:
    archive = place / "archive.tar"

    def pull(each: Contender) -> Callable[[], float]:
        def once() -> float:
            elapsed_s = each.timed("pull", image)
            each("rmi", image)
            return elapsed_s

        return once

    def again(each: Contender) -> Callable[[], float]:
        return lambda: each.timed("pull", image)

    def save(each: Contender) -> Callable[[], float]:
        def once() -> float:
            out = place / f"saved-{each.name}.tar"
            elapsed_s = each.timed("save", "-o", str(out), image)
            out.unlink()
            return elapsed_s

        return once

    def load(each: Contender) -> Callable[[], float]:
        def once() -> float:
            elapsed_s = each.timed("load", "-q", "-i", str(archive))
            each("rmi", image)
            return elapsed_s

        return once

    def run(what: Callable[[Contender], Callable[[], float]], times: int = 1) -> dict[str, float]:
        runs = [(each.name, what(each)) for each in contenders]
        return interleaved(runs, times * rounds, warm_up=0 if times == 1 else 1)

    measures = [ratio(Measure(f"pull, {title}", "s", run(pull), limit=0.6))]
    for each in contenders:
        each("pull", image)
    measures.append(ratio(Measure(f"pull again, {title}", "s", run(again, 4), limit=0.5)))
    measures.append(ratio(Measure(f"save, {title}", "s", run(save), limit=0.8)))
    saver = next((each for each in contenders if each.name == "docker"), contenders[0])
    saver("save", "-o", str(archive), image)  # in docker's own form, which all load
    for each in contenders:
        each("rmi", image)
    measures.append(ratio(Measure(f"load, {title}", "s", run(load), limit=0.6)))
    archive.unlink()
    return measures
