"""What routing daemons are told: which protocols each vif speaks with whom, and who is whose peer."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from vini.layout import Layout, Vif, carried
from vini.model import AnyObject, BgpPeer, Node, Process, Router, RouterVif, Routing, Sliver, Topology, Unsupported
from vini.plugins import router_plugin

IGPS = frozenset({"ospf", "ospf6", "isis", "rip", "ripng", "babel"})


def daemons(topology: Topology, made: Layout, node: Node, sliver: Sliver) -> Iterator[AnyObject]:
    """A sliver's routing daemon and its files; none where all its routes are static."""
    assert sliver.routing is not None
    if not sliver.routing.raw and not set(sliver.routing.protocols) - {"static"}:
        return
    daemon = sliver.routing.daemon
    plugin = router_plugin(daemon)
    if plugin.needs and plugin.needs not in node.capabilities and not sliver.image:
        package = {"frr": "frr", "bird": "bird2"}.get(plugin.needs, plugin.needs)
        raise Unsupported(
            f"Sliver {sliver.name!r} asks for the routing daemon {daemon!r}, which node {node.name!r} lacks; "
            f"install it with `apt-get install {package}`, or choose another `daemon`."
        )
    for o in plugin.objects(router(topology, made, sliver.name)):
        yield structs.replace(o, rooted=True) if isinstance(o, Process) and sliver.image else o


def router(topology: Topology, made: Layout, name: str) -> Router:
    """All that a routing daemon plugin may know of one sliver."""
    sliver = topology.slivers[name]
    assert sliver.routing is not None
    vifs = tuple(_router_vif(topology, made, v) for v in made.vifs[name])
    peers = tuple(_peers(topology, made, name)) if "bgp" in sliver.routing.protocols else ()
    ns = f"{topology.name}.{name}"
    return Router(ns, name, made.router_ids[name], made.loopbacks[name], sliver.routing, vifs, peers)


def _router_vif(topology: Topology, made: Layout, vif: Vif) -> RouterVif:
    ours = topology.slivers[vif.sliver].routing
    assert ours is not None
    neighbors = made.neighbors(vif)
    speak = [_spoken(topology, made, vif, n) for n in neighbors]
    if any(_crosses_border(ours, topology.slivers[n.sliver].routing) for n in neighbors):
        speak = [s - IGPS for s in speak]  # an IGP ends at the border of its autonomous system
    counts = {p: n for p in ours.protocols if (n := sum(p in s for s in speak))}
    return RouterVif(
        vif.dev, vif.peer, vif.addresses, tuple(a for n in neighbors for a in n.addresses), vif.cost, tuple(counts),
        made.links[vif.link].area or ours.area, passive=tuple(p for p in ours.protocols if p in IGPS - counts.keys()),
        neighbors=counts if vif.lan else {},
    )  # fmt: skip


def _spoken(topology: Topology, made: Layout, vif: Vif, neighbor: Vif) -> set[str]:
    """The protocols that both speak, and that the links from here to there allow."""
    ours, theirs = (topology.slivers[v.sliver].routing for v in (vif, neighbor))
    spoken = set(ours.protocols if ours else ()) & set(theirs.protocols if theirs else ())
    for link in (made.links[v.link] for v in (vif, neighbor)):
        if link.protocols is not None:
            spoken &= set(link.protocols)
    return spoken


def _crosses_border(ours: Routing, theirs: Routing | None) -> bool:
    return bool(theirs and ours.asn and theirs.asn and ours.asn != theirs.asn)


def _peers(topology: Topology, made: Layout, name: str) -> Iterator[BgpPeer]:
    ours = topology.slivers[name].routing
    assert ours is not None
    for vif in made.vifs[name]:
        for neighbor in made.neighbors(vif):
            theirs = topology.slivers[neighbor.sliver].routing
            if theirs and theirs.asn != ours.asn and "bgp" in _spoken(topology, made, vif, neighbor):
                for cidr in neighbor.addresses:
                    yield BgpPeer(neighbor.sliver, cidr.partition("/")[0], theirs.asn)
    for peer, sliver in topology.slivers.items():
        if peer != name and sliver.routing and "bgp" in sliver.routing.protocols and sliver.routing.asn == ours.asn:
            yield from _internal(made, name, peer, ours.asn, carried(ours) & carried(sliver.routing))


def _internal(made: Layout, name: str, peer: str, asn: int, versions: frozenset[int]) -> Iterator[BgpPeer]:
    """Sessions between loopbacks, in the IP versions that have a way there."""
    for source in made.loopbacks.get(name, ()):
        for cidr in made.loopbacks.get(peer, ()):
            if (":" in source) == (":" in cidr) and (6 if ":" in cidr else 4) in versions:
                address = cidr.partition("/")[0]
                yield BgpPeer(peer, address, asn, internal=True, source=source.partition("/")[0])
