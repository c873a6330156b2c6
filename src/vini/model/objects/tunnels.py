"""Links between nodes: one end of each."""

from __future__ import annotations

from typing import ClassVar

from vini.model.objects.base import Object
from vini.model.objects.wireguard import WIREGUARD
from vini.model.value import Key

_TUNNELS = "_tunnels"  # as no sliver can be called
TWIN = 1 << 26  # the indexes of an interface that `crosses` and of its twin differ by these bits


def beyond(ns: str) -> str:
    """The namespace of a slice, given its name or one of its namespaces, that has the tunnels of its containers on a
    node: their root has no hold of it (docs/explanation/many-machines.md)."""
    return f"{ns.partition('.')[0]}.{_TUNNELS}"


class Vxlan(Object, frozen=True):
    """One end of a link whose other end is on another node: a VXLAN tunnel that no other link uses (RFC 7348).

    The interface is in the sliver's namespace, or in the one beyond its reach (`beyond`); the tunnel's UDP socket in
    the node's own, or in the one that `through` names.  All that leaves by it goes to `remote`; it learns nothing,
    since there is nobody else.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"local", "remote", "whole"})
    ns: str
    dev: str
    index: int  # interface index, unique inside its namespace
    mac: str
    vni: int  # VXLAN network identifier, 1..2**24-1; unique in the testbed
    local: str  # address of this node, IPv4 or IPv6, as `ipaddress` prints it
    remote: str  # and of the other one, of the same IP version
    port: int = 4789  # UDP, at both
    whole: bool = True  # everything goes to `remote`, and nothing is learned; always wanted so
    through: str = ""  # the namespace of a Wireguard, by which it goes; "": the node's own

    @property
    def key(self) -> Key:
        return ("vxlan", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns), *((("wireguard", self.through, WIREGUARD),) if self.through else ()))


class VxlanXdp(Object, frozen=True):
    """As a Vxlan, and the same on the wire, but made by eBPF programs of the node at XDP; so programs in the sliver run
    at XDP too (docs/explanation/xdp-tunnels.md).

    The interface is one end of a pair; the other end is in the node's own namespace, and the programs are there and at
    the node's interface that has the address `local`.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"local", "remote", "port", "whole"})
    ns: str
    dev: str
    index: int  # interface index, unique inside its namespace
    mac: str
    vni: int  # VXLAN network identifier, 1..2**24-1; unique in the testbed
    local: str  # address of this node, IPv4 or IPv6, as `ipaddress` prints it
    remote: str  # and of the other one, of the same IP version
    port: int = 4789  # UDP, at both
    whole: bool = True  # the programs are where they belong, and know it as it is here; always wanted so

    @property
    def key(self) -> Key:
        return ("vxlanxdp", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class Gretap(Object, frozen=True):
    """As a Vxlan, by Ethernet over GRE with a key (RFC 2784, RFC 2890), as VINI's first links were."""

    in_place: ClassVar[frozenset[str]] = frozenset({"local", "remote", "whole"})
    ns: str
    dev: str
    index: int  # interface index, unique inside its namespace
    mac: str
    gre_key: int  # 1..2**24-1; unique in the testbed
    local: str  # address of this node, IPv4 or IPv6, as `ipaddress` prints it
    remote: str  # and of the other one, of the same IP version
    whole: bool = True  # all else is as we make it; always wanted so

    @property
    def key(self) -> Key:
        return ("gretap", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)
