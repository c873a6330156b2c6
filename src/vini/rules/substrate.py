"""The substrate as operators declare it: which of its links the path between two nodes leads over, and what fits there.

A path is the shortest by delay, then by the number of its links, then by their names; whether a link is down makes no
difference.  Virtual links show what they ride on: they fail with it, and do not go another way.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import combinations

from msgspec.structs import replace

from vini import bandwidth, placement
from vini.bandwidth import Pair
from vini.layout import link_name
from vini.model import CapacityError, SliceSpec, Topology
from vini.rules.errors import Invalid
from vini.rules.nouns import SubstrateLink

SITE = "site:"  # before a site's name, where a link ends at no node in particular
_NEGLIGIBLE = 1e-6
_Way = tuple[float, int, tuple[str, ...]]  # delay, number and names of links


class Substrate:
    """Links between places.  A node where no link ends is taken to be at its site.

    `measured` has delays in ms, one way, between nodes.  Where both are known the longer one counts: what an operator
    declares is promised, what was measured is there.
    """

    def __init__(
        self, links: Collection[SubstrateLink], site_of: Mapping[str, str], measured: Mapping[Pair, float] | None = None
    ):
        self.measured = measured or {}
        self.links = {link.name: link for link in links}
        self._site_of = site_of
        self._at: dict[str, list[SubstrateLink]] = {}
        for link in links:
            for end in (link.a, link.b):
                self._at.setdefault(end, []).append(link)
        self._ways: dict[str, dict[str, tuple[str, ...]]] = {}

    def path(self, one: str, other: str) -> tuple[SubstrateLink, ...]:
        """What is declared of the path between two nodes; nothing where none is known, or both are at one place."""
        start, end = sorted((self._place(one), self._place(other)))
        return tuple(self.links[name] for name in self._all_from(start).get(end, ()))

    def _place(self, node: str) -> str:
        return node if node in self._at else f"{SITE}{self._site_of.get(node, '')}"

    def _all_from(self, start: str) -> dict[str, tuple[str, ...]]:
        if start not in self._ways:
            self._ways[start] = self._from(start)
        return self._ways[start]

    def _from(self, start: str) -> dict[str, tuple[str, ...]]:
        """Place -> the links on the best way there (Dijkstra)."""
        found: dict[str, tuple[str, ...]] = {}
        waiting: list[tuple[_Way, str]] = [((0.0, 0, ()), start)]
        while waiting:
            (delay, count, names), place = heapq.heappop(waiting)
            if place in found:
                continue
            found[place] = names
            for link in self._at.get(place, ()):
                there = link.b if link.a == place else link.a
                if there not in found:
                    heapq.heappush(waiting, ((delay + link.delay_ms, count + 1, (*names, link.name)), there))
        return found

    def distances(self, nodes: Collection[str]) -> dict[Pair, float]:
        """Delays between nodes in ms, one way, where they are declared or measured."""
        out = self._declared(nodes)
        if not out:
            return dict(self.measured)
        for pair, delay in self.measured.items():
            if delay > out.get(pair, -1.0):
                out[pair] = delay
        return out

    def _declared(self, nodes: Collection[str]) -> dict[Pair, float]:
        if not any(link.delay_ms for link in self.links.values()):
            return {}
        at: dict[str, list[str]] = {}
        for node in sorted(nodes):
            at.setdefault(self._place(node), []).append(node)
        out: dict[Pair, float] = {}
        for (here, some), (there, others) in combinations(sorted(at.items()), 2):
            if self._is_joined(here, there):
                delay = self._declared_ms(some[0], others[0])
                out |= {(min(a, b), max(a, b)): delay for a in some for b in others}
        return out

    def _is_joined(self, here: str, there: str) -> bool:
        return there in self._all_from(here)

    def delay_ms(self, one: str, other: str) -> float:
        """One way, of what is declared or measured of the path between two nodes; the longer one."""
        return max(self._declared_ms(one, other), self.measured.get((min(one, other), max(one, other)), 0.0))

    def _declared_ms(self, one: str, other: str) -> float:
        return sum(link.delay_ms for link in self.path(one, other))

    def check_delays(
        self, topology: Topology, placed: Mapping[str, str], held: Mapping[str, str] | None = None,
        settled: Collection[str] = (), nodes: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Raises CapacityError where a link asks for a delay that is lower than that of what it rides on, with the
        nearest of `nodes` that would fit.

        Links that are `settled` are not judged while their slivers stay where they were `held`.
        """
        by_name = {link_name(link): link for link in topology.links}
        was = bandwidth.between(topology, held or {})
        for name, pair in bandwidth.between(topology, placed).items():
            asked, takes = placement.asked_delay(by_name[name]), self.delay_ms(*pair)
            if takes > asked and not (name in settled and was.get(name) == pair):
                near = self._nearest(pair[0], nodes, asked)
                raise CapacityError(placement.too_far(name, asked, takes, pair, near))

    def _nearest(self, one: str, nodes: Collection[str], asked: float) -> tuple[str, float] | None:
        """The node that is nearest to that one, of those of which anything is known and that are near enough."""
        far = self.distances(nodes)
        near = ((n, delay) for n in nodes if (delay := far.get((min(one, n), max(one, n)), asked + 1.0)) <= asked)
        return min(near, key=lambda found: (found[1], found[0]), default=None)

    def why_down(self, one: str, other: str) -> str:
        """Why what rides between two nodes has failed; "": no link on its path is down."""
        down = next((link for link in self.path(one, other) if link.down), None)
        return f"substrate link {down.name} is down: {down.down}" if down else ""

    def marked(self, spec: SliceSpec) -> SliceSpec:
        """The same spec, whose rides know whether what they ride on was taken down."""
        rides = tuple(replace(ride, down=self.why_down(spec.node, ride.node)) for ride in spec.rides)
        return spec if rides == spec.rides else replace(spec, rides=rides)

    def check(self, topology: Topology, placed: Mapping[str, str], others: Mapping[Pair, float]) -> None:
        """Raises CapacityError, with each link that is full and by how much; `others` is what other slices take between
        nodes, in Mbit/s.

        Where a link is bounded, whatever rides on it must say how much it takes.
        """
        bounded = {name for name, link in self.links.items() if link.rate_mbit}
        if not bounded:
            return
        self._check_rates(topology, placed, bounded)
        asked, taken = (self._over(pairs, bounded) for pairs in (bandwidth.crossing(topology, placed), others))
        full = [text for name in sorted(asked) if (text := self._excess(name, asked[name], taken.get(name, 0.0)))]
        if full:
            raise CapacityError(
                f"Slice {topology.name!r} does not fit on the substrate: {'; '.join(full)}. Ask for a lower `rate:`, "
                "or pin slivers to nodes that are nearer to each other."
            )

    def carrying(self, others: Mapping[Pair, float]) -> placement.Carrying:
        """What is left on links with a rate; `others` as in `check`."""
        bounded = {name for name, link in self.links.items() if link.rate_mbit}
        taken = self._over(others, bounded)

        @lru_cache(maxsize=1 << 16)
        def between(here: str, there: str) -> tuple[str, ...]:
            names = self._all_from(min(here, there)).get(max(here, there), ())
            return tuple(name for name in names if name in bounded)

        def over(one: str, other: str) -> tuple[str, ...]:
            return between(self._place(one), self._place(other))

        return placement.Carrying(over, {n: max(0.0, self.links[n].rate_mbit - taken.get(n, 0.0)) for n in bounded})

    def _check_rates(self, topology: Topology, placed: Mapping[str, str], bounded: Collection[str]) -> None:
        apart = bandwidth.between(topology, placed)
        for name in bandwidth.unbounded(topology, placed):
            below = next((link for link in self.path(*apart[name]) if link.name in bounded), None)
            if below is not None:
                raise CapacityError(
                    f"Link {name!r} says no rate, and rides on substrate link {below.name!r}, which carries "
                    f"{below.rate_mbit:g} Mbit/s; write `rate:`, or keep its slivers on one node."
                )

    def _over(self, pairs: Mapping[Pair, float], names: Collection[str]) -> dict[str, float]:
        """What each of these links carries of what is taken between nodes."""
        out: dict[str, float] = {}
        for pair, mbit in pairs.items():
            for link in self.path(*pair):
                if link.name in names:
                    out[link.name] = out.get(link.name, 0.0) + mbit
        return out

    def _excess(self, name: str, asked: float, taken: float) -> str:
        link = self.links[name]
        if asked + taken <= link.rate_mbit + _NEGLIGIBLE:
            return ""
        fit = max(0.0, link.rate_mbit - taken)
        return (
            f"of the {link.rate_mbit:g} Mbit/s of link {name!r} ({link.a} -- {link.b}) other slices have {taken:g}, "
            f"and this asks for {asked:g}, {asked - fit:g} too many; {fit:g} fit"
        )


def check_ends(a: str, b: str) -> None:
    """Raises Invalid where a link would lead from a place to itself."""
    if a == b:
        raise Invalid("A link of the substrate leads from one place to another; name two.")
