"""Driver options of networks, spelled as Docker's: checked and read. Pure.

Source: docs.docker.com/reference/cli/docker/network/create § bridge driver options, macvlan and ipvlan.
"""

import re
from collections.abc import Mapping

from minid.errors import InvalidParameter
from minid.network.model import Network

PREFIX = "com.docker.network.bridge."
BRIDGE_NAME = PREFIX + "name"
ICC = PREFIX + "enable_icc"
MASQUERADE = PREFIX + "enable_ip_masquerade"
HOST_BINDING = PREFIX + "host_binding_ipv4"
DEFAULT_BRIDGE = PREFIX + "default_bridge"
INHIBIT_IPV4 = PREFIX + "inhibit_ipv4"
GATEWAY_MODES = (PREFIX + "gateway_mode_ipv4", PREFIX + "gateway_mode_ipv6")
CONTAINER_INTERFACE_PREFIX = "com.docker.network.container_iface_prefix"
MTU = "com.docker.network.driver.mtu"
BOOLEANS = (ICC, MASQUERADE, DEFAULT_BRIDGE, INHIBIT_IPV4)
DEVICE = re.compile(r"[^\s/:]{1,15}")
MACVLAN_MODES = ("bridge", "private", "vepa", "passthru")
IPVLAN_MODES = ("l2", "l3", "l3s")
IPVLAN_FLAGS = ("bridge", "private", "vepa")


def boolean(text: str) -> bool:
    """Go's strconv.ParseBool. Raises ValueError."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError(text)


def check(driver: str, options: Mapping[str, str]) -> None:
    """Raises InvalidParameter for a value that a known option can't have; unknown options are kept, as
    Docker keeps them.
    """
    for key in BOOLEANS:
        if key in options:
            try:
                boolean(options[key])
            except ValueError:
                raise InvalidParameter(
                    f'invalid value for {key}: strconv.ParseBool: parsing "{options[key]}": invalid syntax'
                ) from None
    if MTU in options:
        text = options[MTU]
        if not text.isascii() or not text.isdigit() or (int(text) != 0 and not 68 <= int(text) <= 65535):
            raise InvalidParameter(f"invalid value for {MTU}: {text}: a number from 68 to 65535 is needed")
    if BRIDGE_NAME in options and not device_valid(options[BRIDGE_NAME]):
        raise InvalidParameter(
            f"invalid value for {BRIDGE_NAME}: {options[BRIDGE_NAME]}: 1 to 15 characters without space and /"
        )
    for key in GATEWAY_MODES:
        if options.get(key, "nat") not in ("nat", "routed"):
            raise InvalidParameter(f"invalid value for {key}: {options[key]}: nat and routed are supported")
    if driver == "macvlan" and options.get("macvlan_mode", "bridge") not in MACVLAN_MODES:
        raise InvalidParameter(f"requested macvlan mode '{options['macvlan_mode']}' is not valid")
    if driver == "ipvlan":
        if options.get("ipvlan_mode", "l2") not in IPVLAN_MODES:
            raise InvalidParameter(f"requested ipvlan mode '{options['ipvlan_mode']}' is not valid")
        if options.get("ipvlan_flag", "bridge") not in IPVLAN_FLAGS:
            raise InvalidParameter(f"requested ipvlan flag '{options['ipvlan_flag']}' is not valid")


def device_valid(name: str) -> bool:
    """Whether the kernel takes it as an interface's name."""
    return bool(DEVICE.fullmatch(name)) and len(name.encode()) <= 15 and name not in (".", "..")


def mtu(network: Network, default: int) -> int:
    """In bytes."""
    return int(network.options.get(MTU) or 0) or default


def icc(network: Network) -> bool:
    return boolean(network.options.get(ICC, "true"))


def masquerade(network: Network) -> bool:
    return boolean(network.options.get(MASQUERADE, "true"))
