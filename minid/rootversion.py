"""Which version a data root is of: ``<data_root>/version``, read before anything there is touched.

The file has a line ``NAME NUMBER`` for the data root as a whole ("data-root": which files are where) and one for
each set of tables in the database, and the version of the minid that wrote it ("minid 0.1.0"). It is written before
anything is migrated: what a crash leaves is either as old as before or refused by those who do not know it.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from minid.exits import ExitStatus, StartupError

FILE = "version"
PROGRAM = "minid"
LAYOUT = "data-root"

# From version n to n + 1, in order; each may be run again after a crash in its middle. Version 1 is the first release.
LAYOUT_STEPS: tuple[Callable[[Path], None], ...] = ()


@dataclass(frozen=True, slots=True)
class Versions:
    """``numbers``: "data-root" and the names of sets of tables; ``program``: the minid that knows these."""

    program: str
    numbers: Mapping[str, int]

    def newer_than(self, known: "Versions") -> dict[str, int]:
        """The numbers of this one that ``known`` does not reach."""
        return {name: number for name, number in self.numbers.items() if number > known.numbers.get(name, 0)}


def known(
    program: str, tables: Mapping[str, Sequence[str]], steps: Sequence[object] = LAYOUT_STEPS
) -> Versions:
    """What a minid of version ``program`` knows, that has these steps for its tables and its files."""
    numbers = {LAYOUT: 1 + len(steps)} | {name: len(scripts) for name, scripts in sorted(tables.items())}
    return Versions(program, numbers)


def find(data_root: Path) -> Versions | None:
    """What the file says; None without one: the data root is new, or older than the file. ``StartupError``."""
    path = data_root / FILE
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(ExitStatus.DATA_ROOT_UNUSABLE, f"{path}: cannot be read: {error}") from error
    program, numbers = "", {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if not line or line.startswith("#"):
            continue
        if name == PROGRAM and value:
            program = value
        elif value.isascii() and value.isdecimal():
            numbers[name] = int(value)
        else:
            raise StartupError(
                ExitStatus.DATA_ROOT_NEWER,
                f"{path}: this minid does not understand the line {line!r}: use the minid that wrote it, or another "
                "directory with --data-root; nothing was changed",
            )
    return Versions(program, numbers)


def check(data_root: Path, known: Versions) -> None:
    """Raises ``StartupError`` (DATA_ROOT_NEWER) if the data root is newer than ``known``. Only reads."""
    found = find(data_root)
    if found is not None and (newer := found.newer_than(known)):
        raise refusal(str(data_root), newer, known, found.program)


def refusal(where: str, newer: Mapping[str, int], known: Versions, writer: str = "") -> StartupError:
    """The error that says which of ``newer`` is not known, and what to do."""
    has = ", ".join(f"{name} {number}" for name, number in newer.items())
    knows = ", ".join(f"{name} {known.numbers.get(name, 0) or 'not at all'}" for name in newer)
    this = f"minid {known.program}" if known.program else "this minid"
    return StartupError(
        ExitStatus.DATA_ROOT_NEWER,
        f"{where}: written by a newer minid{f' ({writer})' if writer else ''}: it has {has}; {this} knows {knows}: "
        f"install minid {writer or 'of that version'} or newer again, or use another directory with --data-root; "
        "nothing was changed",
    )


def bring_up(
    data_root: Path, known: Versions, steps: Sequence[Callable[[Path], None]] = LAYOUT_STEPS
) -> None:
    """Bring the files to the newest version and say so in ``version``; the tables are migrated afterwards.

    With the data root's lock held. Raises ``StartupError`` as ``check`` does, OSError.
    """
    check(data_root, known)
    found = find(data_root)
    is_new = found is None and not (data_root / "minid.db").exists()
    version = known.numbers[LAYOUT] if is_new else (found.numbers.get(LAYOUT, 1) if found else 1)
    for number, step in enumerate(steps[version - 1 :], version + 1):
        step(data_root)
        _write(data_root, Versions(known.program, {**known.numbers, LAYOUT: number}))
    if found is None or dict(found.numbers) != dict(known.numbers):
        _write(data_root, known)


def _write(data_root: Path, versions: Versions) -> None:
    """Whole or not at all, also after a power cut."""
    lines = [
        "# Which minid can use this directory; one that knows less refuses it. Not to be edited.",
        f"{PROGRAM} {versions.program}",
        *(f"{name} {number}" for name, number in versions.numbers.items()),
    ]
    aside = data_root / f"{FILE}.new"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, ("\n".join(lines) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    aside.replace(data_root / FILE)
    directory = os.open(data_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
