"""``USER`` and ``--group-add`` resolved against the image's own ``/etc/passwd`` and ``/etc/group``. Pure.

The files come from an untrusted image: only a bounded number of bytes is looked at, lines that are not
well formed are passed over (never read as uid 0), a numeric user stays numeric. Sources: passwd(5),
group(5); moby's error texts.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

LIMIT_BYTES = 1 << 20
MAXIMUM_ID = (1 << 31) - 1


class UserError(ValueError):
    """The user or group can't be resolved; the message is for the person who started the container."""


class User(NamedTuple):
    """``additional_gids`` starts with ``gid`` and repeats nothing, ready for setgroups(2)."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...]
    home: str


class _Account(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def resolve(user: str, group_add: Sequence[str] = (), passwd: bytes = b"", group: bytes = b"") -> User:
    """The ids of ``user`` ("", name, uid, ``user:group`` in any mix) and the gids of ``group_add``.

    ``passwd`` and ``group`` are the files' bytes, empty when the image has none. Raises UserError.
    """
    wanted, colon, wanted_group = user.partition(":")
    if len(passwd) > LIMIT_BYTES or len(group) > LIMIT_BYTES:
        name = "passwd" if len(passwd) > LIMIT_BYTES else "group"
        raise UserError(f"the container's /etc/{name} is larger than {LIMIT_BYTES} bytes")
    number = _number(wanted) if wanted else 0
    account = next(
        (
            entry
            for entry in _accounts(passwd)
            if (entry.uid == number if number is not None else entry.name == wanted)
        ),
        None,
    )
    if account is not None:
        uid, gid, home = account.uid, account.gid, account.home
    elif number is None:
        raise UserError(f"unable to find user {wanted}: no matching entries in passwd file")
    else:
        uid, gid, home = number, 0, "/"
    groups = tuple(_groups(group))
    extra: list[int] = []
    if colon and wanted_group:
        gid = _gid(
            wanted_group, groups, f"unable to find group {wanted_group}: no matching entries in group file"
        )
    elif account is not None:
        extra = [entry.gid for entry in groups if account.name in entry.members]
    extra += [
        _gid(name, groups, f"Unable to find group {name}: no matching entries in group file")
        for name in group_add
    ]
    return User(uid, gid, tuple(dict.fromkeys([gid, *extra])), home or "/")


def _number(text: str) -> int | None:
    """``text`` as an id if it is numeric, with or without a sign; UserError if it is out of range."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    if len(digits) > 20 or not 0 <= int(text) <= MAXIMUM_ID:
        raise UserError(f"uids and gids must be in range 0-{MAXIMUM_ID}")
    return int(text)


def _gid(name: str, groups: Sequence[_Group], missing: str) -> int:
    number = _number(name)
    if number is not None:
        return number
    for entry in groups:
        if entry.name == name:
            return entry.gid
    raise UserError(missing)


def _fields(data: bytes, count: int) -> Iterator[list[str]]:
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= count and fields[0] and not fields[0].startswith("#"):
            yield fields


def _id(text: str) -> int | None:
    valid = text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAXIMUM_ID
    return int(text) if valid else None


def _accounts(passwd: bytes) -> Iterator[_Account]:
    for fields in _fields(passwd, 4):
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is not None and gid is not None:
            yield _Account(fields[0], uid, gid, fields[5] if len(fields) > 5 else "/")


def _groups(group: bytes) -> Iterator[_Group]:
    for fields in _fields(group, 3):
        gid = _id(fields[2])
        if gid is not None:
            members = fields[3].split(",") if len(fields) > 3 else []
            yield _Group(fields[0], gid, tuple(member for member in members if member))
