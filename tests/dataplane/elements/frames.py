"""Ethernet frames for packet tests, with right checksums, and what is in them."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

TO, FROM = bytes.fromhex("02000000aa01"), bytes.fromhex("02000000bb02")
IP, IP6, ARP, MPLS, ROUTE, ID = 0x0800, 0x86DD, 0x0806, 0x8847, 0x88B5, 0x88B6
ICMP, IPIP, TCP, UDP, GRE = 1, 4, 6, 17, 47


def checksum(octets: bytes) -> int:
    """RFC 1071; 0 for what holds a right one."""
    octets += b"\0" * (len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(payload: bytes, protocol: int = IP) -> bytes:
    return TO + FROM + struct.pack("!H", protocol) + payload


def ip(
    payload: bytes, protocol: int, source: str = "10.0.0.1", destination: str = "10.9.0.2", ttl: int = 64,
    fragment: int = 0, options: bytes = b"", dscp: int = 0,
) -> bytes:  # fmt: skip
    """An IPv4 packet; `fragment`: flags and offset as they are in the header."""
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45 + len(options) // 4, dscp << 2, 20 + len(options) + len(payload), 7, fragment, ttl,
        protocol, 0, IPv4Address(source).packed, IPv4Address(destination).packed,
    ) + options  # fmt: skip
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(payload: bytes, protocol: int, source: str = "fd00::1", destination: str = "fd09::2", hops: int = 64) -> bytes:
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    return struct.pack("!IHBB", 0x60000000, len(payload), protocol, hops) + addresses + payload


def transport(
    protocol: int, from_port: int = 1234, to_port: int = 80, payload: bytes = b"hello",
    source: str = "10.0.0.1", destination: str = "10.9.0.2", checked: bool = True,
) -> bytes:  # fmt: skip
    """A TCP or UDP segment, its checksum over the pseudo header of these IPv4 addresses; UDP may be without."""
    ports = struct.pack("!HH", from_port, to_port)
    if protocol == TCP:
        whole, at = ports + struct.pack("!IIBBHHH", 1, 2, 0x50, 0x18, 1000, 0, 0) + payload, 16
    else:
        whole, at = ports + struct.pack("!HH", 8 + len(payload), 0) + payload, 6
    pseudo = IPv4Address(source).packed + IPv4Address(destination).packed + struct.pack("!HH", protocol, len(whole))
    return whole[:at] + struct.pack("!H", checksum(pseudo + whole) if checked else 0) + whole[at + 2 :]


def echo(identifier: int, reply: bool = False, payload: bytes = b"ping") -> bytes:
    head = struct.pack("!BBHHH", 0 if reply else 8, 0, 0, identifier, 1)
    return head[:2] + struct.pack("!H", checksum(head + payload)) + head[4:] + payload


def tcp(**ip_fields: str | int | bytes) -> bytes:
    """A whole frame with TCP from port 1234 to 80."""
    ends = {k: v for k, v in ip_fields.items() if k in ("source", "destination", "from_port", "to_port")}
    others = {k: v for k, v in ip_fields.items() if k not in ("from_port", "to_port")}
    return ethernet(ip(transport(TCP, **ends), TCP, **others))


def udp(**fields: str | int | bytes | bool) -> bytes:
    """A whole frame with UDP from port 1234 to 80."""
    ends = {k: v for k, v in fields.items() if k in ("source", "destination", "from_port", "to_port", "checked")}
    others = {k: v for k, v in fields.items() if k not in ("from_port", "to_port", "checked")}
    return ethernet(ip(transport(UDP, **ends), UDP, **others))


def mpls(label: int, payload: bytes, ttl: int = 64, bottom: bool = True) -> bytes:
    return struct.pack("!I", label << 12 | bottom << 8 | ttl) + payload


def protocol_of(frame: bytes) -> int:
    return int.from_bytes(frame[12:14], "big")


def source_of(frame: bytes) -> str:
    return str(IPv4Address(frame[26:30]))


def destination_of(frame: bytes) -> str:
    return str(IPv4Address(frame[30:34]))


def ports_of(frame: bytes) -> tuple[int, int]:
    at = 14 + (frame[14] & 15) * 4
    return struct.unpack_from("!HH", frame, at)


def assert_right_checksums(frame: bytes) -> None:
    """Of an IPv4 frame: the header's, and that of the transport protocol, where it has one."""
    length = (frame[14] & 15) * 4
    head, rest = frame[14 : 14 + length], frame[14 + length :]
    assert checksum(head) == 0
    assert int.from_bytes(head[2:4], "big") == len(frame) - 14
    pseudo = head[12:20] + struct.pack("!HH", head[9], len(rest))
    if head[9] == ICMP:
        assert checksum(rest) == 0
    elif head[9] == TCP or (head[9] == UDP and rest[6:8] != b"\0\0"):
        assert checksum(pseudo + rest) == 0
