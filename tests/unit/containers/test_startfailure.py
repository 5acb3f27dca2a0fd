import errno

import pytest

from minid.containers.startfailure import of_container, of_exec
from minid.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    Failed,
    InvalidParameter,
    MinidError,
    NotFound,
)
from minid.shim.client import JobError

NOT_FOUND = 'exec: "nope": executable file not found in $PATH'


@pytest.mark.parametrize(
    ("kind", "expected", "exit_code"),
    [
        ("CommandNotFound", CommandNotFound, 127),
        ("CommandNotExecutable", CommandNotExecutable, 126),
        ("UserError", InvalidParameter, 128),
        ("StartError", Failed, 128),
        ("OSError", Failed, 128),
        ("Killed", Failed, 128),
    ],
)
def test_what_the_shim_says_of_a_container(kind: str, expected: type[MinidError], exit_code: int) -> None:
    error, code = of_container("one", JobError(NOT_FOUND, kind))
    assert type(error) is expected and code == exit_code
    assert str(error) == (
        f"failed to create task for container one: unable to start container process: {NOT_FOUND}"
    ), "the docker CLI reads 127 and 126 from these words"


def test_errors_that_say_it_all_stay_as_they_are() -> None:
    missing = NotFound("network x not found")
    assert of_container("one", missing) == (missing, 128)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("wrong"),
        ConnectionError("the shim is gone"),
    ],
)
def test_anything_else_is_a_failure_with_its_own_words(error: Exception) -> None:
    failure, code = of_container("one", error)
    assert type(failure) is Failed and code == 128
    assert str(failure) == f"failed to create task for container one: {error}"


@pytest.mark.parametrize(
    ("kind", "expected", "exit_code"),
    [
        ("CommandNotFound", CommandNotFound, 127),
        ("CommandNotExecutable", CommandNotExecutable, 126),
        ("UserError", InvalidParameter, 126),
        ("Killed", Failed, 126),
    ],
)
def test_what_the_shim_says_of_an_exec(kind: str, expected: type[MinidError], exit_code: int) -> None:
    error, code = of_exec(JobError(NOT_FOUND, kind))
    assert type(error) is expected and str(error) == NOT_FOUND and code == exit_code


def test_an_exec_whose_shim_is_gone() -> None:
    error, code = of_exec(ConnectionError("the shim is gone"))
    assert type(error) is Conflict and "not running" in str(error) and code == 126
