"""The blob store on a real file system."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from minid.errors import InvalidParameter, NotFound
from minid.images.content import ContentStore, DigestMismatch

DATA = bytes(range(256)) * 5000
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "blobs")


def files(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())


def test_small_blobs(store: ContentStore, tmp_path: Path) -> None:
    assert store.put(DATA) == DIGEST
    assert store.put(DATA, DIGEST) == DIGEST
    assert store.read(DIGEST, len(DATA)) == DATA
    assert store.size(DIGEST) == len(DATA)
    assert list(store.digests()) == [DIGEST]
    assert files(tmp_path) == [f"blobs/sha256/{DIGEST[7:]}"]
    with pytest.raises(DigestMismatch, match="more than 10 bytes"):
        store.read(DIGEST, 10)
    assert store.remove(DIGEST) == len(DATA)
    assert store.remove(DIGEST) == 0
    with pytest.raises(NotFound):
        store.read(DIGEST, 10)
    assert store.size(DIGEST) is None


def test_other_algorithms(store: ContentStore) -> None:
    digest = "sha512:" + hashlib.sha512(DATA).hexdigest()
    assert store.put(DATA, digest) == digest
    assert store.read(digest, len(DATA)) == DATA


def test_a_wrong_digest_leaves_nothing(store: ContentStore, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch):
        store.put(b"other", DIGEST)
    assert files(tmp_path) == []


def test_a_changed_blob_is_noticed(store: ContentStore) -> None:
    store.put(DATA)
    with store.path(DIGEST).open("r+b") as file:
        file.write(b"X")
    with pytest.raises(DigestMismatch, match="changed on disk"):
        store.read(DIGEST, len(DATA))


def test_names_cannot_leave_the_store(store: ContentStore) -> None:
    for bad in ("sha256:../../../etc/passwd", "../x:y", "sha256:" + "A" * 64, ""):
        with pytest.raises(InvalidParameter):
            store.path(bad)


def test_a_download_in_two_tries(store: ContentStore, tmp_path: Path) -> None:
    first = store.partial(DIGEST, len(DATA))
    first.replay(lambda chunk: pytest.fail("nothing to replay"))
    first.write(DATA[:70_000])
    first.close()
    assert not store.has(DIGEST)
    assert store.partials() == [DIGEST[7:]]

    second = store.partial(DIGEST, len(DATA))
    assert second.present_bytes == 70_000
    replayed = bytearray()
    second.replay(replayed.extend)
    assert bytes(replayed) == DATA[:70_000]
    second.write(DATA[70_000:])
    second.verify()
    second.publish()
    second.close()
    second.discard()
    assert store.read(DIGEST, len(DATA)) == DATA
    assert files(tmp_path) == [f"blobs/sha256/{DIGEST[7:]}"]


def test_truncated_and_wrong_and_long_downloads(store: ContentStore, tmp_path: Path) -> None:
    partial = store.partial(DIGEST, len(DATA))
    partial.write(DATA[:-1])
    with pytest.raises(DigestMismatch, match="truncated"):
        partial.verify()
    with pytest.raises(DigestMismatch, match="longer than"):
        partial.write(b"ab")
    partial.write(b"x")
    with pytest.raises(DigestMismatch, match="another content"):
        partial.verify()
    partial.discard()
    assert files(tmp_path) == []


def test_an_untouched_partial_leaves_no_file(store: ContentStore, tmp_path: Path) -> None:
    store.partial(DIGEST, 10).close()
    assert files(tmp_path) == []


def test_a_partial_longer_than_its_blob_begins_again(store: ContentStore) -> None:
    partial = store.partial(DIGEST, len(DATA))
    partial.write(DATA)
    partial.close()
    assert store.partial(DIGEST, 5).present_bytes == 0


def test_cleaning(store: ContentStore, tmp_path: Path) -> None:
    partials = tmp_path / "blobs" / "partial"
    now = time.time()
    for name, size, age_s in (
        ("aa", 100, 10),
        ("bb", 100, 20),
        ("cc", 100, 30),
        ("dd", 5, 9999),
        ("ee", 0, 0),
    ):
        (partials / name).write_bytes(b"x" * size)
        os.utime(partials / name, (now - age_s, now - age_s))
    (partials / "ff.aside").write_bytes(b"left by a crash")
    store.clean(keep_s=1000, total_max_bytes=250)
    assert store.partials() == ["aa", "bb"]
    assert files(tmp_path) == ["blobs/partial/aa", "blobs/partial/bb"]
