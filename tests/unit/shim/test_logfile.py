import gzip
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.shim import logfile
from minid.shim.logfile import LogFile, Options, parse_options, rfc3339

SECOND = 1_000_000_000


def records(*paths: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").split("\n")[:-1]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x-json.log"


def test_the_format(path: Path) -> None:
    log = LogFile(str(path))
    log.write("stdout", b"hello\nworld\n", 5 * SECOND)
    log.write("stderr", b"oops\n", 6 * SECOND + 120_000_000)
    log.close()
    assert path.read_bytes() == (
        b'{"log":"hello\\n","stream":"stdout","time":"1970-01-01T00:00:05Z"}\n'
        b'{"log":"world\\n","stream":"stdout","time":"1970-01-01T00:00:05Z"}\n'
        b'{"log":"oops\\n","stream":"stderr","time":"1970-01-01T00:00:06.12Z"}\n'
    )
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_dockerd_makes_of_odd_bytes(path: Path) -> None:
    """The text is what dockerd 20.10 logged for the same bytes."""
    log = LogFile(str(path))
    log.write("stdout", b'a\0b\x01<>&"\\\xe9\xe2\x82\xac\xe2\x82\\u2028\tx\r\n\x7f', 1)
    log.close()
    assert [record["log"] for record in records(path)] == [
        'a\0b\x01<>&"\\\ufffd€\ufffd\ufffd\\u2028\tx\r\n',
        "\x7f",
    ]


def test_an_unfinished_line_waits_with_its_time(path: Path) -> None:
    log = LogFile(str(path))
    log.write("stdout", b"a", SECOND)
    log.write("stderr", b"b\n", 2 * SECOND)
    log.write("stdout", b"c\nd", 3 * SECOND)
    assert [record["log"] for record in records(path)] == ["b\n", "ac\n"]
    assert records(path)[1]["time"] == "1970-01-01T00:00:01Z"
    log.finish("stdout")
    assert records(path)[2] == {"log": "d", "stream": "stdout", "time": "1970-01-01T00:00:03Z"}
    log.close()
    log.close()
    assert len(records(path)) == 3


def test_a_long_line_is_cut_at_16_kib(path: Path) -> None:
    log = LogFile(str(path))
    log.write("stdout", b"x" * 40000 + b"\nend", SECOND)
    log.close()
    assert [len(record["log"]) for record in records(path)] == [16384, 16384, 7233, 3]
    assert records(path)[2]["log"].endswith("\n")


def test_a_line_of_exactly_16_kib(path: Path) -> None:
    log = LogFile(str(path))
    log.write("stdout", b"x" * 16384 + b"\n" + b"y" * 16383 + b"\nz\n")
    log.close()
    assert [len(record["log"]) for record in records(path)] == [16385, 16384, 2]


def test_no_character_is_torn_by_the_cut(path: Path) -> None:
    log = LogFile(str(path))
    log.write("stdout", ("x" + "€" * 10000 + "\n").encode())
    log.close()
    assert "".join(record["log"] for record in records(path)) == "x" + "€" * 10000 + "\n"
    assert "\ufffd" not in path.read_text()


def test_no_character_is_torn_between_two_reads(path: Path) -> None:
    log = LogFile(str(path))
    for byte in "€\n".encode():
        log.write("stdout", bytes([byte]))
    log.close()
    assert [record["log"] for record in records(path)] == ["€\n"]


def go_decode(data: bytes) -> str:
    """Go's reading of UTF-8, byte by byte: what does not begin a character is one U+FFFD."""
    text, position = "", 0
    while position < len(data):
        for length in (1, 2, 3, 4):
            try:
                text += data[position : position + length].decode()
                position += length
                break
            except UnicodeDecodeError:
                continue
        else:
            text += "\ufffd"
            position += 1
    return text


@given(pieces=st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=60)), max_size=20))
def test_nothing_is_lost_or_mixed(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[str, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = LogFile(str(path))
    for stream, data in pieces:
        log.write(stream, data)
    log.close()
    for stream in ("stdout", "stderr"):
        sent = b"".join(data for name, data in pieces if name == stream)
        lines = sent.split(b"\n")
        expected = [go_decode(line) + "\n" for line in lines[:-1]] + (
            [go_decode(lines[-1])] if lines[-1] else []
        )
        assert [record["log"] for record in records(path) if record["stream"] == stream] == expected


def test_rotation(path: Path) -> None:
    log = LogFile(str(path), Options(max_size_bytes=1000, max_files=3))
    for number in range(60):
        log.write("stdout", f"line {number}\n".encode(), SECOND)
    log.close()
    files = [Path(f"{path}.2"), Path(f"{path}.1"), path]
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(file.name for file in files)
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = [record["log"] for record in records(*files)]
    assert kept == [f"line {number}\n" for number in range(60 - len(kept), 60)]
    assert len(kept) > 28


def test_rotation_cuts_a_large_write_at_its_records(path: Path) -> None:
    log = LogFile(str(path), Options(max_size_bytes=1000, max_files=100))
    log.write("stdout", b"".join(b"line %d\n" % number for number in range(300)), SECOND)
    log.close()
    files = [Path(f"{path}.{number}") for number in range(len(list(path.parent.iterdir())) - 1, 0, -1)] + [
        path
    ]
    assert all(0 < file.stat().st_size <= 1000 for file in files)
    assert [record["log"] for record in records(*files)] == [f"line {number}\n" for number in range(300)]


def test_a_record_larger_than_a_file(path: Path) -> None:
    log = LogFile(str(path), Options(max_size_bytes=100, max_files=2))
    log.write("stdout", b"a" * 200 + b"\n" + b"b" * 200 + b"\n")
    log.close()
    assert [record["log"][0] for record in records(Path(f"{path}.1"), path)] == ["a", "b"]


def test_one_file_is_emptied(path: Path) -> None:
    log = LogFile(str(path), Options(max_size_bytes=500, max_files=1))
    for number in range(100):
        log.write("stdout", f"line {number}\n".encode())
    log.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert records(path)[-1]["log"] == "line 99\n"
    assert path.stat().st_size <= 500


def test_compression(path: Path) -> None:
    log = LogFile(str(path), Options(max_size_bytes=1000, max_files=3, compress=True))
    for number in range(60):
        log.write("stdout", f"line {number}\n".encode())
    log.close()
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == [path.name, f"{path.name}.1.gz", f"{path.name}.2.gz"]
    with gzip.open(f"{path}.1.gz", "rt") as older:
        assert json.loads(older.readlines()[-1])["log"] == f"line {59 - len(records(path))}\n"


def test_a_second_writer_goes_on_after_a_torn_record(path: Path) -> None:
    path.write_bytes(b'{"log":"whole\\n","stream":"stdout","time":"1970-01-01T00:00:05Z"}\n{"log":"to')
    log = LogFile(str(path))
    log.write("stdout", b"next\n")
    log.close()
    lines = path.read_bytes().split(b"\n")
    assert lines[1] == b'{"log":"to'
    assert json.loads(lines[2])["log"] == "next\n"


def test_attributes(path: Path) -> None:
    log = LogFile(str(path), attributes={"b": 'quote"', "a": "1"})
    log.write("stdout", b"x\n", SECOND)
    log.finish("stdout")
    log.write("stdout", b"y", SECOND)
    log.close()
    assert [record["attrs"] for record in records(path)] == [{"a": "1", "b": 'quote"'}] * 2


@pytest.fixture
def small_files() -> Iterator[None]:
    """Writing beyond 4000 bytes fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, previous)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_never_tears_a_record_or_stops_the_container(path: Path) -> None:
    log = LogFile(str(path))
    line = b"x" * 99 + b"\n"
    for _ in range(50):
        log.write("stdout", line)
    assert log.error is not None
    assert log.dropped_bytes % 100 == 0
    kept = records(path)
    assert len(kept) + log.dropped_bytes // 100 == 50
    os.truncate(path, 0)
    log.close()


def test_options() -> None:
    assert parse_options({}) == Options(10_000_000, 3, False)
    config = {"max-size": "1k", "max-file": "5", "compress": "true", "labels": "a", "env": "B"}
    assert parse_options(config) == Options(1000, 5, True)
    assert parse_options({"max-size": "-1"}).max_size_bytes == -1
    for text, size in (
        ("10m", 10**7),
        ("1.5k", 1500),
        ("2kb", 2000),
        ("7", 7),
        ("3G", 3 * 10**9),
        ("4KiB", 4000),
    ):
        assert parse_options({"max-size": text}).max_size_bytes == size


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"foo": "1"}, "unknown log opt 'foo' for json-file log driver"),
        ({"max-size": "x"}, "invalid size: 'x'"),
        ({"max-size": "10q"}, "invalid size: '10q'"),
        ({"max-size": "nan"}, "invalid size: 'nan'"),
        ({"max-size": "0"}, "max-size must be a positive number, not 0"),
        ({"max-file": "0"}, "max-file cannot be less than 1"),
        ({"max-file": "x"}, "invalid value for max-file: x"),
        ({"compress": "x"}, "invalid value for compress: x"),
        (
            {"compress": "true", "max-file": "1"},
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
    ],
)
def test_broken_options(config: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_options(config)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z"),
    ],
)
def test_times(time_ns: int, text: str) -> None:
    assert rfc3339(time_ns) == text


def test_the_partial_size_is_dockers() -> None:
    assert logfile.PARTIAL_BYTES == 16 * 1024
