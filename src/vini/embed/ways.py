"""The static routes of slivers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from vini.layout import Layout, Vif, alive, forwards
from vini.model import Mistake, Node, Route, Sliver, Topology, TopologyError
from vini.plugins.programs import Prepared
from vini.plugins.wires import Wire
from vini.static import static_routes


def routes(made: Layout, sliver: Sliver, ns: str, wired: Mapping[str, Wire], added: int) -> Iterator[Route]:
    """The routes of one sliver, by vifs that have a carrier; `added`: bytes that its program adds to a packet."""
    for to, (via, vif) in _given(made, sliver).items():
        if alive(made, vif):
            yield _route(ns, to, via, vif, wired, added)


def _route(ns: str, to: str, via: str, vif: Vif, wired: Mapping[str, Wire], added: int) -> Route:
    return Route(ns, to, via, vif.dev, wired[vif.link].mtu - added if added else 0)


def _given(made: Layout, sliver: Sliver) -> dict[str, tuple[str, Vif]]:
    """Destination -> next hop, and the vif that leads there."""
    vifs = made.vifs[sliver.name]
    given = {}
    for route in sliver.routes:
        found = _next_hop(route.via, route.to, made, vifs)
        if found is None:
            what = f"{sliver.name}: the route to {route.to} goes via {route.via!r}, which is no neighbour of it."
            raise TopologyError([Mistake(0, 0, what)])
        to = _destination(route.to, found[0])
        given[to] = found
    if not given and not forwards(sliver):
        for to, via, vif in _default_routes(made, vifs):
            given.setdefault(to, (via, vif))
    if sliver.routing and "static" in sliver.routing.protocols:
        given = {**static_routes(made, sliver.name), **given}
    return given


def _destination(to: str, via: str) -> str:
    if to == "default":
        return "::/0" if ":" in via else "0.0.0.0/0"
    return to


def _next_hop(via: str, to: str, made: Layout, vifs: Iterable[Vif]) -> tuple[str, Vif] | None:
    for vif in vifs:
        for neighbor in made.neighbors(vif):
            for cidr in neighbor.addresses:
                ip = cidr.partition("/")[0]
                if via == ip or (via == neighbor.sliver and (to == "default" or (":" in to) == (":" in ip))):
                    return ip, vif
    return None


def _default_routes(made: Layout, vifs: Iterable[Vif]) -> Iterator[tuple[str, str, Vif]]:
    """A host sends all by its first neighbour that forwards, over a link that has a carrier; by the next, where that
    link fails."""
    for vif in vifs:
        for neighbor in made.neighbors(vif) if alive(made, vif) else ():
            for cidr in neighbor.addresses if neighbor.sliver in made.forwarding else ():
                ip = cidr.partition("/")[0]
                yield "::/0" if ":" in ip else "0.0.0.0/0", ip, vif


def spares(
    topology: Topology, made: Layout, where: Mapping[str, Node], wired: Mapping[str, Wire],
    programs: Mapping[str, Prepared],
) -> dict[str, list[Route]]:  # fmt: skip
    """Node -> other ways of those hosts that send all by a neighbour on another node."""
    out: dict[str, list[Route]] = {}
    for name, sliver in topology.slivers.items():
        riding = any(wired[vif.link].is_tunnel for vif in made.vifs[name])
        if topology.substrate == "heal" or not riding or sliver.routes or forwards(sliver):
            continue
        added = programs[name].adds_to_own if name in programs else 0
        first: set[str] = set()
        for to, via, vif in _default_routes(made, made.vifs[name]):
            if to in first:
                spare = _route(f"{topology.name}.{name}", to, via, vif, wired, added)
                out.setdefault(where[name].name, []).append(spare)
            first.add(to)
    return out
