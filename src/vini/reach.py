"""Whether every expected destination can be reached, told from the forwarding tables alone.  Pure.

A walk along next hops costs nothing on the network and is exact at the moment of the snapshot; n*n
pings were rejected: they take seconds, and disturb what an experiment measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address

from vini.layout import Layout, address, carried, layout
from vini.model import Expect, NotFound, Topology, Value


class FibEntry(Value, frozen=True):
    """One route of a kernel's main table; `dev` of a multipath route is that of its first next hop."""

    to: str
    via: str
    dev: str


Fibs = Mapping[str, Sequence[FibEntry]]


class Walker:
    """Follows next hops through one snapshot of the forwarding tables of a slice."""

    def __init__(self, made: Layout, fibs: Fibs):
        self._made = made
        self._tables = {s: _table(entries) for s, entries in fibs.items()}
        self._peer = {
            s: {v.dev: v.peer for v in vifs if made.links[v.link].fault == "none"} for s, vifs in made.vifs.items()
        }
        self._owner = {a.partition("/")[0]: s for s, all_ in made.loopbacks.items() for a in all_}
        for s, vifs in made.vifs.items():
            self._owner.update({a.partition("/")[0]: s for v in vifs for a in v.addresses})

    def next(self, sliver: str, destination: str) -> str:
        """The neighbour that `sliver` sends to, by longest-prefix match; "" where there is none."""
        version, number = _number(destination)
        width = 32 if version == 4 else 128
        for length, nets in self._tables.get(sliver, {}).get(version, ()):
            dev = nets.get(number >> (width - length) if length else 0)
            if dev is not None:
                return self._peer[sliver].get(dev, "")
        return ""

    def path(self, source: str, destination: str) -> tuple[str, ...]:
        """The slivers from `source` to the owner of the address; it ends early where the way does."""
        path = [source]
        while path[-1] != self._owner.get(destination):
            hop = self.next(path[-1], destination)
            if not hop or hop in path:
                break
            path.append(hop)
            if hop not in self._made.forwarding:  # a host keeps what it gets, or drops it
                break
        return tuple(path)

    def reaches(self, destination: str) -> set[str]:
        """All slivers whose packets to this address arrive."""
        owner = self._owner.get(destination)
        good: set[str] = {owner} if owner else set()
        bad: set[str] = set()
        for start in self._made.vifs:
            if start in good or start in bad:
                continue
            trail, at = [start], self.next(start, destination)
            while at in self._made.forwarding and at not in good and at not in bad and at not in trail:
                trail.append(at)
                at = self.next(at, destination)
            arrives = at == owner or (at in good and at in self._made.forwarding)
            (good if owner and arrives else bad).update(trail)
        return good


def _number(ip: str) -> tuple[int, int]:
    parsed = ip_address(ip)
    return parsed.version, int(parsed)


def _table(entries: Sequence[FibEntry]) -> dict[int, list[tuple[int, dict[int, str]]]]:
    """IP version -> prefix lengths, longest first, each with its prefixes' leading bits -> dev."""
    found: dict[int, dict[int, dict[int, str]]] = {4: {}, 6: {}}
    for entry in entries:
        net, _, length = entry.to.partition("/")
        version, number = _number(net)
        width = 32 if version == 4 else 128
        found[version].setdefault(int(length), {}).setdefault(number >> (width - int(length)), entry.dev)
    return {v: sorted(by.items(), reverse=True) for v, by in found.items()}


def expectations(topology: Topology) -> tuple[Expect, ...]:
    """What was asked for; where nothing was, a slice with routing expects that all reach all."""
    if topology.expect or not any(s.routing for s in topology.slivers.values()):
        return topology.expect
    return (Expect(),)


def unreached(topology: Topology, fibs: Fibs) -> Iterator[tuple[str, str]]:
    """The (source, destination) pairs that are expected but can't be reached now."""
    made = layout(topology)
    walker = Walker(made, fibs)
    versions = {name: _carried(topology, made, name) & set(families(topology)) for name in topology.slivers}
    reached: dict[str, set[str]] = {}
    for expect in expectations(topology):
        for destination in _named(topology, expect.destination):
            for version, ip in _addresses(made, destination, versions[destination]):
                if ip not in reached:
                    reached[ip] = walker.reaches(ip)
                for source in _named(topology, expect.source):
                    if source not in reached[ip] and version in versions[source]:
                        yield source, destination


def families(topology: Topology) -> tuple[int, ...]:
    """The IP versions that this slice routes.

    BGP alone carries both, but across a system whose inner protocol carries one, only that one.
    """
    routings = [s.routing for s in topology.slivers.values() if s.routing]
    found = set[int]().union(*(carried(r) for r in routings))
    for routing in routings:
        if "bgp" in routing.protocols:
            found &= carried(routing)
    return tuple(sorted(found)) or (4,)


def _carried(topology: Topology, made: Layout, sliver: str) -> set[int]:
    """The IP versions that packets from and to a sliver travel in; those of a host are its neighbours'."""
    own = topology.slivers[sliver].routing
    if own and own.protocols:
        return set(carried(own))
    beside = [r for v in made.vifs[sliver] if (r := topology.slivers[v.peer].routing) and r.protocols]
    return set[int]().union(*(carried(r) for r in beside)) if beside else {4, 6}


def _named(topology: Topology, pattern: str) -> Sequence[str]:
    return list(topology.slivers) if pattern == "*" else [pattern]


def _addresses(made: Layout, sliver: str, versions: set[int]) -> Iterator[tuple[int, str]]:
    for version in sorted(versions):
        with suppress(NotFound):
            yield version, address(made, sliver, version)
