"""Manifests, indexes and configs: what is accepted, and what each error says."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minid.errors import InvalidParameter, NotFound, Unsupported
from minid.images import manifest as m
from minid.images.document import DEPTH_MAX, SIZE_MAX, load
from minid.images.platform import Platform

DIGEST = "sha256:" + "a" * 64


def descriptor(
    media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip", **more: Any
) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 7, **more}


def oci_manifest(**changes: Any) -> dict[str, Any]:
    document = {
        "schemaVersion": 2,
        "mediaType": m.OCI_MANIFEST,
        "config": descriptor(m.OCI_CONFIG),
        "layers": [descriptor()],
    }
    document.update(changes)
    return {key: value for key, value in document.items() if value is not ...}


def index_of(*platforms: str, media_type: str = m.OCI_INDEX) -> m.Index:
    entries = []
    for number, text in enumerate(platforms):
        entry = descriptor(m.OCI_MANIFEST, digest=f"sha256:{number:064x}")
        if text:
            parts = text.split("/")
            entry["platform"] = dict(zip(("os", "architecture", "variant"), parts, strict=False))
        entries.append(entry)
    index = m.parse_manifest(json.dumps({"schemaVersion": 2, "manifests": entries}).encode(), media_type)
    assert isinstance(index, m.Index)
    return index


def parse(document: Any, media_type: str = "") -> m.Manifest | m.Index:
    return m.parse_manifest(json.dumps(document).encode(), media_type)


def test_an_oci_manifest() -> None:
    manifest = parse(oci_manifest(), m.OCI_MANIFEST)
    assert isinstance(manifest, m.Manifest)
    assert manifest.layers == (m.Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", DIGEST, 7),)
    assert parse(oci_manifest(mediaType=...), m.OCI_MANIFEST) == manifest
    assert parse(oci_manifest(mediaType=...), "application/json; charset=utf-8") == manifest


def test_a_docker_manifest() -> None:
    manifest = parse(
        {
            "schemaVersion": 2,
            "mediaType": m.DOCKER_MANIFEST,
            "config": descriptor(m.DOCKER_CONFIG),
            "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip")],
        },
        m.DOCKER_MANIFEST,
    )
    assert manifest.media_type == m.DOCKER_MANIFEST


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (oci_manifest(config=...), "config is missing"),
        (oci_manifest(layers=...), "'layers' is missing"),
        (oci_manifest(layers={}), "'layers' is not a list"),
        (oci_manifest(layers=[1]), r"layers\[0\] is not an object"),
        (oci_manifest(layers=[descriptor(digest="sha256:x")]), "is not a digest"),
        (oci_manifest(layers=[descriptor(size=-1)]), "'size' is not a size"),
        (oci_manifest(layers=[descriptor(size=True)]), "'size' is not a size"),
        (oci_manifest(layers=[descriptor(size="1")]), "'size' is not a size"),
        (oci_manifest(layers=[descriptor(size=None)]), "'size' is missing"),
        (oci_manifest(layers=[descriptor(digest=None)]), "'digest' is missing"),
        (oci_manifest(layers=[descriptor(mediaType=None)]), "'mediaType' is missing"),
        (oci_manifest(layers=[descriptor()] * (m.LAYERS_MAX + 1)), "more than 1024"),
        (oci_manifest(schemaVersion=3), "schemaVersion is 3"),
        (oci_manifest(schemaVersion=...), "schemaVersion is None"),
        (oci_manifest(manifests=[]), "both 'manifests' and 'layers'"),
        (oci_manifest(Layers=[]), "'Layers' must be spelled 'layers'"),
        (oci_manifest(mediaType=m.OCI_INDEX), "contradicts its fields"),
        (oci_manifest(mediaType=7), "'mediaType' is not a string"),
        ({"schemaVersion": 2, "mediaType": m.OCI_INDEX}, "'manifests' is missing"),
        ([], "not a JSON object"),
    ],
)
def test_broken_manifests(document: Any, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        parse(document)


def test_content_type_and_media_type_must_agree() -> None:
    with pytest.raises(InvalidParameter, match=r"was sent as .* and calls itself"):
        parse(oci_manifest(), m.DOCKER_MANIFEST)


def test_repeated_fields_are_refused() -> None:
    text = json.dumps(oci_manifest())[:-1] + ', "layers": []}'
    with pytest.raises(InvalidParameter, match="'layers' is there twice"):
        m.parse_manifest(text.encode(), "")


@pytest.mark.parametrize("media_type", ["", *m.SCHEMA1])
def test_schema_1_is_refused_with_advice(media_type: str) -> None:
    with pytest.raises(Unsupported, match=r"schema 1.*push the image again"):
        parse({"schemaVersion": 1, "name": "x", "fsLayers": []}, media_type)


def test_artifacts_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"not a container image.*helm"):
        parse(oci_manifest(config=descriptor("application/vnd.cncf.helm.config.v1+json")))
    with pytest.raises(Unsupported, match="no layer"):
        parse(oci_manifest(layers=[descriptor("text/plain")]))
    with pytest.raises(Unsupported, match="no image manifest"):
        parse(oci_manifest(mediaType="application/vnd.example+json"))


def test_size_depth_and_syntax_limits() -> None:
    with pytest.raises(InvalidParameter, match="more than the"):
        load(b" " * (SIZE_MAX + 1), "manifest")
    for depth in (DEPTH_MAX + 1, 100_000):
        with pytest.raises(InvalidParameter, match="nested more than"):
            load(b'{"a":' + b"[" * depth + b"]" * depth + b"}", "manifest")
    assert load(b'{"a":' + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1) + b"}", "manifest")
    with pytest.raises(InvalidParameter, match="NaN is no JSON number"):
        load(b'{"a": NaN}', "manifest")
    with pytest.raises(InvalidParameter, match="manifest x is not valid JSON"):
        load(b'{"a": ', "manifest x")
    with pytest.raises(InvalidParameter, match="surrogate"):
        load(b'{"a": "\\uD800"}', "manifest")
    assert load(b'{"a": "\\ud83d\\udc33"}', "manifest") == {"a": "\U0001f433"}
    with pytest.raises(InvalidParameter, match="not UTF-8"):
        load(b'{"a": "\xff"}', "manifest")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_manifest_or_a_clear_error(data: bytes) -> None:
    with pytest.raises((InvalidParameter, Unsupported)):
        m.parse_manifest(data, "")


def test_the_platform_chooses() -> None:
    index = index_of(
        "linux/386", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "linux/amd64", "unknown/unknown"
    )

    def chosen(platform: Platform) -> str:
        return str(m.choose(index, platform).platform)

    assert chosen(Platform("linux", "amd64")) == "linux/amd64"
    assert chosen(Platform("linux", "arm64")) == "linux/arm64"
    assert chosen(Platform("linux", "arm", "v6")) == "linux/arm/v5"
    with pytest.raises(
        NotFound, match=r"no matching manifest for linux/s390x .* \(it has linux/386, linux/amd64"
    ):
        m.choose(index, Platform("linux", "s390x"))


def test_amd64_takes_386_and_an_entry_without_platform_last() -> None:
    amd64 = Platform("linux", "amd64")
    assert m.choose(index_of("", "linux/386"), amd64).digest.endswith("1")
    assert m.choose(index_of("linux/s390x", ""), amd64).digest.endswith("1")


def test_attestations_are_never_chosen() -> None:
    with pytest.raises(NotFound):
        m.choose(index_of("unknown/unknown"), Platform("linux", "amd64"))


def config(**changes: Any) -> bytes:
    document = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [DIGEST]}}
    document.update(changes)
    return json.dumps(document).encode()


def test_configs() -> None:
    parsed = m.parse_config(config(created="2024-01-01T00:00:00Z"))
    assert parsed.diff_ids == (DIGEST,)
    assert parsed.platform == Platform("linux", "amd64")
    assert parsed.created == "2024-01-01T00:00:00Z"
    assert m.parse_config(config(rootfs={"type": "layers", "diff_ids": None})).diff_ids == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rootfs": None}, "'rootfs' is missing"),
        ({"rootfs": {"type": "x"}}, "rootfs.type"),
        ({"rootfs": {"type": "layers", "diff_ids": ["../../etc"]}}, r"diff_ids\[0\] is not a digest"),
        ({"rootfs": {"type": "layers", "diff_ids": "x"}}, "not a list"),
        ({"config": []}, None),
        ({"config": "x"}, "'config' is not an object"),
        ({"history": [1]}, "'history'"),
        ({"created": 1}, "'created' is not a string"),
    ],
)
def test_broken_configs(changes: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert m.parse_config(config(**changes))
    else:
        with pytest.raises(InvalidParameter, match=message):
            m.parse_config(config(**changes))


def test_layers_and_diff_ids_must_be_as_many() -> None:
    manifest = parse(oci_manifest())
    assert isinstance(manifest, m.Manifest)
    m.check_layers(manifest, [DIGEST], "x")
    with pytest.raises(InvalidParameter, match="1 layers and its config 2 diff IDs"):
        m.check_layers(manifest, [DIGEST, DIGEST], "x")
