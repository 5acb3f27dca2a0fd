"""What a container can do to the interpreter that its first process was forked from (CVE-2019-5736 and its kin)."""

from tests.system.conftest import Running

WRITE = "cat /proc/1/comm; echo x > /proc/1/exe"


def test_a_container_cannot_touch_it(running: Running) -> None:
    run = ("run", "--rm", "--init", "--network", "none")
    privileged = running.docker(*run, "--privileged", running.image, "sh", "-c", WRITE)
    assert "minid-init" in privileged.out
    assert "Read-only file system" in privileged.err
    ordinary = running.docker(*run, running.image, "sh", "-c", f"{WRITE}; cat /proc/1/environ")
    assert "minid-init" in ordinary.out
    assert ordinary.err.count("Permission denied") == 2
    arguments = running.docker.ok(*run, running.image, "cat", "/proc/1/cmdline")
    assert arguments.replace("\0", "") == "minid-init"
