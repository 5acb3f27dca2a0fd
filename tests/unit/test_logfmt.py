"""The daemon's log lines, and what it tells systemd."""

import io
import json
import logging
import os
import socket
import tempfile

import pytest

from minid import logfmt, sdnotify


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("asyncio").level
    yield root
    root.handlers[:], level, asyncio_level = before
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(asyncio_level)
    logging.captureWarnings(False)


def logged(format: str = "text", **extra: object) -> str:
    stream = io.StringIO()
    logfmt.configure("info", format, stream)
    log = logging.getLogger("minid.test")
    log.debug("not shown")
    log.warning("it %s", "happened", extra=extra)
    return stream.getvalue()


def test_one_line_of_keys_and_values(root_logger):
    line = logged(container="4f66", image="a b", empty="", flag=True, evil='x"\n<3>level=fatal', count=3)
    time, rest = line.split(" ", 1)
    assert time.startswith("time=20") and time.endswith("Z")
    assert rest == (
        'level=warn msg="it happened" container=4f66 image="a b" empty="" flag=true '
        'evil="x\\"\\n<3>level=fatal" count=3\n'
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ("", '""'),
        ("x\ny", '"x\\ny"'),
        ("\x1b[0m", '"\\u001b[0m"'),
        (5, "5"),
        (True, "true"),
        (None, "None"),
        ("grün", "grün"),
    ],
)
def test_values_stay_on_their_line(value, shown):
    assert logfmt.quoted(value) == shown


def test_json(root_logger):
    record = json.loads(logged("json", container="4f66"))
    assert (record["level"], record["msg"], record["container"]) == ("warn", "it happened", "4f66")


def test_an_exception_is_a_field(root_logger):
    stream = io.StringIO()
    logfmt.configure("info", "text", stream)
    try:
        raise ValueError("no\nway")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert 'error="ValueError: no\\nway" traceback="Traceback' in stream.getvalue()


def test_in_the_journal_there_is_no_time_but_a_priority(root_logger, monkeypatch):
    with tempfile.TemporaryFile("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logfmt.configure("info", "text", stream)
        logging.getLogger("x").error("broken")
        stream.seek(0)
        assert stream.read() == "<3>level=error msg=broken\n"
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert not logfmt.is_journal(io.StringIO())


def test_levels(root_logger):
    assert [logfmt.level_name(n) for n in (0, 10, 20, 25, 30, 40, 50, 60)] == (
        ["debug", "debug", "info", "info", "warn", "error", "fatal", "fatal"]
    )


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path, monkeypatch, abstract):
    name = f"minid-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if abstract else name)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        assert sdnotify.ready("3 containers")
        assert systemd.recv(4096) == b"READY=1\nSTATUS=3 containers"
        assert sdnotify.reloading()
        assert systemd.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert sdnotify.stopping() and sdnotify.status("x")
        assert systemd.recv(4096) == b"STOPPING=1\nSTATUS=stopping"
    assert not sdnotify.ready("nobody listens")


def test_without_systemd_nothing_is_told(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not sdnotify.ready("x")
