"""An image that came in two forms under two names: when one name goes, its manifest and what only that needs go too."""

import asyncio
import json
from typing import Any

import pytest

from minid.errors import NotFound
from tests.unit.images.conftest import Place
from tests.unit.images.in_process_registry import COMPRESS, InProcessRegistry, layer_tar

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
LAYER = layer_tar("a")


def add_docker_form(registry: InProcessRegistry, name: str, config_digest: str) -> str:
    """The image that is there as OCI, as Docker schema 2 as well: the same config, and so the same image."""
    blob = COMPRESS["gzip"](LAYER)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": DOCKER,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": config_digest,
            "size": len(registry.blobs[config_digest]),
        },
        "layers": [{"mediaType": DOCKER_LAYER, "digest": registry.add_blob(blob), "size": len(blob)}],
    }
    return registry.add_manifest(name, "latest", document, DOCKER)


def blobs(place: Place) -> set[str]:
    return set(place.images._content.digests())


async def pulled(place: Place, registry: InProcessRegistry, *names: str) -> None:
    for name in names:
        await place.images.pull(f"{registry.address}/{name}", progress=place.tell)


@pytest.mark.parametrize("first", ["oci", "docker"])
@pytest.mark.parametrize("removed", ["oci", "docker"])
async def test_the_other_manifest_goes_with_its_name(
    place: Place, registry: InProcessRegistry, first: str, removed: str
) -> None:
    built = registry.add_image("oci", layers=[LAYER])
    manifests = {
        "oci": built.manifest_digest,
        "docker": add_docker_form(registry, "docker", built.config_digest),
    }
    await pulled(place, registry, *sorted(manifests, key=lambda name: name != first))
    both = {*manifests.values(), built.config_digest, *built.layer_digests}
    assert blobs(place) == both
    await place.images.delete(f"{registry.address}/{removed}")
    assert blobs(place) == both - {manifests[removed]}
    (kept,) = (name for name in manifests if name != removed)
    image = place.images.get(f"{registry.address}/{kept}")
    assert image.manifest_digest == manifests[kept]
    assert image.media_type == (DOCKER if kept == "docker" else "application/vnd.oci.image.manifest.v1+json")
    async for _ in place.images.save([image.id]):
        pass
    with pytest.raises(NotFound):
        place.images.get(f"{registry.address}/{removed}")
    await place.restart()
    assert place.images.get(image.id).manifest_digest == manifests[kept]
    await place.images.delete(image.id)
    assert place.files() == []


async def test_an_index_goes_and_its_manifest_stays(place: Place, registry: InProcessRegistry) -> None:
    """The same manifest, once by itself and once below an index."""
    built = registry.add_image("plain", layers=[LAYER])
    data, kind = registry.manifests["plain", "latest"]
    registry.manifests["multi", built.manifest_digest] = (data, kind)
    entry = {
        "mediaType": kind,
        "digest": built.manifest_digest,
        "size": len(data),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    media_type = "application/vnd.oci.image.index.v1+json"
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}
    index = registry.add_manifest("multi", "latest", document, media_type)
    await pulled(place, registry, "multi", "plain")
    assert index in blobs(place)
    await place.images.delete(f"{registry.address}/multi")
    assert blobs(place) == {built.manifest_digest, built.config_digest, *built.layer_digests}
    await pulled(place, registry, "multi")
    await place.images.delete(f"{registry.address}/plain")
    assert blobs(place) == {index, built.manifest_digest, built.config_digest, *built.layer_digests}


async def test_a_tag_of_ones_own_keeps_what_it_would_be_pushed_as(
    place: Place, registry: InProcessRegistry
) -> None:
    built = registry.add_image("oci", layers=[LAYER])
    docker = add_docker_form(registry, "docker", built.config_digest)
    await pulled(place, registry, "oci", "docker")
    place.images.tag(f"{registry.address}/oci", "mine:1")
    await place.images.delete(f"{registry.address}/oci")
    assert {built.manifest_digest, docker} <= blobs(place)
    await place.images.delete(f"{registry.address}/docker")
    assert docker not in blobs(place)
    assert place.images.get("mine:1").manifest_digest == built.manifest_digest


async def test_a_damaged_document_keeps_everything(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("oci", layers=[LAYER])
    docker = add_docker_form(registry, "docker", built.config_digest)
    await pulled(place, registry, "oci", "docker")
    path = place.images._content.path(docker)
    path.write_bytes(json.dumps({"schemaVersion": 2}).encode())
    await place.images.delete(f"{registry.address}/oci")
    assert built.manifest_digest in blobs(place)


async def test_a_pull_meanwhile_keeps_what_it_needs(place: Place, registry: InProcessRegistry) -> None:
    built = registry.add_image("oci", layers=[LAYER])
    docker = add_docker_form(registry, "docker", built.config_digest)
    await pulled(place, registry, "oci", "docker")
    await asyncio.gather(
        place.images.delete(f"{registry.address}/docker"),
        *(place.images.pull(f"{registry.address}/docker", progress=place.tell) for _ in range(3)),
    )
    assert docker in blobs(place)
    assert place.images.get(f"{registry.address}/docker").id == built.config_digest
