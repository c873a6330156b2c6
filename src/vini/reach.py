"""Whether every expected destination can be reached, told from the forwarding tables alone.  Pure.

A walk along next hops costs nothing on the network and is exact at the moment of the snapshot; n*n
pings were rejected: they take seconds, and disturb what an experiment measures.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from itertools import islice
from typing import Literal

from msgspec.structs import replace

from vini import names
from vini.expected import destinations, expectations, sources, together
from vini.lans import Member, Parts
from vini.layout import Layout, address, carried, layout
from vini.model import Impairment, NotFound, Topology, Value

MOST_LISTED = 16  # equal paths that are named one by one; a grid of 10 by 10 has 48,620 from corner to corner


class NextHop(Value, frozen=True):
    """Where a route sends packets: an address ("": on the link itself), a vif, and its share among equal ones."""

    via: str
    dev: str
    weight: int = 1


class FibEntry(Value, frozen=True):
    """One route of a kernel's main table; of several next hops of equal cost, the first one and `others`.

    Not one tuple of all: nearly every route has a single next hop, and reading the tables of a
    thousand routers took five times as long with a tuple in each entry.
    """

    to: str
    via: str
    dev: str
    weight: int = 1
    others: tuple[NextHop, ...] = ()

    @property
    def hops(self) -> tuple[NextHop, ...]:
        """All next hops; which one the packets of a flow go by, the kernel's hash over the flow decides."""
        return (NextHop(self.via, self.dev, self.weight), *self.others)


Fibs = Mapping[str, Sequence[FibEntry]]


class Path(Value, frozen=True):
    """The slivers that packets cross, and how it ends; a loop ends before the sliver that would come again."""

    slivers: tuple[str, ...]
    end: Literal["arrives", "lost", "loops"]

    def __str__(self) -> str:
        return " -> ".join(self.slivers) + {"arrives": "", "lost": " (ends here)", "loops": " (loops)"}[self.end]


class Ways(Value, frozen=True):
    """All that packets from one sliver to an address may cross: the graph of equal-cost next hops.

    `hops` has every sliver on the way but the owner of the address, with the neighbours that it
    sends to, by name; "" among them is a next hop that leads nowhere, () is no route at all.
    """

    source: str
    hops: dict[str, tuple[str, ...]]

    @property
    def arrives(self) -> bool:
        """Whether every branch reaches the address: which of them a flow takes is not known."""
        return self.first_lost() is None

    def first_lost(self) -> Path | None:
        """The first branch, by name, that does not reach the address; it looks at each sliver once."""
        trail: list[str] = []
        seen: set[str] = set()
        pending = [(0, self.source)]
        while pending:
            depth, at = pending.pop()
            trail[depth:] = [at]
            if at in seen or at not in self.hops:
                continue
            seen.add(at)
            hops = self.hops[at]
            if not hops or "" in hops:
                return Path(tuple(trail), "lost")
            if any(hop in trail for hop in hops):
                return Path(tuple(trail), "loops")
            pending += [(depth + 1, hop) for hop in reversed(hops)]
        return None

    def paths(self) -> Iterator[Path]:
        """Each way through the graph, by name.  Take a few: there may be exponentially many."""
        trails: list[tuple[str, ...]] = [(self.source,)]
        while trails:
            trail = trails.pop()
            if trail[-1] not in self.hops:
                yield Path(trail, "arrives")
                continue
            hops = self.hops[trail[-1]]
            if not hops or "" in hops:
                yield Path(trail, "lost")
            if any(hop in trail for hop in hops):
                yield Path(trail, "loops")
            trails += [(*trail, hop) for hop in reversed(hops) if hop and hop not in trail]

    def listed(self) -> tuple[Path, ...]:
        """All paths; () where there are more than MOST_LISTED."""
        found = tuple(islice(self.paths(), MOST_LISTED + 1))
        return found if len(found) <= MOST_LISTED else ()


class Walker:
    """Follows next hops through one snapshot of the forwarding tables of a slice."""

    def __init__(self, made: Layout, fibs: Fibs):
        self._made = made
        self._tables = {}
        segments = _segments(made)
        for sliver, entries in fibs.items():
            working = [v for v in made.vifs.get(sliver, ()) if made.links[v.link].fault == "none"]
            peers = {v.dev: v.peer for v in working if not v.lan}
            shared = {v.dev: segments[v.link, v.end] for v in working if v.lan}
            self._tables[sliver] = _table(entries, peers, shared)
        self._owner = {a.partition("/")[0]: s for s, all_ in made.loopbacks.items() for a in all_}
        for s, vifs in made.vifs.items():
            self._owner.update({a.partition("/")[0]: s for v in vifs for a in v.addresses})

    def next(self, sliver: str, destination: str) -> tuple[str, ...]:
        """The neighbours that `sliver` sends to, by longest-prefix match, in the order of their names.

        "" among them is a next hop whose link has failed or is unknown; () is no route.
        """
        version, number = _number(destination)
        width = 32 if version == 4 else 128
        for length, nets in self._tables.get(sliver, {}).get(version, ()):
            peers = nets.get(number >> (width - length) if length else 0)
            if peers is not None:
                return peers.to(destination) if isinstance(peers, _OnLan) else peers
        return ()

    def ways(self, source: str, destination: str) -> Ways:
        """All equal-cost ways from `source` to the owner of the address."""
        owner = self._owner.get(destination)
        hops: dict[str, tuple[str, ...]] = {}
        found = [source]
        for at in found:
            if at == owner or at in hops:
                continue
            passes = at == source or at in self._made.forwarding  # a host drops what is not for itself
            hops[at] = self.next(at, destination) if passes else ()
            found += [hop for hop in hops[at] if hop]
        return Ways(source, hops)

    def reaches(self, destination: str) -> set[str]:
        """All slivers whose packets to this address arrive, whichever of equal-cost next hops they take.

        Counted from the owner back: a sliver is good when all that it sends to are, so none on a
        loop ever is.
        """
        owner = self._owner.get(destination)
        if owner is None:
            return set()
        senders: dict[str, list[str]] = {}
        waiting: dict[str, int] = {}  # sliver -> how many of those that it sends to are not known to be good
        for sliver in self._made.vifs:
            hops = self.next(sliver, destination) if sliver != owner else ()
            if all(hop == owner or hop in self._made.forwarding for hop in hops):
                waiting[sliver] = len(hops)
                for hop in hops:
                    senders.setdefault(hop, []).append(sliver)
        good = [owner]
        for at in good:
            for sliver in senders.get(at, ()):
                waiting[sliver] -= 1
                if not waiting[sliver]:
                    good.append(sliver)
        return set(good)


def _number(ip: str) -> tuple[int, int]:
    parsed = ip_address(ip)
    return parsed.version, int(parsed)


_Segment = dict[str, str]  # address, also link-local -> sliver, of all that reach each other over a LAN now


class _OnLan:
    """Next hops of which some are whoever on a segment has the destination itself as address."""

    def __init__(self, hops: Sequence[str | _Segment]):
        self._hops = hops

    def to(self, destination: str) -> tuple[str, ...]:
        """The neighbours that packets to this destination go to."""
        return tuple(sorted({hop if isinstance(hop, str) else hop.get(destination, "") for hop in self._hops}))


_Nets = dict[int, tuple[str, ...] | _OnLan]  # a prefix's leading bits -> the neighbours it leads to


def _segments(made: Layout) -> dict[Member, _Segment]:
    """For each vif on a LAN, the part of it that it can reach while links have faults."""
    parts = Parts()
    for name, link in made.links.items():
        if link.fault == "none":
            one, other = (e.sliver if e.sliver in made.switches else (name, i) for i, e in enumerate(link.ends))
            parts.join(one, other)
    segments: dict[Hashable, _Segment] = {}
    out = {}
    for vif in (v for vifs in made.on_lan.values() for v in vifs):
        segment = out[vif.link, vif.end] = segments.setdefault(parts.part((vif.link, vif.end)), {})
        segment[names.link_local(vif.mac)] = vif.sliver
        segment.update((a.partition("/")[0], vif.sliver) for a in vif.addresses)
    return out


def _table(
    entries: Sequence[FibEntry], peers: Mapping[str, str], shared: Mapping[str, _Segment]
) -> dict[int, list[tuple[int, _Nets]]]:
    """IP version -> prefix lengths, longest first, each with its prefixes.

    Of several routes to one prefix the first counts: kernels tell the one that they use first.
    """
    found: dict[int, dict[int, _Nets]] = {4: {}, 6: {}}
    single: dict[str, tuple[str, ...]] = {dev: (peer,) for dev, peer in peers.items()}
    for entry in entries:
        net, _, length = entry.to.partition("/")
        version, number = _number(net)
        width = 32 if version == 4 else 128
        hops: tuple[str, ...] | _OnLan = single.get(entry.dev, ("",))
        if shared:
            hops = _hops(entry, peers, shared)
        elif entry.others:
            hops = tuple(sorted({peers.get(hop.dev, "") for hop in entry.hops}))
        found[version].setdefault(int(length), {}).setdefault(number >> (width - int(length)), hops)
    return {v: sorted(by.items(), key=lambda item: -item[0]) for v, by in found.items()}


def _hops(entry: FibEntry, peers: Mapping[str, str], shared: Mapping[str, _Segment]) -> tuple[str, ...] | _OnLan:
    """The next hops of a sliver that is on a LAN: who has the next hop's address, or else the destination."""
    found: list[str | _Segment] = []
    for hop in entry.hops:
        segment = shared.get(hop.dev)
        if segment is None:
            found.append(peers.get(hop.dev, ""))
        else:
            found.append(segment.get(hop.via, "") if hop.via else segment)
    if all(isinstance(hop, str) for hop in found):
        return tuple(sorted({hop for hop in found if isinstance(hop, str)}))
    return _OnLan(found)


def unreached(topology: Topology, fibs: Fibs) -> Iterator[tuple[str, str]]:
    """The (source, destination) pairs that are expected but can't be reached now."""
    made = layout(topology)
    walker = Walker(made, fibs)
    versions = {name: _carried(topology, made, name) & set(families(topology)) for name in topology.slivers}
    reached: dict[str, set[str]] = {}
    hang_together = together(topology)
    for expect in expectations(topology):
        anyhow = "*" not in (expect.source, expect.destination)
        for destination in destinations(topology, expect):
            for version, ip in _addresses(made, destination, versions[destination]):
                if ip not in reached:
                    reached[ip] = walker.reaches(ip)
                for source in sources(topology, expect):
                    wanted = source not in reached[ip] and version in versions[source]
                    if wanted and (anyhow or hang_together(source, destination)):
                        yield source, destination


def lost_path(topology: Topology, fibs: Fibs, source: str, destination: str) -> Path | None:
    """The first way, by name, on which packets from a sliver to another don't arrive; None where all do."""
    made = layout(topology)
    walker = Walker(made, fibs)
    versions = _carried(topology, made, source) & _carried(topology, made, destination) & set(families(topology))
    found = (walker.ways(source, ip).first_lost() for _, ip in _addresses(made, destination, versions))
    return next((path for path in found if path), None)


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


def hosts(topology: Topology) -> str:
    """Its slivers' names and addresses as hosts(5) has them, in the IP versions that are routed."""
    made, versions = layout(topology), families(topology)
    lines = []
    for name in topology.slivers:
        for family in versions:
            with suppress(NotFound):
                lines.append(f"{address(made, name, family)}\t{name}\n")
    return "".join(lines)


def is_renamed(before: Topology, now: Topology) -> bool:
    """Whether `hosts` is another now; how links do is not looked at, since most changes are of nothing else."""
    return _names(before) != _names(now) and hosts(before) != hosts(now)


def _names(topology: Topology) -> tuple[object, ...]:
    """All that names and addresses follow from, and more."""
    links = tuple(replace(link, impairment=Impairment(), fault="none", cost=0) for link in topology.links)
    return topology.name, tuple(topology.slivers.items()), links


def _carried(topology: Topology, made: Layout, sliver: str) -> set[int]:
    """The IP versions that packets from and to a sliver travel in; those of a host are its neighbours'."""
    own = topology.slivers[sliver].routing
    if own and own.protocols:
        return set(carried(own))
    around = {n.sliver for v in made.vifs[sliver] for n in made.neighbors(v)}
    beside = [r for n in around if (r := topology.slivers[n].routing) and r.protocols]
    return set[int]().union(*(carried(r) for r in beside)) if beside else {4, 6}


def _addresses(made: Layout, sliver: str, versions: set[int]) -> Iterator[tuple[int, str]]:
    for version in sorted(versions):
        with suppress(NotFound):
            yield version, address(made, sliver, version)
