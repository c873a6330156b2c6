"""GML (M. Himsolt, GML: A portable graph file format, Passau 1997), read tolerantly.

A third of the Topology Zoo's files are multigraphs with doubled keys and labels that networkx
refuses; here every list is read as the pairs that it holds, and what they mean is decided later.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterator

from vini.formats.graph import to_topology
from vini.formats.imported import Imported, refused
from vini.formats.zoo import Drawn, interpret
from vini.model import Routing

MOST_DEPTH = 50
# white space or comment | [ | ] | "string", which may run over lines | number or word
_TOKEN = re.compile(r'(?P<skip>\s+|\#[^\n]*)|(?P<open>\[)|(?P<close>\])|"(?P<string>[^"]*)"|(?P<word>[^\s\[\]"]+)')


class GmlList:
    """What stands between [ and ]: pairs of key and value in order; keys may come again.  `line` from 1."""

    __slots__ = ("line", "pairs")

    def __init__(self, line: int):
        self.line = line
        self.pairs: list[tuple[str, str | GmlList]] = []

    def lists(self, key: str) -> list[GmlList]:
        """The lists under this key."""
        return [v for k, v in self.pairs if k == key and isinstance(v, GmlList)]

    def texts(self) -> dict[str, str]:
        """The other values, of a repeated key the first that says something; a list counts as "[...]"."""
        texts: dict[str, str] = {}
        for key, value in self.pairs:
            texts[key] = texts.get(key) or ("[...]" if isinstance(value, GmlList) else value)
        return texts


def read_gml(text: str, name: str, routing: Routing | None) -> Imported:
    """The first graph of a GML file; `name` is used where the file has none."""
    graphs = parse_gml(text).lists("graph")
    if not graphs:
        raise refused("This GML file has no graph.", "it must hold graph [ ... ]")
    graph = graphs[0]
    vertices = [_vertex(v) for v in graph.lists("node")]
    edges = [_edge(e) for e in graph.lists("edge")]
    attributes = {k: v for k, v in graph.texts().items() if k not in ("node", "edge")}
    drawn, notes = interpret(name, attributes, vertices, edges, attributes.get("directed") == "1")
    if len(graphs) > 1:
        notes.insert(0, f"Only the first of {len(graphs)} graphs was read.")
    return to_topology(drawn, routing, notes)


def _vertex(node: GmlList) -> Drawn:
    texts = node.texts()
    if not texts.get("id"):
        raise refused("A node has no id.", "write id and a number in it", node.line)
    return Drawn(texts["id"], texts, line=node.line)


def _edge(edge: GmlList) -> Drawn:
    texts = edge.texts()
    for end in ("source", "target"):
        if not texts.get(end):
            raise refused(f"An edge has no {end}.", f"write {end} and a node's id in it", edge.line)
    return Drawn(texts.get("id", ""), texts, (texts["source"], texts["target"]), edge.line)


def parse_gml(text: str) -> GmlList:
    """The pairs at the top of a GML file.  Raises TopologyError, with the place, where it is broken."""
    newlines = [m.start() for m in re.finditer("\n", text)]
    root = GmlList(1)
    inside = [root]
    key = ""  # read, and waiting for its value
    for kind, value, at in _tokens(text):
        line = bisect_right(newlines, at) + 1
        if kind == "open":
            key = _open(inside, key, line)
        elif kind == "close":
            if key or len(inside) == 1:
                raise refused(f'"]" where {"a value" if key else "a key"} should be.', line=line)
            inside.pop()
        elif key:
            inside[-1].pairs.append((key, value))
            key = ""
        elif kind == "word":
            key = value
        else:
            raise refused("A text where a key should be.", "is a quotation mark missing above?", line)
    if key or len(inside) > 1:
        raise refused("The file ends too early.", "was it cut off?", len(newlines) + 1)
    return root


def _open(inside: list[GmlList], key: str, line: int) -> str:
    if not key:
        raise refused('"[" without a key before it.', line=line)
    if len(inside) > MOST_DEPTH:
        raise refused(f"The lists are nested more than {MOST_DEPTH} deep.", line=line)
    inner = GmlList(line)
    inside[-1].pairs.append((key, inner))
    inside.append(inner)
    return ""


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind, value and offset of each token."""
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:  # only a quotation mark can be left over
            raise refused("A text in quotation marks does not end.", line=text.count("\n", 0, at) + 1)
        kind = match.lastgroup or ""
        if kind == "string":
            yield kind, html.unescape(match["string"]), at
        elif kind != "skip":
            yield kind, match[kind], at
        at = match.end()
