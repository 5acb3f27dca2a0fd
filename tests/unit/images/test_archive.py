"""Archives of images: what their documents say, the names in them, and taking them apart in a process of its own."""

import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.errors import InvalidParameter, MinidError, NotFound, Unsupported
from minid.images.archive import Archive, LoadedImage, Member, write_manifest
from minid.images.digest import digest_of
from minid.images.layers.members import link_target, member_name, receive_job
from minid.images.layers.tar import TarError
from minid.images.manifest import Manifest, parse_manifest
from minid.images.platform import Platform
from tests import archives
from tests.images import Image, Layer
from tests.tars import feed

HOST = Platform("linux", "amd64")
IMAGE = Image([Layer().file("a", "a").done(), Layer().file("b", "b").done()], {"Cmd": ["x"]})


def taken_apart(data: bytes, directory: Path) -> list[list[Any]]:
    """What the job lists; its files are in ``directory``."""
    answer = os.memfd_create("answer")
    source = feed(data)
    try:
        receive_job({"directory": str(directory), "prefix": "p"}, [source, answer])
        return list(json.loads(os.pread(answer, os.fstat(answer).st_size, 0)))
    finally:
        os.close(source)
        os.close(answer)


def read_in(members: Mapping[str, Any], directory: Path) -> list[LoadedImage]:
    listing = taken_apart(archives.tar(members), directory)

    def read(member: Member, name: str) -> bytes:
        return (directory / f"p-{member.number}.aside").read_bytes()

    return Archive(listing, read).images(HOST)


def reader(contents: Sequence[bytes]) -> Callable[[Member, str], bytes]:
    return lambda member, name: contents[member.number]


def test_docker_form(tmp_path: Path) -> None:
    (image,) = read_in(archives.legacy_members(IMAGE, "one:1", "two:2"), tmp_path)
    assert image.id == archives.image_id(IMAGE)
    assert [name.familiar for name in image.names] == ["one:1", "two:2"]
    assert [layer.diff_id for layer in image.layers] == [
        digest_of(archives.layer_bytes(x)) for x in IMAGE.layers
    ]
    manifest = parse_manifest(image.documents[image.manifest_digest], "")
    assert manifest == image.manifest


def test_both_forms_are_one_image_with_the_oci_digests(tmp_path: Path) -> None:
    oci = archives.oci_members(IMAGE, "one:1")
    expected = json.loads(oci["index.json"])["manifests"][0]["digest"]  # type: ignore[arg-type]
    (image,) = read_in({**archives.jib_members(IMAGE, "two:2"), **oci}, tmp_path)
    assert image.manifest_digest == expected
    assert {name.familiar for name in image.names} == {"one:1", "two:2"}


def test_index_without_names_keeps_each_image(tmp_path: Path) -> None:
    first, second = archives.oci_members(IMAGE), archives.oci_members(IMAGE.variant(Cmd=["y"]))
    entries = [json.loads(item["index.json"])["manifests"][0] for item in (first, second)]  # type: ignore[arg-type]
    entries.append({**entries[0], "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    images = read_in({**first, **second, "index.json": index}, tmp_path)
    assert [image.names for image in images] == [(), ()]
    assert len({image.id for image in images}) == 2


def test_one_name_for_several_platforms_is_the_hosts(tmp_path: Path) -> None:
    other = Image(IMAGE.layers, IMAGE.config, architecture="arm64")
    members: dict[str, Any] = {}
    entries = []
    for image, architecture in ((other, "arm64"), (IMAGE, "amd64")):
        made = archives.oci_members(image, "one:1")
        entry = json.loads(made["index.json"])["manifests"][0]  # type: ignore[arg-type]
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}})
        members |= made
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    (image_in,) = read_in(members, tmp_path)
    assert image_in.id == archives.image_id(IMAGE)
    members["index.json"] = json.dumps(
        {"schemaVersion": 2, "manifests": [entries[0], {**entries[0], "digest": digest_of(b"x")}]}
    ).encode()
    again = tmp_path / "again"
    again.mkdir()
    with pytest.raises(NotFound, match="no matching manifest for linux/amd64"):
        read_in(members, again)


def test_tag_alone_is_no_name(tmp_path: Path) -> None:
    members = archives.oci_members(IMAGE)
    index = json.loads(members["index.json"])  # type: ignore[arg-type]
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    (image,) = read_in({**members, "index.json": json.dumps(index).encode()}, tmp_path)
    assert image.names == ()


def test_format_before_manifest_json(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"before 1\.10"):
        read_in({"repositories": b'{"a":{"latest":"x"}}'}, tmp_path)


def test_duplicates_that_agree(tmp_path: Path) -> None:
    members = archives.jib_members(IMAGE, "one:1")
    end = archives.tar(members).rstrip(b"\0")
    end += bytes(-len(end) % 512)
    listing = taken_apart(end + archives.tar(members), tmp_path)
    assert sorted(item[1] for item in listing) == sorted(members)
    assert len(list(tmp_path.iterdir())) == len(members)


def test_duplicates_that_differ(tmp_path: Path) -> None:
    end = archives.tar({"a": b"1"}).rstrip(b"\0")
    end += bytes(-len(end) % 512)
    with pytest.raises(TarError, match="twice"):
        taken_apart(end + archives.tar({"a": b"2"}), tmp_path)


def test_too_many_entries(tmp_path: Path) -> None:
    with pytest.raises(TarError, match="more than 16384"):
        taken_apart(
            archives.tar({f"d{n}": archives.entry(f"d{n}", tarfile.DIRTYPE) for n in range(16500)}), tmp_path
        )


@pytest.mark.parametrize(
    ("raw", "name"),
    [(b"a/b", "a/b"), (b"./a//b/", "a/b"), (b"a/../b", "b"), (b".", ""), (b"a/b/..", "a")],
)
def test_names(raw: bytes, name: str) -> None:
    assert member_name(raw) == name


@pytest.mark.parametrize("raw", [b"..", b"a/../..", b"/a", b"../a", b"a/../../a", b"\xff", b"x" * 1025])
def test_names_that_are_refused(raw: bytes) -> None:
    with pytest.raises(TarError):
        member_name(raw)


def test_links() -> None:
    assert link_target("a/layer.tar", b"../b/layer.tar") == "b/layer.tar"
    for target in (b"../../x", b"/x", b"\xff"):
        with pytest.raises(TarError):
            link_target("a/layer.tar", target)


@given(st.binary(max_size=60))
def test_no_name_leads_out(raw: bytes) -> None:
    try:
        name = member_name(raw)
    except TarError:
        return
    assert not name.startswith("/") and ".." not in name.split("/")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON, _JSON, _JSON, _JSON)
def test_any_document_gives_images_or_an_error_for_the_client(
    one: Any, two: Any, three: Any, four: Any
) -> None:
    """Whatever the documents say, nothing but a domain error comes out."""
    documents = {
        "manifest.json": [{"Config": "config", "RepoTags": one, "Layers": two}, three],
        "config": {
            "rootfs": {"type": "layers", "diff_ids": two},
            "config": three,
            "history": four,
            "os": one,
        },
        "index.json": {"schemaVersion": 2, "manifests": [four, one]},
    }
    data = {name: json.dumps(value).encode() for name, value in documents.items()}
    for left_out in ("", *documents):
        names = [name for name in data if name != left_out]
        listing = [
            ["file", name, number, len(data[name]), digest_of(data[name]), "none"]
            for number, name in enumerate(names)
        ]
        archive = Archive(
            [*listing, ["link", "oci-layout", "config"]], reader([data[name] for name in names])
        )
        try:
            images = archive.images(HOST)
        except (InvalidParameter, NotFound, Unsupported):
            continue
        except MinidError as error:
            raise AssertionError("not the client's fault?") from error
        assert all(isinstance(image.manifest, Manifest) for image in images)


def test_manifest_is_written_the_same(tmp_path: Path) -> None:
    (image,) = read_in(archives.legacy_members(IMAGE, "one:1"), tmp_path)
    assert digest_of(write_manifest(image.manifest)) == image.manifest_digest
