"""A slice's encrypted way between nodes."""

from __future__ import annotations

from typing import ClassVar

from vini.model.objects.base import Object
from vini.model.value import Key, Value

_UNDERLAY = "_wireguard"  # as no sliver can be called


def underlay(ns: str) -> str:
    """The namespace of a slice, given its name or one of its namespaces, that has its encrypted way to other nodes."""
    return f"{ns.partition('.')[0]}.{_UNDERLAY}"


def is_sliver(ns: str) -> bool:
    """Whether a namespace is a sliver, and not what carries its slice's links, whose names begin as no sliver's may."""
    return not ns.partition(".")[2].startswith("_")


class WireguardPeer(Value, frozen=True):
    """Another node that holds some of the slice."""

    public_key: str  # Curve25519, 32 bytes in base64
    address: str  # of its tunnels inside, IPv4
    endpoint: str  # by which other nodes reach it, IPv4 or IPv6


class Wireguard(Object, frozen=True):
    """A slice's encrypted way from this node to others: a WireGuard interface in a namespace where nothing else is.

    Its UDP socket is in the node's own namespace.  Tunnels whose sockets are in its namespace go by it.  The private
    key is the node's own, and nowhere else.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"public_key", "port", "cidr", "mtu", "peers", "whole"})
    ns: str
    dev: str
    public_key: str  # of the node's own key; it takes no other
    port: int  # UDP, at all nodes of the slice; no other slice of the testbed has it
    cidr: str  # address of this node's tunnels inside, with the length of the prefix that all have in common
    mtu: int  # of what is inside
    peers: tuple[WireguardPeer, ...]  # by key
    whole: bool = True  # it is up, and has no other addresses; always wanted so

    @property
    def key(self) -> Key:
        return ("wireguard", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


WIREGUARD = "wg"  # the name of its interface
