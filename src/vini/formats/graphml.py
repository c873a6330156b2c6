"""GraphML (http://graphml.graphdrawing.org/specification.html): the Topology Zoo's, networkx's, yEd's."""

from __future__ import annotations

from vini.formats.graph import to_topology
from vini.formats.imported import Imported, refused, several
from vini.formats.xml_tree import Element, parse_xml
from vini.formats.zoo import Drawn, interpret
from vini.model import Routing, Value


class _Key(Value, frozen=True):
    """A declared attribute: its name, of what ("node", "edge", "graph", "all"), and its default."""

    name: str
    of: str
    default: str | None


def read_graphml(text: str, name: str, routing: Routing | None) -> Imported:
    """The first graph of a GraphML file; `name` is used where the file has none."""
    root = parse_xml(text)
    graph = root.first("graph")
    if root.tag != "graphml" or graph is None:
        raise refused("This GraphML file has no graph.", "it must hold <graphml> with a <graph> in it", root.line)
    keys = _keys(root)
    vertices = [_drawn(e, keys, "node", (_attribute(e, "id"),)) for e in graph.every("node")]
    edges = [_edge(e, keys) for e in graph.every("edge")]
    directed = graph.attributes.get("edgedefault") == "directed"
    drawn, notes = interpret(name, _values(graph, keys, "graph"), vertices, edges, directed)
    return to_topology(drawn, routing, [*_unread(root, graph), *notes])


def _keys(root: Element) -> dict[str, _Key]:
    keys = {}
    for element in root.named("key"):
        own = element.attributes
        default = element.first("default")
        key = own.get("id", "")
        keys[key] = _Key(own.get("attr.name", key), own.get("for", "all"), default.text if default else None)
    return keys


def _edge(element: Element, keys: dict[str, _Key]) -> Drawn:
    ends = (_attribute(element, "source"), _attribute(element, "target"))
    return _drawn(element, keys, "edge", ends)


def _drawn(element: Element, keys: dict[str, _Key], of: str, ends: tuple[str, ...]) -> Drawn:
    values = _values(element, keys, of)
    return Drawn(element.attributes.get("id", ""), values, ends if of == "edge" else (), element.line)


def _values(element: Element, keys: dict[str, _Key], of: str) -> dict[str, str]:
    """Attribute name -> value, defaults included."""
    values = {k.name: k.default for k in keys.values() if k.default is not None and k.of in (of, "all")}
    for child in element.named("data"):
        key = keys.get(child.attributes.get("key", ""))
        values[key.name if key else child.attributes.get("key", "?")] = child.text.strip()
        # yEd draws a node's label instead of declaring an attribute for it.
        if of == "node" and (label := next(child.every("NodeLabel"), None)) and label.text.strip():
            values.setdefault("label", label.text.strip())
    return values


def _attribute(element: Element, name: str) -> str:
    value = element.attributes.get(name)
    if value is None:
        raise refused(f'This <{element.tag}> has no "{name}".', line=element.line)
    return value


def _unread(root: Element, graph: Element) -> list[str]:
    notes = []
    if others := len(root.named("graph")) - 1:
        notes.append(f"{several(others, 'graph')} after the first not read.")
    if nested := sum(1 for _ in graph.every("graph")):
        notes.append(f"{several(nested, 'nested graph')} flattened: their nodes became slivers like the others.")
    if hyperedges := sum(1 for _ in graph.every("hyperedge")):
        notes.append(f"{several(hyperedges, '<hyperedge> element')} dropped: a link has two ends.")
    if ports := sum(1 for _ in graph.every("port")):
        notes.append(f"{several(ports, '<port> element')} dropped: vifs are named after their peers.")
    return notes
