"""What leads a link from one node to another, what nodes need for it, and how much of each packet it takes.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Literal

from vini.model import Node, Topology, Value

TunnelKind = Literal["vxlan", "vxlan-xdp", "gretap", "wireguard"]


class Stack(Value, frozen=True):
    """What stands between a packet on a link and the wire."""

    needs: tuple[str, ...]  # capabilities of both nodes
    overhead: Mapping[int, int]  # IP version between nodes -> bytes around a packet
    remedy: str  # how a node gets what it needs
    most: int = 65535  # the longest packet that it carries over whatever network


# Inner Ethernet 14; VXLAN 8 and UDP 8, or GRE with its key 8; IP 20 or 40.  WireGuard puts 32 bytes (header 16, tag
# 16), UDP 8 and IP 20 or 40 around a VXLAN packet over IPv4.
STACKS: Mapping[TunnelKind, Stack] = {
    "vxlan": Stack(("vxlan",), {4: 50, 6: 70}, "`modprobe vxlan`"),
    "vxlan-xdp": Stack(
        ("vxlan-xdp",), {4: 50, 6: 70}, "`apt-get install clang libbpf-dev libbpf1`, on Linux 5.14 or newer", 3450
    ),
    "gretap": Stack(("gretap",), {4: 42, 6: 62}, "`modprobe ip_gre; modprobe ip6_gre`"),
    "wireguard": Stack(("vxlan", "wireguard"), {4: 50 + 60, 6: 50 + 80}, "`modprobe vxlan; modprobe wireguard`"),
}
VERSIONS = (4, 6)


def kind_of(topology: Topology) -> TunnelKind:
    """What the links of a slice between nodes are made of."""
    return topology.tunnel or "vxlan"


def runs_xdp(kind: TunnelKind) -> bool:
    """Whether vifs of such tunnels run programs at XDP, and take what XDP sends, as those of pairs do."""
    return kind == "vxlan-xdp"


def is_ruled_from_inside(kind: TunnelKind) -> bool:
    """Whether who rules the network that a tunnel is in could lead it into other slices (`plugins.beyond`): not those
    at XDP, which are the node's own programs, nor encrypted ones, which go by their slice's own way."""
    return kind in ("vxlan", "gretap")


def reach(node: Node, kind: TunnelKind) -> int:
    """The IP version of such tunnels that a node can have to others of the same; 0: it can have none."""
    return _version(node.address) if node.address and not _lacking(node, kind) and _has_key(node, kind) else 0


def _lacking(node: Node, kind: TunnelKind) -> list[str]:
    return [word for word in STACKS[kind].needs if word not in node.capabilities]


def _has_key(node: Node, kind: TunnelKind) -> bool:
    return kind != "wireguard" or bool(node.wireguard)


@lru_cache(maxsize=1 << 13)
def _version(address: str) -> int:
    return ip_address(address).version  # asked of each node at every change


def within(node: Node, kind: TunnelKind) -> int:
    """The longest packet that such a tunnel from a node can carry; its MTU where it can have none."""
    return min(node.mtu - STACKS[kind].overhead.get(reach(node, kind), 0), STACKS[kind].most)


def apart(link: str, a: Node, b: Node, kind: TunnelKind) -> Iterator[str]:
    """Why no such tunnel can lead a link from one node to the other, each as a sentence; none where it can."""
    what = f"Link {link!r} leads from node {a.name!r} to node {b.name!r}"
    remedy = "or keep its slivers on one node with `node:`."
    others = " or ".join(f"`tunnel: {k}`" for k in STACKS if not _lacking(a, k) and not _lacking(b, k))
    for node in (a, b):
        if lacking := " and ".join(_lacking(node, kind)):
            instead = f"choose {others}, which both can, " if others else ""
            yield (
                f"{what}, but {node.name!r} can't make tunnels of the kind {kind}, since it lacks {lacking}; "
                f"load it there by {STACKS[kind].remedy}, {instead}{remedy}"
            )
        elif not _has_key(node, kind):
            yield (
                f"{what}, but {node.name!r} has not told the public key of its WireGuard tunnels; upgrade it, or see "
                f"its log, {remedy}"
            )
        if not node.address:
            yield f"{what}, but {node.name!r} has no address by which other nodes reach it; give it one, {remedy}"
    if a.address and b.address and _version(a.address) != _version(b.address):
        both = f"{a.address} and {b.address}"
        yield f"{what}, whose addresses {both} are of different IP versions; give both one of the same, {remedy}"
