"""All sets of tables of the database, in the order in which they are migrated: later ones may refer to earlier ones."""

from collections.abc import Mapping, Sequence

from minid import __version__
from minid.build import cache
from minid.containers import store as containers
from minid.images import catalog, making, sources, uses
from minid.network import store as networks
from minid.rootversion import Versions, known
from minid.volumes import service as volumes

SCHEMAS: Mapping[str, Sequence[str]] = {
    "images": catalog.SCHEMA,
    "image_sources": sources.SCHEMA,
    "image_uses": uses.SCHEMA,
    "made_layers": making.SCHEMA,
    "volumes": volumes.SCHEMA,
    "containers": containers.SCHEMA,
    "networks": networks.SCHEMA,
    "build_cache": cache.SCHEMA,
}

KNOWN: Versions = known(__version__, SCHEMAS)
