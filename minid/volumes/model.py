"""What a volume is; its name and options, checked with Docker's texts."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from minid.errors import InvalidParameter, NotFound, Unsupported

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
NAME_PATTERN = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_OPTIONS = {"type": ("device",), "device": ("type",), "o": ("device", "type"), "size": ()}
_BIND_FLAGS = {"bind", "rbind", "rw", "private", "rprivate"}


@dataclass(frozen=True, slots=True)
class Volume:
    """``mountpoint`` is the directory with the data; a volume nobody named is ``anonymous``."""

    name: str
    driver: str
    mountpoint: str
    created_ns: int
    labels: Mapping[str, str]
    options: Mapping[str, str]
    anonymous: bool


def new_name() -> str:
    """A name for an anonymous volume: 64 hex digits."""
    return secrets.token_hex(32)


def check_name(name: str) -> None:
    """Raise InvalidParameter for a name that can't be a volume's."""
    if len(name) == 1:
        raise InvalidParameter(
            "volume name is too short, names should be at least two alphanumeric characters"
        )
    if len(name) > 255 or not re.fullmatch(NAME_PATTERN + "+", name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only "{NAME_PATTERN}" are '
            "allowed. If you intended to pass a host directory, use absolute path"
        )


def check_driver(name: str, driver: str) -> None:
    if driver != "local":
        raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')


def bound_directory(name: str, options: Mapping[str, str]) -> str:
    """The host's directory that stands for the volume's data, "" for one of its own.

    ``options`` are the local driver's: ``type``, ``device`` and ``o`` as for mount(8). Raises
    InvalidParameter, and Unsupported for what would have to be mounted on the host: only ``o=bind`` is done
    without.
    """
    for key in options:
        if key not in _OPTIONS:
            raise InvalidParameter(f'create {name}: invalid option: "{key}"')
    for key, needed in _OPTIONS.items():
        for other in needed:
            if options.get(key) and not options.get(other):
                raise InvalidParameter(f'create {name}: missing required option: "{other}"')
    if options.get("size"):
        raise Unsupported(f"create {name}: quota size requested but no quota support")
    if not options.get("type"):
        return ""
    flags = set(filter(None, options.get("o", "").split(",")))
    if flags & {"bind", "rbind"} and flags <= _BIND_FLAGS:
        if not options["device"].startswith("/"):
            raise InvalidParameter(f"create {name}: device {options['device']} is not an absolute path")
        return options["device"]
    raise Unsupported(
        f"create {name}: a local volume of type {options['type']} with o={options.get('o', '')} is not supported: use "
        "o=bind for a directory of the host, --mount type=tmpfs for memory"
    )
