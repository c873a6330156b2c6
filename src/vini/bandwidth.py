"""What links take of the network between nodes.  Pure.

A link that leads from one node to another takes the larger rate of its two directions; on one node it takes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from vini.layout import link_name
from vini.model import Impairment, Link, Topology
from vini.text import trace

Pair = tuple[str, str]  # names of two nodes, in order


def rate(link: Link) -> float:
    """In Mbit/s, of the direction that may send more; infinite where one of them is not bounded."""
    return max(_rate(end.impairment or link.impairment) for end in link.ends)


def _rate(impairment: Impairment) -> float:
    if impairment.rate_mbit or not impairment.trace:
        return impairment.rate_mbit or inf
    made = trace.parse(impairment.trace)
    if made.opportunities_ms:
        return len(made.opportunities_ms) * trace.OPPORTUNITY_BITS / made.length_ms / 1000
    return inf if any(step.rate_mbit is None for step in made.steps) else made.most("rate_mbit") or inf


def between(topology: Topology, placed: Mapping[str, str]) -> dict[str, Pair]:
    """Link -> the nodes that it leads between, of those that do; a sliver that is nowhere has no links yet."""
    pairs = {link_name(k): sorted({placed.get(e.sliver, "") for e in k.ends}) for k in topology.links}
    return {name: (pair[0], pair[1]) for name, pair in pairs.items() if len(pair) == 2 and pair[0]}


def crossing(topology: Topology, placed: Mapping[str, str]) -> dict[Pair, float]:
    """What the links between two nodes take together, in Mbit/s; those without a bound take nothing for sure."""
    taken: dict[Pair, float] = {}
    rates = {link_name(k): rate(k) for k in topology.links}
    for name, pair in between(topology, placed).items():
        taken[pair] = taken.get(pair, 0.0) + (rates[name] if rates[name] < inf else 0.0)
    return taken


def unbounded(topology: Topology, placed: Mapping[str, str]) -> list[str]:
    """The names of the links between nodes that say no rate, in order."""
    apart = between(topology, placed)
    return sorted(name for k in topology.links if (name := link_name(k)) in apart and rate(k) == inf)
