"""A drawn network (vertices and edges), as GraphML, GML and SNDlib files hold it, made a topology."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TypeVar

from vini.formats.components import Components
from vini.formats.distance import fibre_delay_ms
from vini.formats.imported import Imported, listed, refused, several
from vini.formats.naming import label, renamed, settle, sliver_names
from vini.model import End, Impairment, Link, Place, Routing, Sliver, Topology, Value
from vini.names import slug
from vini.text.mistakes import quote

T = TypeVar("T")
MOST_RATE_MBIT = 1000.0  # above, an emulated link can't be told from an unshaped one on ordinary machines
LEAST_RATE_MBIT = 0.001
MOST_VERTICES = 100_000
MOST_EDGES = 500_000


class Vertex(Value, frozen=True):
    """A router as drawn; `id` is what edges call it, `line` where the file has it (0: unknown)."""

    id: str
    label: str = ""
    place: Place | None = None
    line: int = 0


class Edge(Value, frozen=True):
    """A line between two routers; `rate_mbit` 0: not said."""

    source: str
    target: str
    rate_mbit: float = 0.0
    cost: int | None = None
    line: int = 0


class Graph(Value, frozen=True):
    """A drawn network; in a `directed` one an edge and its reverse are the two directions of one link."""

    name: str
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    directed: bool = False


def to_topology(graph: Graph, routing: Routing | None, notes: Sequence[str] = ()) -> Imported:
    """The graph with every vertex a router and every edge a link; `notes` go before those of the making.

    Raises TopologyError where a vertex is drawn twice, an edge ends nowhere, or nothing is drawn.
    """
    ordinal = _ordinals(graph)
    all_notes = list(notes)
    edges = _without_loops(graph.edges, all_notes)
    pairs = _paired(edges, all_notes) if graph.directed else [(e, None) for e in edges]
    slivers = _slivers(graph.vertices, routing, all_notes)
    named = list(slivers)
    name_of = {v.id: named[i] for i, v in enumerate(graph.vertices)}
    links = [_link(name_of, slivers, edge, back) for edge, back in pairs]
    _note_delays(links, slivers, all_notes)
    _note_rates(edges, all_notes)
    _note_parallels(links, all_notes)
    _note_parts(ordinal, edges, all_notes)
    topology = Topology(slug(graph.name) or "imported", slivers, settle(links))
    return Imported(topology, tuple(all_notes))


# --- checks ---------------------------------------------------------------------------------------


def _ordinals(graph: Graph) -> dict[str, int]:
    """Vertex id -> its place in the file, once ids are unique and every edge ends at one."""
    if not graph.vertices:
        raise refused("There is no node in this file.", "it needs at least one")
    if len(graph.vertices) > MOST_VERTICES or len(graph.edges) > MOST_EDGES:
        raise refused(f"This network is too large; at most {MOST_VERTICES} nodes and {MOST_EDGES} edges are read.")
    ordinal: dict[str, int] = {}
    for i, vertex in enumerate(graph.vertices):
        if vertex.id in ordinal:
            raise refused(f"The node id {quote(vertex.id)} is used twice.", "give each node its own id", vertex.line)
        ordinal[vertex.id] = i
    for edge in graph.edges:
        for end in (edge.source, edge.target):
            if end not in ordinal:
                raise refused(f"An edge ends at {quote(end)}, but there is no node with that id.", line=edge.line)
    return ordinal


# --- edges to links ---------------------------------------------------------------------------------


def _without_loops(edges: Sequence[Edge], notes: list[str]) -> list[Edge]:
    kept = [e for e in edges if e.source != e.target]
    if loops := len(edges) - len(kept):
        notes.append(f"{several(loops, 'self-loop')} dropped: a link joins two different slivers.")
    return kept


def _paired(edges: Sequence[Edge], notes: list[str]) -> list[tuple[Edge, Edge | None]]:
    """Each edge with the one that runs back, in the order of the former."""
    waiting: dict[tuple[str, str], list[int]] = defaultdict(list)
    pairs: list[tuple[Edge, Edge | None]] = []
    for edge in edges:
        if backward := waiting[edge.target, edge.source]:
            i = backward.pop(0)
            pairs[i] = (pairs[i][0], edge)
        else:
            waiting[edge.source, edge.target].append(len(pairs))
            pairs.append((edge, None))
    both = sum(back is not None for _, back in pairs)
    if both:
        notes.append(f"{several(both, 'pair')} of opposite directed edges became one link each.")
    if one_way := len(pairs) - both:
        notes.append(f"{several(one_way, 'one-way edge')} became links that carry packets both ways.")
    return pairs


def _link(name_of: dict[str, str], slivers: dict[str, Sliver], edge: Edge, back: Edge | None) -> Link:
    a, b = name_of[edge.source], name_of[edge.target]
    from_place, to_place = slivers[a].place, slivers[b].place
    delay = fibre_delay_ms(from_place, to_place) if from_place and to_place else 0.0
    impairment = _impairment(delay, edge)
    far = End(b)
    if back is not None:
        far = End(b, cost=_differing(back.cost, edge.cost), impairment=_differing(_impairment(delay, back), impairment))
    default = Link((End(a), far), impairment=impairment)
    return default if edge.cost is None else Link((End(a), far), cost=edge.cost, impairment=impairment)


def _impairment(delay_ms: float, edge: Edge) -> Impairment:
    rate_mbit = _kept_rate(edge)
    if not rate_mbit:
        return Impairment(delay_ms=delay_ms) if delay_ms else Impairment()
    return Impairment(delay_ms=delay_ms, rate_mbit=rate_mbit)


def _differing(value: T | None, usual: T | None) -> T | None:
    return None if value == usual else value


def _kept_rate(edge: Edge) -> float:
    return edge.rate_mbit if LEAST_RATE_MBIT <= edge.rate_mbit <= MOST_RATE_MBIT else 0.0


# --- vertices to slivers ----------------------------------------------------------------------------


def _slivers(vertices: Sequence[Vertex], routing: Routing | None, notes: list[str]) -> dict[str, Sliver]:
    names = sliver_names([v.label for v in vertices], [v.id for v in vertices])
    slivers = {
        name: Sliver(name, routing=routing, place=v.place, label=label(v.label))
        for name, v in zip(names, vertices, strict=True)
    }
    if unnamed := [name for name, v in zip(names, vertices, strict=True) if not v.label]:
        notes.append(f"{several(len(unnamed), 'node')} without a label named after the id: {listed(unnamed)}.")
    doubles = Counter(v.label for v in vertices if v.label)
    if changed := renamed({n: v.label for n, v in zip(names, vertices, strict=True)}):
        notes.append(f"{several(len(changed), 'name')} changed (originals kept as labels): {listed(changed)}.")
    if repeated := [text for text, n in doubles.items() if n > 1]:
        notes.append(f"{several(len(repeated), 'label')} used by several nodes, told apart by a number: ")
        notes[-1] += f"{listed(repeated)}."
    return slivers


# --- what a reader should know about the making ---------------------------------------------------------


def _note_delays(links: Sequence[Link], slivers: dict[str, Sliver], notes: list[str]) -> None:
    unplaced = [s.name for s in slivers.values() if s.place is None]
    without = sum(any(slivers[end.sliver].place is None for end in link.ends) for link in links)
    if placed := len(links) - without:
        notes.append(
            f"The one-way delay of {several(placed, 'link')} is the great-circle distance at 200 000 km/s, "
            "rounded to 0.01 ms; real paths are longer."
        )
    if unplaced:
        notes.append(
            f"{several(len(unplaced), 'sliver')} without coordinates ({listed(unplaced)}), "
            f"so {several(without, 'link')} got no delay."
        )


def _note_rates(edges: Sequence[Edge], notes: list[str]) -> None:
    if fast := sum(e.rate_mbit > MOST_RATE_MBIT for e in edges):
        notes.append(
            f"The rate of {several(fast, 'edge')} is above {MOST_RATE_MBIT:.0f} Mbit/s and was not set: "
            "an emulator can't hold it truthfully."
        )
    if unsaid := sum(e.rate_mbit < LEAST_RATE_MBIT for e in edges):
        notes.append(f"{several(unsaid, 'edge')} without a usable rate; their links are not limited.")


def _note_parallels(links: Sequence[Link], notes: list[str]) -> None:
    pairs = Counter(frozenset(end.sliver for end in link.ends) for link in links)
    if extra := len(links) - len(pairs):
        notes.append(f"{several(extra, 'link')} parallel to another: named a--b-2, a--b-3, ...")


def _note_parts(ordinal: dict[str, int], edges: Sequence[Edge], notes: list[str]) -> None:
    parts = Components(len(ordinal))
    for edge in edges:
        parts.join(ordinal[edge.source], ordinal[edge.target])
    if parts.count > 1:
        notes.append(f"The network is in {parts.count} parts that can't reach each other.")
