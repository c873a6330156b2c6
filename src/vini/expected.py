"""Who is expected to reach whom in a slice.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from vini.lans import Parts
from vini.model import Expect, Topology


def expectations(topology: Topology) -> tuple[Expect, ...]:
    """What was asked for; where nothing was, a slice with routing expects that all reach all."""
    if topology.expect or not any(s.routing for s in topology.slivers.values()):
        return topology.expect
    return (Expect(),)


def everyone(topology: Topology) -> list[str]:
    """Whom "*" stands for: not switches, which have no address, nor slivers of which nothing is expected."""
    return [name for name, s in topology.slivers.items() if s.mode != "switch" and s.expected]


def pairs(topology: Topology) -> Iterator[tuple[str, str]]:
    """All pairs of two that "*" to "*" stands for."""
    hang_together = together(topology)
    all_ = everyone(topology)
    return ((a, b) for a in all_ for b in all_ if a != b and hang_together(a, b))


def destinations(topology: Topology, expect: Expect) -> Sequence[str]:
    """Who must be reached.

    Where nothing was asked for, nobody is expected to reach a router whose configuration is its user's own: that need
    not announce the loopback that VINI gave it.
    """
    named = _named(topology, expect.destination)
    if topology.expect:
        return named
    return [n for n in named if not ((routing := topology.slivers[n].routing) and routing.raw)]


def sources(topology: Topology, expect: Expect) -> Sequence[str]:
    """Who must reach them."""
    return _named(topology, expect.source)


def together(topology: Topology) -> Callable[[str, str], bool]:
    """Tells of two slivers that "*" stands for whether there is a way between them at all: one that leads through no
    sliver of which nothing is expected.  Of who is named, True."""
    dark = {name for name, s in topology.slivers.items() if not s.expected}
    parts = Parts()
    for link in topology.links if dark else ():
        a, b = (end.sliver for end in link.ends)
        if not {a, b} & dark:
            parts.join(a, b)
    return lambda a, b: not dark or bool({a, b} & dark) or parts.part(a) == parts.part(b)


def _named(topology: Topology, pattern: str) -> Sequence[str]:
    return everyone(topology) if pattern == "*" else [pattern]
