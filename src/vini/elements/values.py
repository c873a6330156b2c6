"""The types of elements' parameters and tables: how people write them, and how programs hold them.

Numbers are held in this machine's byte order, addresses and ports of packets in network order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from sys import byteorder

from vini.elements import addresses, amounts
from vini.elements.addresses import Vifs
from vini.text.mistakes import Wrong, nearest, quote

_NONE: Mapping[str, int] = {}


@dataclass(frozen=True)
class Type:
    """A type of C that a person can write."""

    name: str
    c: str  # a declaration of a field, `{}` for its name
    size: int  # bytes
    align: int
    what: str  # "a number 0..255"
    read: Callable[[str, Vifs], bytes]  # Wrong with a sentence where the text is none
    show: Callable[[bytes, Vifs], str]  # the inverse


def _number(name: str, c: str, size: int, most: int = 0, words: Mapping[str, int] = _NONE, what: str = "") -> Type:
    """An unsigned number, some of which may have names."""
    most = most or 2 ** (8 * size) - 1
    said = what or f"a number 0..{most}"

    def read(text: str, _: Vifs) -> bytes:
        number = words.get(text, amounts.number(text))
        if number is None or number > most:
            raise Wrong(f"{quote(text)} is not {said}.", nearest(text, words) if words else "")
        return number.to_bytes(size, byteorder)

    def show(raw: bytes, _: Vifs) -> str:
        number = int.from_bytes(raw, byteorder)
        return next((word for word, n in words.items() if n == number), str(number))

    return Type(name, f"{c} {{}}", size, size, said, read, show)


def _alone(read: Callable[[str], bytes]) -> Callable[[str, Vifs], bytes]:
    return lambda text, _: read(text)


def _shown(show: Callable[[bytes], str]) -> Callable[[bytes, Vifs], str]:
    return lambda raw, _: show(raw)


PROTOCOLS = {
    "ip": 0x0800, "arp": 0x0806, "ip6": 0x86DD, "mpls": 0x8847, "vlan": 0x8100, "route": 0x88B5, "id": 0x88B6,
}  # fmt: skip
TRANSPORTS = {"any": 0, "icmp": 1, "ipip": 4, "tcp": 6, "udp": 17, "gre": 47, "icmp6": 58, "ospf": 89}
_CLASSES = {"default": 0, "af11": 10, "af21": 18, "af31": 26, "af41": 34, "cs1": 8, "cs6": 48, "ef": 46}  # RFC 4594
TYPES: Mapping[str, Type] = {
    t.name: t
    for t in (
        _number("u8", "__u8", 1),
        _number("u16", "__u16", 2),
        _number("u32", "__u32", 4),
        _number("u64", "__u64", 8),
        _number("label", "__u32", 4, 2**20 - 1),  # RFC 3032
        _number("vni", "__u32", 4, 2**24 - 1),  # RFC 7348
        _number("dscp", "__u8", 1, 63, _CLASSES, "a DSCP 0..63, or a name such as ef or af41"),
        _number("action", "__u32", 4, 2, {"permit": 1, "deny": 2}, "permit or deny"),
        _number("protocol", "__u16", 2, 0, PROTOCOLS, "an Ethernet protocol such as ip, ip6, arp or 0x88b5"),
        _number("transport", "__u8", 1, 0, TRANSPORTS, "a transport protocol such as tcp, udp, icmp, any or 47"),
        Type("vif", "__u32 {}", 4, 4, "a vif of the sliver", addresses.read_vif, addresses.show_vif),
        Type("way", "__u32 {}", 4, 4, "a vif of the sliver, or -: none", addresses.read_way, addresses.show_vif),
        Type("ip4", "__be32 {}", 4, 4, "an IPv4 address", _alone(addresses.read_ip4), _shown(addresses.show_ip4)),
        Type("ip6", "struct in6_addr {}", 16, 4, "an IPv6 address",
             _alone(addresses.read_ip6), _shown(addresses.show_ip6)),
        Type("prefix", "struct prefix {}", 32, 8, "a prefix, IPv4 or IPv6, or any",
             _alone(addresses.read_masked), _shown(addresses.show_masked)),
        Type("port", "__be16 {}", 2, 2, "a port 0..65535", _alone(addresses.read_port), _shown(addresses.show_port)),
        Type("ports", "struct ports {}", 4, 2, "a port, a range such as 80-443, or any",
             _alone(addresses.read_ports), _shown(addresses.show_ports)),
        Type("flow", "struct flow4 {}", 16, 4, "a flow such as tcp/10.0.0.1:1234/10.0.0.2:80",
             lambda text, _: addresses.read_flow(text, TRANSPORTS),
             lambda raw, _: addresses.show_flow(raw, TRANSPORTS)),
        Type("hops", "__u8 {}[9]", 9, 1, "one to eight numbers 1..255 such as 1/2/1",
             _alone(amounts.read_hops), _shown(amounts.show_hops)),
        Type("share", "__u32 {}", 4, 4, "a share such as 1% or 0.01",
             _alone(amounts.read_share), _shown(amounts.show_share)),
        Type("rate", "__u64 {}", 8, 8, "a rate such as 1000pps or 10mbit",
             _alone(amounts.read_rate), _shown(amounts.show_rate)),
    )
}  # fmt: skip


def pack(types: tuple[Type, ...], raws: tuple[bytes, ...]) -> bytes:
    """Fields one after the other, padded as C does in a struct."""
    packed, widest = b"", 1
    for t, raw in zip(types, raws, strict=True):
        widest = max(widest, t.align)
        packed += b"\0" * (-len(packed) % t.align) + raw
    return packed + b"\0" * (-len(packed) % widest)


def unpack(types: tuple[Type, ...], packed: bytes) -> tuple[bytes, ...]:
    """The inverse of `pack`."""
    found, at = [], 0
    for t in types:
        at += -at % t.align
        found.append(packed[at : at + t.size])
        at += t.size
    return tuple(found)
