"""How far nodes are from each other: a matrix for few, a list for many."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from vini.cli.account import remote
from vini.cli.out import dump, note, table
from vini.rules.nouns import NodeRow, NodeWays
from vini.rules.wishes import Page

_MATRIX = 8  # nodes, with more of which a matrix is wider than a terminal


def show_ways(site: str, as_json: bool) -> None:
    """Of all nodes, or those of a site from each other."""
    client = remote()
    names = {row.name for row in client.pages("/nodes", Page[NodeRow], site=site)}
    rows = [row for row in client.pages("/node-ways", Page[NodeWays]) if row.name in names]
    pairs = [(r.name, b, way) for r in rows for b, way in sorted(r.ways.items()) if r.name < b and b in names]
    if as_json:
        dump([{"a": a, "b": b, "rtt_ms": way.rtt_ms, "at": way.at} for a, b, way in pairs])
        return
    if not pairs:
        note("Nothing was measured yet: nodes that can reach each other begin some seconds after they came.")
    elif len(rows) <= _MATRIX:
        names_of = [row.name for row in rows]
        table(("RTT, ms", *names_of), _matrix(rows, names_of), right=names_of)
    else:
        now = time.time()
        found = [(a, b, _ms(way.rtt_ms), f"{now - way.at:.0f} s ago") for a, b, way in pairs]
        table(("FROM", "TO", "RTT, ms", "MEASURED"), found, right=("RTT, ms",))


def _matrix(rows: Sequence[NodeWays], names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        cells = (_ms(row.ways[n].rtt_ms) if n in row.ways else "-" if n == row.name else "?" for n in names)
        yield row.name, *cells


def _ms(rtt: float) -> str:
    return f"{rtt:.3g}" if rtt < 100 else f"{rtt:.0f}"
