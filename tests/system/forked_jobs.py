"""Jobs of test_forkserver."""

import os
import signal
from typing import Any

from minid.errors import NotFound

seen: list[str] = []


def echo(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    seen.append("called")
    return {"request": request, "pid": os.getpid(), "calls": len(seen), "fds": len(fds)}


def write(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    return {"written": os.write(fds[0], request["text"].encode())}


def open_path(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    path: Any = os.fsencode(request["path"]) if request.get("as_bytes") else request["path"]
    os.close(os.open(path, os.O_RDONLY))
    return {}


def fail(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    raise {"ValueError": ValueError, "NotFound": NotFound}[request["kind"]](request["message"])


def die(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def answer_at_length(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    return {"text": "x" * request["size"]}


def wait_for_the_end_of(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    os.write(fds[1], b"1")
    os.read(fds[0], 1)
    return {"pid": os.getpid()}


def descriptors(request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    return {
        "open": {
            fd: os.readlink(f"/proc/self/fd/{fd}")
            for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")
        }
    }
