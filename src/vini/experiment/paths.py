"""Which way packets went, and when: from snapshots of all forwarding tables.  Pure.

A traceroute over six slow hops sees a path that may have changed while it looked.  Walking next
hops through one snapshot is exact at its moment, costs the network nothing, and also tells the
way back, which need not be the same while routers disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import Any

from msgspec.structs import replace

from vini.experiment.statistics import Row, median, rounded, within
from vini.layout import Layout, Vif, address, layout
from vini.model import Topology, Value
from vini.reach import MOST_LISTED, Fibs, Walker, Ways


class Way(Value, frozen=True):
    """The slivers that packets from the first one cross, and whether they arrive, as one line of text.

    "a b d" is the only path.  Of equal-cost paths all are named, by name: "a b d | a c d"; of more than
    16 the next hops, sliver by sliver: "a>b+c b>d+e ...".  So the text is the same whenever the way is,
    in whatever order a kernel lists its routes.  Which of them a flow's packets go, its hash decides.
    """

    text: str
    arrives: bool

    @property
    def equal_paths(self) -> int:
        """How many there are; 0: more than are named."""
        return 0 if ">" in self.text else self.text.count("|") + 1

    def listed(self) -> list[str] | str:
        """For a summary: the slivers of the only path, or the text of several."""
        return self.text.split() if self.equal_paths == 1 else self.text


class Phase(Value, frozen=True):
    """A stretch of time (s since t = 0) with one way there, one way back, and the same delays along them.

    Between the end of its first look and the beginning of its last snapshot it surely was so.  Nearer to its edges
    nobody knows: routes are replaced one by one, and the news of it may be late on a busy machine.
    """

    from_s: float
    to_s: float
    sure_from_s: float
    sure_to_s: float  # before `sure_from_s` where it was seen for a moment only
    there: Way
    back: Way
    computed_rtt_ms: float | None  # the sum of the links' delays, the least of equal paths; None where one is lost
    computed_rtt_max_ms: float | None  # the same of the slowest of equal paths


def ways(topology: Topology, fibs: Fibs, source: str, destination: str) -> tuple[Ways, Ways]:
    """The ways there and the ways back, between the slivers' IPv4 addresses.

    A link with a fault is where a way ends, though a router may still point into it: that is
    what a silent failure is.  A loop ends where it closes.
    """
    made = layout(topology)
    walker = Walker(made, fibs)
    there, back = address(made, destination), address(made, source)
    return walker.ways(source, there), walker.ways(destination, back)


def way(found: Ways) -> Way:
    """The ways of one direction as text."""
    paths = found.listed()
    if len(paths) == 1:
        return Way(" ".join(paths[0].slivers), paths[0].end == "arrives")
    if paths:
        ends = {"arrives": "", "lost": " (lost)", "loops": " (loops)"}
        return Way(" | ".join(" ".join(p.slivers) + ends[p.end] for p in paths), found.arrives)
    hops = (f"{at}>{'+'.join(hop or '(lost)' for hop in to) or '(lost)'}" for at, to in sorted(found.hops.items()))
    return Way(" ".join(hops), found.arrives)


def told(listed: Sequence[str] | str, arrives: bool = True) -> str:
    """What `Way.listed` gave, for people: a path with dashes, or how many equal paths there are, and which."""
    if not isinstance(listed, str):
        return " – ".join(listed) + ("" if arrives else " – lost")
    several = Way(listed, arrives)
    lost = "" if arrives else ", and some packets are lost"
    if not several.equal_paths:
        return f"one of more than {MOST_LISTED} equal paths{lost}: {listed}"
    paths = " | ".join(" – ".join(path.split()) for path in listed.split(" | "))
    return f"one of {several.equal_paths} equal paths{lost}: {paths}"


def delays_ms(topology: Topology, found: Ways) -> tuple[float, float] | None:
    """The sums of the links' delays along the fastest and the slowest of equal paths; None where one is lost.

    Of parallel links the one with the least cost counts.
    """
    if not found.arrives:
        return None
    made = layout(topology)
    spans: dict[str, tuple[float, float]] = {}
    for at in TopologicalSorter(found.hops).static_order():  # those that it sends to come before a sliver
        further = [(_delay_ms(made, at, hop), *spans[hop]) for hop in found.hops.get(at, ())]
        spans[at] = (min((d + x for d, x, _ in further), default=0), max((d + x for d, _, x in further), default=0))
    return spans[found.source]


def computed_rtt_ms(topology: Topology, there: Ways, back: Ways) -> tuple[float | None, float | None]:
    """What the topology's delays add up to, there and back, at least and at most; None where a path is lost."""
    to, fro = delays_ms(topology, there), delays_ms(topology, back)
    if to is None or fro is None:
        return None, None
    return rounded(to[0] + fro[0], 3), rounded(to[1] + fro[1], 3)


def paths_seen(rows: Sequence[Row], end_s: float) -> list[Phase]:
    """The distinct ways in their order, from the rows of a `path` probe; the last one lasts until `end_s`."""
    phases: list[Phase] = []
    for row in sorted(rows, key=lambda r: r["t"]):
        there, back = Way(row["there"], row["there_arrives"]), Way(row["back"], row["back_arrives"])
        t, rtts = row["t"], (row["computed_rtt_ms"], row["computed_rtt_max_ms"])
        if phases and (phases[-1].there, phases[-1].back, *_rtts(phases[-1])) == (there, back, *rtts):
            if row["origin"] == "snapshot":
                phases[-1] = replace(phases[-1], sure_to_s=t)
            continue
        if phases:
            phases[-1] = replace(phases[-1], to_s=t)
        phases.append(Phase(t, end_s, t + (row["took_ms"] or 0.0) / 1000, t, there, back, *rtts))
    return phases


def _rtts(phase: Phase) -> tuple[float | None, float | None]:
    return phase.computed_rtt_ms, phase.computed_rtt_max_ms


def described(phases: Sequence[Phase], pings: Sequence[Row]) -> list[dict[str, Any]]:
    """The phases for a summary, each with the round trips measured in it: how many, how many lost, median and range.

    Echoes that may have been on their way at a phase's edge are counted in none.
    """
    return [
        {
            "from_s": rounded(p.from_s, 3),
            "to_s": rounded(p.to_s, 3),
            "path": p.there.listed(),
            "equal_paths": p.there.equal_paths,
            "arrives": p.there.arrives,
            "return_path": p.back.listed(),
            "return_arrives": p.back.arrives,
            "computed_rtt_ms": p.computed_rtt_ms,
            "computed_rtt_max_ms": p.computed_rtt_max_ms,
            **_measured(within(pings, p.sure_from_s, p.sure_to_s, "rtt_ms")),
        }
        for p in phases
    ]


def sequence(phases: Sequence[Phase], least_s: float = 0.0) -> list[list[str] | str]:
    """The distinct ways there that did arrive, in their order, repeated ones next to each other once.

    With `least_s` only those that lasted so long: the states between transients.
    """
    seen: list[list[str] | str] = []
    for phase in phases:
        listed = phase.there.listed()
        long = phase.to_s - phase.from_s >= least_s
        if phase.there.arrives and long and (not seen or seen[-1] != listed):
            seen.append(listed)
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


def _delay_ms(made: Layout, sliver: str, neighbor: str) -> float:
    """Of the link to that neighbour; on a LAN of all links on the way, of which there are the least that lead there."""
    pairs = [(v, n) for v in made.vifs[sliver] for n in made.neighbors(v) if n.sliver == neighbor]
    vif, other = min(pairs, key=lambda pair: (pair[0].cost, pair[0].link))
    return sum(_leaving_ms(made, v) for v in (_across(made, vif, other) if vif.lan else (vif,)))


def _across(made: Layout, vif: Vif, other: Vif) -> Sequence[Vif]:
    """The vifs by which a frame leaves on its way over a LAN."""
    ways: dict[str, tuple[Vif, ...]] = {vif.peer: (vif,)}
    queue = [vif.peer]
    for at in queue:
        for port in made.vifs[at]:
            if port.peer in made.switches and port.peer not in ways and made.links[port.link].fault == "none":
                ways[port.peer] = (*ways[at], port)
                queue.append(port.peer)
    return (*ways.get(other.peer, ()), made.ends[other.link][1 - other.end])


def _leaving_ms(made: Layout, vif: Vif) -> float:
    link = made.links[vif.link]
    return (link.ends[vif.end].impairment or link.impairment).delay_ms
