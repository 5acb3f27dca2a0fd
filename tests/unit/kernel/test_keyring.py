import pytest

from minid.kernel import process, syscall
from tests.forked import forked

GET_KEYRING_ID, SESSION_KEYRING = 0, -3


def test_a_session_keyring_of_its_own() -> None:
    """What the daemon's session holds (a Kerberos ticket, say) must not be in reach of a container."""

    def leave() -> tuple[int, int]:
        before = syscall.call("keyctl", GET_KEYRING_ID, SESSION_KEYRING, 0)
        process.leave_session_keyring()
        return before, syscall.call("keyctl", GET_KEYRING_ID, SESSION_KEYRING, 0)

    try:
        before, after = forked(leave)
    except OSError as error:
        pytest.skip(f"this kernel has no keyrings for us: {error}")
    assert before != after
