"""Which way packets went, and when: from snapshots of all forwarding tables.  Pure.

A traceroute over six slow hops sees a path that may have changed while it looked.  Walking next
hops through one snapshot is exact at its moment, costs the network nothing, and also tells the
way back, which need not be the same while routers disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vini.experiment.network import Fib
from vini.experiment.statistics import Row, median, rounded
from vini.layout import Layout, Vif, address, layout
from vini.model import Topology, Value
from vini.reach import FibEntry, Walker


class Way(Value, frozen=True):
    """The slivers that packets from the first one cross, and whether the last of them is where they were going."""

    slivers: tuple[str, ...]
    arrives: bool

    def __str__(self) -> str:
        return " > ".join(self.slivers) + ("" if self.arrives else " > (lost)")


class Phase(Value, frozen=True):
    """A stretch of time (s since t = 0) with one way there, one way back, and the same delays along them."""

    from_s: float
    to_s: float
    there: Way
    back: Way
    computed_rtt_ms: float | None  # the sum of the links' delays; None where a way does not arrive


def ways(topology: Topology, fibs: Mapping[str, Fib], source: str, destination: str) -> tuple[Way, Way]:
    """The way there and the way back, between the slivers' IPv4 addresses.

    A link with a fault is where the way ends, though a router may still point into it: that is
    what a silent failure is.  A loop ends where it closes.
    """
    made = layout(topology)
    tables = {s: [FibEntry(to, via, dev) for to, via, dev in rows] for s, rows in fibs.items()}
    walker = Walker(made, tables)
    there = walker.path(source, address(made, destination))
    back = walker.path(destination, address(made, source))
    return Way(tuple(there), there[-1] == destination), Way(tuple(back), back[-1] == source)


def one_way_ms(topology: Topology, way: Sequence[str]) -> float:
    """The sum of the delays of the links along a way; of parallel links the one with the least cost counts."""
    made = layout(topology)
    return sum(_delay_ms(made, _vif(made, a, b)) for a, b in zip(way, way[1:], strict=False))


def computed_rtt_ms(topology: Topology, there: Way, back: Way) -> float | None:
    """What the topology's delays add up to, there and back; None where one of the two does not arrive."""
    if not (there.arrives and back.arrives):
        return None
    return rounded(one_way_ms(topology, there.slivers) + one_way_ms(topology, back.slivers), 3)


def paths_seen(rows: Sequence[Row], end_s: float) -> list[Phase]:
    """The distinct ways in their order, from the rows of a `path` probe; the last one lasts until `end_s`."""
    phases: list[Phase] = []
    for row in sorted(rows, key=lambda r: r["t"]):
        there = Way(tuple(row["there"].split()), row["there_arrives"])
        back = Way(tuple(row["back"].split()), row["back_arrives"])
        rtt = row["computed_rtt_ms"]
        if phases and (phases[-1].there, phases[-1].back, phases[-1].computed_rtt_ms) == (there, back, rtt):
            continue
        if phases:
            phases[-1] = _until(phases[-1], row["t"])
        phases.append(Phase(row["t"], end_s, there, back, rtt))
    return phases


def described(phases: Sequence[Phase], pings: Sequence[Row]) -> list[dict[str, Any]]:
    """The phases for a summary, each with the round trips measured in it: how many, how many lost, median and range."""
    return [
        {
            "from_s": rounded(p.from_s, 3),
            "to_s": rounded(p.to_s, 3),
            "path": list(p.there.slivers),
            "arrives": p.there.arrives,
            "return_path": list(p.back.slivers),
            "return_arrives": p.back.arrives,
            "computed_rtt_ms": p.computed_rtt_ms,
            **_measured([r for r in pings if p.from_s <= r["t"] < p.to_s]),
        }
        for p in phases
    ]


def sequence(phases: Sequence[Phase], least_s: float = 0.0) -> list[list[str]]:
    """The distinct ways there that did arrive, in their order, repeated ones next to each other once.

    With `least_s` only those that lasted so long: the states between transients.
    """
    seen: list[list[str]] = []
    for phase in phases:
        way = list(phase.there.slivers)
        long = phase.to_s - phase.from_s >= least_s
        if phase.there.arrives and long and (not seen or seen[-1] != way):
            seen.append(way)
    return seen


def _measured(pings: Sequence[Row]) -> dict[str, Any]:
    rtts = [r["rtt_ms"] for r in pings if r["rtt_ms"] is not None]
    return {
        "pings": len(pings),
        "lost": len(pings) - len(rtts),
        "median_rtt_ms": rounded(median(rtts), 3),
        "min_rtt_ms": rounded(min(rtts, default=None), 3),
        "max_rtt_ms": rounded(max(rtts, default=None), 3),
    }


def _until(phase: Phase, to_s: float) -> Phase:
    return Phase(phase.from_s, to_s, phase.there, phase.back, phase.computed_rtt_ms)


def _vif(made: Layout, sliver: str, peer: str) -> Vif:
    return min((v for v in made.vifs[sliver] if v.peer == peer), key=lambda v: (v.cost, v.link))


def _delay_ms(made: Layout, vif: Vif) -> float:
    link = made.links[vif.link]
    return (link.ends[vif.end].impairment or link.impairment).delay_ms
