"""Whose flows the kernel tells of."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from vini.node.flows import conntrack


def attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def told(source: str, to: str) -> bytes:
    """A message of one UDP flow, as the kernel makes it."""
    addresses = [ip_address(a).packed for a in (source, to)]
    kinds = (1, 2) if len(addresses[0]) == 4 else (3, 4)
    ip = b"".join(attribute(kind, raw) for kind, raw in zip(kinds, addresses, strict=True))
    ports = attribute(1, b"\x11") + attribute(2, struct.pack("!H", 4000)) + attribute(3, struct.pack("!H", 53))
    return bytes(20) + attribute(1, attribute(1, ip) + attribute(2, ports))


@pytest.mark.parametrize(
    ("source", "to", "ours"),
    [
        ("198.18.0.1", "5.5.5.5", True),
        ("fd30:bc7a:e790::1", "2a00:5::5", True),
        ("192.0.2.1", "5.5.5.5", False),
        ("::198.18.0.1", "2a00:5::5", False),
    ],
)
def test_only_flows_of_slivers_addresses_are_theirs(source: str, to: str, ours: bool) -> None:
    flow = conntrack.decode(told(source, to))
    assert (flow is not None) == ours
    if flow:
        assert (flow.src, flow.dst, flow.sport, flow.dport) == (int(ip_address(source)), int(ip_address(to)), 4000, 53)
