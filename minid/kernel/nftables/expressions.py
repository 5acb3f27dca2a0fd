"""The expressions that rules are made of, as ``nft --debug=netlink`` prints them (``nf_tables.h``). Pure.

Registers are counted in 32-bit steps: register ``n`` here is ``NFT_REG32_00 + n``; an IPv6 address takes
four, a device name four, a port or a protocol one.
"""

import struct

from minid.kernel.netlink import attribute, nested, text
from minid.kernel.nftables.attributes import number

NFPROTO_IPV4, NFPROTO_IPV6 = 2, 10
_REG32_00 = 8
_REG_VERDICT = 0

_LIST_ELEM = 1
_EXPR_NAME, _EXPR_DATA = 1, 2
_DATA_VALUE, _DATA_VERDICT = 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_DROP, _ACCEPT, _JUMP = 0, 1, -3

_META = {"mark": 3, "iifname": 6, "oifname": 7, "nfproto": 15, "l4proto": 16}
_CT = {"state": 0, "status": 2}
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2

CT_STATE_INVALID, CT_STATE_ESTABLISHED, CT_STATE_RELATED = 1, 2, 4
CT_STATUS_DNAT = 0x20
RTN_LOCAL = 2  # rtnetlink(7): an address of this machine


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(_LIST_ELEM, text(_EXPR_NAME, name), nested(_EXPR_DATA, *attributes))


def _register(kind: int, register: int) -> bytes:
    return number(kind, _REG32_00 + register)


def value(kind: int, data: bytes) -> bytes:
    """An attribute that holds data for a register (``NFTA_DATA_VALUE``)."""
    return nested(kind, attribute(_DATA_VALUE, data))


def meta(key: str, register: int = 0) -> bytes:
    return _expression("meta", _register(1, register), number(2, _META[key]))


def payload(base: int, offset: int, size: int, register: int = 0) -> bytes:
    return _expression("payload", _register(1, register), number(2, base), number(3, offset), number(4, size))


def conntrack(key: str, register: int = 0) -> bytes:
    return _expression("ct", _register(1, register), number(2, _CT[key]))


def fib_daddr_type(register: int = 0) -> bytes:
    """The kind of the destination address: ``RTN_LOCAL``, …"""
    return _expression("fib", _register(1, register), number(2, 3), number(3, 2))


def equal(data: bytes, register: int = 0, *, negated: bool = False) -> bytes:
    return _expression("cmp", _register(1, register), number(2, int(negated)), value(3, data))


def mask(bits: bytes, register: int = 0) -> bytes:
    """Keep only ``bits`` of as many bytes."""
    return _expression(
        "bitwise",
        _register(1, register),
        _register(2, register),
        number(3, len(bits)),
        value(4, bits),
        value(5, bytes(len(bits))),
    )


def lookup(set_name: str, register: int = 0, *, into: int | None = None, negated: bool = False) -> bytes:
    """Go on if the key from ``register`` on is in the set; a map's value goes to register ``into``."""
    attributes = [text(1, set_name), _register(2, register)]
    if into is not None:
        attributes.append(_register(3, into))
    if negated:
        attributes.append(number(5, 1))
    return _expression("lookup", *attributes)


def dnat(family: int, address: int, port: int) -> bytes:
    """New destination from the registers ``address`` and ``port``; ends the chain."""
    return _expression("nat", number(1, 1), number(2, family), _register(3, address), _register(5, port))


def masquerade() -> bytes:
    return _expression("masq")


def counter() -> bytes:
    """Counts packets and bytes; iptables-nft(8) puts one into every rule."""
    return _expression("counter")


def _verdict(code: int, *attributes: bytes) -> bytes:
    verdict = nested(_DATA_VERDICT, number(_VERDICT_CODE, code), *attributes)
    return _expression("immediate", number(1, _REG_VERDICT), nested(2, verdict))


def accept() -> bytes:
    return _verdict(_ACCEPT)


def drop() -> bytes:
    return _verdict(_DROP)


def jump(chain: str) -> bytes:
    return _verdict(_JUMP, text(_VERDICT_CHAIN, chain))


def has_bits(bits: int, register: int = 0) -> bytes:
    """Go on if any of ``bits`` is set in ``register``."""
    return mask(struct.pack("=I", bits), register) + equal(bytes(4), register, negated=True)


def load(data: bytes, register: int = 0) -> bytes:
    """A constant into ``register``."""
    return _expression("immediate", _register(1, register), value(2, data))


def store_port(offset: int, checksum_offset: int, register: int = 0) -> bytes:
    """Overwrite the port at ``offset`` of the transport header from ``register``; its checksum follows."""
    return _expression(
        "payload",
        _register(5, register),
        number(2, TRANSPORT_HEADER),
        number(3, offset),
        number(4, 2),
        number(6, 1),  # NFT_PAYLOAD_CSUM_INET
        number(7, checksum_offset),
        number(8, 0),
    )
