"""Tar headers that we write, read by Python's tarfile, by GNU tar and by our own reader. Needs no root."""

import io
import subprocess
import tarfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from minid.images.layers import tar
from minid.images.layers.header import END, header, padding, sparse_map
from minid.images.layers.tar import Memory, Reader

KINDS = {
    tar.REGULAR: tarfile.REGTYPE,
    tar.DIRECTORY: tarfile.DIRTYPE,
    tar.SYMLINK: tarfile.SYMTYPE,
    tar.HARDLINK: tarfile.LNKTYPE,
    tar.CHARACTER: tarfile.CHRTYPE,
    tar.FIFO: tarfile.FIFOTYPE,
}
part = st.binary(min_size=1, max_size=120).map(lambda raw: raw.replace(b"\0", b"0").replace(b"/", b"x"))
names = st.lists(part, min_size=1, max_size=4).map(b"/".join)
entries = st.fixed_dictionaries(
    {
        "name": names,
        "kind": st.sampled_from(sorted(KINDS)),
        "data": st.binary(max_size=1200),
        "mode": st.integers(0, 0o7777),
        "uid": st.integers(0, 2**32 - 2),
        "gid": st.integers(0, 2**32 - 2),
        "mtime_s": st.integers(-(2**35), 2**40),
        "linkname": names,
        "major": st.integers(0, 2**32 - 1),
        "minor": st.integers(0, 2**32 - 1),
        "xattrs": st.dictionaries(
            st.sampled_from(["user.a", "security.capability"]), st.binary(max_size=150)
        ),
    }
)


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


@settings(deadline=None, max_examples=200)
@given(st.lists(entries, max_size=5))
def test_everybody_reads_what_we_write(wanted: list[dict[str, object]]) -> None:
    archive = b""
    for entry in wanted:
        data = bytes(entry.pop("data")) if entry["kind"] == tar.REGULAR else b""  # type: ignore[call-overload]
        entry["size"] = len(data)
        if entry["kind"] not in (tar.SYMLINK, tar.HARDLINK):
            entry["linkname"] = b""
        if entry["kind"] != tar.CHARACTER:
            entry["major"] = entry["minor"] = 0
        entry.pop("data", None)
        archive += header(**entry) + data + padding(len(data))  # type: ignore[arg-type]
    archive += END
    ours = list(Reader(Memory(archive)))
    with tarfile.open(fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape") as theirs:
        members = theirs.getmembers()
    assert len(ours) == len(members) == len(wanted)
    for one, member, entry in zip(ours, members, wanted, strict=True):
        name = bytes(entry["name"])  # type: ignore[call-overload]
        assert one.name.rstrip(b"/") == name.rstrip(b"/")
        assert member.name.rstrip("/") == text(name).rstrip("/")
        assert (one.kind, member.type) == (entry["kind"], KINDS[entry["kind"]])  # type: ignore[index]
        for field in ("mode", "uid", "gid"):
            assert getattr(one, field) == getattr(member, field) == entry[field], field
        assert one.mtime_ns == entry["mtime_s"] * 10**9 and member.mtime == entry["mtime_s"]  # type: ignore[operator]
        assert (one.linkname, member.linkname) == (entry["linkname"], text(entry["linkname"]))  # type: ignore[arg-type]
        assert one.size == member.size == entry["size"]
        assert (one.major, one.minor) == (entry["major"], entry["minor"])
        assert one.xattrs == entry["xattrs"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 3000)), max_size=30), st.integers(0, 5000))
def test_sparse_files(gaps: list[tuple[int, int]], tail: int) -> None:
    pieces, at = [], 0
    for gap, length in gaps:
        pieces.append((at + gap, at + gap + length))
        at += gap + length
    real = at + tail
    whole = bytearray(real)
    for number, (start, end) in enumerate(pieces):
        whole[start:end] = bytes([number + 1]) * (end - start)
    told = sparse_map([*pieces, (real, real)])
    body = told + b"".join(whole[start:end] for start, end in pieces)
    archive = header(b"d/f", tar.REGULAR, mode=0o644, size=len(body), sparse_real_size=real) + body
    archive += padding(len(body)) + END
    with tarfile.open(fileobj=io.BytesIO(archive)) as theirs:
        member = theirs.getmember("d/f")
        file = theirs.extractfile(member)
        assert file and file.read() == whole
    source = Memory(archive)
    reader = Reader(source)
    entry = reader.next()
    assert entry and (entry.name, entry.real_size) == (b"d/f", real)
    found = bytearray(entry.real_size)
    for offset, length in entry.sparse or ():
        found[offset : offset + length] = source.take(length)
    assert found == whole


def test_gnu_tar_reads_it(tmp_path: Path) -> None:
    long = b"p" * 90 + b"/" + b"n" * 160
    archive = (
        header(long, tar.REGULAR, mode=0o640, size=3, mtime_s=1_600_000_000, xattrs={"user.x": b"\xff"})
        + b"abc".ljust(512, b"\0")
        + header(b"\xff\xfe", tar.SYMLINK, mode=0o777, linkname=b"t" * 150)
        + END
    )
    done = subprocess.run(["tar", "-tvf", "-"], input=archive, capture_output=True, check=True)
    assert b"p" * 90 + b"/" + b"n" * 160 in done.stdout and b"t" * 150 in done.stdout
    assert done.stderr == b""
