"""Addresses, prefixes, ports and flows: as people write them, and as packets and programs hold them."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from sys import byteorder

from vini.text.mistakes import Wrong, nearest, quote

Vifs = Sequence[str]  # names of a sliver's vifs; a program knows them by their place here
_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address among IPv6 addresses (RFC 4291, 2.5.5.2)
_FLOW = re.compile(r"([a-z0-9]+)/([0-9.]+):([0-9]+)/([0-9.]+):([0-9]+)")


def read_vif(text: str, vifs: Vifs) -> bytes:
    """A vif's number: 1 for the first one, so that nothing is no vif."""
    if text not in vifs:
        raise Wrong(f"The sliver has no vif {quote(text)}.", nearest(text, vifs))
    return (vifs.index(text) + 1).to_bytes(4, byteorder)


def read_way(text: str, vifs: Vifs) -> bytes:
    """A vif's number, or "-": none."""
    return bytes(4) if text == "-" else read_vif(text, vifs)


def show_vif(raw: bytes, vifs: Vifs) -> str:
    """The inverse of `read_vif` and `read_way`."""
    number = int.from_bytes(raw, byteorder)
    return vifs[number - 1] if 0 < number <= len(vifs) else f"vif {number}" if number else "-"


def read_ip4(text: str) -> bytes:
    """An IPv4 address in network order."""
    with suppress(ValueError):
        return IPv4Address(text).packed
    raise Wrong(f"{quote(text)} is not an IPv4 address.", "write it like 10.0.0.1")


def show_ip4(raw: bytes) -> str:
    """The inverse of `read_ip4`."""
    return str(IPv4Address(raw))


def read_ip6(text: str) -> bytes:
    """An IPv6 address in network order."""
    with suppress(ValueError):
        address = IPv6Address(text)
        if not address.scope_id:
            return address.packed
    raise Wrong(f"{quote(text)} is not an IPv6 address.", "write it like fd00::1")


def show_ip6(raw: bytes) -> str:
    """The inverse of `read_ip6`."""
    return str(IPv6Address(raw))


def read_prefix(text: str, version: int) -> bytes:
    """A key of a longest-prefix-match table: length, then the address (struct bpf_lpm_trie_key)."""
    with suppress(ValueError):
        whole = "0.0.0.0/0" if version == 4 else "::/0"
        network = ip_network(whole if text == "default" else text)
        if network.version == version and not _scoped(network):
            return struct.pack("=I", network.prefixlen) + network.network_address.packed
    hint = "10.0.0.0/8" if version == 4 else "fd00::/8"
    raise Wrong(f"{quote(text)} is not an IPv{version} prefix.", f"write it like {hint}, without host bits, or default")


def show_prefix(raw: bytes) -> str:
    """The inverse of `read_prefix`."""
    address = show_ip4(raw[4:]) if len(raw) == 8 else show_ip6(raw[4:])
    return f"{address}/{int.from_bytes(raw[:4], byteorder)}"


def read_masked(text: str) -> bytes:
    """An address and a mask of 16 bytes each, IPv4 among IPv6 addresses; `any`: a mask of nothing."""
    if text == "any":
        return bytes(32)
    with suppress(ValueError):
        network = ip_network(text)
        if isinstance(network, IPv4Network):
            return _MAPPED + network.network_address.packed + b"\xff" * 12 + network.netmask.packed
        if not _scoped(network):
            address = network.network_address.packed
            # ::/0 is every IPv6 packet, not every IPv4 one: such a rule would say more than it seems to
            if network.prefixlen:
                return address + network.netmask.packed
    raise Wrong(f"{quote(text)} is not a prefix.", "write it like 10.0.0.0/8 or fd00::/8, or any")


def show_masked(raw: bytes) -> str:
    """The inverse of `read_masked`."""
    length = int.from_bytes(raw[16:], "big").bit_count()
    if not length:
        return "any"
    if raw[:12] == _MAPPED and length >= 96:
        return f"{IPv4Address(raw[12:16])}/{length - 96}"
    return f"{IPv6Address(raw[:16])}/{length}"


def read_port(text: str) -> bytes:
    """A port in network order."""
    return struct.pack("!H", _port(text))


def show_port(raw: bytes) -> str:
    """The inverse of `read_port`."""
    return str(int.from_bytes(raw, "big"))


def read_ports(text: str) -> bytes:
    """The first and the last of a range, as numbers."""
    if text == "any":
        return struct.pack("=HH", 0, 65535)
    first, dash, last = text.partition("-")
    low, high = _port(first), _port(last if dash else first)
    if low > high:
        raise Wrong(f"{quote(text)} is no range of ports.", "the smaller one first")
    return struct.pack("=HH", low, high)


def show_ports(raw: bytes) -> str:
    """The inverse of `read_ports`."""
    low, high = struct.unpack("=HH", raw)
    return "any" if (low, high) == (0, 65535) else str(low) if low == high else f"{low}-{high}"


def read_flow(text: str, transports: Mapping[str, int]) -> bytes:
    """struct flow4: `tcp/10.0.0.1:1234/10.0.0.2:80`, the sender first."""
    found = _FLOW.fullmatch(text)
    if not found or found[1] not in transports:
        raise Wrong(f"{quote(text)} is not a flow.", "write it like tcp/10.0.0.1:1234/10.0.0.2:80")
    ports = read_port(found[3]) + read_port(found[5])
    return read_ip4(found[2]) + read_ip4(found[4]) + ports + bytes((transports[found[1]], 0, 0, 0))


def show_flow(raw: bytes, transports: Mapping[str, int]) -> str:
    """The inverse of `read_flow`."""
    name = next((name for name, number in transports.items() if number == raw[12]), str(raw[12]))
    ends = f"{show_ip4(raw[:4])}:{show_port(raw[8:10])}/{show_ip4(raw[4:8])}:{show_port(raw[10:12])}"
    return f"{name}/{ends}"


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise Wrong(f"{quote(text)} is not a port.", "a number 0..65535")
    return int(text)


def _scoped(network: IPv4Network | IPv6Network) -> bool:
    return isinstance(network, IPv6Network) and bool(network.network_address.scope_id)
