"""A bare ``crun run`` of a bundle that minid made: what a container costs with no engine around it."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HUGETLB = Path("/sys/fs/cgroup/hugetlb")


@contextmanager
def hugetlb_mounted() -> Iterator[None]:
    """crun 1.8 takes a machine with cgroup v1 for one only if this controller is mounted; undone afterwards."""
    if HUGETLB.exists() or not Path("/sys/fs/cgroup/memory/cgroup.procs").exists():
        yield
        return
    HUGETLB.mkdir()
    try:
        subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "none", str(HUGETLB)], check=True)
        try:
            yield
        finally:
            for directory, _, _ in os.walk(HUGETLB, topdown=False):
                if directory != str(HUGETLB):
                    os.rmdir(directory)  # a hierarchy with cgroups in it outlives its mount
            subprocess.run(["umount", str(HUGETLB)], check=True)
    finally:
        HUGETLB.rmdir()


def adapted(config: dict[str, Any], bundle: Path, cgroup: str) -> dict[str, Any]:
    """minid's ``config.json`` with files of ``bundle`` where it names those of minid's container."""
    config = json.loads(json.dumps(config))
    config["root"]["path"] = str(bundle / "rootfs")
    config["linux"]["cgroupsPath"] = cgroup
    for mount in config["mounts"]:
        if mount["type"] == "bind":
            target = bundle / Path(mount["source"]).name
            target.touch()
            mount["source"] = str(target)
    config["process"]["terminal"] = False
    return config


class BareRuntime:
    """``crun run`` of one bundle again and again."""

    def __init__(self, bundle: Path, config: dict[str, Any]) -> None:
        self.bundle = bundle
        (bundle / "config.json").write_text(json.dumps(adapted(config, bundle, "/minid-bench-crun")))

    def timed(self) -> float:
        null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
        command = [
            "crun",
            "--root",
            str(self.bundle / "state"),
            "run",
            "--bundle",
            str(self.bundle),
            "minid-bench",
        ]
        started = time.perf_counter()
        pid = os.posix_spawn("/usr/bin/crun", command, dict(os.environ), file_actions=null)
        _, status = os.waitpid(pid, 0)
        elapsed_s = time.perf_counter() - started
        if status != 0:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            raise RuntimeError(f"crun run: {done.returncode}: {done.stderr}")
        return elapsed_s
