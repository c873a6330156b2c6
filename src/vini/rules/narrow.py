"""What is wanted of a node's links while the network between nodes carries shorter packets than they need.  Pure.

What a path carries is found by asking (`node.widths`).  Where longer packets are lost on it, its links have a lower MTU
at both ends for as long as that is so: then slivers' own kernels tell senders, cut what may be cut, and lower what TCP
announces, as on any link.  Of a LAN all vifs on this node have it: a switch drops in silence what is longer than the
MTU of the port that it is to leave by, so hosts must not send it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec.structs import replace

from vini import mirror
from vini.model import (
    Address,
    AnyObject,
    Gretap,
    Interface,
    Route,
    SliceSpec,
    Tunnel,
    Value,
    Veth,
    Vxlan,
    VxlanXdp,
    Way,
    Wireguard,
)
from vini.plugins import beyond
from vini.plugins.tunnels import STACKS, TunnelKind
from vini.topology import LEAST_MTU_V6

_Vif = tuple[str, str]  # namespace and device
# What is too long is cut on the way, and put together by the other node's kernel: slow, but nothing is lost.
_CUT = ("vxlan", 4)


class _Led(Value, frozen=True):
    """What one link consists of here: the path that it takes, and the interfaces that its packets go through; of a LAN,
    all that it has here."""

    way: Way
    vifs: tuple[_Vif, ...]


def lengths(spec: SliceSpec) -> dict[Way, int]:
    """The paths that links take, and the longest packet of any of these links there, in bytes."""
    kind = _kind(spec)
    if kind is None:
        return {}
    inside = _mtus(spec)
    found: dict[Way, int] = {}
    over = [*mirror.paths(spec).items(), *((at, led.way) for led in _led(spec, kind) for at in led.vifs)]
    for at, way in over:
        length = inside.get(at, 0) + STACKS[kind].overhead[_version(way)]
        found[way] = max(length, found.get(way, 0))
    return found


def narrowed(spec: SliceSpec, objects: frozenset[AnyObject], widths: Mapping[Way, int]) -> frozenset[AnyObject]:
    """The same objects of a spec, with an MTU that fits wherever longer packets would be lost.  `widths` has how many
    bytes a packet may have on those paths that carry less than their links need."""
    most = _most(spec, widths) if widths else {}
    if not most:
        return objects
    inside = _mtus(spec)
    return frozenset(_fitting(o, most, inside) for o in objects)


def concerned(specs: Iterable[SliceSpec], changed: Collection[Way]) -> set[str]:
    """The namespaces with interfaces of links that take these paths."""
    if not changed:
        return set()
    return {ns for s in specs if (k := _kind(s)) for led in _led(s, k) if led.way in changed for ns, _ in led.vifs}


def _kind(spec: SliceSpec) -> TunnelKind | None:
    """All tunnels of a slice are of one."""
    if any(isinstance(o, Wireguard) for o in spec.objects):
        return "wireguard"
    kinds: dict[type, TunnelKind] = {Vxlan: "vxlan", VxlanXdp: "vxlan-xdp", Gretap: "gretap"}
    return next((kinds[type(o)] for o in spec.objects if isinstance(o, Tunnel)), None)


def _led(spec: SliceSpec, kind: TunnelKind) -> Iterator[_Led]:
    """All links to other nodes whose tunnels go by the node's own network, which those of WireGuard don't: what its
    packets are too long for is cut on the way as well."""
    if kind == "wireguard":
        return
    beside = _beside(spec)
    for o in spec.objects:
        if isinstance(o, Tunnel):
            vifs = _reached({(o.ns, o.dev), (o.ns, beyond.twin(o.dev))}, beside)
            yield _Led((o.local, o.remote), tuple(sorted(vif for vif in vifs if vif[1])))


def _beside(spec: SliceSpec) -> dict[_Vif, set[_Vif]]:
    """Vif -> where its frames are on the same Ethernet: the other end of its pair, and other ports of its switch."""
    ports: dict[tuple[str, str], set[_Vif]] = {}
    for o in spec.objects:
        if isinstance(o, Interface) and o.master:
            ports.setdefault((o.ns, o.master), set()).add((o.ns, o.dev))
    beside: dict[_Vif, set[_Vif]] = {vif: set(some) for some in ports.values() for vif in some}
    for o in spec.objects:
        if isinstance(o, Veth):
            a, b = ((e.ns, e.dev) for e in o.ends)
            beside.setdefault(a, set()).add(b)
            beside.setdefault(b, set()).add(a)
    return beside


def _reached(vifs: set[_Vif], beside: Mapping[_Vif, set[_Vif]]) -> set[_Vif]:
    found, new = set(vifs), vifs
    while new:
        new = set().union(*(beside.get(vif, ()) for vif in new)) - found
        found |= new
    return found


def _most(spec: SliceSpec, widths: Mapping[Way, int]) -> dict[_Vif, int]:
    """The MTU of interfaces whose longer packets would be lost.  With less than 1280 bytes there is no IPv6 at all
    (RFC 8200, 5), so what has IPv6 addresses keeps these."""
    kind = _kind(spec)
    if kind is None:
        return {}
    six = {(o.ns, o.dev) for o in spec.objects if isinstance(o, Address) and ":" in o.cidr}
    found: dict[_Vif, int] = {}
    for led in _led(spec, kind):
        version, width = _version(led.way), widths.get(led.way)
        if width is not None and (kind, version) != _CUT:
            room = width - STACKS[kind].overhead[version]
            if six.intersection(led.vifs):
                room = max(room, LEAST_MTU_V6)
            found |= {vif: min(room, found.get(vif, room)) for vif in led.vifs}
    return found


def _fitting(o: AnyObject, most: Mapping[_Vif, int], inside: Mapping[_Vif, int]) -> AnyObject:
    if isinstance(o, Interface) and o.mtu > (room := most.get((o.ns, o.dev), o.mtu)):
        return replace(o, mtu=room)
    if isinstance(o, Route) and o.mtu and (at := (o.ns, o.dev)) in most:
        return replace(o, mtu=o.mtu - max(0, inside[at] - most[at]))  # what a program adds still fits
    return o


def _mtus(spec: SliceSpec) -> dict[_Vif, int]:
    return {(o.ns, o.dev): o.mtu for o in spec.objects if isinstance(o, Interface)}


def _version(way: Way) -> int:
    return 6 if ":" in way[0] else 4
