"""Elements: a small declarative language for packet programs, in the spirit of Click, compiled to C for eBPF.

    routes :: route4(routes={10.0.0.0/8 = to-b, default = to-c})
    input -> sort :: classify(ip, arp)
    sort[ip] -> ttl :: dec-ttl -> routes -> out

Pure: from text to text.  The node compiles the C, checks it and loads it.
"""

from __future__ import annotations

from vini.elements.addresses import Vifs
from vini.elements.cells import Cell, decode, encode
from vini.elements.check import check
from vini.elements.generate import Entry, cells, entries, hooks, source
from vini.elements.graph import read_graph
from vini.elements.kinds import HookName, Kind, library
from vini.elements.manual import manual, reference
from vini.elements.settle import Settled, settle
from vini.model import Value
from vini.text.mistakes import Mistakes

__all__ = [
    "MOST_VIFS", "Cell", "Compiled", "Entry", "Kind", "Row", "compile_elements", "decode", "encode", "library",
    "manual", "reference",
]  # fmt: skip
MOST_VIFS = 64  # VIFS, runtime.h


class Row(Value, frozen=True):
    """What a map holds from the start."""

    map: str
    key: bytes
    value: bytes


class Compiled(Value, frozen=True):
    """An element program, ready for a C compiler."""

    source: str
    entries: tuple[Entry, ...]
    cells: tuple[Cell, ...]
    rows: tuple[Row, ...]
    hooks: tuple[HookName, ...]  # where its inputs can run: of "xdp", "tc"; () : there is no such hook
    inserts: int  # bytes by which packets may get longer, in a way that the kernel can't cut: it must cut before


def compile_elements(text: str, name: str, vifs: Vifs) -> Compiled:
    """The program for a sliver with these vifs.  TopologyError with all mistakes, each with its place."""
    mistakes = Mistakes()
    if len(vifs) > MOST_VIFS:
        mistakes.add((0, 0), f"The sliver has {len(vifs)} vifs; a program takes {MOST_VIFS}.", "give it some: `vifs:`")
    graph = read_graph(text, mistakes)
    settled = settle(graph, library(), vifs, mistakes)
    check(graph, settled, mistakes)
    if mistakes.found:
        raise mistakes.error(name)
    return Compiled(
        source(graph, settled, vifs),
        entries(graph),
        cells(settled),
        _rows(settled),
        hooks(graph, settled),
        sum(s.kind.inserts for s in settled.values()),
    )


def _rows(settled: dict[str, Settled]) -> tuple[Row, ...]:
    maps = {c.name: c.map for c in cells(settled)}
    return tuple(Row(maps[f"{s.instance.name}.{r.table}"], r.key, r.value) for s in settled.values() for r in s.rows)
