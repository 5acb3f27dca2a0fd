"""``--chmod``: octal or symbolic permissions, as chmod(1) has them. Pure."""

import re
import stat
from collections.abc import Callable

Change = Callable[[int, bool], int]

_OCTAL = re.compile(r"0*[0-7]{1,4}")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]+|[ugo])?)+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def parse(text: str) -> Change:
    """A function from a file's twelve permission bits (and whether it is a directory) to the new ones.

    ``text`` is ``0755`` or ``u=rwX,go+r``; without a class the action is for all, and no umask counts.
    Raises ValueError.
    """
    if _OCTAL.fullmatch(text):
        mode = int(text, 8)
        return lambda old, is_dir: mode
    clauses = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ValueError(
                f"invalid chmod parameter: '{text}'. it should be octal (0 to 07777) or symbolic"
            )
        classes, actions = match.groups()
        clauses.append((classes or "a", _ACTION.findall(actions)))

    def change(mode: int, is_dir: bool) -> int:
        for classes, actions in clauses:
            for operator, permissions in actions:
                mode = _apply(mode, is_dir, classes, operator, permissions)
        return mode

    return change


def _apply(mode: int, is_dir: bool, classes: str, operator: str, permissions: str) -> int:
    chosen = "ugo" if "a" in classes else classes
    bits, affected = 0, 0
    for each in dict.fromkeys(chosen):
        bits |= _wanted(mode, is_dir, permissions) << _SHIFTS[each]
        affected |= 7 << _SHIFTS[each]
    special = 0
    if "s" in permissions:
        special |= (stat.S_ISUID if "u" in chosen else 0) | (stat.S_ISGID if "g" in chosen else 0)
    if "t" in permissions and ("a" in classes or "o" in classes):
        special |= stat.S_ISVTX
    if operator == "+":
        return mode | bits | special
    if operator == "-":
        return mode & ~(bits | special)
    affected |= (stat.S_ISUID if "u" in chosen else 0) | (stat.S_ISGID if "g" in chosen else 0)
    affected |= stat.S_ISVTX if "o" in chosen else 0
    if is_dir:  # chmod(1): a directory's set-id bits stay unless they are named
        affected &= ~(stat.S_ISUID | stat.S_ISGID)
    return (mode & ~affected) | bits | special


def _wanted(mode: int, is_dir: bool, permissions: str) -> int:
    if permissions in _SHIFTS:
        return (mode >> _SHIFTS[permissions]) & 7
    bits = 0
    for letter in permissions:
        if letter == "X":
            bits |= 1 if is_dir or mode & 0o111 else 0
        else:
            bits |= _BITS.get(letter, 0)
    return bits
