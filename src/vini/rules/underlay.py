"""How much of the delay that a link asks for its path takes already: so much less is emulated.  Pure.

Only what was measured counts: what an operator declares may be more than it takes, and a link must not be shorter than
was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from vini import bandwidth, placement
from vini.bandwidth import Pair
from vini.layout import link_name
from vini.model import SliceSpec, Topology

_STEADY_MS, _STEADY = 1.0, 0.1  # a path that takes by so much, or by such a part, more or less is the same
_NO_WAY: Pair = ("", "")


def taken(
    topology: Topology, placed: Mapping[str, str], measured: Mapping[Pair, float], held: Mapping[str, SliceSpec]
) -> dict[str, float]:
    """Link -> ms, one way, of those between nodes that ask for a delay.

    What was reckoned with before (`held`) still is while the link's slivers stay and the path takes about as long, or
    nobody knows: an edit of one link changes no other one.
    """
    before = _before(topology, held)
    asks = {link_name(k) for k in topology.links if placement.asked_delay(k) < inf}
    out = {}
    for name, pair in bandwidth.between(topology, placed).items():
        was_pair, was = before.get(name, (_NO_WAY, 0.0))
        now = measured.get(pair)
        if was_pair == pair and (now is None or abs(now - was) <= max(_STEADY_MS, _STEADY * was)):
            now = was
        if now and name in asks:
            out[name] = round(now, 3)
    return out


def _before(topology: Topology, held: Mapping[str, SliceSpec]) -> dict[str, tuple[Pair, float]]:
    """Link -> the nodes that it leads between, and what was reckoned with: 0 for one that nobody had measured."""
    was = bandwidth.between(topology, placement.places(held))
    known = {name: ms for spec in held.values() for name, ms in spec.underlay_ms.items()}
    return {name: (pair, known.get(name, 0.0)) for name, pair in was.items()}
