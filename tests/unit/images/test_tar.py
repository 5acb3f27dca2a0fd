"""The tar reader against archives of Python's tarfile and GNU tar, and against damaged ones. Needs no root."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minid.images.layers import tar
from minid.images.layers.tar import Memory, Reader, TarError
from tests.tars import Tar


def read(data: bytes) -> list[tar.Entry]:
    return list(Reader(Memory(data)))


def contents(data: bytes) -> dict[bytes, bytes]:
    """Name to data, whole files: holes filled in."""
    source = Memory(data)
    reader = Reader(source)
    result = {}
    for entry in reader:
        whole = bytearray(entry.real_size)
        for offset, length in entry.sparse or [(0, entry.size)]:
            whole[offset : offset + length] = source.take(length)
            reader.unread -= length
        result[entry.name] = bytes(whole)
    return result


KINDS = {
    tarfile.REGTYPE: tar.REGULAR,
    tarfile.DIRTYPE: tar.DIRECTORY,
    tarfile.SYMTYPE: tar.SYMLINK,
    tarfile.LNKTYPE: tar.HARDLINK,
    tarfile.CHRTYPE: tar.CHARACTER,
    tarfile.BLKTYPE: tar.BLOCK_DEVICE,
    tarfile.FIFOTYPE: tar.FIFO,
}
raw_names = st.binary(min_size=1, max_size=300).map(
    lambda raw: raw.replace(b"\0", b"x").strip(b"/").decode("utf-8", "surrogateescape") or "x"
)
members = st.fixed_dictionaries(
    {
        "name": raw_names,
        "kind": st.sampled_from(sorted(KINDS)),
        "data": st.binary(max_size=1500),
        "mode": st.integers(0, 0o7777),
        "uid": st.integers(0, 2**32 - 2) | st.integers(0, 2**21),
        "gid": st.integers(0, 2**32 - 2) | st.integers(0, 2**21),
        "mtime": st.integers(-(2**40), 2**40),
        "linkname": raw_names,
        "devmajor": st.integers(0, 2**21 - 1),
        "devminor": st.integers(0, 2**21 - 1),
    }
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(members, max_size=6),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.integers(0, 20),
)
def test_what_tarfile_writes_is_read_back(entries: list[dict[str, object]], form: int, cut: int) -> None:
    archive = Tar(form)
    for member in entries:
        kind = member["kind"]
        data = member["data"] if kind == tarfile.REGTYPE else b""
        links = {"linkname": member["linkname"]} if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else {}
        devices = (
            {key: member[key] for key in ("devmajor", "devminor")}
            if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE)
            else {}
        )
        keep = {key: member[key] for key in ("mode", "uid", "gid", "mtime")}
        archive.add(member["name"], kind, data, **keep, **links, **devices)  # type: ignore[arg-type]
    found = read(archive.data)
    assert len(found) == len(entries)
    for entry, member in zip(found, entries, strict=True):
        kind = KINDS[member["kind"]]  # type: ignore[index]
        assert entry.kind == kind
        assert entry.name.rstrip(b"/") == str(member["name"]).encode("utf-8", "surrogateescape")
        assert (entry.mode, entry.uid, entry.gid) == (member["mode"], member["uid"], member["gid"])
        assert entry.mtime_ns == member["mtime"] * 10**9  # type: ignore[operator]
        if kind == tar.REGULAR:
            assert entry.size == entry.real_size == len(member["data"])  # type: ignore[arg-type]
        if kind in (tar.SYMLINK, tar.HARDLINK):
            assert entry.linkname == str(member["linkname"]).encode("utf-8", "surrogateescape")
        if kind in (tar.CHARACTER, tar.BLOCK_DEVICE):
            assert (entry.major, entry.minor) == (member["devmajor"], member["devminor"])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damage_is_an_error_or_harmless(data: st.DataObject) -> None:
    """Whatever bytes come: entries or TarError, and never more than the archive has."""
    whole = bytearray(
        Tar().file("a" * 150, b"data" * 300, xattrs={"user.x": b"y"}).link("l", "t").dir("d").data
    )
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, 4095))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        for entry in read(damaged):
            assert 0 <= entry.size <= tar.MAX_SIZE and 0 <= entry.mode <= 0o7777
    except TarError:
        pass


@settings(deadline=None, max_examples=300)
@given(st.integers(-(2**62), 2**62), st.sampled_from([8, 12]))
def test_numbers(value: int, width: int) -> None:
    try:
        field = tarfile.itn(value, width, tarfile.GNU_FORMAT)
    except (ValueError, OverflowError):
        return
    assert tar.number(field) == value


@given(st.integers(-(2**60), 2**60))
def test_times(value: int) -> None:
    sign = "-" if value < 0 else ""
    text = f"{sign}{abs(value) // 10**9}.{abs(value) % 10**9:09}"
    assert tar.time_ns(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "value"), [(b"1", 10**9), (b"1.5", 15 * 10**8), (b"0.0000000019", 1), (b"-0.1", -(10**8))]
)
def test_times_of_other_lengths(text: bytes, value: int) -> None:
    assert tar.time_ns(text) == value


@pytest.mark.parametrize("text", [b"", b".", b"x", b"1.x", b"--1", b"1e3"])
def test_times_that_are_none(text: bytes) -> None:
    with pytest.raises(TarError):
        tar.time_ns(text)


@pytest.mark.parametrize(
    "arguments",
    [["--format=gnu"], *(["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))],
)
@pytest.mark.parametrize("pieces", [0, 1, 3, 40])
def test_gnu_tars_sparse_files(tmp_path: Path, arguments: list[str], pieces: int) -> None:
    path = tmp_path / "file"
    with open(path, "wb") as file:
        for piece in range(pieces):
            file.seek(piece << 16)
            file.write(bytes([piece + 1]) * 700)
        file.truncate((pieces << 16) + 12345)
    archive = subprocess.run(
        ["tar", "-C", str(tmp_path), "--sparse", *arguments, "-cf", "-", "file"],
        check=True,
        capture_output=True,
    ).stdout
    assert contents(archive) == {b"file": path.read_bytes()}


def test_a_global_header_holds_until_it_is_overruled() -> None:
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"mtime": "77.5"}
    ) as archive:
        archive.addfile(tarfile.TarInfo("a"))
        own = tarfile.TarInfo("b")
        own.pax_headers = {"mtime": "88"}
        archive.addfile(own)
    assert [entry.mtime_ns for entry in read(buffer.getvalue())] == [775 * 10**8, 88 * 10**9]


def test_xattrs_are_bytes() -> None:
    (entry,) = read(Tar().file("f", xattrs={"security.capability": b"\x01\x00\x00\x02\xff=\n"}).data)
    assert entry.xattrs == {"security.capability": b"\x01\x00\x00\x02\xff=\n"}


def test_an_archive_may_end_without_its_end() -> None:
    data = Tar().file("f", b"x").data
    assert [entry.name for entry in read(data[:1024])] == [b"f"]
    assert read(b"") == []
    with pytest.raises(TarError, match="ends in the middle"):
        read(data[:700])
    with pytest.raises(TarError, match="middle of a header"):
        read(data[:300])


@pytest.mark.parametrize(
    "records",
    [
        b"5 a=b",
        b"7 a=bcd",
        b"0 a=b\n",
        b"x a=b\n",
        b"6 a=b\n6 =ab\n",
        b"6 a=b\n99999999999999999999999 a=b\n",
        b"9 path=\0\n",
    ],
)
def test_broken_pax_records(records: bytes) -> None:
    with pytest.raises(TarError, match="broken pax header"):
        tar.pax_records(records)


def header(
    name: bytes = b"f", size: bytes = b"00000000000\0", kind: bytes = b"0", rest: bytes = b""
) -> bytes:
    block = bytearray(512)
    block[:100] = name.ljust(100, b"\0")
    block[100:136] = b"0000644\0" + b"0000000\0" * 2 + size
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[157 : 157 + len(rest)] = rest
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_sizes_that_are_none() -> None:
    for size in (
        b"\xff" * 12,
        b"\x80" + b"\x7f" * 11,
        b"0000000000x\0",
        b"-1".ljust(12, b"\0"),
        b"0_0".ljust(12, b"\0"),
    ):
        with pytest.raises(TarError):
            read(header(size=size) + bytes(1024))


def test_headers_are_bounded() -> None:
    with pytest.raises(TarError, match="at most 1048576"):
        read(header(kind=b"x", size=b"00100000000\0") + bytes(1024))


def test_sparse_maps_must_fit() -> None:
    for pairs in ([(0, 10), (5, 10)], [(0, 100)], [(10, 5), (0, 5)]):
        pax = b"".join(
            b"%d %s\n" % (len(r) + 4, r) if len(r) + 4 > 9 else b"%d %s\n" % (len(r) + 3, r)
            for r in (
                b"GNU.sparse.size=20",
                b"GNU.sparse.map=" + b",".join(b"%d,%d" % pair for pair in pairs),
            )
        )
        body = header(kind=b"x", size=b"%011o\0" % len(pax)) + pax.ljust(512, b"\0")
        with pytest.raises(TarError, match="sparse map"):
            read(body + header(size=b"%011o\0" % 20) + bytes(2048))


def test_a_checksum_is_checked() -> None:
    data = bytearray(header())
    data[0] ^= 1
    with pytest.raises(TarError, match="checksum"):
        read(bytes(data) + bytes(1024))
    with pytest.raises(TarError):
        read(b"not a tar archive at all".ljust(512) * 3)


def test_old_archives() -> None:
    v7 = (
        header(b"dir/", kind=b"\0")
        + header(b"file", kind=b"\0", size=b"00000000003\0")
        + b"abc".ljust(512, b"\0")
    )
    assert [(entry.name, entry.kind, entry.size) for entry in read(v7)] == [
        (b"dir/", tar.DIRECTORY, 0),
        (b"file", tar.REGULAR, 3),
    ]
