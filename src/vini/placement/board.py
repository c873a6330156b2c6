"""Who is where while a slice is placed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from vini import bandwidth
from vini.layout import link_name
from vini.model import Link, Node, Topology
from vini.placement.carrying import Carrying
from vini.placement.delays import Distances, asked_delay
from vini.placement.needs import lacking
from vini.placement.room import Room
from vini.placement.uses import Use, cost
from vini.plugins.tunnels import kind_of


class Board:
    """Who is where so far, and what is left of each node."""

    def __init__(
        self,
        topology: Topology,
        nodes: Sequence[Node],
        among: Collection[str],
        used: Mapping[str, Use],
        distances: Distances,
        keep: Mapping[str, str],
        settled: Collection[str],
        carrying: Carrying | None = None,
    ):
        self.at: dict[str, str] = {}
        self.looks = 0  # how often it was asked whether a node would do for one that may be anywhere
        self._apart = Counter[tuple[str, str]]()  # (word, node): how many slivers there are apart by that word
        self.slivers = topology.slivers
        self.links: dict[str, list[tuple[str, Link]]] = {name: [] for name in topology.slivers}
        for link in topology.links:
            a, b = (end.sliver for end in link.ends)
            self.links[a].append((b, link))
            self.links[b].append((a, link))
        self.kind = kind_of(topology)
        self.rooms = {node.name: Room(node, used.get(node.name, Use()), self.kind) for node in nodes}
        self.among = [name for name in sorted(self.rooms) if name in among]
        self.costs = {name: cost(sliver) for name, sliver in topology.slivers.items()}
        self.rest = Use()
        for each in self.costs.values():
            self.rest += each
        self._able: dict[tuple[str, frozenset[str]], frozenset[str]] = {}
        self.distances, self._keep, self._settled = distances, keep, settled
        self._carrying = carrying.copy() if carrying else None
        rated = self.links.items() if carrying else ()
        self._rates = {name: [(other, bandwidth.rate(link)) for other, link in links] for name, links in rated}

    def lacking(self, name: str, node: str) -> frozenset[str]:
        """What a sliver needs and a node can't do, as words of `vini doctor`."""
        capabilities = self.rooms[node].node.capabilities
        found = self._able.get((name, capabilities))
        if found is None:
            found = self._able[name, capabilities] = frozenset(
                lacking(self.slivers[name], self.links[name], capabilities)
            )
        return found

    def joins(self, name: str, node: str) -> bool:
        """Whether all links of a sliver to those that are placed could be made from there."""
        here = self.rooms[node]
        for neighbour, link in self.links[name]:
            other = self.at.get(neighbour, node)
            if other != node:
                there = self.rooms[other]
                if not here.reach or here.reach != there.reach or (link.mtu or 0) > min(here.within, there.within):
                    return False
                if self.distances and self.is_too_far(name, node, neighbour, link):
                    return False
        return True

    def is_too_far(self, name: str, node: str, neighbour: str, link: Link) -> bool:
        """Whether the network below takes longer than a link asks for, to a neighbour that is placed."""
        other = self.at[neighbour]
        if self.distances.known(node, other) <= asked_delay(link):
            return False
        stay = self._keep.get(name) == node and self._keep.get(neighbour) == other
        return not (stay and link_name(link) in self._settled)

    def at_site(self, name: str, node: str) -> bool:
        """Whether a node is of the site that a sliver asks for."""
        return self.slivers[name].site in ("", self.rooms[node].node.site)

    def is_apart(self, name: str, node: str) -> bool:
        """Whether no other sliver is there that a sliver is to be apart from."""
        word = self.slivers[name].apart
        return not word or self._apart[word, node] == int(self.at.get(name) == node)

    def fits(self, name: str, node: str) -> bool:
        """Whether a sliver can be there."""
        may = self.at_site(name, node) and self.is_apart(name, node)
        able = may and self.rooms[node].holds(self.costs[name]) and not self.lacking(name, node)
        return able and self.joins(name, node) and self.carries(name, node)

    def carries(self, name: str, node: str) -> bool:
        """Whether the network below carries what a sliver there and those that are placed would send each other."""
        if self._carrying is None:
            return True
        old, beside = self.at.get(name), self._beside(name)
        if old is None:
            return self._carrying.holds(node, beside)
        self._carrying.take(old, beside, -1)
        holds = self._carrying.holds(node, beside)
        self._carrying.take(old, beside)
        return holds

    def _beside(self, name: str) -> list[tuple[str, float]]:
        """Where those are that its links lead to, and at what rate (Mbit/s)."""
        return [(self.at[other], mbit) for other, mbit in self._rates[name] if other in self.at]

    def put(self, name: str, node: str) -> None:
        """A sliver comes to a node, from another or from nowhere."""
        old = self.at.get(name)
        if old is not None:
            self.rooms[old].take(self.costs[name], -1)
        else:
            self.rest += self.costs[name] * -1
        self.stand(name, node)
        self.rooms[node].take(self.costs[name])

    def stand(self, name: str, node: str) -> None:
        """The same, but what it takes counts where it was."""
        if word := self.slivers[name].apart:
            if old := self.at.get(name):
                self._apart[word, old] -= 1
            self._apart[word, node] += 1
        if self._carrying:
            beside = self._beside(name)
            if old := self.at.get(name):
                self._carrying.take(old, beside, -1)
            self._carrying.take(node, beside)
        self.at[name] = node
