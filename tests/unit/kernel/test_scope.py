"""Names of units; what systemd does with them scripts/vm-test shows."""

import os

import pytest

from minid.kernel.cgroups import scope


@pytest.mark.parametrize(
    ("own", "names"),
    [
        ("/system.slice/minid.service", ("minid.service", "minid-containers.scope", "system.slice")),
        ("/a.slice/a-b.slice/two.service", ("two.service", "two-containers.scope", "a-b.slice")),
        ("/minid.service", ("minid.service", "minid-containers.scope", "-.slice")),
        ("/user.slice/user-0.slice/session-1.scope", None),
        ("/system.slice/minid.service/daemon", None),
        ("/user.slice/user-0.slice/user@0.service/app.slice/x.scope", None),
        ("/", None),
        ("/docker/0123", None),
    ],
)
def test_a_scope_is_named_after_the_service_beside_it(own: str, names: tuple[str, str, str] | None) -> None:
    assert scope.unit_names(own) == names


def test_no_scope_for_what_systemd_has_not_started() -> None:
    assert scope.ensure("/sys/fs/cgroup", "/docker/0123", os.getpid()) is None
