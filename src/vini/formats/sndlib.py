"""SNDlib networks (Orlowski et al., SNDlib 1.0, Networks 55(3), 2010): what both of its formats say."""

from __future__ import annotations

from collections.abc import Sequence

from vini.formats.graph import Edge, Graph, Vertex, to_topology
from vini.formats.imported import Imported, several
from vini.model import Place, Routing, Value


class SndNode(Value, frozen=True):
    """A node; x and y in whatever the file takes them for, None: not given."""

    id: str
    x: float | None = None
    y: float | None = None
    line: int = 0


class SndLink(Value, frozen=True):
    """A link; the capacity has no unit, the routing cost is per unit of flow."""

    id: str
    source: str
    target: str
    capacity: float = 0.0
    routing_cost: float = 0.0
    modules: int = 0
    line: int = 0


class SndNetwork(Value, frozen=True):
    """A network file; `geographical` None: it does not say what its coordinates are."""

    name: str
    nodes: tuple[SndNode, ...]
    links: tuple[SndLink, ...]
    demands: int = 0
    paths: int = 0
    geographical: bool | None = None


def to_imported(network: SndNetwork, routing: Routing | None) -> Imported:
    """The network as a topology of routers."""
    notes: list[str] = []
    geographical = _is_geographical(network, notes)
    vertices = tuple(Vertex(n.id, n.id, _place(n) if geographical else None, n.line) for n in network.nodes)
    edges = tuple(Edge(e.source, e.target, cost=_cost(e), line=e.line) for e in network.links)
    directed = _is_directed(network.links)
    _note_links(network.links, notes)
    if network.demands:
        notes.append(f"{several(network.demands, 'demand')} not carried over: a topology holds no traffic.")
    if network.paths:
        notes.append(f"Admissible paths of {several(network.paths, 'demand')} not carried over.")
    return to_topology(Graph(network.name, vertices, edges, directed), routing, notes)


def _is_geographical(network: SndNetwork, notes: list[str]) -> bool:
    """As the file says; where it doesn't, when all are possible longitudes and latitudes."""
    if network.geographical is False:
        notes.append("The coordinates are positions in a picture, so no place is set.")
        return False
    placed = [n for n in network.nodes if n.x is not None and n.y is not None]
    if not all(_place(n) for n in placed):
        notes.append("The coordinates can't be longitudes and latitudes, so no place is set.")
        return False
    if placed and network.geographical is None:
        notes.append("The coordinates were taken for longitude and latitude; the file does not say what they are.")
    return True


def _place(node: SndNode) -> Place | None:
    if node.x is None or node.y is None or abs(node.x) > 180 or abs(node.y) > 90:
        return None
    return Place(latitude=node.y, longitude=node.x)


def _is_directed(links: Sequence[SndLink]) -> bool:
    """True when every link has one that runs back: the network file itself does not say which it is."""
    forth = sorted((e.source, e.target) for e in links)
    return bool(links) and forth == sorted((e.target, e.source) for e in links)


def _cost(link: SndLink) -> int | None:
    cost = link.routing_cost
    return int(cost) if cost.is_integer() and 1 <= cost <= 65535 else None


def _note_links(links: Sequence[SndLink], notes: list[str]) -> None:
    if capacities := sum(e.capacity > 0 for e in links):
        notes.append(f"The capacity of {several(capacities, 'link')} was not set as rate: SNDlib defines no unit.")
    if kept := sum(_cost(e) is not None for e in links):
        notes.append(f"The routing cost of {several(kept, 'link')} became the routing metric.")
    if odd := sum(e.routing_cost != 0 and _cost(e) is None for e in links):
        notes.append(f"The routing cost of {several(odd, 'link')} is no whole number from 1 to 65535; dropped.")
    if modules := sum(e.modules for e in links):
        notes.append(f"{several(modules, 'installable capacity module')}, and set-up costs, not carried over.")
