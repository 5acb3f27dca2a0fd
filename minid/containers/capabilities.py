"""Which capabilities a container gets: Docker's default set, ``--cap-add``, ``--cap-drop``, ``--privileged``.
Pure.

Source: capabilities(7); Engine API v1.44 ``HostConfig.CapAdd``, ``CapDrop``.
"""

from collections.abc import Collection, Iterable

from minid.containers.model import HostConfig
from minid.errors import InvalidParameter
from minid.kernel.capabilities import ALL, DEFAULT

__all__ = ["ALL", "DEFAULT", "normalize", "resolve", "wanted"]


def normalize(names: Iterable[str] | None) -> tuple[str, ...]:
    """Sorted ``CAP_…`` names (or ``ALL``) without repeats; case and prefix as the user likes. Raises
    InvalidParameter.
    """
    found = set()
    for name in names or ():
        upper = name.upper()
        full = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
        if full != "ALL" and full not in ALL:
            raise InvalidParameter(f'unknown capability: "{full}"')
        found.add(full)
    return tuple(sorted(found))


def wanted(host_config: HostConfig) -> tuple[str, ...]:
    """What the user asked for, whether this daemon has it or not. Raises InvalidParameter naming the
    field.
    """
    try:
        add = normalize(host_config.cap_add)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid CapAdd: {error}") from None
    try:
        drop = normalize(host_config.cap_drop)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid CapDrop: {error}") from None
    if host_config.privileged:
        return ALL
    if "ALL" in add:
        return tuple(name for name in ALL if name not in drop)
    if "ALL" in drop:
        return add
    kept = tuple(name for name in DEFAULT if name not in drop)
    return kept + tuple(name for name in add if name not in kept)


def resolve(host_config: HostConfig, available: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``(granted, lacking)``: the names that the container gets, and those wanted that the daemon has not."""
    names = wanted(host_config)
    return (
        tuple(name for name in names if name in available),
        tuple(name for name in names if name not in available),
    )
