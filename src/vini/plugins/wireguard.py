"""The encrypted way of a slice between its nodes: on each a WireGuard interface, by which its tunnels go.  Pure.

It is in a namespace of its own, where nothing else is: so whatever comes out of a tunnel has come by it, and nothing
that does not can reach one.  Each slice has its own, with a port of its own; all use the keys of their nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, ip_address

from vini import names
from vini.model import (
    SYSCTLS,
    WIREGUARD,
    AnyObject,
    CapacityError,
    Interface,
    Netns,
    Node,
    Sysctl,
    Wireguard,
    WireguardPeer,
    underlay,
)

_INSIDE = int(IPv4Address("10.0.0.0"))  # 10.0.0.0/8: seen by nobody else, so it may be what slivers have too
_LENGTH = 8


def addresses(nodes: Collection[str]) -> dict[str, str]:
    """Node -> the address of its tunnels inside, IPv4; from its name alone, bar collisions."""
    at = names.place(nodes, (1 << 32 - _LENGTH) - 1, lambda name: names.digest("wireguard", name), first=1)
    return {name: str(IPv4Address(_INSIDE + i)) for name, i in at.items()}


def objects(slice_: str, pairs: Iterable[tuple[Node, Node]], port: int, mtu: int) -> Iterator[tuple[str, AnyObject]]:
    """With the node that each is on.  `pairs` are those that have tunnels between them, `mtu` is that inside."""
    beside: dict[str, dict[str, Node]] = {}
    nodes: dict[str, Node] = {}
    for a, b in pairs:
        nodes |= {a.name: a, b.name: b}
        beside.setdefault(a.name, {})[b.name] = b
        beside.setdefault(b.name, {})[a.name] = a
    if nodes and not port:
        raise CapacityError(f"Slice {slice_!r} needs a port for its WireGuard, but has none; try again.")
    at, ns = addresses(nodes.keys()), underlay(slice_)
    for name, node in nodes.items():
        peers = (WireguardPeer(n.wireguard, at[n.name], str(ip_address(n.address))) for n in beside[name].values())
        yield name, Netns(ns)
        yield name, Sysctl(ns, tuple((setting, "0") for setting in SYSCTLS))
        yield name, Interface(ns, "lo", ("netns", ns), mtu=65536)
        yield name, Wireguard(
            ns, WIREGUARD, node.wireguard, port, f"{at[name]}/{_LENGTH}", mtu,
            tuple(sorted(peers, key=lambda p: p.public_key)),
        )  # fmt: skip
