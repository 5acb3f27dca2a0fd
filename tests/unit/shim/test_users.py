import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.shim import users
from minid.shim.users import User, UserError

PASSWD = b"""\
# a comment:x:0:0::/:
root:x:0:0:root:/root:/bin/sh
bob:x:1000:1000:Bob:/home/bob:/bin/sh
evil:x:zero:0:bad uid:/:/bin/sh
minus:x:-1:0::/:/bin/sh
short:x:7
1234:x:55:55:a name of digits:/digits:/bin/sh
huge:x:99999999999:1::/:
nohome:x:8:9
"""
GROUP = b"""\
root:x:0:
bob:x:1000:
video:x:44:bob,other
audio:x:29:other, bob
staff:x:50:bob
broken:x:x:bob
77:x:5:
"""


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", User(0, 0, (0,), "/root")),
        ("root", User(0, 0, (0,), "/root")),
        ("0", User(0, 0, (0,), "/root")),
        ("bob", User(1000, 1000, (1000, 44, 50), "/home/bob")),
        ("1000", User(1000, 1000, (1000, 44, 50), "/home/bob")),
        ("bob:video", User(1000, 44, (44,), "/home/bob")),
        ("bob:5", User(1000, 5, (5,), "/home/bob")),
        ("bob:", User(1000, 1000, (1000, 44, 50), "/home/bob")),
        (":video", User(0, 44, (44,), "/root")),
        ("5000", User(5000, 0, (0,), "/")),
        ("5000:6000", User(5000, 6000, (6000,), "/")),
        # Digits are always an id, whatever names the image has.
        ("1234", User(1234, 0, (0,), "/")),
        ("5000:77", User(5000, 77, (77,), "/")),
        ("nohome", User(8, 9, (9,), "/")),
    ],
)
def test_users(user: str, expected: User) -> None:
    assert users.resolve(user, (), PASSWD, GROUP) == expected


def test_additional_groups() -> None:
    assert users.resolve("bob", ("video", "99", "audio"), PASSWD, GROUP).additional_gids == (
        1000,
        44,
        50,
        99,
        29,
    )
    assert users.resolve("", ("5", "5"), b"", b"").additional_gids == (0, 5)


def test_no_files_at_all() -> None:
    assert users.resolve("") == User(0, 0, (0,), "/")
    assert users.resolve("12:13") == User(12, 13, (13,), "/")


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nope", "unable to find user nope: no matching entries in passwd file"),
        ("1x", "unable to find user 1x: no matching entries in passwd file"),
        ("evil", "unable to find user evil: no matching entries in passwd file"),
        ("minus", "unable to find user minus: no matching entries in passwd file"),
        ("short", "unable to find user short: no matching entries in passwd file"),
        ("huge", "unable to find user huge: no matching entries in passwd file"),
        ("# a comment", "unable to find user # a comment: no matching entries in passwd file"),
        ("bob:nope", "unable to find group nope: no matching entries in group file"),
        ("bob:broken", "unable to find group broken: no matching entries in group file"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("1:99999999999999999999999", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_refused(user: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        users.resolve(user, (), PASSWD, GROUP)
    assert str(caught.value) == message


def test_a_missing_additional_group() -> None:
    with pytest.raises(UserError, match="Unable to find group nope: no matching entries in group file"):
        users.resolve("", ("nope",), PASSWD, GROUP)


def test_files_have_a_limit() -> None:
    with pytest.raises(UserError, match="/etc/passwd is larger"):
        users.resolve("root", (), b"#" * (users.LIMIT_BYTES + 1))
    with pytest.raises(UserError, match="/etc/group is larger"):
        users.resolve("root", (), PASSWD, b"#" * (users.LIMIT_BYTES + 1))


@given(user=st.text(max_size=12), passwd=st.binary(max_size=200), group=st.binary(max_size=200))
def test_nothing_makes_it_fall_over(user: str, passwd: bytes, group: bytes) -> None:
    try:
        found = users.resolve(user, (), PASSWD + passwd, GROUP + group)
    except UserError:
        return
    assert 0 <= found.uid <= users.MAXIMUM_ID
    assert found.additional_gids[0] == found.gid


@given(passwd=st.binary(max_size=200))
def test_a_name_never_becomes_root_by_a_broken_line(passwd: bytes) -> None:
    try:
        found = users.resolve("victim", (), b"victim:x:10x:5\nvictim:x::\nvictim\n" + passwd)
    except UserError:
        return
    assert b"victim" in passwd
    assert found.uid >= 0
