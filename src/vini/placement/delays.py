"""How far nodes are from each other, and how far links let them be."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from vini.layout import link_name
from vini.model import Link, Topology


class Distances:
    """Delays between nodes in ms, in either order."""

    def __init__(self, delays: Mapping[tuple[str, str], float]):
        self._delays, self._farthest = delays, max(delays.values(), default=0.0)

    def __bool__(self) -> bool:
        return bool(self._delays)

    def known(self, a: str, b: str) -> float:
        """How far it is; 0 where nobody knows."""
        return self._delays.get((a, b), self._delays.get((b, a), 0.0))

    def guessed(self, a: str, b: str) -> float:
        """How far it is; as far as anything where nobody knows."""
        return 0.0 if a == b else self._delays.get((a, b), self._delays.get((b, a), self._farthest))


def asked_delay(link: Link) -> float:
    """The longest that the network below may take in ms, one way, for the link to be as it is asked for; infinite where
    it asks for no delay: then it takes what it takes."""
    delays = ((end.impairment or link.impairment).delay_ms for end in link.ends)
    return min((delay for delay in delays if delay), default=inf)


def as_before(before: Topology, now: Topology) -> frozenset[str]:
    """The links that ask for no shorter delay than they did.

    Where their slivers stay they are not judged by how far the nodes are: what was accepted is neither moved nor
    refused because the network takes longer now.
    """
    was = {link_name(link): asked_delay(link) for link in before.links}
    return frozenset(n for link in now.links if asked_delay(link) >= was.get(n := link_name(link), inf))


def too_far(
    link: str, asked: float, takes: float, nodes: tuple[str, str], near: tuple[str, float] | None, verb: str = "are"
) -> str:
    """Why a link's delay can't be had; `near` is the nearest node to the first of both that would do, and its delay."""
    one, other = nodes
    fits = f"from {one!r} the nearest that fits is {near[0]!r}, {_ms(near[1])}" if near else f"none is near {one!r}"
    return (
        f"Link {link!r} asks for a delay of {_ms(asked)}, but between nodes {one!r} and {other!r}, where its slivers "
        f"{verb}, the network takes {_ms(takes)}, {_ms(takes - asked)} more; ask for as much, or pin them to nearer "
        f"nodes ({fits})."
    )


def _ms(delay: float) -> str:
    return f"{round(delay, 3):g} ms"
