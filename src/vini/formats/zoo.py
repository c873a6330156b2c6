"""The Internet Topology Zoo's attributes (Knight et al., IEEE JSAC 29(9), 2011), the same in GraphML and GML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from vini.formats.graph import Edge, Graph, Vertex
from vini.formats.imported import several, tally
from vini.model import Place, Value

_LABELS = ("label", "name")
_LATITUDES = ("latitude", "lat")
_LONGITUDES = ("longitude", "lon", "lng")
_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}  # of LinkSpeedUnits, bit/s
_READ_OF_VERTEX = {"id", "internal", "hyperedge", *_LABELS, *_LATITUDES, *_LONGITUDES}
_READ_OF_EDGE = {"id", "key", "source", "target", "linkspeed", "linkspeedraw", "linkspeedunits"}
_READ_OF_GRAPH = {"label", "network", "name", "directed", "multigraph"}


class Drawn(Value, frozen=True):
    """A vertex (`ends` empty) or an edge with the attributes that its file gives, under their original names."""

    id: str
    attributes: dict[str, str]
    ends: tuple[str, ...] = ()
    line: int = 0


def interpret(
    name: str, attributes: Mapping[str, str], vertices: Sequence[Drawn], edges: Sequence[Drawn], directed: bool
) -> tuple[Graph, list[str]]:
    """The graph that the attributes describe, and notes on all that they say besides."""
    own = _lower(attributes)
    graph = Graph(
        own.get("label") or own.get("network") or own.get("name") or name,
        tuple(_vertex(v) for v in vertices),
        tuple(_edge(e) for e in edges),
        directed,
    )
    return graph, [*_kinds(vertices), *_dropped(attributes, vertices, edges)]


def _lower(attributes: Mapping[str, str]) -> dict[str, str]:
    return {key.lower(): value.strip() for key, value in attributes.items()}


def _vertex(drawn: Drawn) -> Vertex:
    own = _lower(drawn.attributes)
    place = to_place(_first(own, _LATITUDES), _first(own, _LONGITUDES))
    return Vertex(drawn.id, _first(own, _LABELS), place, drawn.line)


def _first(own: Mapping[str, str], keys: Iterable[str]) -> str:
    return next((own[key] for key in keys if own.get(key)), "")


def to_place(latitude: str, longitude: str) -> Place | None:
    """A place from two texts in degrees; None where one is no number or out of range."""
    lat, lon = to_number(latitude), to_number(longitude)
    if lat is None or lon is None or abs(lat) > 90 or abs(lon) > 180:
        return None
    return Place(lat, lon)


def to_number(text: str) -> float | None:
    """A finite number from text, else None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _edge(drawn: Drawn) -> Edge:
    own = _lower(drawn.attributes)
    raw = to_number(own.get("linkspeedraw", ""))  # bit/s
    if raw is None:
        scale = _UNITS.get(own.get("linkspeedunits", "?").upper())
        speed = to_number(own.get("linkspeed", ""))
        raw = speed * scale if speed is not None and scale is not None else None
    rate = raw / 1e6 if raw is not None and raw > 0 else 0.0
    return Edge(drawn.ends[0], drawn.ends[1], rate if math.isfinite(rate) else 0.0, line=drawn.line)


def _kinds(vertices: Sequence[Drawn]) -> list[str]:
    own = [_lower(v.attributes) for v in vertices]
    external = sum(a.get("internal") in ("0", "0.0") for a in own)
    hyperedges = sum(a.get("hyperedge") in ("1", "1.0") for a in own)
    notes = []
    if external:
        notes.append(f"{several(external, 'node')} outside the network itself (Internal = 0), kept as routers.")
    if hyperedges:
        notes.append(
            f"{several(hyperedges, 'node')} standing for a segment shared by several routers (hyperedge = 1), "
            "kept as routers."
        )
    return notes


def _dropped(attributes: Mapping[str, str], vertices: Sequence[Drawn], edges: Sequence[Drawn]) -> list[str]:
    of_vertices = tally(k for v in vertices for k in v.attributes if k.lower() not in _READ_OF_VERTEX)
    of_edges = tally(k for e in edges for k in e.attributes if k.lower() not in _READ_OF_EDGE)
    of_graph = ", ".join(sorted(k for k in attributes if k.lower() not in _READ_OF_GRAPH))
    found = (("nodes", of_vertices), ("edges", of_edges), ("the graph", of_graph))
    return [f"Attributes of {whose} not carried over: {what}." for whose, what in found if what]
