"""What nf_tables' attributes have of their own: all numbers are in network order. Pure."""

import struct

from minid.kernel.netlink import attribute


def number(kind: int, value: int) -> bytes:
    """32 bits in network order; negative ones in two's complement."""
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))
