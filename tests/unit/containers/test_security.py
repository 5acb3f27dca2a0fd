import pytest

from minid.containers import capabilities, security
from minid.containers.model import HostConfig
from minid.containers.security import SecurityOptions


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), SecurityOptions()),
        (("no-new-privileges",), SecurityOptions(no_new_privileges=True)),
        (("no-new-privileges:true",), SecurityOptions(no_new_privileges=True)),
        (("no-new-privileges", "no-new-privileges=false"), SecurityOptions()),
        (("seccomp=unconfined",), SecurityOptions(seccomp="unconfined")),
        (("seccomp:unconfined",), SecurityOptions(seccomp="unconfined")),
        (("seccomp=builtin",), SecurityOptions()),
        (('seccomp={"a": "b=c"}',), SecurityOptions(seccomp='{"a": "b=c"}')),
        (("apparmor=mine",), SecurityOptions(apparmor="mine")),
        (("label=disable", "disable"), SecurityOptions(label=("disable", "disable"))),
        (("writable-cgroups=true",), SecurityOptions(writable_cgroups=True)),
    ],
)
def test_options(options: tuple[str, ...], expected: SecurityOptions) -> None:
    assert security.parse(HostConfig(security_opt=options)) == expected


def test_privileged_is_unconfined_unless_it_names_a_profile() -> None:
    assert security.parse(HostConfig(privileged=True)).seccomp == "unconfined"
    named = HostConfig(privileged=True, security_opt=("seccomp={}",))
    assert security.parse(named).seccomp == "{}"


def test_what_the_daemon_lacks_is_named() -> None:
    available = set(capabilities.ALL) - {"CAP_SYS_RESOURCE"}
    granted, lacking = capabilities.resolve(HostConfig(privileged=True), available)
    assert lacking == ("CAP_SYS_RESOURCE",)
    assert set(granted) == available
    assert capabilities.resolve(HostConfig(), available) == (capabilities.DEFAULT, ())
