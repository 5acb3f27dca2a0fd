"""How a container has ended, as its shim tells it: on disk for a daemon that comes later, and to those that listen."""

import json
import os
import time

from minid.shim import messages


def make(status: int, oom_file: str) -> messages.Message:
    """``status`` as wait(2) has it; ``oom_file``: the cgroup's events, "" if there are none to be had."""
    return {
        "exit_code": exit_code(status),
        "oom_killed": _was_oom_killed(oom_file),
        "finished_at_ns": time.time_ns(),
    }


def write(directory: str, record: messages.Message) -> None:
    """``exit.json``, which appears whole. Does nothing on a full disk: daemons that listen are told all the same."""
    aside = os.path.join(directory, "exit.json.aside")
    try:
        with open(aside, "w") as file:
            json.dump(record, file)
        os.rename(aside, os.path.join(directory, "exit.json"))
    except OSError:
        pass


def exit_code(status: int) -> int:
    """A program's own, or 128 and the number of the signal that killed it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _was_oom_killed(oom_file: str) -> bool:
    if not oom_file:
        return False
    try:
        with open(oom_file) as file:
            counters = dict(line.split() for line in file if len(line.split()) == 2)
    except OSError:
        return False
    return int(counters.get("oom_kill", 0)) > 0
